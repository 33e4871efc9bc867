"""The tracking store -> two tidy tables: one row a run, and one row a point of a curve."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from bakeoff.errors import NotFoundError, StoreError, near_miss
from bakeoff.report.design import Design, design
from bakeoff.report.statistics import Scores

#: Kept for the page's foot: what the runs say about the code and the machine they ran on.
ORIGIN = ("git.commit", "git.dirty", "python", "os", "cpu", "cores", "memory_gb", "gpus", "cpu_threads", "world_size", "trainer.precision")
#: A run that diverged counts as the worst outcome. A loss has no worst value, so there it gets no score and its arm says so.
WORST_ACCURACY = 0.0


@dataclass(frozen=True)
class Sweep:
    """Everything that a report is made from.

    `runs`: id, mlflow_id, name, stage (tune|confirm), arm, block, seed, point, state (finished|diverged|failed|killed|running), reason,
    tuned (the metric that tuning looked at), score (what the run counts for: for a confirm run on the test set), seconds, parameters,
    and one column a tuned key, under the key's own name. `curves`: id, stage, arm, block, seed, metric, step, value. `scored` is the metric
    of the verdict; `origin` tells where the runs come from; `named_store`: commands must name the store, as it is not the default one.
    """

    design: Design
    summary: str
    uri: str
    runs: pd.DataFrame
    curves: pd.DataFrame
    scored: str
    origin: dict[str, tuple[str, ...]]
    named_store: bool = False

    @property
    def title(self) -> str:
        """`<name>-<hash8>`, as the MLflow experiment is called."""
        return f"{self.design.name}-{self.design.hash[:8]}"

    def stage(self, name: str) -> pd.DataFrame:
        """The runs of one stage."""
        return self.runs[self.runs["stage"] == name]

    def scores(self, stage: str = "confirm") -> Scores:
        """block -> arm -> seed (a point, for tuning) -> score, of the runs that have one; every arm and block is there."""
        table: dict[str, dict[str, dict[int, float]]] = {b: {a: {} for a in self.design.arms} for b in self.design.blocks}
        key = "seed" if stage == "confirm" else "point"
        rows = self.stage(stage)
        for block, arm, at, score in zip(rows["block"], rows["arm"], rows[key], rows["score"], strict=True):
            if math.isfinite(score) and not pd.isna(at):
                table[block][arm][int(at)] = float(score)
        return table

    def best(self, arm: str, block: str) -> pd.Series[Any] | None:
        """The tuning run with the arm's best score in a block, the earlier one of equals; None where no run has a score."""
        return self._bests.get((arm, block))

    @cached_property
    def _bests(self) -> dict[tuple[str, str], pd.Series[Any]]:
        rows = self.stage("tune")
        rows = rows[rows["score"].notna() & rows["state"].isin(["finished", "diverged"])]
        rows = rows.sort_values(["score", "point"], ascending=[self.design.goal == "minimize", True], kind="stable")
        return {(str(row["arm"]), str(row["block"])): row for _, row in rows.groupby(["arm", "block"], sort=False).head(1).iterrows()}


def load(name: str, *, uri: str, sweep_hash: str | None = None) -> Sweep:
    """The sweep of that name, the newest plan of it unless `sweep_hash` (or `name-hash8`) says which. NotFoundError, StoreError."""
    from bakeoff.tracking import store

    summary = _summary(store.frame(uri, "tags.kind = 'summary'"), name, sweep_hash)
    title = f"{summary['tags.sweep']}-{summary['tags.sweep.hash'][:8]}"
    plan_file = store.artifact(uri, summary["mlflow_id"], "plan.json")
    plan = design(json.loads(Path(plan_file).read_text(encoding="utf-8")))
    frame = store.frame(uri, f"tags.`sweep.hash` = '{summary['tags.sweep.hash']}'", experiment=title)
    scored = _scored(frame, plan)
    runs = tabulate(frame, plan, scored=scored)
    chosen = _drawn(runs, plan)
    keys = tuple(dict.fromkeys((plan.metric, "train/loss", "val/loss")))
    curves = curve_table(store.histories(uri, list(chosen["mlflow_id"]), keys), chosen)
    return Sweep(plan, summary["mlflow_id"], uri, runs, curves, scored, _origin(frame))


def _summary(frame: pd.DataFrame, name: str, sweep_hash: str | None) -> pd.Series[Any]:
    """The summary run that is meant."""
    if "tags.sweep" not in frame.columns or "tags.sweep.hash" not in frame.columns:
        frame = pd.DataFrame({"tags.sweep": [], "tags.sweep.hash": [], "start": []}, dtype=object)
    hashes = frame["tags.sweep.hash"].astype(str)
    titles = frame["tags.sweep"].astype(str) + "-" + hashes.str[:8]
    found = frame[(frame["tags.sweep"] == name) | (titles == name)]
    if sweep_hash is not None and not found.empty:
        matching = found[found["tags.sweep.hash"].astype(str).str.startswith(sweep_hash[:8])]
        if matching.empty:
            known = ", ".join(sorted({str(h)[:8] for h in found["tags.sweep.hash"]}))
            raise NotFoundError(f"sweep {name}: no plan {sweep_hash[:8]} in the store (there are: {known})")
        found = matching
    if found.empty:
        names = sorted({str(n) for n in frame["tags.sweep"]} | set(titles))
        sweeps = sorted({str(n) for n in frame["tags.sweep"]})
        rest = f"; sweeps in the store: {', '.join(sweeps[:20])}" if sweeps else "; the store has no sweep yet"
        raise NotFoundError(f"sweep {name}: not in the store{near_miss(name, names)}{rest}")
    return found.sort_values("start", kind="stable").iloc[-1]


def tabulate(frame: pd.DataFrame, plan: Design, *, scored: str) -> pd.DataFrame:
    """The store's frame as `Sweep.runs`; runs of arms or blocks that the plan does not have are refused as StoreError."""
    kinds = _text(frame, "tags.kind")
    rows = frame[kinds.isin(["trial", "confirm"])].reset_index(drop=True)
    table = pd.DataFrame({key: _text(rows, key) for key in ("id", "mlflow_id", "name")})
    table["stage"] = ["confirm" if kind == "confirm" else "tune" for kind in _text(rows, "tags.kind")]
    table["arm"], table["block"] = _text(rows, "tags.arm"), _text(rows, "tags.block")
    strange = sorted((set(table["arm"]) - set(plan.arms)) | (set(table["block"]) - set(plan.blocks)))
    if strange:
        raise StoreError(f"sweep {plan.name}-{plan.hash[:8]}: the store has runs of {', '.join(map(repr, strange))}, which its plan lacks")
    table["seed"] = _number(rows, "tags.seed").fillna(_number(rows, "params.seed"))
    table["point"] = _number(rows, "tags.point")
    table["state"] = [_state(*one) for one in zip(_text(rows, "status"), _text(rows, "tags.diverged"), strict=True)]
    table["reason"] = _text(rows, "tags.reason")
    table["tuned"] = _number(rows, f"metrics.{plan.metric}")
    final = _number(rows, f"metrics.{scored}")
    table["score"] = [
        _score(confirmed if stage == "confirm" else tuned, state, plan.metric)
        for stage, state, tuned, confirmed in zip(table["stage"], table["state"], table["tuned"], final, strict=True)
    ]
    table["seconds"] = _number(rows, "metrics.seconds")
    table["parameters"] = _number(rows, "params.parameters")
    for key in plan.tuned:
        table[key] = _number(rows, f"params.{key}")
    order = {arm: i for i, arm in enumerate(plan.arms)} | {block: i for i, block in enumerate(plan.blocks)}
    by = table.assign(_b=table["block"].map(order), _a=table["arm"].map(order), _s=table["stage"].eq("confirm"))
    return table.loc[by.sort_values(["_b", "_a", "_s", "point", "seed"], kind="stable").index].reset_index(drop=True)


def _state(status: str, diverged: str) -> str:
    if diverged == "true" and status == "FINISHED":
        return "diverged"
    return {"FINISHED": "finished", "FAILED": "failed", "KILLED": "killed"}.get(status, "running")


def _score(value: float, state: str, metric: str) -> float:
    if state == "diverged":
        return WORST_ACCURACY if metric.endswith("accuracy") else math.nan
    return value if state == "finished" and math.isfinite(value) else math.nan


def _scored(frame: pd.DataFrame, plan: Design) -> str:
    """The metric that a confirm run counts for: the test set's, where any run has it."""
    test = re.sub(r"^val/", "test/", plan.metric)
    return test if f"metrics.{test}" in frame.columns and frame[f"metrics.{test}"].notna().any() else plan.metric


def _drawn(runs: pd.DataFrame, plan: Design) -> pd.DataFrame:
    """The runs whose curves are drawn: every confirm run, and, in cells without one, the best tuning run."""
    confirmed = runs[(runs["stage"] == "confirm") & (runs["state"] != "failed")]
    cells = set(zip(confirmed["arm"], confirmed["block"], strict=True))
    tuned = runs[(runs["stage"] == "tune") & runs["score"].notna()].sort_values("score", ascending=plan.goal == "minimize", kind="stable")
    best = tuned.groupby(["block", "arm"], sort=False).head(1)
    lonely = [(arm, block) not in cells for arm, block in zip(best["arm"], best["block"], strict=True)]
    return pd.concat([confirmed, best[lonely]]) if any(lonely) else confirmed


def curve_table(histories: Mapping[tuple[str, str], Sequence[tuple[int, float, int]]], runs: pd.DataFrame) -> pd.DataFrame:
    """`Sweep.curves` out of the store's histories: (mlflow_id, metric) -> (step, value, time)."""
    keys = ["id", "stage", "arm", "block", "seed"]
    about = {row["mlflow_id"]: tuple(row[key] for key in keys) for row in runs.to_dict("records")}
    rows = [(*about[run], metric, step, value) for (run, metric), points in histories.items() for step, value, _ in points]
    return pd.DataFrame(rows, columns=[*keys, "metric", "step", "value"]).astype({"step": int, "value": float})


def _origin(frame: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Tag or param -> its distinct values over the runs, for those that tell where the runs come from."""
    found: dict[str, tuple[str, ...]] = {}
    for column in frame.columns:
        kind, _, name = str(column).partition(".")
        if kind in ("tags", "params") and (name in ORIGIN or name.startswith("version.")):
            found.setdefault(name, tuple(sorted({str(v) for v in frame[column].dropna() if str(v)})))
    return {name: values for name, values in sorted(found.items()) if values}


def _text(frame: pd.DataFrame, column: str) -> pd.Series[str]:
    if column not in frame.columns:
        return pd.Series([""] * len(frame), index=frame.index, dtype=object)
    return frame[column].astype(object).where(frame[column].notna(), "").astype(str)


def _number(frame: pd.DataFrame, column: str) -> pd.Series[float]:
    if column not in frame.columns:
        return pd.Series([math.nan] * len(frame), index=frame.index, dtype=float)
    return pd.to_numeric(frame[column], errors="coerce").astype(float)


def counted(rows: pd.DataFrame, states: Iterable[str] | Sequence[str]) -> int:
    """How many of the runs are in one of the states."""
    return int(rows["state"].isin(list(states)).sum())
