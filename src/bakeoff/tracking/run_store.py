"""What a replay asks of a tracking store, whichever way leads into it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol


class Point(NamedTuple):
    """One value of a metric; `timestamp` in ms since 1970."""

    key: str
    value: float
    timestamp: int
    step: int


class LoggedDataset(NamedTuple):
    """A dataset that a run reads; `source` and `profile` are JSON."""

    name: str
    digest: str
    source: str
    profile: str
    context: str


class StoredRun(NamedTuple):
    """Where a run stands in the store; the ids are MLflow's."""

    id: str
    experiment: str
    status: str
    is_deleted: bool
    artifact_uri: str


@dataclass
class RunUpdate:
    """What some lines of a journal change of a run; names and texts fit MLflow's limits."""

    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    datasets: list[LoggedDataset] = field(default_factory=list)
    #: FINISHED, FAILED, KILLED, RUNNING, or '' where it stays as it is; `end_time` in ms since 1970.
    status: str = ""
    end_time: int | None = None


class RunStore(Protocol):
    """A tracking store that runs are written into. Writing the same thing again changes nothing."""

    #: How many points an update should hold, and how many runs are best written together.
    points: int
    runs: int

    def transaction(self) -> AbstractContextManager[None]:
        """Write what the block writes together, where the store can."""

    def get_run(self, run: str) -> StoredRun | None:
        """Return a run by MLflow's id."""

    def find_run(self, experiment: str, id: str) -> StoredRun | None:
        """Return the run of an experiment with a tag `bakeoff.id`, be it deleted."""

    def get_points(self, run: str) -> set[tuple[str, int]]:
        """Return the (metric, step) of all points of a run."""

    def get_tag(self, run: str, key: str) -> str | None:
        """Return a tag of a run."""

    def find_experiment(self, name: str) -> tuple[str, bool] | None:
        """Return an experiment's id, and whether it is deleted."""

    def create_experiment(self, name: str, *, artifact_location: str | None, tags: dict[str, str]) -> str | None:
        """Make an experiment, and return its id; None where another process was faster."""

    def set_experiment_tag(self, experiment: str, key: str, value: str) -> None:
        """Set a tag of an experiment."""

    def create_run(self, experiment: str, *, start_time: int, name: str, tags: dict[str, str]) -> StoredRun:
        """Make a run that is RUNNING."""

    def update_run(self, run: str, update: RunUpdate) -> list[str]:
        """Write an update; a param that the run has with another value becomes the tag `resumed/<param>`. Return what was refused."""

    def upload(self, run: StoredRun, source: Path, *, artifact_path: str) -> None:
        """Copy a file, or what is in a folder, to a folder of the run's artifacts ('' is their top)."""

    def log_model(self, run: StoredRun, *, name: str, write: Callable[[str, str], Path]) -> str:
        """Log a model in place of what an export that was killed has left.

        Args:
            run: The run that it belongs to.
            name: The model's name.
            write: Completes the folder of the model's files, given the model's id and the address of its artifacts, and returns it.

        Returns:
            The model's id.
        """
