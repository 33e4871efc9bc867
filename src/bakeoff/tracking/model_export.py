"""Puts a trained net into the store: an MLflow model of any batch size, free of pickles, and its weights as safetensors."""

from __future__ import annotations

import importlib
import re
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakeoff.run_files.run_dir import RunDir
from bakeoff.tracking.trained_weights import WEIGHTS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from torch import nn

DONE_TAG = "bakeoff.model"
LoadNet = Callable[[Path], "nn.Module"]
"""Loads the trained net of a run's folder onto the CPU, in eval mode."""


def log_model(client: MlflowClient, uri: str, run: str, folder: RunDir, line: dict[str, Any], *, load_net: LoadNet) -> str:
    """Export the net of a journal's `model` line, once.

    The net maps float32 (N, C, H, W) to (N, classes). A `builder` that an earlier version named in the line is ignored: a run folder
    never says which code to import.

    Args:
        client: The store's client.
        uri: The store's address.
        run: MLflow's id of the run.
        folder: The run's folder.
        line: The journal's line.
        load_net: Loads the net.

    Returns:
        What went wrong, in one line, or ''.
    """
    if client.get_run(run).data.tags.get(DONE_TAG):
        return ""
    try:
        _log(client, uri, run, line, load_net(folder.path))
    except Exception as error:
        if _is_outage(error):
            raise
        # A net that cannot be rebuilt or traced will not be so tomorrow: the run says why and the replay goes on.
        problem = f"the model of run {folder.path.name} was not exported: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        client.set_tag(run, f"{DONE_TAG}.problem", problem)
        return problem
    return ""


def use_tracking_uri(uri: str) -> AbstractContextManager[None]:
    """Make a store the one that MLflow's own functions use, for a `with` block."""
    # `Model.log` takes no address, and the public `set_tracking_uri` leaves no way back to none being set.
    from mlflow.tracking._tracking_service.utils import _use_tracking_uri

    return _use_tracking_uri(uri)


def _log(client: MlflowClient, uri: str, run: str, line: dict[str, Any], net: Any) -> None:
    import numpy as np
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec
    from safetensors.torch import save_file

    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder) / WEIGHTS
        save_file({k: v.detach().contiguous().clone() for k, v in net.state_dict().items()}, weights)
        client.log_artifact(run, str(weights))

    experiment = client.get_run(run).info.experiment_id
    # An export that was killed half-way has left a model without its files.
    for unfinished in client.search_logged_models([experiment], filter_string=f"source_run_id = '{run}'"):
        client.delete_logged_model(unfinished.model_id)
    # Left to itself, Model.log puts the model into whatever experiment is active in this process.
    model = client.create_logged_model(experiment, name=line["name"], source_run_id=run)

    shape = line["input_shape"]
    float32 = np.dtype(np.float32)
    signature = ModelSignature(
        inputs=Schema([TensorSpec(float32, (-1, *shape))]), outputs=Schema([TensorSpec(float32, (-1, line["classes"]))])
    )
    with use_tracking_uri(uri):
        Model.log(
            artifact_path=None,
            model_id=model.model_id,
            flavor=importlib.import_module("mlflow.pytorch"),
            run_id=run,
            pytorch_model=net,
            signature=signature,
            # Two images: torch.export takes a batch of one as a constant, and the model would accept no other.
            input_example=np.zeros((2, *shape), dtype=np.float32),
            # A run folder must not say what a user of the model installs.
            pip_requirements=[word for word in line["requirements"] if re.fullmatch(r"(torch|torchvision|bakeoff)==[\w.+!]+", word)],
            serialization_format="pt2",
            validate_serving_input=False,
        )
    client.set_tag(run, DONE_TAG, model.model_id)


def _is_outage(error: Exception) -> bool:
    """Whether the store, and not the net, is the reason: then the export is tried again later."""
    import requests
    import sqlalchemy.exc
    from mlflow.exceptions import MlflowException

    if isinstance(error, sqlalchemy.exc.OperationalError | requests.RequestException):
        return True
    return isinstance(error, MlflowException) and error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")
