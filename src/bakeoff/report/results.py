"""The tracking store -> two tidy tables: one row a run, and one row a point of a curve."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bakeoff.errors import NotFoundError, StoreError, near_miss
from bakeoff.report.design import SweepDesign, extend_studies, read_design
from bakeoff.report.scope import read_scope
from bakeoff.run_files.stored_plan import PLAN_FILE, read_stored_plan
from bakeoff.stats.scores import Scores

STAGES = {"trial": "tune", "confirm": "confirm", "audit": "audit"}
#: States of a run that will not change any more.
ENDED = ("finished", "diverged", "pruned", "failed")
#: Kept for the page's foot: what the runs say about the code and the machine they ran on.
ORIGIN = ("git.commit", "git.dirty", "python", "os", "cpu", "cores", "memory_gb", "gpus", "cpu_threads", "world_size", "trainer.precision")
#: A tuning run that diverged counts as the worst accuracy there is, as the sampler was told; a confirm run that diverged counts as
#: guessing, 1 / classes, since that is what a net that has learnt nothing is worth. A loss has no worst value: there it has no score.
WORST_ACCURACY = 0.0
COLUMNS = ("classes", "batch", "steps")
DIAGNOSIS = "tags.diagnosis."


@dataclass(frozen=True)
class SweepResults:
    """The results of a sweep as read from the store: everything that a report is made from.

    Attributes:
        design: what the sweep declared.
        summary_run_id: MLflow id of the sweep's summary run.
        uri: address of the tracking store.
        runs: one row per run: id, mlflow_id, name, stage (tune|confirm|audit), arm, block, seed, point, state
            (finished|diverged|pruned|failed|killed|running), reason, diagnoses (names, separated by spaces), tuned (the metric of tuning),
            score (what the run counts for: for a confirm run on the test set), seconds, parameters, classes, batch (images per step),
            steps (planned), and one column per tuned key, named by the key.
        curves: one row per logged value: id, stage, arm, block, seed, metric, step, value.
        score_metric: the metric that the verdict is about.
        origin: tag or param -> its distinct values, for those that say where the runs come from.
        nondefault_store: whether commands must name the store.
        unplanned_runs: how many runs of the experiment are not part of the plan; they are in no table.
        queued_seeds: how many seeds have been requested so far, where the store says so.
        pruning_audit: (audited, wrong): how many pruned runs were run to their end, and how many of these would have been chosen.
        test_predictions: mlflow_id -> (predicted, target), each (images,), of the confirm runs whose predictions the store has; read where
            the verdict is about the test accuracy.
        scope: net, data, steps and batch of the confirm runs: param -> its distinct values.
    """

    design: SweepDesign
    summary_run_id: str
    uri: str
    runs: pd.DataFrame
    curves: pd.DataFrame
    score_metric: str
    origin: dict[str, tuple[str, ...]]
    nondefault_store: bool = False
    unplanned_runs: int = 0
    queued_seeds: int | None = None
    pruning_audit: tuple[int, int] | None = None
    test_predictions: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    scope: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """`<name>-<hash8>`, as the MLflow experiment is called."""
        return f"{self.design.name}-{self.design.hash[:8]}"

    def stage_runs(self, name: str) -> pd.DataFrame:
        """The runs of one stage."""
        return self.runs[self.runs["stage"] == name]

    def scores(self, stage: str = "confirm") -> Scores:
        """Block -> arm -> seed (for tuning: point) -> score, of the runs that have one; every arm and block is a key."""
        return self._confirmed if stage == "confirm" else self._scores(stage)

    @cached_property
    def _confirmed(self) -> Scores:
        return self._scores("confirm")

    def _scores(self, stage: str) -> Scores:
        table: dict[str, dict[str, dict[int, float]]] = {b: {a: {} for a in self.design.arms} for b in self.design.blocks}
        key = "seed" if stage == "confirm" else "point"
        rows = self.stage_runs(stage)
        for block, arm, at, score in zip(rows["block"], rows["arm"], rows[key], rows["score"], strict=True):
            if math.isfinite(score) and not pd.isna(at):
                table[block][arm][int(at)] = float(score)
        return table

    @cached_property
    def test_correct(self) -> dict[str, dict[str, dict[int, np.ndarray]]]:
        """Block -> arm -> seed -> whether each test image is classified correctly: bool (images,), of the confirm runs with predictions.

        All arrays of a block are about the same images in the same order: where the targets of its runs differ, those that most runs share
        count, and the other runs are left out. Every arm and block is a key. A diverged run has what its last weights predict, though its
        score is that of guessing.
        """
        correct: dict[str, dict[str, dict[int, np.ndarray]]] = {b: {a: {} for a in self.design.arms} for b in self.design.blocks}
        rows = self.stage_runs("confirm")
        rows = rows[rows["mlflow_id"].isin(list(self.test_predictions)) & rows["seed"].notna()]
        for block, block_rows in rows.groupby("block", sort=False):
            shared, _ = Counter(self.test_predictions[run][1].tobytes() for run in block_rows["mlflow_id"]).most_common(1)[0]
            for arm, seed, run in zip(block_rows["arm"], block_rows["seed"], block_rows["mlflow_id"], strict=True):
                predicted, target = self.test_predictions[run]
                if target.tobytes() == shared:
                    correct[str(block)][arm][int(seed)] = predicted == target
        return correct

    @cached_property
    def class_shares(self) -> dict[str, tuple[float, ...]]:
        """Block -> the share of each class among its test images, of blocks with a run that kept its predictions."""
        rows = self.stage_runs("confirm")
        shares: dict[str, tuple[float, ...]] = {}
        for block, run in zip(rows["block"], rows["mlflow_id"], strict=True):
            if block not in shares and run in self.test_predictions:
                target = self.test_predictions[run][1]
                shares[block] = tuple(float(share) for share in np.bincount(target) / len(target))
        return shares

    def best_trial(self, arm: str, block: str) -> pd.Series[Any] | None:
        """The tuning run with the arm's best score in a block, the earlier one of equals; None where no run has a score."""
        return self._bests.get((arm, block))

    def settings(self, arm: str, block: str, key: str) -> tuple[Any, ...]:
        """The values of a tuned key that the arm's confirm runs have, one for each study that chose another; else its best trial's."""
        rows = self.stage_runs("confirm")
        chosen = rows[(rows["arm"] == arm) & (rows["block"] == block)][key].dropna()
        best = self.best_trial(arm, block)
        values = list(chosen) or ([best[key]] if best is not None else [])
        values = [value for value in values if value != "" and not (isinstance(value, float) and math.isnan(value))]
        return tuple(sorted(set(values)))

    @cached_property
    def seed_order(self) -> list[int]:
        """All seeds of confirm runs in the order of the plan."""
        return self.design.seed_order({int(seed) for seed in self.stage_runs("confirm")["seed"].dropna()})

    def never_trained(self, arm: str, block: str) -> bool:
        """Whether no tuning run of an arm trained to its end, so that there was nothing to confirm."""
        planned = next((cell.trials for cell in self.design.planned_arms if (cell.arm, cell.block) == (arm, block)), 0)
        ended, trained = self._tuned.get((arm, block), (0, 0))
        return 0 < planned <= ended and trained == 0

    @cached_property
    def _tuned(self) -> dict[tuple[str, str], tuple[int, int]]:
        rows = self.stage_runs("tune")
        counts = rows.assign(e=rows["state"].isin(ENDED), t=rows["state"].eq("finished")).groupby(["arm", "block"])[["e", "t"]].sum()
        return {(str(a), str(b)): (int(e), int(t)) for (a, b), e, t in zip(counts.index, counts["e"], counts["t"], strict=True)}

    @cached_property
    def _untrained_studies(self) -> set[tuple[str, str, int]]:
        """(arm, block, study) of studies whose tuning ended without a run that trained: they have nothing to confirm."""
        planned = {(arm.arm, arm.block): arm.trials // max(1, self.design.first_studies) for arm in self.design.planned_arms}
        rows = self.stage_runs("tune")
        rows = rows.assign(ended=rows["state"].isin(ENDED), trained=rows["state"].eq("finished"))
        counts = rows.groupby(["arm", "block", "study"])[["ended", "trained"]].sum()
        return {
            (str(arm), str(block), int(study))
            for (arm, block, study), ended, trained in zip(counts.index, counts["ended"], counts["trained"], strict=True)
            if trained == 0 and 0 < planned.get((str(arm), str(block)), 0) <= ended
        }

    def never_confirmed(self, arm: str, block: str, seed: int) -> bool:
        """Whether the study of a seed has no setting to confirm, because none of its tuning runs trained."""
        position = self._positions.get(seed)
        if position is None:
            return False
        study = self.design.sequential.study_at(position) if self.design.sequential.has_studies else 0
        return (arm, block, study) in self._untrained_studies

    @cached_property
    def _positions(self) -> dict[int, int]:
        return {seed: position for position, seed in enumerate(self.seed_order)}

    def complete_seeds(self) -> int:
        """How many seeds, counted in their order, have ended in every cell that has anything to confirm."""
        rows = self.stage_runs("confirm")
        done = rows[rows["state"].isin(ENDED)]
        ended = set(zip(done["arm"], done["block"], done["seed"], strict=True))
        cells = [(c.arm, c.block) for c in self.design.planned_arms if not self.never_trained(c.arm, c.block)]
        for at, seed in enumerate(self.seed_order):
            if not all((*cell, seed) in ended or self.never_confirmed(*cell, seed) for cell in cells):
                return at
        return len(self.seed_order) if cells else 0

    def first_seeds(self, seeds: int) -> SweepResults:
        """The sweep with the confirm runs of its first seeds alone, and the tuning runs of their studies."""
        kept, sequential = set(self.seed_order[:seeds]), self.design.sequential
        rows, curves = self.runs, self.curves
        shown = curves[(curves["stage"] != "confirm") | curves["seed"].isin(kept)]
        confirm = rows["stage"] == "confirm"
        seen = (confirm & rows["seed"].isin(kept)) | ~confirm
        if sequential.has_studies:
            # What tuning for a later analysis found must not change an earlier one.
            seen &= confirm | rows["study"].isin({sequential.study_at(position) for position in range(seeds)})
        return replace(self, runs=rows[seen], curves=shown)

    @cached_property
    def _bests(self) -> dict[tuple[str, str], pd.Series[Any]]:
        rows = self.stage_runs("tune")
        rows = rows[rows["score"].notna() & rows["state"].isin(["finished", "diverged"])]
        rows = rows.sort_values(["score", "point"], ascending=[self.design.goal == "minimize", True], kind="stable")
        return {(str(row["arm"]), str(row["block"])): row for _, row in rows.groupby(["arm", "block"], sort=False).head(1).iterrows()}


def load_sweep(name: str, *, uri: str, sweep_hash: str | None = None) -> SweepResults:
    """The sweep of that name, the newest plan of it unless `sweep_hash` (or `name-hash8`) says which. NotFoundError, StoreError."""
    from bakeoff.tracking import store

    summary = _summary(store.runs_table(uri, "tags.kind = 'summary'"), name, sweep_hash)
    own = str(summary["tags.sweep.hash"])
    plan_file = store.download_artifact(uri, summary["mlflow_id"], PLAN_FILE)
    plan = read_design(read_stored_plan(Path(plan_file)))
    tags = {key: summary.get(f"tags.{key}") for key in ("sweep.seeds", "sweep.studies", "prune.audited", "prune.wrong")}
    counts = {key: int(value) for key, value in tags.items() if isinstance(value, str) and value.isdigit()}
    frame = store.runs_table(uri, experiment=f"{summary['tags.sweep']}-{own[:8]}")
    frame = frame[frame["kind"].notna() & (frame["kind"] != "summary")]
    planned = (_text(frame, "tags.sweep.hash") == own) & (_text(frame, "tags.exploratory") != "true")
    unplanned, frame = int((~planned).sum()), frame[planned]
    scored = _scored(frame, plan)
    runs = runs_table(frame, plan, score_metric=scored)
    curves = read_curves(runs, plan, uri=uri)
    ended = runs[runs["stage"].eq("confirm") & runs["state"].isin(["finished", "diverged"])]
    predictions = store.test_predictions(uri, list(ended["mlflow_id"])) if scored.startswith("test/") else {}
    audits = (counts["prune.audited"], counts["prune.wrong"]) if counts.get("prune.audited") and "prune.wrong" in counts else None
    sweep = SweepResults(
        plan,
        summary["mlflow_id"],
        uri,
        runs,
        curves,
        scored,
        run_origins(frame),
        unplanned_runs=unplanned,
        queued_seeds=counts.get("sweep.seeds"),
        pruning_audit=audits,
        test_predictions=predictions,
        scope=read_scope(frame),
    )
    if counts.get("sweep.studies", 1) > 1 and not plan.sequential.has_studies:
        extended = replace(sweep, design=extend_studies(plan, seeds=counts["sweep.seeds"], studies=counts["sweep.studies"]))
        if extended.design.sequential.completed_analyses(extended.complete_seeds()):
            return extended
    return sweep


def read_curves(runs: pd.DataFrame, plan: SweepDesign, *, uri: str) -> pd.DataFrame:
    """The curves of the runs that are drawn, from the store."""
    from bakeoff.tracking import store

    chosen = _drawn(runs, plan)
    keys = tuple(dict.fromkeys((plan.metric, "train/loss", "val/loss")))
    return curves_table(store.metric_histories(uri, list(chosen["mlflow_id"]), keys), chosen)


def _summary(frame: pd.DataFrame, name: str, sweep_hash: str | None) -> pd.Series[Any]:
    """The summary run that is meant."""
    if "tags.sweep" not in frame.columns or "tags.sweep.hash" not in frame.columns:
        frame = pd.DataFrame({"tags.sweep": [], "tags.sweep.hash": [], "start": []}, dtype=object)
    hashes = frame["tags.sweep.hash"].astype(str)
    titles = frame["tags.sweep"].astype(str) + "-" + hashes.str[:8]
    summaries = frame[(frame["tags.sweep"] == name) | (titles == name)]
    if sweep_hash is not None and not summaries.empty:
        matching = summaries[summaries["tags.sweep.hash"].astype(str).str.startswith(sweep_hash[:8])]
        if matching.empty:
            known = ", ".join(sorted({str(h)[:8] for h in summaries["tags.sweep.hash"]}))
            raise NotFoundError(f"sweep {name}: no plan {sweep_hash[:8]} in the store (there are: {known})")
        summaries = matching
    if summaries.empty:
        names = sorted({str(n) for n in frame["tags.sweep"]} | set(titles))
        sweeps = sorted({str(n) for n in frame["tags.sweep"]})
        rest = f"; sweeps in the store: {', '.join(sweeps[:20])}" if sweeps else "; the store has no sweep yet"
        raise NotFoundError(f"sweep {name}: not in the store{near_miss(name, names)}{rest}")
    return summaries.sort_values("start", kind="stable").iloc[-1]


def runs_table(frame: pd.DataFrame, plan: SweepDesign, *, score_metric: str) -> pd.DataFrame:
    """The store's frame as `Sweep.runs`; runs of arms or blocks that the plan does not have are refused as StoreError."""
    kinds = _text(frame, "tags.kind")
    rows = frame[kinds.isin(list(STAGES))].reset_index(drop=True)
    table = pd.DataFrame({key: _text(rows, key) for key in ("id", "mlflow_id", "name")})
    table["stage"] = [STAGES[kind] for kind in _text(rows, "tags.kind")]
    table["arm"], table["block"] = _text(rows, "tags.arm"), _text(rows, "tags.block")
    unknown_names = sorted((set(table["arm"]) - set(plan.arms)) | (set(table["block"]) - set(plan.blocks)))
    if unknown_names:
        raise StoreError(
            f"sweep {plan.name}-{plan.hash[:8]}: the store has runs of {', '.join(map(repr, unknown_names))}, which its plan lacks"
        )
    table["seed"] = _number(rows, "tags.seed").fillna(_number(rows, "params.seed"))
    table["point"] = _number(rows, "tags.point")
    table["study"] = _number(rows, "tags.study").fillna(0)
    states = zip(_text(rows, "status"), _text(rows, "tags.diverged"), _text(rows, "tags.pruned"), strict=True)
    table["state"] = [_state(*tags) for tags in states]
    table["reason"] = _text(rows, "tags.reason")
    table["diagnoses"] = _diagnoses(rows)
    table["tuned"] = _number(rows, f"metrics.{plan.metric}")
    final = _number(rows, f"metrics.{score_metric}")
    for name, param in zip(COLUMNS, ("data.num_classes", "data.batch_size", "total_steps"), strict=True):
        table[name] = _number(rows, f"params.{param}")
    confirmed = table["stage"].eq("confirm")
    value = final.where(confirmed, table["tuned"])
    worst = (1 / table["classes"]).fillna(WORST_ACCURACY).where(confirmed, WORST_ACCURACY) if _bounded(plan.metric) else math.nan
    counts = table["state"].eq("finished") & np.isfinite(value)
    table["score"] = value.where(counts, math.nan).mask(table["state"].eq("diverged"), worst)
    table["seconds"] = _number(rows, "metrics.seconds")
    table["parameters"] = _number(rows, "params.parameters")
    for key in plan.numeric_keys:
        table[key] = _number(rows, f"params.{key}")
    for key in plan.categorical_keys:
        table[key] = _text(rows, f"params.{key}") if key not in table else table[key]
    order = {arm: i for i, arm in enumerate(plan.arms)} | {block: i for i, block in enumerate(plan.blocks)}
    by = table.assign(_b=table["block"].map(order), _a=table["arm"].map(order), _s=table["stage"].eq("confirm"))
    return table.loc[by.sort_values(["_b", "_a", "_s", "point", "seed"], kind="stable").index].reset_index(drop=True)


def _diagnoses(rows: pd.DataFrame) -> list[str]:
    """The names in a run's tags `diagnosis.<name>`, a space between; '' for a run in which nothing was seen."""
    columns = sorted(str(column) for column in rows.columns if str(column).startswith(DIAGNOSIS))
    if not columns:
        return [""] * len(rows)
    names = [column.removeprefix(DIAGNOSIS) for column in columns]
    texts_by_run = zip(*(_text(rows, column) for column in columns), strict=True)
    return [" ".join(name for name, text in zip(names, texts, strict=True) if text) for texts in texts_by_run]


def _state(status: str, diverged: str, pruned: str) -> str:
    if pruned == "true":
        return "pruned"
    if diverged == "true" and status == "FINISHED":
        return "diverged"
    return {"FINISHED": "finished", "FAILED": "failed", "KILLED": "killed"}.get(status, "running")


def _bounded(metric: str) -> bool:
    return metric.endswith("accuracy")


def _scored(frame: pd.DataFrame, plan: SweepDesign) -> str:
    """The metric that a confirm run counts for: the test set's, where any run has it."""
    test = re.sub(r"^val/", "test/", plan.metric)
    return test if f"metrics.{test}" in frame.columns and frame[f"metrics.{test}"].notna().any() else plan.metric


def _drawn(runs: pd.DataFrame, plan: SweepDesign) -> pd.DataFrame:
    """The runs whose curves are drawn: every confirm run, and, in cells without one, the best tuning run."""
    confirmed = runs[(runs["stage"] == "confirm") & (runs["state"] != "failed")]
    cells = set(zip(confirmed["arm"], confirmed["block"], strict=True))
    tuned = runs[(runs["stage"] == "tune") & runs["score"].notna()].sort_values("score", ascending=plan.goal == "minimize", kind="stable")
    best = tuned.groupby(["block", "arm"], sort=False).head(1)
    lonely = [(arm, block) not in cells for arm, block in zip(best["arm"], best["block"], strict=True)]
    return pd.concat([confirmed, best[lonely]]) if any(lonely) else confirmed


def curves_table(histories: Mapping[tuple[str, str], Sequence[tuple[int, float, int]]], runs: pd.DataFrame) -> pd.DataFrame:
    """`Sweep.curves` out of the store's histories: (mlflow_id, metric) -> (step, value, time)."""
    keys = ["id", "stage", "arm", "block", "seed"]
    lengths = [len(points) for points in histories.values()]
    owners = pd.Index([run for run, _ in histories], dtype=object).repeat(lengths)
    at = pd.Index(runs["mlflow_id"]).get_indexer(owners)
    table = runs[keys].take(at).reset_index(drop=True)
    table["metric"] = pd.Index([key for _, key in histories], dtype=object).repeat(lengths)
    table["step"] = np.fromiter((step for points in histories.values() for step, _, _ in points), np.int64, sum(lengths))
    table["value"] = np.fromiter((value for points in histories.values() for _, value, _ in points), np.float64, sum(lengths))
    return table


def run_origins(frame: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Tag or param -> its distinct values over the runs, for those that tell where the runs come from."""
    origins: dict[str, tuple[str, ...]] = {}
    for column in frame.columns:
        kind, _, name = str(column).partition(".")
        if kind in ("tags", "params") and (name in ORIGIN or name.startswith("version.")):
            origins.setdefault(name, tuple(sorted({str(v) for v in frame[column].dropna() if str(v)})))
    return {name: values for name, values in sorted(origins.items()) if values}


def _text(frame: pd.DataFrame, column: str) -> pd.Series[str]:
    if column not in frame.columns:
        return pd.Series([""] * len(frame), index=frame.index, dtype=object)
    return frame[column].astype(object).where(frame[column].notna(), "").astype(str)


def _number(frame: pd.DataFrame, column: str) -> pd.Series[float]:
    if column not in frame.columns:
        return pd.Series([math.nan] * len(frame), index=frame.index, dtype=float)
    return pd.to_numeric(frame[column], errors="coerce").astype(float)


def count_states(rows: pd.DataFrame, states: Iterable[str] | Sequence[str]) -> int:
    """How many of the runs are in one of the states."""
    return int(rows["state"].isin(list(states)).sum())
