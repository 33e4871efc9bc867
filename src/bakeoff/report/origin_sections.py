"""Where the numbers come from: the plan, the code and the machine, and the command for every run."""

from __future__ import annotations

from typing import Any

import pandas as pd

from bakeoff.rendering.page import Block, Bullets, Code, Definitions, Details, Section, Table
from bakeoff.report import formatting, tables
from bakeoff.report.analysis import Analysis
from bakeoff.report.design import SweepDesign
from bakeoff.report.results import SweepResults

#: Rows of a table of runs in the page; runs.csv has all.
MAX_RUNS = 300
#: Rows beyond which a table scrolls.
TALL_FROM = 17
#: Values of one property of the machine that are shown, where the runs differ in it.
MAX_VALUES = 4


def origin_sections(analysis: Analysis) -> list[Section]:
    """The plan, the code and machine, and how to reproduce the sweep, the report and every run."""
    sweep = analysis.full_sweep
    values = {key: ", ".join(values[:MAX_VALUES]) + (" ..." if len(values) > MAX_VALUES else "") for key, values in sweep.origin.items()}
    machine = Section("Code and machine", [Definitions(values)], ["Several values mean that the runs differ."], key="machine")
    return [_plan_section(analysis), *([machine] if values else []), _reproduction_section(sweep)]


def _plan_section(analysis: Analysis) -> Section:
    design = analysis.sweep.design
    note = "Declared and hashed before the first run." if design.declared else "There is no plan: these runs were selected afterwards."
    blocks: list[Block] = [Definitions(_declared(analysis), "Declared"), _arms_table(design)]
    if design.fixed:
        blocks.append(Definitions({key: formatting.setting(value) for key, value in design.fixed.items()}, "Fixed for every arm"))
    if design.allowed_differences:
        blocks.append(Bullets(design.allowed_differences, title="Differences between arms that the sweep file allows"))
    return Section("The plan", blocks, [note], key="plan")


def _declared(analysis: Analysis) -> dict[str, str]:
    design, metric = analysis.sweep.design, analysis.sweep.score_metric
    sizes = [str(size) for size in design.sequential.sizes]
    trials = max(planned.trials for planned in design.planned_arms)
    rules = {"metric of tuning": f"{design.metric}, {design.goal}", "scored by": metric}
    rules |= {"margin": formatting.difference(design.margin, metric), "blocks": ", ".join(design.blocks)}
    if not design.declared:
        return rules
    return {
        "question": design.question,
        **rules,
        "tuning runs per arm and block": f"{trials}, sampler {design.sampler}",
        "pruner": design.pruner or "none",
        "seeds of the first interim analysis": str(design.seeds),
        "interim analyses at (seeds)": " and ".join(sizes) if len(sizes) < 3 else ", ".join(sizes),
        "baseline": design.baseline or "none",
        "hash of the plan": design.hash,
    }


def _arms_table(design: SweepDesign) -> Table:
    """The choices of each arm and the space of each tuned key; without choices that only repeat the arm's name."""
    choices = {planned.arm: planned.choices for planned in design.planned_arms}
    first_planned = {planned.arm: planned for planned in reversed(design.planned_arms)}
    keys = list(dict.fromkeys(key for arm in choices.values() for key in arm if key in design.factors))
    if len(keys) == 1 and all(formatting.setting(arm_choices.get(keys[0])) == arm for arm, arm_choices in choices.items()):
        keys = []
    tuned = (*design.numeric_keys, *design.categorical_keys)
    rows = []
    for arm, planned in first_planned.items():
        spaces = [
            tables.describe_range(planned.spaces[key]) if key in planned.spaces else _describe_menu(planned.menus.get(key)) for key in tuned
        ]
        rows.append([arm, *(formatting.setting(choices[arm].get(key)) for key in keys), *spaces])
    head = ["arm", *keys, *(f"space of {key}" for key in tuned)]
    return Table(head, sorted(rows, key=lambda row: design.arms.index(row[0])), title="Arms", tall=len(rows) >= TALL_FROM)


def _describe_menu(values: tuple[Any, ...] | None) -> str:
    return "not tuned" if values is None else f"one of {', '.join(map(formatting.setting, values))}"


def _reproduction_section(sweep: SweepResults) -> Section:
    commands, runs = tables.reproduction_commands(sweep), tables.runs_table(sweep)
    blocks: list[Block] = [Code("\n".join(dict.fromkeys((commands["sweep"], commands["report"]))))]
    for stage, title in (("confirm", "Confirm runs"), ("tune", "Tuning runs"), ("audit", "Audits of pruning")):
        rows = runs[runs["stage"] == stage]
        if not rows.empty:
            cut = f", the first {MAX_RUNS} of them here" if len(rows) > MAX_RUNS else ""
            blocks.append(Details(f"{title} ({len(rows):,}{cut})", [_runs_table(sweep, rows.head(MAX_RUNS), stage)]))
    note = "The commands of the sweep, of this report and of each run. Each figure has its own command below it. runs.csv has every run."
    return Section("How to reproduce", blocks, [note], key="again")


def _runs_table(sweep: SweepResults, rows: pd.DataFrame, stage: str) -> Table:
    design, metric = sweep.design, sweep.score_metric if stage == "confirm" else sweep.design.metric
    index, keys = "seed" if stage == "confirm" else "point", tuple(dict.fromkeys((*design.numeric_keys, *design.categorical_keys)))
    block = ["block"] if len(design.blocks) > 1 else []
    head = [*block, "arm", index, *keys, formatting.metric_name(metric), "state", "command"]
    cells = []
    for run in rows.to_dict("records"):
        number = "" if pd.isna(run[index]) else f"{run[index]:.0f}"
        settings = [_describe_setting(run[key]) for key in keys]
        outcome = [formatting.score(run["score"], metric), _describe_state(run), run["command"]]
        cells.append([*(run[name] for name in block), run["arm"], number, *settings, *outcome])
    return Table(head, cells, code_column=len(head) - 1, tall=True)


def _describe_setting(value: Any) -> str:
    return value if isinstance(value, str) else "" if pd.isna(value) else formatting.significant(value)


def _describe_state(run: dict[Any, Any]) -> str:
    reason = str(run["reason"])
    return f"{run['state']}: {reason[:80]}" if reason and run["state"] in ("failed", "diverged", "killed") else str(run["state"])
