"""The live table of a sweep on standard error, or one line a run where that is no terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bakeoff.errors import printable
from bakeoff.sweep.arm_progress import ArmProgress, seconds_left
from bakeoff.sweep.candidates import shown
from bakeoff.sweep.plan import Plan
from bakeoff.sweep.planned_arm import WHOLE

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table


class SweepProgress:
    """Shows where a sweep is while a block lasts."""

    def __init__(self, plan: Plan, *, workers: int) -> None:
        """Write to standard error; `workers` scales the time left."""
        from rich.console import Console

        self.plan, self.workers = plan, workers
        self.console = Console(stderr=True)
        self.live: Live | None = None
        self.decided = 0

    def __enter__(self) -> SweepProgress:
        """Start the live table on a terminal."""
        if self.console.is_terminal:
            from rich.live import Live

            self.live = Live(console=self.console, refresh_per_second=4, transient=True)
            self.live.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        """Remove the live table."""
        if self.live is not None:
            self.live.__exit__(*error)
            self.live = None

    def say(self, line: str) -> None:
        """One line that stays."""
        self.console.print(printable(line), markup=False, highlight=False, soft_wrap=True)

    def update(self, arms_progress: Sequence[ArmProgress]) -> None:
        """New counts."""
        self.decided = sum(arm_progress.done + arm_progress.confirmed + arm_progress.audited for arm_progress in arms_progress)
        if self.live is not None:
            self.live.update(progress_table(self.plan, arms_progress, left=seconds_left(list(arms_progress), workers=self.workers)))

    def event(self, event: Mapping[str, Any], arms_progress: Sequence[ArmProgress]) -> None:
        """Show that a run has been decided, or requeued."""
        self.update(arms_progress)
        good = event["status"] in ("finished", "pruned")
        if self.live is None or not good:
            total = sum(arm_progress.planned + arm_progress.seeds + arm_progress.audits for arm_progress in arms_progress)
            self.say(f"[{self.decided}/{total}] {sentence(self.plan, event)}")


def sentence(plan: Plan, event: Mapping[str, Any]) -> str:
    """One line about a decided run."""
    words = [f"{event['name']}: {event['status']}"]
    if event["status"] == "finished" and event.get("value") is not None:
        words.append(f"{plan.spec.metric.name} {float(event['value']):.4f}")
    words += [f"{key}={shown(value)}" for key, value in (event.get("params") or {}).items()]
    if event.get("seconds"):
        words.append(f"{float(event['seconds']):.1f} s")
    if event.get("reason"):
        words.append(f"({event['reason']})")
    return "  ".join(words)


def progress_table(plan: Plan, arms_progress: Sequence[ArmProgress], *, left: float | None = None) -> Table:
    """Arms by rows: how many trials are done, the best so far and where, the confirming runs, what went wrong."""
    from rich.table import Table
    from rich.text import Text

    blocks = any(arm_progress.block != WHOLE for arm_progress in arms_progress)
    caption = None if left is None else f"about {clock(left)} left" if left else None
    drawn = Table(
        title=Text(printable(plan.spec.question)), caption=caption, title_justify="left", caption_justify="left", box=None, pad_edge=False
    )
    heads = ["arm", *(["block"] if blocks else []), "trials", f"best {plan.spec.metric.name}", "at"]
    for head in heads:
        drawn.add_column(head, justify="left" if head in ("arm", "block", "at") else "right")
    for head in ("confirmed", "mean", "failed", "diverged"):
        drawn.add_column(head, justify="right")
    for arm_progress in arms_progress:
        names = [arm_progress.arm, *([arm_progress.block] if blocks else [])]
        row = [
            *names,
            f"{arm_progress.done}/{arm_progress.planned}",
            figure(arm_progress.best),
            " ".join(f"{key.rpartition('.')[2]}={shown(value, 3)}" for key, value in arm_progress.setting.items()) or "-",
            f"{arm_progress.confirmed}/{arm_progress.seeds}",
            figure(arm_progress.mean),
            str(arm_progress.failed + arm_progress.confirm_failed or "-"),
            str(arm_progress.diverged + arm_progress.confirm_diverged or "-"),
        ]
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    return drawn


def figure(value: float | None) -> str:
    """A score in a table."""
    return "-" if value is None else f"{value:.4f}"


def clock(seconds: float) -> str:
    """A time in words."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
