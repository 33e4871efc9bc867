"""Training a logged run again from the store alone, and comparing what comes out value by value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bakeoff.config.compose import load_frozen
from bakeoff.config.schema import RunConfig
from bakeoff.errors import NotFoundError
from bakeoff.runs import journal
from bakeoff.runs.provenance import collect_provenance, provenance_tags
from bakeoff.tracking import store

if TYPE_CHECKING:
    from pathlib import Path

Series = Mapping[str, Mapping[int, float]]
"""Metric -> step -> value."""

COMPARED = ("train/", "val/", "test/", "test_best/", "best_", "lr", "epoch")
"""Beginnings of the metrics that a run determines; speed, seconds and the machine's load are not among them."""

FACTS = ("git.commit", "git.dirty", "python", "os", "cpu", "cores", "gpus")


@dataclass(frozen=True)
class LoggedRun:
    """A run as the store has it."""

    id: str
    mlflow_id: str
    name: str
    status: str
    run: RunConfig
    tags: Mapping[str, str]
    series: Series


@dataclass(frozen=True)
class MetricComparison:
    """How two series compare. `kind` is identical, within or parts; `worst` is the largest absolute difference where both have a value."""

    kind: str
    compared: int
    worst: float = 0.0
    step: int | None = None
    metric: str = ""
    there: float | None = None
    here: float | None = None

    def sentence(self, *, tolerance: float) -> str:
        """The verdict in words."""
        if self.kind == "identical":
            return f"identical: all {self.compared} values"
        if self.kind == "within":
            return f"within tolerance {tolerance:g}: {self.compared} values, largest difference {self.worst:.3g}"
        shown = ["nothing" if value is None else repr(value) for value in (self.there, self.here)]
        return f"parts at step {self.step} in {self.metric}: logged {shown[0]}, now {shown[1]}"


def fetch_logged_run(uri: str, run_id: str) -> LoggedRun:
    """A run's config, checked by name, its tags and its curves, from the store alone.

    Raises `NotFoundError` for an unknown run and for one that is no training, `ConfigError` for a config that may not be run.
    """
    stored = store.resolve_run(uri, run_id)
    tags = dict(stored.data.tags)
    if tags.get("kind") == "summary":
        raise NotFoundError(f"run {run_id}: is the summary of a sweep, and trains nothing; name one of its trials")
    if tags.get("kind") == "check":
        raise NotFoundError(f"run {run_id}: is a check, and trains nothing; bakeoff check makes it again")
    text = store.download_artifact(uri, stored.info.run_id, "config.yaml").read_text(encoding="utf-8")
    run = load_frozen(text, origin=f"config of run {run_id}")
    keys = sorted(key for key in stored.data.metrics if key.startswith(COMPARED))
    curves = store.metric_histories(uri, [stored.info.run_id], keys)
    series = {key: {step: value for step, value, _ in curves[stored.info.run_id, key]} for key in keys}
    accelerator = stored.data.params.get("accelerator", run.trainer.accelerator)
    return LoggedRun(
        id=tags.get("bakeoff.id", stored.info.run_id),
        mlflow_id=stored.info.run_id,
        name=str(stored.info.run_name),
        status=str(stored.info.status),
        run=run.replace(**{"trainer.accelerator": accelerator}),
        tags=tags,
        series=series,
    )


def journal_metrics(path: Path) -> Series:
    """The compared curves in a run's journal."""
    found: dict[str, dict[int, float]] = {}
    for line in journal.read_journal(path):
        for key, value in line["values"].items() if line["kind"] == "metrics" else ():
            if key.startswith(COMPARED):
                found.setdefault(key, {})[int(line["step"])] = float(value)
    return found


def environment_differences(tags: Mapping[str, str], *, digest: str) -> list[str]:
    """What is not as it was when a run was logged: code, versions, machine, data; one line each."""
    now: dict[str, Any] = provenance_tags(collect_provenance()) | {"data.digest": digest}
    keys = [*FACTS, *sorted(key for key in {*tags, *now} if key.startswith("version.")), "data.digest"]
    told = []
    for key in keys:
        before, after = tags.get(key), now.get(key)
        if before != after:
            told.append(f"{key.removeprefix('version.')}: {before or 'unknown'} then, {after or 'unknown'} now")
    return told


def compare_metrics(there: Series, here: Series, *, tolerance: float = 0.0) -> MetricComparison:
    """Every value of both, by step; where several metrics part at the same step, the first by name is told. nan equals nan."""
    compared, worst = 0, 0.0
    parted: tuple[int, str] | None = None
    for metric in sorted({*there, *here}):
        old, new = there.get(metric, {}), here.get(metric, {})
        for step in sorted({*old, *new}):
            gap = absolute_difference(old.get(step), new.get(step))
            compared += 1
            if math.isfinite(gap):
                worst = max(worst, gap)
            if not gap <= tolerance and (parted is None or (step, metric) < parted):
                parted = (step, metric)
    if parted is not None:
        step, metric = parted
        return MetricComparison("parts", compared, worst, step, metric, there.get(metric, {}).get(step), here.get(metric, {}).get(step))
    return MetricComparison("identical" if worst == 0 else "within", compared, worst)


def absolute_difference(old: float | None, new: float | None) -> float:
    """Absolute difference; 0 for two nan or two equal infinities, inf where one is missing or only one is finite."""
    if old is None or new is None:
        return math.inf
    if old == new or (math.isnan(old) and math.isnan(new)):
        return 0.0
    gap = abs(old - new)
    return gap if math.isfinite(gap) else math.inf
