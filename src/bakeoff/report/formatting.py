"""Numbers and lists as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

#: How many names of a long list are written out.
LISTED = 8


def score(value: float | None, metric: str, *, digits: int = 2) -> str:
    """An accuracy in percent, anything else with four significant digits; 'n/a' where there is none."""
    if value is None or not math.isfinite(value):
        return "n/a"
    return f"{100 * value:.{digits}f} %" if metric.endswith("accuracy") else f"{value:.4g}"


def difference(value: float | None, metric: str, *, unit: bool = True) -> str:
    """A difference of two scores: in accuracy points, or plain."""
    if value is None or not math.isfinite(value):
        return "n/a"
    if not metric.endswith("accuracy"):
        return f"{value:.3g}"
    number = f"{100 * value:.2f}"
    return f"{number} points" if unit else number


def percent(share: float) -> str:
    """'95 %' for 0.95."""
    return f"{100 * share:.0f} %"


def p_value(p: float | None) -> str:
    """'p = 0.012', 'p < 0.001' or 'p unknown'."""
    if p is None:
        return "p unknown"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def significant(value: float) -> str:
    """A setting such as a learning rate: three significant digits."""
    return f"{value:.3g}" if math.isfinite(value) else "n/a"


def metric_name(metric: str) -> str:
    """'test accuracy' for 'test/accuracy'."""
    names = {"val": "validation", "train": "training"}
    part, _, rest = metric.partition("/")
    return f"{names.get(part, part)} {rest}".strip()


def join_names(words: Sequence[str], *, last: str = "and") -> str:
    """'a', 'a and b', 'a, b and c'; of a long list the first `LISTED` and the number of the others."""
    if len(words) > LISTED + 1:
        words = [*words[:LISTED], f"{len(words) - LISTED} others"]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}" if words else "none"


def count_noun(n: int, noun: str) -> str:
    """'1 seed', '3 seeds'."""
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def duration(seconds: float | None) -> str:
    """'0.4 s', '12 s', '3 min 05 s', '2 h 10 min'."""
    if seconds is None or not math.isfinite(seconds):
        return "n/a"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def chosen_settings(values: Sequence[Any]) -> str:
    """The settings that an arm's studies chose: '0.003', '0.001 to 0.003', 'a or b', or nothing."""
    if not values:
        return ""
    if all(isinstance(value, float | int) and not isinstance(value, bool) for value in values):
        return " to ".join(dict.fromkeys((significant(min(values)), significant(max(values)))))
    return join_names([str(value) for value in values], last="or")


def setting(item: Any) -> str:
    """A setting of the plan as it is written in the shell."""
    if isinstance(item, bool):
        return str(item).lower()
    return "null" if item is None else str(item)


def inert_cells(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose texts no spreadsheet takes for formulas: an apostrophe before those that begin like one."""
    return table.rename(columns=_inert).map(_inert)


def _inert(cell: Any) -> Any:
    if not isinstance(cell, str) or not cell.lstrip().startswith(("=", "+", "-", "@")):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell
