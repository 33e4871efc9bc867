"""The way into a tracking store by MLflow's client: for servers, and for databases that are not written directly."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakeoff.tracking.client import ID_TAG
from bakeoff.tracking.run_store import LoggedDataset, RunUpdate, StoredRun

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

POINTS, TEXTS = 1000, 100
"""How many metrics, and params or tags, MLflow takes in one call."""
INVALID = "INVALID_PARAMETER_VALUE"


class MlflowRunStore:
    """A `RunStore` behind MLflow's client."""

    points, runs = POINTS, 1

    def __init__(self, client: MlflowClient) -> None:
        """Write with a client."""
        self._client = client

    def close(self) -> None:
        """Do nothing: MLflow keeps its connections."""

    def transaction(self) -> contextlib.AbstractContextManager[None]:
        """See `RunStore`."""
        return contextlib.nullcontext()

    def get_run(self, run: str) -> StoredRun | None:
        """See `RunStore`."""
        with _missing():
            return _stored(self._client.get_run(run))
        return None

    def find_run(self, experiment: str, id: str) -> StoredRun | None:
        """See `RunStore`."""
        from mlflow.entities import ViewType

        query = f"tags.`{ID_TAG}` = '{id}'"
        matches = self._client.search_runs([experiment], filter_string=query, run_view_type=ViewType.ALL, max_results=1)
        return _stored(matches[0]) if matches else None

    def get_points(self, run: str) -> set[tuple[str, int]]:
        """See `RunStore`."""
        names = self._client.get_run(run).data.metrics
        return {(name, point.step) for name in names for point in self._client.get_metric_history(run, name)}

    def get_tag(self, run: str, key: str) -> str | None:
        """See `RunStore`."""
        return self._client.get_run(run).data.tags.get(key)

    def find_experiment(self, name: str) -> tuple[str, bool] | None:
        """See `RunStore`."""
        experiment = self._client.get_experiment_by_name(name)
        return None if experiment is None else (str(experiment.experiment_id), experiment.lifecycle_stage == "deleted")

    def create_experiment(self, name: str, *, artifact_location: str | None, tags: dict[str, str]) -> str | None:
        """See `RunStore`."""
        from mlflow.exceptions import MlflowException

        try:
            return str(self._client.create_experiment(name, artifact_location=artifact_location, tags=tags))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return None

    def set_experiment_tag(self, experiment: str, key: str, value: str) -> None:
        """See `RunStore`."""
        self._client.set_experiment_tag(experiment, key, value)

    def create_run(self, experiment: str, *, start_time: int, name: str, tags: dict[str, str]) -> StoredRun:
        """See `RunStore`."""
        return _stored(self._client.create_run(experiment, start_time=start_time, run_name=name, tags=tags))

    def update_run(self, run: str, update: RunUpdate) -> list[str]:
        """See `RunStore`."""
        from mlflow.entities import Metric, Param, RunTag

        tags, problems = dict(update.tags), list[str]()
        if update.params:
            stored = self._client.get_run(run).data.params
            tags |= {f"resumed/{key}": value for key, value in update.params.items() if stored.get(key, value) != value}
            for batch in _batches([Param(key, value) for key, value in update.params.items() if key not in stored], TEXTS):
                problems += self._log_batch(run, params=batch)
        for dataset in update.datasets:
            problems += self._log_dataset(run, dataset)
        metrics = [Metric(point.key, point.value, point.timestamp, point.step) for point in update.points]
        for batch in _batches(metrics, POINTS):
            problems += self._log_batch(run, metrics=batch)
        for batch in _batches([RunTag(key, value) for key, value in tags.items()], TEXTS):
            problems += self._log_batch(run, tags=batch)
        if update.end_time is not None:
            self._client.set_terminated(run, update.status, end_time=update.end_time)
        if update.status == "RUNNING":
            self._client.update_run(run, status=update.status)
        return problems

    def _log_dataset(self, run: str, logged: LoggedDataset) -> list[str]:
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        dataset = Dataset(name=logged.name, digest=logged.digest, source_type="local", source=logged.source, profile=logged.profile)
        try:
            self._client.log_inputs(run, datasets=[DatasetInput(dataset, tags=[InputTag("mlflow.data.context", logged.context)])])
        except MlflowException as error:
            if error.error_code != INVALID:
                raise
            return [f"the store refuses the dataset {logged.name[:60]!r} ({str(error)[:200]})"]
        return []

    def _log_batch(self, run: str, **values: Any) -> list[str]:
        """Log metrics, params or tags; of a batch that the store refuses, those that it takes one by one. Return what it refuses."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.log_batch(run, **values)
        except MlflowException as error:
            if error.error_code != INVALID:
                raise
            [(kind, entries)] = values.items()
            if len(entries) == 1:
                return [f"the store refuses {entries[0].key[:60]!r} ({str(error)[:200]})"]
            return [problem for entry in entries for problem in self._log_batch(run, **{kind: [entry]})]
        return []

    def upload(self, run: StoredRun, source: Path, *, artifact_path: str) -> None:
        """See `RunStore`."""
        log = self._client.log_artifacts if source.is_dir() else self._client.log_artifact
        log(run.id, str(source), artifact_path=artifact_path or None)

    def log_model(self, run: StoredRun, *, name: str, write: Callable[[str, str], Path]) -> str:
        """See `RunStore`."""
        from mlflow.entities import LoggedModelOutput, LoggedModelStatus

        for unfinished in self._client.search_logged_models([run.experiment], filter_string=f"source_run_id = '{run.id}'"):
            self._client.delete_logged_model(unfinished.model_id)
        model = self._client.create_logged_model(run.experiment, name=name, source_run_id=run.id)
        self._client.log_model_artifacts(model.model_id, str(write(model.model_id, model.artifact_location)))
        self._client.log_outputs(run.id, [LoggedModelOutput(model.model_id, 0)])
        self._client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
        return str(model.model_id)


def _stored(run: Run) -> StoredRun:
    info = run.info
    return StoredRun(info.run_id, str(info.experiment_id), info.status, info.lifecycle_stage == "deleted", info.artifact_uri)


@contextlib.contextmanager
def _missing() -> Iterator[None]:
    """Leave the block where the store has no such thing."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


def _batches(entries: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """Split entries into batches of a size."""
    return (entries[start : start + size] for start in range(0, len(entries), size))
