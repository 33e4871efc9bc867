"""A logged run, fetched from the store to be trained again, and the comparison of its curves with those of another run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from bakeoff.config.compose import load_frozen
from bakeoff.config.schema import RunConfig
from bakeoff.errors import NotFoundError
from bakeoff.run_files import journal
from bakeoff.run_files.provenance import collect_provenance, provenance_tags
from bakeoff.tracking import store

if TYPE_CHECKING:
    from pathlib import Path

Curves = Mapping[str, Mapping[int, float]]
"""Metric -> step -> value."""

REPRODUCIBLE_METRICS = ("train/", "val/", "test/", "test_best/", "best_", "lr", "epoch")
"""Prefixes of the metrics that a run determines; speed, seconds and the machine's load are not among them."""

ENVIRONMENT_TAGS = ("git.commit", "git.dirty", "python", "os", "cpu", "cores", "gpus")


@dataclass(frozen=True)
class LoggedRun:
    """A run as the store has it: `id` is this project's own, `tags` and `curves` are those that were logged."""

    id: str
    mlflow_id: str
    name: str
    status: str
    run: RunConfig
    tags: Mapping[str, str]
    curves: Curves


@dataclass(frozen=True)
class CurveComparison:
    """How the curves of a run compare with those that were logged.

    Attributes:
        kind: `identical`, `within` the tolerance, or `different`.
        compared: The number of values compared.
        max_difference: The largest absolute difference where both runs have a finite value.
        step: Where the curves differ first, with the `metric` and its `logged` and `new` values (None: there is none).
    """

    kind: Literal["identical", "within", "different"]
    compared: int
    max_difference: float = 0.0
    step: int | None = None
    metric: str = ""
    logged: float | None = None
    new: float | None = None

    def describe(self, *, tolerance: float) -> str:
        """Return the comparison in one line; `tolerance` is the absolute difference that was allowed."""
        if self.kind == "identical":
            return f"identical: all {self.compared} values"
        if self.kind == "within":
            return f"within tolerance {tolerance:g}: {self.compared} values, largest difference {self.max_difference:.3g}"
        logged, new = ("nothing" if value is None else repr(value) for value in (self.logged, self.new))
        return f"different from step {self.step} on, first in {self.metric}: logged {logged}, now {new}"


def fetch_logged_run(uri: str, run_id: str) -> LoggedRun:
    """Fetch a run's config, tags and curves from the store.

    Args:
        uri: The store's address.
        run_id: This project's id of the run, a unique beginning of it, or MLflow's id.

    Raises:
        NotFoundError: There is no such run, or it is not a training.
        ConfigError: Its config is not one that may be run.
    """
    stored = store.resolve_run(uri, run_id)
    mlflow_id, tags = stored.info.run_id, dict(stored.data.tags)
    if tags.get("kind") == "summary":
        raise NotFoundError(f"run {run_id}: is the summary of a sweep, and trains nothing; name one of its trials")
    if tags.get("kind") == "check":
        raise NotFoundError(f"run {run_id}: is a check, and trains nothing; bakeoff check makes it again")
    text = store.download_artifact(uri, mlflow_id, "config.yaml").read_text(encoding="utf-8")
    run = load_frozen(text, origin=f"config of run {run_id}")
    metrics = sorted(metric for metric in stored.data.metrics if metric.startswith(REPRODUCIBLE_METRICS))
    histories = store.metric_histories(uri, [mlflow_id], metrics)
    accelerator = stored.data.params.get("accelerator", run.trainer.accelerator)
    return LoggedRun(
        id=tags.get("bakeoff.id", mlflow_id),
        mlflow_id=mlflow_id,
        name=str(stored.info.run_name),
        status=str(stored.info.status),
        run=run.replace(**{"trainer.accelerator": accelerator}),
        tags=tags,
        curves={metric: {step: value for step, value, _ in histories[mlflow_id, metric]} for metric in metrics},
    )


def journal_metrics(path: Path) -> Curves:
    """Return the reproducible curves in a run's journal."""
    curves: dict[str, dict[int, float]] = {}
    for line in journal.read_journal(path):
        for metric, value in line["values"].items() if line["kind"] == "metrics" else ():
            if metric.startswith(REPRODUCIBLE_METRICS):
                curves.setdefault(metric, {})[int(line["step"])] = float(value)
    return curves


def environment_differences(tags: Mapping[str, str], *, digest: str) -> list[str]:
    """Return what is not as it was when a run was logged, one line each: code, versions, machine, data.

    Args:
        tags: The run's tags.
        digest: The digest of its data as they are now.
    """
    current: dict[str, Any] = provenance_tags(collect_provenance()) | {"data.digest": digest}
    versions = sorted(tag for tag in {*tags, *current} if tag.startswith("version."))
    return [
        f"{tag.removeprefix('version.')}: {tags.get(tag) or 'unknown'} then, {current.get(tag) or 'unknown'} now"
        for tag in (*ENVIRONMENT_TAGS, *versions, "data.digest")
        if tags.get(tag) != current.get(tag)
    ]


def compare_metrics(logged: Curves, new: Curves, *, tolerance: float = 0.0) -> CurveComparison:
    """Compare every value of two runs, by metric and step; nan equals nan.

    Where several metrics differ first at the same step, the first by name is reported.

    Args:
        logged: The curves of the one run.
        new: Those of the other.
        tolerance: The absolute difference that still counts as the same.
    """
    compared, max_difference = 0, 0.0
    first_difference: tuple[int, str] | None = None
    for metric in sorted({*logged, *new}):
        old_values, new_values = logged.get(metric, {}), new.get(metric, {})
        for step in sorted({*old_values, *new_values}):
            difference = absolute_difference(old_values.get(step), new_values.get(step))
            compared += 1
            if math.isfinite(difference):
                max_difference = max(max_difference, difference)
            if not difference <= tolerance and (first_difference is None or (step, metric) < first_difference):
                first_difference = (step, metric)
    if first_difference is None:
        return CurveComparison("identical" if max_difference == 0 else "within", compared, max_difference)
    step, metric = first_difference
    values = (curves.get(metric, {}).get(step) for curves in (logged, new))
    return CurveComparison("different", compared, max_difference, step, metric, *values)


def absolute_difference(old: float | None, new: float | None) -> float:
    """Return the absolute difference of two values: 0 for two nan or two equal infinities, inf where one is missing or not finite."""
    if old is None or new is None:
        return math.inf
    if old == new or (math.isnan(old) and math.isnan(new)):
        return 0.0
    difference = abs(old - new)
    return difference if math.isfinite(difference) else math.inf
