"""The findings of a check as a page, as pictures, and as what the store keeps."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib

from bakeoff.diagnostics.checks.context import CheckResult, plain
from bakeoff.diagnostics.page import document, lines, section, table, text
from bakeoff.illustrations import paper

FOLDER = "check"
LAYERS = ("layer", "kind", "output", "parameters", "multiply-adds")
DRAWN = {
    "activations by depth": "layer",
    "gradients by depth": "layer",
    "learning-rate range": "learning rate",
    "class balance": "class",
}
"""Finding with curves -> what its horizontal axis is."""


def verdict(findings: Sequence[CheckResult]) -> str:
    """One line about all of them."""
    wrong = [finding.name for finding in findings if finding.state == "wrong"]
    look = [finding.name for finding in findings if finding.state == "look"]
    if wrong:
        return f"wrong: {', '.join(wrong)}"
    return f"nothing is wrong; worth a look: {', '.join(look)}" if look else "nothing is wrong"


def page(title: str, findings: Sequence[CheckResult], layers: Sequence[Sequence[str]], *, line: str) -> str:
    """The whole check on one page that needs no other file."""
    rows = "".join(
        f'<tr><th scope="row">{text(f.name)}</th><td class="{text(f.state)}">{text(f.state)}</td><td>{text(f.found)}</td>'
        f"<td>{text(f.expected)}</td><td style='white-space:normal;min-width:240px'>{text(f.advice)}</td></tr>"
        for f in findings
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("check", "state", "found", "expected", "what to do"))
    parts = [section(verdict(findings), f'<div class="scroll"><table class="plain"><tr>{head}</tr>{rows}</table></div>')]
    boxes = [section(f.name, lines(f.series, log_x=f.name == "learning-rate range", x=DRAWN[f.name])) for f in findings if f.series]
    parts.append(f'<div class="pair">{"".join(boxes)}</div>')
    parts.append(section("Layers", table(LAYERS, layers)))
    parts.append(section("How it was made", f"<pre>{text(line)}</pre>"))
    return document(title, "".join(parts), kicker="bakeoff check")


def write(folder: Path, title: str, findings: Sequence[CheckResult], layers: Sequence[Sequence[str]], *, line: str) -> list[Path]:
    """index.html, check.json and a PNG of every finding with curves, in `folder`, which is made."""
    folder.mkdir(exist_ok=True)
    tree = {
        "title": title,
        "verdict": verdict(findings),
        "findings": plain(list(findings)),
        "layers": [dict(zip(LAYERS, r, strict=True)) for r in layers],
    }
    files = [folder / "index.html", folder / "check.json"]
    files[0].write_text(page(title, findings, layers, line=line), encoding="utf-8")
    files[1].write_text(json.dumps(tree, indent=2) + "\n", encoding="utf-8")
    for finding in findings:
        if finding.series:
            files.append(folder / f"{finding.name.replace(' ', '_').replace('-', '_')}.png")
            draw(finding, files[-1])
    return files


def draw(finding: CheckResult, path: Path) -> None:
    """One finding's curves as a PNG."""
    figure = paper.sheet(6.4, 3.6)
    with matplotlib.rc_context(paper.STYLE):
        axes = figure.add_subplot()
        for place, (name, curve) in enumerate(finding.series.items()):
            colour, dash, _ = paper.look(place)
            style = {"solid": "-", "dash": "--"}.get(dash, ":")
            if finding.name == "class balance":
                axes.bar(list(curve), list(curve.values()), color=colour, label=name)
            else:
                axes.plot(
                    list(curve), list(curve.values()), color=colour, linestyle=style, marker="." if len(curve) < 40 else "", label=name
                )
        if finding.name == "learning-rate range":
            values = sorted(next(iter(finding.series.values())).values())
            axes.set(xscale="log", ylim=(0, 1.5 * values[len(values) * 3 // 4]) if values else None)
        elif finding.name != "class balance" and all(value > 0 for curve in finding.series.values() for value in curve.values()):
            axes.set(yscale="log")
        axes.set(xlabel=DRAWN[finding.name], title=f"{finding.name}: {finding.state}")
        axes.grid(True)
        axes.legend()
        figure.savefig(path, dpi=paper.DOTS, facecolor="white")
