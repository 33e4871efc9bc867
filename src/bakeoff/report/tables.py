"""The tables: arms, runs, differences and curves as CSV, everything as JSON, and the short Markdown."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bakeoff.report import formatting
from bakeoff.report.analysis import Analysis, section_tables
from bakeoff.report.design import SearchRange
from bakeoff.report.narrative import section_sentences
from bakeoff.report.outcomes import compared_scores
from bakeoff.report.results import SweepResults, count_states
from bakeoff.report.verdict import Verdict
from bakeoff.stats.intervals import LEVEL, mean_interval
from bakeoff.stats.paired import PairedDifference
from bakeoff.stats.scores import ALL_BLOCKS, mean_over_blocks


def reproduction_commands(sweep: SweepResults) -> dict[str, str]:
    """The commands that reproduce the sweep, this report, and one run (with ID in place of its id)."""
    from bakeoff.tracking import store

    where = f" {shlex.quote(f'tracking.uri={store.redact(sweep.uri)}')}" if sweep.nondefault_store else ""
    sweep_command = store.redact(sweep.design.command)
    trust = "".join(f" {shlex.quote(word)}" for word in shlex.split(sweep_command) if word.startswith("trust="))
    return {
        "sweep": sweep_command,
        "report": f"bakeoff report {shlex.quote(sweep.title)}{where}" if sweep.design.declared else sweep_command,
        "run": f"bakeoff reproduce ID{where}{trust}",
    }


def arms_table(analysis: Analysis) -> pd.DataFrame:
    """One row per arm and block (and one over the blocks, where there are several), best first within a block.

    Scores and validation are fractions as logged, their means over the runs that are compared; `low`, `high` are the ends of the 95 % t
    interval of the mean, empty for n = 1.
    """
    sweep = analysis.sweep
    plan, rows = sweep.design, list[dict[str, Any]]()
    scores = compared_scores(sweep)
    for block in analysis.blocks:
        means = analysis.arm_means[block]
        compared: Mapping[str, Mapping[int, float]] = mean_over_blocks(scores, plan.arms) if block == ALL_BLOCKS else scores[block]
        for arm in [*means, *(a for a in plan.arms if a not in means)]:
            runs = sweep.runs[sweep.runs["arm"] == arm]
            runs = runs if block == ALL_BLOCKS else runs[runs["block"] == block]
            tune, confirm = runs[runs["stage"] == "tune"], runs[runs["stage"] == "confirm"]
            interval, validation = means.get(arm), _mean(confirm["tuned"][confirm["seed"].isin(list(compared[arm]))])
            best = sweep.best_trial(arm, block) if block != ALL_BLOCKS else None
            row: dict[str, Any] = {"block": block, "arm": arm, "n": interval.n if interval else 0}
            row |= {key: getattr(interval, key) if interval else None for key in ("mean", "low", "high", "sd")}
            row["validation"] = validation
            row["tuned_score"] = float(best["score"]) if best is not None else None
            for key in (*plan.numeric_keys, *plan.categorical_keys):
                row[f"chosen {key}"] = "" if block == ALL_BLOCKS else formatting.chosen_settings(sweep.settings(arm, block, key))
            row |= {f"space of {key}": _space(sweep, arm, block, key) for key in plan.numeric_keys}
            row |= {"trials": len(tune), "confirm_runs": len(confirm)}
            row |= _failed_units(analysis, arm, block)
            row |= {state: count_states(runs, [state]) for state in ("diverged", "pruned", "failed", "killed", "running")}
            row |= {"seconds_per_run": _mean(runs[runs["state"] == "finished"]["seconds"]), "parameters": _mean(runs["parameters"])}
            rows.append(row)
    return pd.DataFrame(rows)


def _failed_units(analysis: Analysis, arm: str, block: str) -> dict[str, int | None]:
    """How many studies (or seeds, with one study) of an arm failed, of how many."""
    rate = next((rate for rate in analysis.verdict.failure_rates.get(block, ()) if rate.arm == arm), None)
    return {"failed_units": rate.failed if rate else None, "units": rate.n if rate else None}


def _space(sweep: SweepResults, arm: str, block: str, key: str) -> str | None:
    space = sweep.design.space(arm, block, key)
    return describe_range(space) if space else None


def describe_range(space: SearchRange) -> str:
    """A range that was searched, in words."""
    scale = ", log" if space.log else ", log in 1 - x" if space.complement else ""
    return f"{formatting.significant(space.low)} to {formatting.significant(space.high)}{scale}"


def _mean(column: pd.Series[float]) -> float | None:
    finite = [float(v) for v in column if math.isfinite(v)]
    return mean_interval(finite).mean if finite else None


def reference_arm(analysis: Analysis, block: str) -> str:
    """The arm that others are compared with: the plan's baseline where it has scores in the block, else the leader."""
    baseline, means = analysis.sweep.design.baseline, analysis.arm_means[block]
    return baseline if baseline is not None and baseline in means else next(iter(means))


def signed_differences(analysis: Analysis, block: str) -> dict[tuple[str, str], PairedDifference]:
    """(arm, other) -> the difference of arm minus other, for both orders of every pair of a block: advantages may be negative."""
    differences: dict[tuple[str, str], PairedDifference] = {}
    for pair in analysis.verdict.differences:
        if pair.block == block:
            low, high = (None if end is None else -end for end in (pair.high, pair.low))
            differences[pair.better, pair.worse] = pair
            differences[pair.worse, pair.better] = dataclasses.replace(pair, advantage=-pair.advantage, low=low, high=high)
    return differences


def differences_table(verdict: Verdict) -> pd.DataFrame:
    """One row a pair and block, with the fields of `PairedDifference`."""
    names = [field.name for field in dataclasses.fields(PairedDifference)]
    return pd.DataFrame([dataclasses.asdict(d) for d in verdict.differences], columns=names)


def runs_table(sweep: SweepResults) -> pd.DataFrame:
    """One row a run with the exact command that trains it again."""
    command = reproduction_commands(sweep)["run"]
    return sweep.runs.assign(command=[command.replace(" ID", f" {run}", 1) for run in sweep.runs["id"]])


def report_summary(analysis: Analysis, table: pd.DataFrame) -> dict[str, Any]:
    """The report without its runs as plain JSON, with the table of arms; unknown numbers are null."""
    sweep, verdict = analysis.full_sweep, analysis.verdict
    plan = sweep.design
    tree = {
        "sweep": plan.name,
        "hash": plan.hash,
        "question": plan.question,
        "metric": plan.metric,
        "scored": sweep.score_metric,
        "goal": plan.goal,
        "margin": plan.margin,
        "level": LEVEL,
        "grade": verdict.grade,
        "winner": verdict.winner,
        "verdict": verdict.headline,
        "details": list(verdict.details),
        "caveats": list(verdict.caveats),
        "looks": {
            "at": list(plan.sequential.sizes),
            "levels": list(plan.sequential.levels),
            "done": verdict.analyses,
            "seeds": verdict.seeds,
        },
        "sections": {name: list(lines) for name, lines in section_sentences(analysis).items()},
        "exploratory_runs": sweep.unplanned_runs,
        "planned": {"tuning_runs": plan.trials, "confirm_runs": plan.confirm_runs, "seeds": plan.seeds, "sampler": plan.sampler},
        "arms": table.to_dict("records"),
        "differences": [dataclasses.asdict(d) for d in verdict.differences],
        "failures": {block: [dataclasses.asdict(rate) for rate in rates] for block, rates in verdict.failure_rates.items()},
        "failure_differences": {block: [dataclasses.asdict(d) for d in tests] for block, tests in verdict.failure_differences.items()},
        "fixed": dict(plan.fixed),
        "scope": {key: list(values) for key, values in sweep.scope.items()},
        "origin": {name: list(values) for name, values in sweep.origin.items()},
        "commands": reproduction_commands(sweep),
        "runs": len(sweep.runs),
    }
    plain: dict[str, Any] = _plain(tree)
    return plain


def _plain(item: Any) -> Any:
    if isinstance(item, dict):
        return {str(key): _plain(value) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return [_plain(value) for value in item]
    return None if isinstance(item, float) and not math.isfinite(item) else item


def readable_arms_table(sweep: SweepResults, table: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """(head, rows) of the arms table as people read it; the block's column only where there are several."""
    plan, metric = sweep.design, sweep.score_metric
    name = formatting.metric_name(metric)
    head = [*(["block"] if len(plan.blocks) > 1 else []), "arm", "n", f"mean {name}", f"{formatting.percent(LEVEL)} interval", "validation"]
    head += [f"chosen {key}" for key in plan.numeric_keys] + ["trials", "diverged", "failed", "did not learn", "time", "parameters"]
    rows: list[list[str]] = []
    for row in table.to_dict("records"):
        low, high = formatting.score(row["low"], metric).removesuffix(" %"), formatting.score(row["high"], metric)
        interval = "none (n = 1)" if row["n"] == 1 else f"{low} to {high}"
        cells = [row["block"]] if len(plan.blocks) > 1 else []
        cells += [row["arm"], str(row["n"]), formatting.score(row["mean"], metric), interval if row["n"] else "none"]
        cells.append(formatting.score(row["validation"] if row["n"] else row["tuned_score"], plan.metric))
        for key in plan.numeric_keys:
            cells.append(row[f"chosen {key}"])
        parameters = row["parameters"]
        lost = row["failed_units"]
        cells += [str(row["trials"]), str(row["diverged"]), str(row["failed"])]
        cells.append(f"{lost:.0f} of {row['units']:.0f}" if lost is not None and lost > 0 else "")
        cells.append(formatting.duration(row["seconds_per_run"]))
        cells.append("n/a" if parameters is None or math.isnan(parameters) else f"{parameters:,.0f}")
        rows.append(cells)
    return head, rows


def markdown(sweep: SweepResults, verdict: Verdict, table: pd.DataFrame) -> str:
    """The text of report.md: question, verdict, the table of arms, caveats, commands."""
    head, rows = readable_arms_table(sweep, table)
    parts = [f"# {sweep.design.question}", f"**{verdict.headline}**", *verdict.details, _pipes(head, rows)]
    if verdict.caveats:
        parts += ["## Before you use this", "\n".join(f"- {line}" for line in verdict.caveats)]
    commands = reproduction_commands(sweep)
    parts += ["## How to reproduce", f"```\n{commands['sweep']}\n{commands['report']}\n{commands['run']}   # the ids are in runs.csv\n```"]
    return "\n\n".join(parts) + "\n"


def _pipes(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def write_tables(analysis: Analysis, table: pd.DataFrame, out: Path) -> list[Path]:
    """With the table of `arms`: writes a CSV file for every section that has numbers, summary.json and report.md into `out`."""
    tables = {
        "arms": table,
        "runs": runs_table(analysis.full_sweep),
        "curves": analysis.full_sweep.curves,
        "differences": differences_table(analysis.verdict),
    }
    tables |= section_tables(analysis)
    for name, rows in tables.items():
        formatting.inert_cells(rows).to_csv(out / f"{name}.csv", index=False)
    text = json.dumps(report_summary(analysis, table), indent=2, allow_nan=False)
    (out / "summary.json").write_text(text + "\n", encoding="utf-8")
    (out / "report.md").write_text(markdown(analysis.sweep, analysis.verdict, table), encoding="utf-8")
    return [*(out / f"{name}.csv" for name in tables), out / "summary.json", out / "report.md"]
