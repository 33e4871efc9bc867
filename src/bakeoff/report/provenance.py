"""How the numbers came about: the plan, the code and the machine, and the command for every run."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bakeoff.report import formatting, tables
from bakeoff.report.analysis import Analysis
from bakeoff.report.markup import folded, listed, section, t, table
from bakeoff.report.results import SweepResults

#: Rows of a table of runs in the page; runs.csv has them all. Of many arms' runs fewer: each row carries a command.
MOST_RUNS = 300
#: What several runs may differ in without a word, up to so many values shown.
VALUES = 4


def plan(found: Analysis) -> str:
    """What was declared before the first run."""
    made = found.sweep.design
    arms = {cell.arm: cell.choices for cell in made.planned_arms}
    keys = list(dict.fromkeys(key for choices in arms.values() for key in choices if key in made.factors))
    tuned = [key for key in (*made.numeric_keys, *made.categorical_keys)]
    lines = []
    for arm, choices in arms.items():
        own = next(cell for cell in made.planned_arms if cell.arm == arm)
        spaces = [tables.describe_range(own.spaces[key]) if key in own.spaces else _menu(own.menus.get(key)) for key in tuned]
        lines.append([arm, *(formatting.setting(choices.get(key)) for key in keys), *spaces])
    head = ["arm", *keys, *(f"space of {key}" for key in tuned)]
    looks = (
        " and ".join(str(size) for size in made.sequential.sizes)
        if len(made.sequential.sizes) < 3
        else ", ".join(map(str, made.sequential.sizes))
    )
    each = max(cell.trials for cell in made.planned_arms)
    told = {
        "question": made.question, "metric of tuning": f"{made.metric}, {made.goal}", "scored by": found.sweep.score_metric,
        "margin": formatting.difference(made.margin, found.sweep.score_metric), "tuning runs an arm and block": f"{each}, sampler {made.sampler}",  # noqa: E501
        "pruner": made.pruner or "none", "seeds of the first look": str(made.seeds), "looks at (seeds)": looks,
        "blocks": ", ".join(made.blocks), "baseline": made.baseline or "none", "hash of the plan": made.hash,
    }  # fmt: skip
    if not made.declared:
        told = {key: told[key] for key in ("metric of tuning", "scored by", "margin", "blocks")}
    fixed = {key: formatting.setting(value) for key, value in made.fixed.items()}
    allowed = "".join(f"<li>{t(line)}</li>" for line in made.allowed_differences)
    note = "Declared and hashed before the first run." if made.declared else "There was none: these runs were put together afterwards."
    several = len(keys) > 1 or (len(keys) == 1 and any(row[0] != row[1] for row in lines))
    shown = [0, *range(1 if several or not keys else 2, len(head))]
    arms_table = table([head[i] for i in shown], [[row[i] for i in shown] for row in lines], tall=len(lines) > 16)
    return section(
        "plan", "The plan", [note], listed("Declared", told), f"<h3>Arms</h3>{arms_table}", listed("Fixed for every arm", fixed),
        f"<h3>Differences between arms that the sweep file allows</h3><ul>{allowed}</ul>" if allowed else "",
    )  # fmt: skip


def _menu(items: tuple[Any, ...] | None) -> str:
    return "not tuned" if items is None else f"one of {', '.join(map(formatting.setting, items))}"


def machine(found: Analysis) -> str:
    """The code and the machine, as the runs tell."""
    origin = found.full_sweep.origin
    told = {key: ", ".join(values[:VALUES]) + (" ..." if len(values) > VALUES else "") for key, values in origin.items()}
    return section("machine", "Code and machine", ["Several values mean that the runs differ."], listed("", told) if told else "")


def again(found: Analysis) -> str:
    """The command of the sweep, of this page and of every run."""
    sweep = found.full_sweep
    lines = tables.reproduction_commands(sweep)
    parts = [
        f"<pre>{t(lines['sweep'])}\n{t(lines['report'])}</pre>" if lines["sweep"] != lines["report"] else f"<pre>{t(lines['report'])}</pre>"
    ]
    rows = tables.runs_table(sweep)
    for stage, title in (("confirm", "Confirm runs"), ("tune", "Tuning runs"), ("audit", "Audits of pruning")):
        own = rows[rows["stage"] == stage]
        if own.empty:
            continue
        cut = f", the first {MOST_RUNS} of them here" if len(own) > MOST_RUNS else ""
        parts.append(folded(f"{title} ({len(own):,}{cut})", _runs(sweep, own.head(MOST_RUNS), stage)))
    note = "The whole sweep, this report, and each run; below each figure stands its own. runs.csv has every run."
    return section("again", "How to reproduce", [note], *parts)


def _runs(sweep: SweepResults, rows: pd.DataFrame, stage: str) -> str:
    plan, metric = sweep.design, sweep.score_metric if stage == "confirm" else sweep.design.metric
    at = "seed" if stage == "confirm" else "point"
    keys = (*plan.numeric_keys, *(key for key in plan.categorical_keys if key not in plan.numeric_keys))
    head = [*(["block"] if len(plan.blocks) > 1 else []), "arm", at, *keys, formatting.metric_name(metric), "state", "command"]
    lines: list[list[str]] = []
    for row in rows.to_dict("records"):
        cells = [row["block"]] if len(plan.blocks) > 1 else []
        cells += [row["arm"], "" if pd.isna(row[at]) else f"{row[at]:.0f}", *(_setting(row[key]) for key in keys)]
        lines.append([*cells, formatting.score(row["score"], metric), _state(row), row["command"]])
    return table(head, lines, code=len(head) - 1, tall=True)


def _setting(value: Any) -> str:
    return value if isinstance(value, str) else "" if pd.isna(value) else formatting.significant(value)


def _state(row: dict[Any, Any]) -> str:
    reason = str(row["reason"])
    return f"{row['state']}: {reason[:80]}" if reason and row["state"] in ("failed", "diverged", "killed") else str(row["state"])
