"""The figures by themselves: styles, bands, and what very many arms and trials cost."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bakeoff.rendering.marks import ErrorBar, Line, Points
from bakeoff.rendering.palette import styles
from bakeoff.report.analysis import analyse
from bakeoff.report.builder import write_report
from bakeoff.report.design import SearchRange
from bakeoff.report.figures import section_figures
from bakeoff.report.figures.curves import seed_quantiles
from bakeoff.report.results import SweepResults

Make = Callable[..., SweepResults]


def test_no_two_arms_look_the_same() -> None:
    arm_styles = styles([f"arm{i}" for i in range(60)])
    assert len({(s.colour, s.dash, s.marker) for s in arm_styles.values()}) >= 40
    assert len({(s.colour, s.dash) for s in list(arm_styles.values())[:24]}) == 24


def test_bands_by_hand() -> None:
    rows = pd.DataFrame({"id": list("abcab"), "step": [1, 1, 1, 2, 2], "value": [1.0, 3.0, 2.0, 5.0, 7.0]})
    band = seed_quantiles(rows)
    assert band.loc[1].to_dict() == {"n": 3, "low": 1.0, "middle": 2.0, "high": 3.0}
    assert band.loc[2].to_dict() == {"n": 2, "low": 5.0, "middle": 6.0, "high": 7.0}
    many = pd.DataFrame({"id": [str(i) for i in range(5)], "step": 1, "value": [0.0, 1.0, 2.0, 3.0, 4.0]})
    assert seed_quantiles(many).loc[1].to_dict() == {"n": 5, "low": 1.0, "middle": 2.0, "high": 3.0}


def test_long_curves_are_thinned_by_averaging() -> None:
    rows = pd.DataFrame({"id": "a", "step": np.arange(1000), "value": np.arange(1000) * 1.0})
    band = seed_quantiles(rows)
    assert len(band) == 200
    assert band["middle"].iloc[0] == pytest.approx(2.0)  # the mean of 0..4


def test_many_arms_begin_with_the_best_few(simulated: Make) -> None:
    sweep = simulated({f"arm{i:02d}": 0.002 * i for i in range(20)}, rng=np.random.default_rng(2), trials=4, seeds=3, curves=True)
    figures = {figure.name: figure for figure in section_figures(analyse(sweep))}
    curves = figures["curves-val-accuracy"]
    assert len(curves.visible) == 8 and "arm19" in curves.visible and curves.is_hidden(Line([], [], "arm00"))
    assert set(curves.data["arm"]) == set(sweep.design.arms)  # the data have all of them
    assert len(figures["scores-all"].axes.rows) == 20


def test_axes_end_where_scores_and_ranks_do_and_diverged_runs_have_no_score(simulated: Make) -> None:
    effects = {"a": 0.0, "b": 0.01, "c": 0.05}
    sweep = simulated(effects, rng=np.random.default_rng(2), base=0.93, trials=8, seeds=5, diverge=lambda arm, lr: lr > 0.1)
    figures = {figure.name: figure for figure in section_figures(analyse(sweep))}
    tuning = next(figure for name, figure in figures.items() if name.startswith("tuning-"))
    diverged = tuning.data[tuning.data["state"] == "diverged"]
    assert len(diverged) and diverged["score"].isna().all()
    bars = [mark for mark in figures["ranks"].marks if isinstance(mark, ErrorBar)]
    assert len(bars) == 3 and all(mark.low is not None and mark.low >= 1 for mark in bars)
    assert all(mark.high is not None and mark.high <= 3 for mark in bars)
    ends = figures["budget-all"].axes.y_range if "budget-all" in figures else figures["budget"].axes.y_range
    assert ends is not None and 0 <= ends[0] < ends[1] <= 100


def test_a_momentum_is_drawn_as_it_was_searched(simulated: Make) -> None:
    sweep = simulated({"a": 0.0, "b": 0.01}, rng=np.random.default_rng(2), seeds=2)
    complements = [
        dataclasses.replace(cell, spaces={"optimizer.lr": SearchRange(0.5, 0.9999, complement=True)}) for cell in sweep.design.planned_arms
    ]
    runs = sweep.runs.assign(**{"optimizer.lr": 1 - sweep.runs["optimizer.lr"] / 2})
    sweep = dataclasses.replace(sweep, runs=runs, design=dataclasses.replace(sweep.design, planned_arms=tuple(complements)))
    figure = next(figure for figure in section_figures(analyse(sweep)) if figure.name == "tuning-optimizer-lr")
    points = [x for mark in figure.marks if isinstance(mark, Points) and mark.symbol == "marker" for x in mark.x]
    assert (figure.axes.x_label, figure.axes.log_x) == ("1 - optimizer.lr", True)
    assert sorted(points) == pytest.approx(sorted(1 - figure.data["optimizer.lr"]))


@pytest.mark.slow
def test_ten_thousand_trials_and_sixty_arms_stay_small(simulated: Make, tmp_path: Path) -> None:
    sweep = simulated({f"arm{i:02d}": 0.001 * i for i in range(60)}, rng=np.random.default_rng(3), trials=167, seeds=5, curves=True)
    assert (sweep.runs["stage"] == "tune").sum() > 10_000
    start = time.process_time()
    report = write_report(sweep, tmp_path)
    assert time.process_time() - start < 90
    assert report.page.stat().st_size < 10 * 2**20
    assert sum(path.stat().st_size for path in report.files) < 40 * 2**20
    assert len(pd.read_csv(tmp_path / "figures" / "tuning-optimizer-lr.csv")) > 10_000
