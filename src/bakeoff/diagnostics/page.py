"""The page of a run's diagnostics: one small HTML file that needs no other file, no script and no network."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files

from bakeoff.diagnostics.layer_stats import STATS, Reading
from bakeoff.diagnostics.rules import Diagnosis, History

LOG = ("activation_std", "gradient_norm", "gradient_share", "update_ratio", "weight_norm")
SIGNED = ("activation_mean",)
#: Okabe and Ito's colours (2008), told apart with any common colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
LIGHT, DARK = (247, 250, 253), (0, 94, 148)
Curve = Mapping[int, float] | Mapping[float, float]
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"


def text(value: object) -> str:
    """Anything as HTML text."""
    return html.escape(str(value))


def number(value: float) -> str:
    """Three digits: `0.21`, `3.1e-07`, `1,240`."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:.1e}"


def document(title: str, body: str, *, kicker: str) -> str:
    """The whole file."""
    style = files("bakeoff.diagnostics").joinpath("page.css").read_text(encoding="utf-8")
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{text(title)}</title><style>{style}</style></head>\n'
        f'<body><main><p class="kicker">{text(kicker)}</p><h1>{text(title)}</h1>\n{body}\n</main></body></html>\n'
    )


def section(title: str, *parts: str, note: str = "") -> str:
    """A box with a title and a line of explanation."""
    told = f'<p class="soft">{text(note)}</p>' if note else ""
    return f"<section><h2>{text(title)}</h2>{told}{''.join(parts)}</section>\n"


def run_page(title: str, history: History, told: Sequence[Diagnosis], *, more: str = "", left_out: Mapping[str, str] | None = None) -> str:
    """The page of a run: diagnoses, what failed (part -> reason), curves, figures by layer and step, and what `full` adds (HTML, given)."""
    about = f"{history.probe} training images are the probe; the loss of guessing is {number(history.guessing)}."
    if told:
        items = "".join(f'<li><b class="wrong">{text(each.name)}</b>: {text(each.text)}</li>' for each in told)
        verdict = section("Diagnoses", f"<ul>{items}</ul>", note=about)
    else:
        verdict = section("No diagnosis", note=f"Nothing that has a name here was seen. {about}")
    if left_out:
        items = "".join(f"<li><b>{text(part)}</b>: {text(why)}</li>" for part, why in left_out.items())
        verdict += section("Left out", f"<ul>{items}</ul>", note="Measuring these failed; the training went on as if nobody had looked.")
    losses = {name: history.curve(name) for name in ("train/loss", "val/loss") if history.curve(name)}
    curves = section("Loss", lines(losses, level=("guessing", history.guessing))) if losses else ""
    tables = "".join(heat(stat, history.readings) for stat in STATS)
    return document(title, f'{verdict}{curves}<div class="pair">{tables}</div>{more}', kicker="bakeoff diagnostics")


def heat(stat: str, readings: Sequence[Reading]) -> str:
    """One figure as a table, a row a layer, a column a step, its size as a colour; '' where no layer has it."""
    shown = [reading for reading in readings if any(stat in found for found in reading.layers.values())]
    names = sorted({name for reading in shown for name, found in reading.layers.items() if stat in found})
    if not names:
        return ""
    known = [value for reading in shown for value in reading.of(stat).values()]
    top = "".join(f'<th scope="col">{reading.step:,}</th>' for reading in shown)
    rows = []
    for name in names:
        cells = "".join(_cell(stat, reading.layers.get(name, {}).get(stat), known) for reading in shown)
        rows.append(f'<tr><th scope="row">{text(name)}</th>{cells}</tr>')
    table = f'<div class="scroll"><table><thead><tr><th scope="col">step</th>{top}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    return section(stat.replace("_", " "), table, note=STATS[stat].capitalize() + ".")


def _cell(stat: str, value: float | None, known: Sequence[float]) -> str:
    if value is None:
        return "<td></td>"
    if not math.isfinite(value):
        return f'<td class="wrong">{number(value)}</td>'
    share = _share(stat, value, known)
    colour = ",".join(str(round(a + (b - a) * share)) for a, b in zip(LIGHT, DARK, strict=True))
    return f'<td style="background:rgb({colour});color:{"#fff" if share > 0.55 else "#1c1e21"}">{number(value)}</td>'


def _share(stat: str, value: float, known: Sequence[float]) -> float:
    """Where a value stands between the ends of its table, 0 to 1."""
    if stat in LOG:
        sizes = [math.log(v) for v in known if v > 0]
        if value <= 0 or not sizes:
            return 0.0
        low, high, at = min(sizes), max(sizes), math.log(value)
    elif stat in SIGNED:
        low, high, at = 0.0, max(abs(v) for v in known), abs(value)
    else:
        low, high, at = 0.0, 1.0, value
    return (at - low) / (high - low) if high > low else 0.0


def lines(
    curves: Mapping[str, Curve],
    *,
    level: tuple[str, float] | None = None,
    log_x: bool = False,
    x: str = "step",
    mark: float | None = None,
    top_y: float | None = None,
) -> str:
    """Curves as an SVG with a legend, without what is not finite; the axis ends at `top_y`, else at 1.5 times the 98th percentile."""
    width, height, left, bottom, top = 720, 250, 58, 34, 26
    points = {n: sorted((a, b) for a, b in c.items() if math.isfinite(b) and (a > 0 or not log_x)) for n, c in curves.items()}
    xs = [a for c in points.values() for a, _ in c]
    ys = sorted([b for c in points.values() for _, b in c] + ([level[1]] if level else []))
    if not xs:
        return '<p class="soft">No finite figure.</p>'
    place = math.log if log_x else float
    low_x, high_x = place(min(xs)), place(max(xs))
    low_y, high_y = min(0.0, ys[0]), min(ys[-1], 1.5 * max(ys[int(0.98 * (len(ys) - 1))], level[1] if level else 0.0))
    high_y = high_y if top_y is None else top_y
    wide, tall = (high_x - low_x) or 1.0, (high_y - low_y) or 1.0

    def at(a: float, b: float) -> str:
        across = left + (place(a) - low_x) / wide * (width - left - 12)
        return f"{across:.1f},{height - bottom - (min(b, high_y) - low_y) / tall * (height - bottom - top):.1f}"

    right, floor = width - 12, height - bottom
    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{text(", ".join(curves))}" font-size="12" fill="#5b6068">']
    for i in range(5):
        value = low_y + tall * i / 4
        down = float(at(xs[0], value).split(",")[1])
        parts.append(f'<path d="M{left} {down}H{right}" stroke="#dfe2e6"/>')
        parts.append(f'<text x="{left - 6}" y="{down + 4:.1f}" text-anchor="end">{number(value)}</text>')
        place_x = low_x + wide * i / 4
        told = number(math.exp(place_x) if log_x else place_x)
        anchor = "end" if i == 4 else "middle"
        parts.append(f'<text x="{left + i / 4 * (right - left):.0f}" y="{floor + 16}" text-anchor="{anchor}">{told}</text>')
    parts.append(f'<text x="{(left + width) / 2}" y="{height - 3}" text-anchor="middle">{text(x)}</text>')
    if level is not None:
        parts.append(f'<path d="M{left} {at(xs[0], level[1]).split(",")[1]}H{right}" stroke="#333" stroke-dasharray="5 4"/>')
    if mark is not None and min(xs) <= mark <= max(xs):
        parts.append(f'<path d="M{at(mark, low_y).split(",")[0]} {top}V{floor}" stroke="#333" stroke-dasharray="2 3"/>')
    keys = []
    for i, (name, curve) in enumerate(points.items()):
        look = f'stroke="{COLOURS[i % len(COLOURS)]}" stroke-width="1.8" stroke-dasharray="{"none" if i == 0 else "6 3"}"'
        parts.append(f'<polyline points="{" ".join(at(a, b) for a, b in curve)}" fill="none" {look}/>')
        keys.append((name, look))
    if level is not None:
        keys.append((f"{level[0]} {number(level[1])}", 'stroke="#333" stroke-dasharray="5 4"'))
    legend = left
    for name, look in keys:
        parts.append(f'<path d="M{legend} 12h18" {look}/><text x="{legend + 24}" y="16" fill="#1c1e21">{text(name)}</text>')
        legend += 44 + 7 * len(name)
    return "".join(parts) + "</svg>"


def picture(png: bytes, *, about: str, width: int | None = None) -> str:
    """A PNG within the page."""
    size = f' width="{width}"' if width else ""
    return f'<img alt="{text(about)}"{size} src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows of text."""
    top = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table class="plain"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
