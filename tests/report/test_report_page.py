"""The files: complete, self-contained, in agreement with each other, and safe with any name."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bakeoff.errors import FolderError
from bakeoff.report.builder import Report, render_terminal, write_report
from bakeoff.report.latex import escape
from bakeoff.report.results import SweepResults

Make = Callable[..., SweepResults]
HOSTILE = "<script>alert('a&b')</script>_%{x}$^"


class Loads(HTMLParser):
    """Collects whatever a browser would fetch or follow, the ids, and the sections with what stands in them."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.plots: list[str] = []
        self.ids: list[str] = []
        self.held: dict[str, set[str]] = {}
        self.section = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.urls += [str(value) for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]
        self.ids += [str(given["id"])] if "id" in given else []
        if given.get("class") == "plot":
            self.plots.append(str(given["id"]))
        if tag == "section":
            self.section = str(given.get("id", ""))
            self.held[self.section] = set()
        elif self.section in self.held:
            self.held[self.section].add(tag)


def read(report: Report) -> tuple[str, Loads, dict[str, dict[str, list[object]]]]:
    """The page's text, its parts, and the figures' specifications."""
    text, parser = report.page.read_text(encoding="utf-8"), Loads()
    parser.feed(text)
    drawn = re.findall(r'id="figure-([^"]+)".*?<script type="application/json">(.*?)</script>', text, flags=re.DOTALL)
    return text, parser, {name: json.loads(spec) for name, spec in drawn}


@pytest.fixture(scope="module")
def made(simulated: Make) -> SweepResults:
    rng = np.random.default_rng(7)
    return simulated({"sgd": 0.0, HOSTILE: 0.03, "adam": 0.01}, rng=rng, blocks=("alexnet", "vgg_11%"), seeds=4, curves=True)


@pytest.fixture(scope="module")
def report(made: SweepResults, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return write_report(made, tmp_path_factory.mktemp("report") / "deep" / "out")


def test_page_is_self_contained_and_escapes(report: Report) -> None:
    text, parser, _ = read(report)
    assert parser.urls and all(url.startswith(("#", "data:text/csv;", "data:application/gzip;")) for url in parser.urls)
    assert {url[1:] for url in parser.urls if url.startswith("#")} <= set(parser.ids)
    assert len(parser.ids) == len(set(parser.ids))
    assert text.count("plotly.js v") == 1
    assert "default-src 'none'" in text
    style = text.split("</style>")[0]
    assert "@import" not in style and "url(" not in style
    assert text.count("<script>alert") == 0, "a name became markup"
    assert not any("<" in spec for spec in re.findall(r'<script type="application/json">(.*?)</script>', text))
    assert "&lt;script&gt;alert(&#39;a&amp;b&#39;)&lt;/script&gt;_%{x}$^" in text
    assert "localStorage" not in text.rsplit("<script>", 1)[1]


def test_names_are_not_markup_in_figures(report: Report) -> None:
    _, _, specs = read(report)
    for trace in (trace for spec in specs.values() for trace in spec["data"]):
        assert isinstance(trace, dict)
        shown = json.dumps({key: trace[key] for key in ("text", "hovertext", "hovertemplate") if key in trace})
        assert "<script" not in shown and "_%{x}" not in shown


def test_every_figure_has_its_place_its_files_and_its_line(report: Report) -> None:
    text, parser, specs = read(report)
    assert sorted(f"figure-{name}" for name in specs) == sorted(parser.plots)
    assert all(spec["data"] for spec in specs.values())
    folder = report.out / "figures"
    assert {path.name for path in folder.iterdir()} == {f"{name}.{ending}" for name in specs for ending in ("png", "svg", "csv")}
    assert all(f"bakeoff report sim-01234567 --figure {name}</pre>" in text for name in specs)


def test_pictures_are_whole(report: Report) -> None:
    paths = [path for path in report.files if path.suffix in (".png", ".svg")]
    assert len(paths) > 40
    for path in paths:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
                assert picture.width > 600 and np.asarray(picture.convert("L")).std() > 2
        else:
            assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_csv_of_the_page_is_that_of_the_files(report: Report) -> None:
    text = report.page.read_text(encoding="utf-8")
    held = dict(re.findall(r'download="([^"]+)" href="data:[^,]+,([^"]+)"', text))
    assert len(held) == len(list((report.out / "figures").glob("*.csv")))
    for name, code in held.items():
        plain = base64.b64decode(code)
        plain = gzip.decompress(plain) if name.endswith(".gz") else plain
        assert plain.decode() == (report.out / "figures" / name.removesuffix(".gz")).read_text(encoding="utf-8")


def test_figures_show_the_numbers_of_the_tables(report: Report, made: SweepResults) -> None:
    folder = report.out / "figures"
    runs = pd.read_csv(report.out / "runs.csv", dtype={"id": str})
    confirm = runs[(runs["stage"] == "confirm") & (runs["block"] == "alexnet")]
    scores = pd.read_csv(folder / "scores-alexnet.csv")
    means = scores[scores["what"] == "mean"].set_index("arm")["score"]
    assert means.to_dict() == pytest.approx(confirm.groupby("arm")["score"].mean().to_dict())
    pairs, told = pd.read_csv(folder / "pairs-overall.csv"), pd.read_csv(report.out / "differences.csv")
    told = told[told["block"] == "all blocks"]
    expected = {frozenset((b, w)): a for b, w, a in zip(told["better"], told["worse"], told["advantage"], strict=True)}
    assert {frozenset((r, c)): abs(d) for r, c, d in zip(pairs["row"], pairs["column"], pairs["difference"], strict=True)} == pytest.approx(
        expected
    )
    curves = pd.read_csv(folder / "curves-val-accuracy-alexnet.csv")
    raw = made.curves[(made.curves["metric"] == "val/accuracy") & (made.curves["block"] == "alexnet") & (made.curves["arm"] == "sgd")]
    mine = curves[curves["arm"] == "sgd"].set_index("step")["middle"]
    assert mine.to_dict() == pytest.approx(raw.groupby("step")["value"].median().to_dict())
    _, _, specs = read(report)
    drawn = next(t for t in specs["curves-val-accuracy-alexnet"]["data"] if isinstance(t, dict) and t["name"] == "sgd" and "fill" not in t)
    assert drawn["y"] == pytest.approx([100 * value for value in mine], rel=1e-4)


def test_files_agree_with_each_other(report: Report) -> None:
    names = {path.name for path in report.files if path.parent == report.out}
    assert names == {
        "index.html", "report.md", "summary.json", "arms.csv", "runs.csv", "curves.csv", "differences.csv", "aggregates.csv",
        "families.csv", "regions.csv", "profiles.csv", "budget.csv", "targets.csv", "logrank.csv", "ranks.csv",
    }  # fmt: skip
    runs, arms = pd.read_csv(report.out / "runs.csv", dtype={"id": str}), pd.read_csv(report.out / "arms.csv")
    assert len(runs) == 3 * 2 * (8 + 4)
    for _, row in arms[arms["block"] != "all blocks"].iterrows():
        mine = runs[(runs["stage"] == "confirm") & (runs["arm"] == row["arm"]) & (runs["block"] == row["block"])]
        assert row["mean"] == pytest.approx(mine["score"].mean())
        assert row["n"] == len(mine) == 4
    assert list(runs["command"]) == [f"bakeoff reproduce {run}" for run in runs["id"]]
    summary = json.loads((report.out / "summary.json").read_text())
    assert summary["verdict"] == report.verdict.headline
    assert summary["commands"]["report"] == "bakeoff report sim-01234567"
    assert report.verdict.headline in (report.out / "report.md").read_text()
    assert json.loads(json.dumps(report.plain(), allow_nan=False))["winner"] == report.verdict.winner


def test_sections_are_those_with_data(report: Report, simulated: Make, tmp_path: Path) -> None:
    _, parser, _ = read(report)
    always = {"plan", "machine", "again"}
    evidence = {"differences", "families", "ranks", "aggregate", "curves", "target", "search", "region", "budget"}
    assert evidence | always | {"scores"} <= set(parser.held)
    assert not {"effects", "importance", "diagnoses"} & set(parser.held)
    for key in set(parser.held) - {""}:
        assert parser.held[key] & {"figure", "table", "dl", "li", "pre"}, key
    bare = write_report(simulated({"a": 0.0, "b": 0.1}, rng=np.random.default_rng(1), seeds=0, planned=5), tmp_path)
    _, parser, _ = read(bare)
    assert {"search", "region", "budget"} | always <= set(parser.held)
    assert not (evidence - {"search", "region", "budget"}) & set(parser.held)
    assert "missing" in parser.held


def test_a_factorial_with_diagnoses_and_a_menu(simulated: Make, tmp_path: Path) -> None:
    names = ["adam+relu", "adam+tanh", "sgd+relu", "sgd+tanh"]
    sweep = simulated(dict(zip(names, (0.0, 0.02, 0.03, 0.01), strict=True)), rng=np.random.default_rng(4), trials=12, seeds=5)
    cells = [
        dataclasses.replace(
            cell, choices=dict(zip(("optimizer", "activation"), cell.arm.split("+"), strict=True)), menus={"model.dropout": (0.0, 0.5)}
        )
        for cell in sweep.design.planned_arms
    ]
    runs = sweep.runs.copy()
    runs["model.dropout"] = ["0.0" if i % 2 else "0.5" for i in range(len(runs))]
    runs["diagnoses"] = ["dead_relus overfitting" if arm == "sgd+relu" else "" for arm in runs["arm"]]
    design = dataclasses.replace(sweep.design, planned_arms=tuple(cells), factors=("optimizer", "activation"), baseline="sgd+relu")
    report = write_report(dataclasses.replace(sweep, design=design, runs=runs), tmp_path)
    _, parser, specs = read(report)
    assert {"effects", "importance", "diagnoses"} <= set(parser.held)
    assert {"together-optimizer-activation", "levels-optimizer", "tuning-model-dropout", "importance", "diagnoses"} <= set(specs)
    together = pd.read_csv(tmp_path / "figures" / "together-optimizer-activation.csv").set_index(["optimizer", "activation"])["mean"]
    scores = sweep.scores()["all"]
    assert together["sgd", "tanh"] == pytest.approx(np.mean(list(scores["sgd+tanh"].values())))
    told = pd.read_csv(tmp_path / "figures" / "diagnoses.csv").set_index(["arm", "diagnosis"])["runs"]
    assert told["sgd+relu", "dead_relus"] == 12 + 5 and told["sgd+tanh", "dead_relus"] == 0
    assert set(pd.read_csv(tmp_path / "figures" / "differences-all.csv")["against"]) == {"sgd+relu"}


def test_latex_tables_are_whole(report: Report) -> None:
    paths = sorted((report.out / "tables").iterdir())
    assert [path.name for path in paths] == ["arms-alexnet.tex", "arms-overall.tex", "arms-vgg-11.tex"]
    for path in paths:
        lines = [line for line in path.read_text().splitlines() if not line.startswith("%")]
        text = "\n".join(lines)
        assert re.findall(r"\\begin{(\w+)}", text) == re.findall(r"\\end{(\w+)}", text)[::-1]
        bare = re.sub(r"\\[{}$&#%_]", "", text)
        assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
        assert not re.findall(r"[%#_^<>]", re.sub(r"\$[^$]*\$|\\(label|begin|end){[^}]*}", "", bare))
        columns = re.search(r"\\begin{tabular}{(\w+)}", text)
        rows = [line for line in bare.splitlines() if line.endswith(r"\\")]
        assert columns is not None and len(rows) == 1 + 3
        assert {row.count("&") for row in rows} == {len(columns[1]) - 1}
        assert escape(HOSTILE) in text


def test_latex_escapes_by_hand() -> None:
    assert escape("a_b % {c} \\ $x$ & #1 ~ ^") == (r"a\_b \% \{c\} \textbackslash{} \$x\$ \& \#1 \textasciitilde{} \textasciicircum{}")


def test_text_for_the_terminal_is_narrow(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    text = render_terminal(report)
    assert "mean test accuracy" in text and "\x1b" not in text
    assert " ".join(text.split()).startswith(report.sweep.design.question)
    lines = text.splitlines()
    assert lines[-1] == f"page: {report.page.resolve()}"
    assert max(map(len, lines[:-1])) <= 80
    assert [line for line in lines if line.endswith(":") and " " not in line.removeprefix("all ")] == [
        "all blocks:",
        "alexnet:",
        "vgg_11%:",
    ]


def test_a_command_stays_on_one_line_of_the_terminal(report: Report) -> None:
    line = f"bakeoff sweep sim {'optimizer=adam ' * 8}--more"
    verdict = dataclasses.replace(report.verdict, details=(f"3 more seeds would do: {line}",))
    told = render_terminal(dataclasses.replace(report, analysis=dataclasses.replace(report.analysis, verdict=verdict)))
    assert f"  3 more seeds would do:\n  {line}\n" in told


@pytest.mark.parametrize("seeds", [0, 1, 3])
def test_unfinished_sweeps_give_a_page_too(simulated: Make, tmp_path: Path, seeds: int) -> None:
    report = write_report(simulated({"a": 0.0, "b": 0.1}, rng=np.random.default_rng(1), seeds=seeds, planned=5), tmp_path)
    assert report.verdict.winner is None
    assert report.page.stat().st_size > 1_000_000
    json.loads((tmp_path / "summary.json").read_text())
    assert render_terminal(report)


def test_an_empty_store_gives_a_page_too(simulated: Make, tmp_path: Path) -> None:
    made = simulated({"a": 0.0, "b": 0.1}, rng=np.random.default_rng(1))
    report = write_report(dataclasses.replace(made, runs=made.runs.iloc[:0], curves=made.curves.iloc[:0]), tmp_path)
    assert report.verdict.headline.startswith("Exploratory: 0 of 16 tuning runs")
    assert read(report)[2] == {}


def test_unwritable_folder_is_one_line(made: SweepResults, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match=r"--out=.*cannot be written"):
        write_report(made, tmp_path / "file" / "out")
