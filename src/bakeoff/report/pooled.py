"""Several sweeps, or any runs of the store, as one set to look at: none of it was planned together, so all of it is exploratory."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from bakeoff.config.slots import METRICS, SLOTS
from bakeoff.errors import NotFoundError, StoreError, redact
from bakeoff.report import results
from bakeoff.report.design import PlannedArm, SweepDesign
from bakeoff.report.results import SweepResults
from bakeoff.stats.alpha_spending import SequentialDesign

#: Of runs that were asked for: kinds that count, and the stage that each is taken for.
KINDS = {"single": "confirm", "confirm": "confirm", "trial": "trial"}
#: What says where the data and the net come from is a block: scores on different data are not compared.
PLACES = ("data", "model")
#: Params that follow from others, or that change no result.
DERIVED = (
    "seed",
    "name",
    "test",
    "parameters",
    "total_steps",
    "steps_per_epoch",
    "accelerator",
    "world_size",
    "cpu_threads",
    "data_workers",
)
SITE = ("trainer.threads", "trainer.devices", "trainer.progress", "trainer.accelerator", "trainer.checkpoint_every", "trainer.log_every")
OWN = ("data.split_seed", "data.fold", "data.root", "data.download", "data.workers")
#: Groups that a name can still tell apart; with more of them, differing settings stay within their group.
MOST_GROUPS = 60


def pool_sweeps(sweeps: Sequence[SweepResults], *, uri: str, nondefault_store: bool) -> SweepResults:
    """The confirm and tuning runs of several sweeps side by side; an arm that stands in more than one is named with its sweep.

    Blocks that differ in net or data from sweep to sweep stay apart. StoreError where the sweeps measure different things.
    """
    first = sweeps[0]
    confirmed = [sweep for sweep in sweeps if len(sweep.stage_runs("confirm"))]
    ways = {s.title: s.score_metric for s in confirmed} | {
        s.title: s.design.metric for s in sweeps if s.design.metric != first.design.metric
    }
    if len(set(ways.values())) > 1 or (ways and not confirmed):
        values = ", ".join(f"{title} by {way}" for title, way in {first.title: first.design.metric, **ways}.items())
        raise StoreError(f"sweeps that are scored in different ways cannot be compared: {values}")
    titles = [sweep.title for sweep in sweeps]
    twice = next((title for title in titles if titles.count(title) > 1), None)
    if twice is not None:
        raise StoreError(f"sweep {twice}: stands there twice")
    held = [{arm for arm in sweep.design.arms} for sweep in sweeps]
    places = [{key: sweep.design.fixed.get(key) for key in PLACES if key in sweep.design.fixed} for sweep in sweeps]
    differing = [key for key in PLACES if len({str(place.get(key)) for place in places}) > 1]
    runs, curves, cells = list[pd.DataFrame](), list[pd.DataFrame](), list[PlannedArm]()
    for sweep, place in zip(sweeps, places, strict=True):
        names = {arm: f"{arm} ({sweep.title})" if sum(arm in own for own in held) > 1 else arm for arm in sweep.design.arms}
        prefix = "+".join(str(place[key]) for key in differing if key in place)
        blocks = {block: f"{prefix}+{block}" if prefix and block != "all" else prefix or block for block in sweep.design.blocks}
        runs.append(sweep.runs.assign(arm=sweep.runs["arm"].map(names), block=sweep.runs["block"].map(blocks)))
        curves.append(sweep.curves.assign(arm=sweep.curves["arm"].map(names), block=sweep.curves["block"].map(blocks)))
        cells += [replace(cell, arm=names[cell.arm], block=blocks[cell.block]) for cell in sweep.design.planned_arms]
    where = f" {shlex.quote(f'tracking.uri={redact(uri)}')}" if nondefault_store else ""
    samplers, prunes = {sweep.design.sampler for sweep in sweeps}, [s.design.pruner for s in sweeps if s.design.pruner is not None]
    alike = {k: v for k, v in first.design.fixed.items() if all(s.design.fixed.get(k) == v for s in sweeps)}
    plan = replace(
        first.design,
        name="+".join(sweep.design.name for sweep in sweeps),
        hash=hashlib.sha256(" ".join(titles).encode()).hexdigest(),
        question=f"How do {', '.join(titles)} compare?",
        arms=tuple(dict.fromkeys(cell.arm for cell in cells)),
        blocks=tuple(dict.fromkeys(cell.block for cell in cells)),
        planned_arms=tuple(cells),
        sampler=samplers.pop() if len(samplers) == 1 else "several",
        pruner=prunes[0] if prunes else None,
        seeds=max(sweep.design.seeds for sweep in sweeps),
        margin=max(sweep.design.margin for sweep in sweeps),
        fixed=alike,
        command=f"bakeoff report {' '.join(titles)}{where}",
        factors=(),
        sequential=SequentialDesign((1,)),
        seed_pool=(),
        allowed_differences=tuple(dict.fromkeys(text for sweep in sweeps for text in sweep.design.allowed_differences)),
        baseline=None,
        declared=False,
    )
    origin: dict[str, tuple[str, ...]] = {}
    for sweep in sweeps:
        origin = {key: tuple(dict.fromkeys((*origin.get(key, ()), *sweep.origin.get(key, ())))) for key in {**origin, **sweep.origin}}
    return SweepResults(
        plan,
        first.summary_run_id,
        uri,
        pd.concat(runs, ignore_index=True),
        pd.concat(curves, ignore_index=True),
        (confirmed or sweeps)[0].score_metric,
        origin,
        nondefault_store=nondefault_store,
        unplanned_runs=sum(sweep.unplanned_runs for sweep in sweeps),
    )


def pool_query(text: str, *, uri: str, nondefault_store: bool) -> SweepResults:
    """The runs that an MLflow filter selects, in groups by what differs among them. NotFoundError where there are none; StoreError."""
    from bakeoff.tracking import store

    frame = store.runs_table(uri, text)
    kinds = frame["tags.kind"] if "tags.kind" in frame.columns else pd.Series([], dtype=object)
    frame = frame[kinds.isin(list(KINDS))].reset_index(drop=True)
    if frame.empty:
        raise NotFoundError(f"--query {text}: selects no run that trained (summaries and reproductions are left out)")
    # Beside others, tuning runs would be settings that were tried and dropped.
    others = frame[frame["tags.kind"] != "trial"].reset_index(drop=True)
    dropped, frame = (len(frame) - len(others), others) if len(others) else (0, frame)
    where = f" {shlex.quote(f'tracking.uri={redact(uri)}')}" if nondefault_store else ""
    sweep = group_runs(frame, text, command=f"bakeoff report --query {shlex.quote(text)}{where}", uri=uri)
    sweep = replace(sweep, unplanned_runs=sweep.unplanned_runs + dropped)
    return replace(sweep, nondefault_store=nondefault_store, curves=results.read_curves(sweep.runs, sweep.design, uri=uri))


def group_runs(frame: pd.DataFrame, text: str, *, command: str, uri: str) -> SweepResults:
    """Runs of a store's frame as a set: arms are what differs in choices, then in settings; blocks are nets and data that differ.

    Of runs with the same group and seed the newest counts. Runs are scored on the test set where all that end have been, else by the
    validation accuracy, else by the first metric that any has.
    """
    metric = next((m for m in ("val/accuracy", *METRICS) if f"metrics.{m}" in frame.columns and frame[f"metrics.{m}"].notna().any()), None)
    if metric is None:
        raise NotFoundError(f"--query {text}: none of the {len(frame)} runs has a score")
    arms, blocks = group_labels(frame)
    frame = frame.assign(**{"tags.arm": arms, "tags.block": blocks})
    frame["tags.kind"] = [KINDS[kind] for kind in frame["tags.kind"]]
    seed = frame.get("params.seed", pd.Series("", frame.index)).astype(str)
    confirm = frame["tags.kind"] == "confirm"
    repeated = (
        confirm
        & frame.assign(_s=seed, _c=confirm)
        .sort_values("start", ascending=False, kind="stable")
        .duplicated(["tags.arm", "tags.block", "_s", "_c"])
        .sort_index()
    )
    if "tags.point" not in frame.columns:
        frame["tags.point"] = None
    frame.loc[confirm, "tags.point"] = None
    used = frame[~repeated].reset_index(drop=True)
    names, places = list(dict.fromkeys(sorted(arms))), list(dict.fromkeys(sorted(blocks)))
    trials = used[used["tags.kind"] == "trial"].groupby(["tags.arm", "tags.block"]).size()
    there = set(zip(arms, blocks, strict=True))
    cells = tuple(PlannedArm(a, b, {}, int(trials.get((a, b), 0))) for a in names for b in places if (a, b) in there)
    plan = SweepDesign(
        name="query",
        hash=hashlib.sha256(text.encode()).hexdigest(),
        question=f"What do the runs with {text} show?",
        metric=metric,
        goal="maximize" if metric.endswith("accuracy") else "minimize",
        margin=0.005 if metric.endswith("accuracy") else 0.01,
        arms=tuple(names),
        blocks=tuple(places),
        planned_arms=cells,
        sampler="none",
        seeds=0,
        fixed=shared_choices(used),
        command=command,
        declared=False,
    )
    scored = _scored(used, metric)
    runs = results.runs_table(used, plan, score_metric=scored)
    return SweepResults(
        plan, "", uri, runs, results.curves_table({}, runs), scored, results.run_origins(used), unplanned_runs=int(repeated.sum())
    )


def _scored(frame: pd.DataFrame, metric: str) -> str:
    test = metric.replace("val/", "test/")
    ended = frame[(frame["tags.kind"] == "confirm") & (frame["status"] == "FINISHED")]
    all_tested = f"metrics.{test}" in ended.columns and len(ended) > 0 and ended[f"metrics.{test}"].notna().all()
    return test if all_tested else metric


def group_labels(frame: pd.DataFrame) -> tuple[list[str], list[str]]:
    """(arm, block) of every run."""
    params = {str(c).removeprefix("params."): frame[c] for c in frame.columns if str(c).startswith("params.")}
    values = {key: column.astype(object).where(column.notna(), "not set").astype(str) for key, column in params.items()}
    differing = [key for key in SLOTS if key in values and values[key].nunique() > 1]
    choices = [key for key in differing if key not in PLACES]
    places = [key for key in PLACES if key in differing and (key == "data" or choices)]
    choices += [key for key in differing if key in PLACES and key not in places]
    arm = _joined([values[key] for key in choices], frame)
    block = _joined([values[key] for key in places], frame)
    confirm = frame["tags.kind"] != "trial"
    groups = [arm, block]
    for key in sorted(values):
        if _ignored(key) or key in SLOTS:
            continue
        # A setting that goes with the choice (or its tuned best) is no group of its own; one that differs within a group is.
        within = values[key][confirm].groupby([g[confirm] for g in groups]).nunique()
        if len(within) and int(within.max()) > 1:
            finer = arm.where(~confirm, _and(arm, f"{key.rpartition('.')[2]}=" + values[key]))
            if finer[confirm].nunique() <= MOST_GROUPS:
                arm = finer
                groups = [arm, block]
    return [name or "all" for name in arm], [name or "all" for name in block]


def _and(left: pd.Series[str], right: pd.Series[str]) -> pd.Series[str]:
    return (left + "+" + right).where(left != "", right)


def _joined(columns: Sequence[pd.Series[str]], frame: pd.DataFrame) -> pd.Series[str]:
    labels = pd.Series("", index=frame.index, dtype=object)
    for column in columns:
        labels = _and(labels, column)
    return labels


def _ignored(key: str) -> bool:
    return key in (*DERIVED, *SITE, *OWN) or key.startswith("seed.") or key.endswith("._target_")


def shared_choices(frame: pd.DataFrame) -> dict[str, Any]:
    """The choices that all runs share."""
    columns = {key: frame[f"params.{key}"] for key in SLOTS if f"params.{key}" in frame.columns}
    return {key: str(column.iloc[0]) for key, column in columns.items() if column.nunique(dropna=False) == 1}
