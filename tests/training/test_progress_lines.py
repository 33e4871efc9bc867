"""The progress of a run fits into a terminal of 80 columns, whatever the run is called."""

from __future__ import annotations

import io

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

from bakeoff.training.callbacks.progress_bar import ThreeLines


def test_a_long_name_leaves_room_for_bar_steps_and_time_left() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    progress = ThreeLines(BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn(), console=console, expand=True)
    metrics = "loss 2.259  acc 0.1531  val loss 2.248  val acc 0.2361  132 images/s"
    progress.add_task("digits-alexnet_mini-" + "very_long_name-" * 10, total=400, completed=40, metrics=metrics)
    with console.capture() as capture:
        console.print(progress.get_renderable())
    title, bar, values = capture.get().splitlines()
    assert title.startswith("digits-alexnet_mini-") and max(map(len, (title, bar, values))) <= 80
    assert bar.index("40/400") > 20 and ":" in bar.rpartition("400")[2]
    assert values.strip() == metrics
