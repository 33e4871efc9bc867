"""The files: complete, self-contained, and safe with any name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bakeoff.errors import FolderError
from bakeoff.report.assembly import show, write
from bakeoff.report.figures import spread, styles
from bakeoff.report.tidy import Sweep

Make = Callable[..., Sweep]


class Loads(HTMLParser):
    """Collects whatever a browser would fetch, and the ids of the plots."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.urls += [f"{tag} {key}={value}" for key, value in attrs if key in ("src", "href", "srcset", "data", "action")]
        self.ids += [str(value) for key, value in attrs if key == "id" and tag == "div"]


@pytest.fixture
def made(simulated: Make) -> Sweep:
    rng = np.random.default_rng(7)
    return simulated({"sgd": 0.0, "<img src=x>&": 0.03}, rng=rng, blocks=("alexnet", "vgg11"), seeds=4, curves=True)


def test_page_is_self_contained_and_escapes(made: Sweep, tmp_path: Path) -> None:
    report = write(made, tmp_path / "deep" / "out")
    text = report.page.read_text()
    parser = Loads()
    parser.feed(text)
    assert parser.urls == []
    assert text.count("plotly.js v") == 1
    assert "default-src 'none'" in text
    assert "@import" not in text.split("</style>")[0]
    assert "url(" not in text.split("</style>")[0]
    body = text.split('<script type="application/json"')[0]
    assert "<img" not in body
    assert "&lt;img src=x&gt;&amp;" in body
    assert "localStorage" not in text.rsplit("<script>", 1)[1]


def test_every_figure_has_its_place(made: Sweep, tmp_path: Path) -> None:
    text = write(made, tmp_path).page.read_text()
    drawn = re.search(r'id="figures">(.*?)</script>', text, flags=re.DOTALL)
    assert drawn is not None
    specs = json.loads(drawn[1])
    parser = Loads()
    parser.feed(text)
    assert sorted(specs) == sorted(parser.ids)
    # finals 2, gaps 2 and over the blocks, curves 2 x 2, tuning 2
    assert len(specs) == 2 + 3 + 4 + 2
    assert all(spec["data"] for spec in specs.values())


def test_files_agree_with_each_other(made: Sweep, tmp_path: Path) -> None:
    report = write(made, tmp_path)
    assert {path.name for path in report.files} == {
        "index.html", "report.md", "summary.json", "arms.csv", "runs.csv", "curves.csv", "differences.csv", "aggregates.csv",
        "families.csv", "regions.csv", "profiles.csv", "budget.csv", "targets.csv", "logrank.csv",
    }  # fmt: skip
    runs, arms = pd.read_csv(tmp_path / "runs.csv", dtype={"id": str}), pd.read_csv(tmp_path / "arms.csv")
    assert len(runs) == 2 * 2 * (8 + 4)
    for _, row in arms[arms["block"] != "all blocks"].iterrows():
        mine = runs[(runs["stage"] == "confirm") & (runs["arm"] == row["arm"]) & (runs["block"] == row["block"])]
        assert row["mean"] == pytest.approx(mine["score"].mean())
        assert row["n"] == len(mine) == 4
    assert list(runs["command"]) == [f"bakeoff reproduce {run}" for run in runs["id"]]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["verdict"] == report.verdict.headline
    assert summary["commands"]["report"] == "bakeoff report sim-01234567"
    assert report.verdict.headline in (tmp_path / "report.md").read_text()
    assert json.loads(json.dumps(report.plain(), allow_nan=False))["winner"] == report.verdict.winner


def test_text_for_the_terminal(made: Sweep, tmp_path: Path) -> None:
    text = show(write(made, tmp_path))
    assert made.design.question in text
    assert "mean test accuracy" in text
    assert str(tmp_path / "index.html") in text
    assert "\x1b" not in text


@pytest.mark.parametrize("seeds", [0, 1, 3])
def test_unfinished_sweeps_give_a_page_too(simulated: Make, tmp_path: Path, seeds: int) -> None:
    report = write(simulated({"a": 0.0, "b": 0.1}, rng=np.random.default_rng(1), seeds=seeds, planned=5), tmp_path)
    assert report.verdict.winner is None
    assert report.page.stat().st_size > 1_000_000
    json.loads((tmp_path / "summary.json").read_text())


def test_an_empty_store_gives_a_page_too(simulated: Make, tmp_path: Path) -> None:
    import dataclasses

    made = simulated({"a": 0.0, "b": 0.1}, rng=np.random.default_rng(1))
    report = write(dataclasses.replace(made, runs=made.runs.iloc[:0], curves=made.curves.iloc[:0]), tmp_path)
    assert report.verdict.headline.startswith("Exploratory: 0 of 16 tuning runs")


def test_unwritable_folder_is_one_line(made: Sweep, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match=r"--out=.*cannot be written"):
        write(made, tmp_path / "file" / "out")


def test_no_two_arms_look_the_same() -> None:
    looks = styles([f"arm{i}" for i in range(60)])
    assert len({(s.colour, s.dash, s.marker) for s in looks.values()}) >= 40
    assert len({(s.colour, s.dash) for s in list(looks.values())[:24]}) == 24


def test_bands_by_hand() -> None:
    rows = pd.DataFrame({"id": list("abcab"), "step": [1, 1, 1, 2, 2], "value": [1.0, 3.0, 2.0, 5.0, 7.0]})
    band = spread(rows)
    assert band.loc[1].to_dict() == {"n": 3, "low": 1.0, "middle": 2.0, "high": 3.0}
    assert band.loc[2].to_dict() == {"n": 2, "low": 5.0, "middle": 6.0, "high": 7.0}
    many = pd.DataFrame({"id": [str(i) for i in range(5)], "step": 1, "value": [0.0, 1.0, 2.0, 3.0, 4.0]})
    assert spread(many).loc[1].to_dict() == {"n": 5, "low": 1.0, "middle": 2.0, "high": 3.0}


def test_long_curves_are_thinned_by_averaging() -> None:
    rows = pd.DataFrame({"id": "a", "step": np.arange(1000), "value": np.arange(1000) * 1.0})
    band = spread(rows)
    assert len(band) == 200
    assert band["middle"].iloc[0] == pytest.approx(2.0)  # the mean of 0..4
