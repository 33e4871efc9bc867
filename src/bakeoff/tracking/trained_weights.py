"""The trained weights of a run: from its folder on this machine, or from the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bakeoff.errors import BakeoffError, FolderError, NotFoundError
from bakeoff.run_files.checkpoints import read_checkpoint, read_latest_checkpoint, weights_of
from bakeoff.run_files.run_dir import EXPORTED_WEIGHTS, RunDir, find_run_dir

if TYPE_CHECKING:
    from torch import Tensor

LAST = "checkpoints/last.ckpt"


@dataclass(frozen=True)
class Trained:
    """A run that is done: its id, the text of its frozen config, and the last weights of its net by name, on the CPU."""

    id: str
    config: str
    net: Mapping[str, Tensor]


def load_trained_weights(run_id: str, *, root: Path, uri: str) -> Trained:
    """Load the trained weights of a run.

    Args:
        run_id: The run's id, a unique beginning of it (6 digits or more), MLflow's own id, or the path of a run folder.
        root: The folder of all runs, where it is looked for first.
        uri: The store that is asked next; it keeps the weights of single runs.

    Returns:
        The run's config and weights.

    Raises:
        NotFoundError: Neither has the run, or the store has no weights of it.
        FolderError: The run has not come to its end.
    """
    if (Path(run_id) / "job.json").is_file():
        return _local(RunDir(Path(run_id)), run_id)
    try:
        folder = find_run_dir(root, run_id)
    except NotFoundError as missing:
        return _stored(run_id, uri, missing)
    return _local(folder, run_id)


def _local(folder: RunDir, run_id: str) -> Trained:
    result = folder.read_result()
    if result is None or result["status"] != "finished":
        status = "not done" if result is None else result["status"]
        raise FolderError(f"run {run_id}: its weights cannot be taken, for it is {status} (in {folder.path})")
    state = read_latest_checkpoint(folder.checkpoints)
    if state is None:
        raise FolderError(f"run {run_id}: no readable checkpoint in {folder.checkpoints}")
    return Trained(folder.read_job().id, folder.config.read_text(encoding="utf-8"), weights_of(state, folder.checkpoints))


def _stored(run_id: str, uri: str, missing: NotFoundError) -> Trained:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from bakeoff.tracking import store

    try:
        stored = store.resolve_run(uri, run_id)
    except BakeoffError as unknown:
        raise NotFoundError(f"{missing}; {unknown}") from None
    tags, mlflow_id = stored.data.tags, stored.info.run_id
    local_dir = RunDir(Path(tags["bakeoff.folder"])) if "bakeoff.folder" in tags else None
    if local_dir is not None and local_dir.job.is_file():
        return _local(local_dir, run_id)
    if stored.info.status != "FINISHED" or tags.get("diverged") == "true":
        status = "diverged" if stored.info.status == "FINISHED" else stored.info.status
        raise FolderError(f"run {run_id}: its weights cannot be taken, for it is {status}")
    config = store.download_artifact(uri, mlflow_id, "config.yaml").read_text(encoding="utf-8")
    stored_id = tags.get("bakeoff.id", mlflow_id)
    try:
        weights = store.download_artifact(uri, mlflow_id, EXPORTED_WEIGHTS)
    except NotFoundError:
        state = read_checkpoint(store.download_artifact(uri, mlflow_id, LAST))
    else:
        try:
            return Trained(stored_id, config, load_file(weights))
        except (SafetensorError, OSError, ValueError) as error:
            raise FolderError(f"run {run_id}: {EXPORTED_WEIGHTS} in the store is damaged ({error})") from None
    if state is None:
        raise FolderError(f"run {run_id}: its checkpoint in the store is torn")
    return Trained(stored_id, config, weights_of(state, Path(LAST)))
