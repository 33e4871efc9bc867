"""Puts a trained net into the store: its weights as safetensors, and an MLflow model of any batch size, free of pickles.

The process that trained writes the weights and the traced net (`training.model_files`); here MLflow's texts are put beside them, as
`mlflow.pytorch` would write them, for loading that takes seconds and a gigabyte.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

from bakeoff.errors import BakeoffError
from bakeoff.machine import fault_of
from bakeoff.run_files.run_dir import EXPORTED_NET, EXPORTED_WEIGHTS, RunDir
from bakeoff.tracking.run_store import RunStore, RunUpdate, StoredRun

DONE_TAG = "bakeoff.model"
WriteModel = Callable[[Path], None]
"""Writes the trained net of a run's folder, as its process does at the end of a training."""
KNOWN_FILES = {"data", "model.pt2", "MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt"}
KNOWN_FILES |= {"input_example.json", "serving_input_example.json"}
OUTAGES = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")


def log_model(store: RunStore, run: StoredRun, folder: RunDir, line: dict[str, Any], *, write_model: WriteModel) -> str:
    """Export the net of a journal's `model` line, once; its files in the run's folder are removed then.

    The net maps float32 (N, C, H, W) to (N, classes). A run folder never says which code to import.

    Args:
        store: The store.
        run: The run in it.
        folder: The run's folder.
        line: The journal's line.
        write_model: Writes the net's files where the folder lacks them.

    Returns:
        What went wrong, in one line, or ''.
    """
    export = folder.export
    if not store.get_tag(run.id, DONE_TAG):
        try:
            if not (export / EXPORTED_NET).is_file():
                write_model(folder.path)
            if any(path.is_symlink() for path in (export, *export.rglob("*"))):
                raise BakeoffError(f"{export}: holds a symbolic link")
            store.upload(run, export / EXPORTED_WEIGHTS, artifact_path="")

            def write(model: str, address: str) -> Path:
                if {path.name for path in (export / "model").rglob("*")} - KNOWN_FILES:
                    raise BakeoffError(f"{export}: holds a file that is none of a model's")
                _write_texts(export / "model", line, run=run.id, model=model, address=address, torch=_torch_version(export))
                return export / "model"

            update = RunUpdate(tags={DONE_TAG: store.log_model(run, name=line["name"], write=write)})
        except Exception as error:
            if fault_of(error) is not None or _is_outage(error):
                raise
            # A net that cannot be rebuilt or traced will not be so tomorrow: the run says why and the replay goes on.
            problem = f"the model of run {folder.path.name} was not exported: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            with store.transaction():
                store.update_run(run.id, RunUpdate(tags={f"{DONE_TAG}.problem": problem}))
            return problem
        with store.transaction():
            store.update_run(run.id, update)
    shutil.rmtree(export, ignore_errors=True)
    return ""


def _torch_version(export: Path) -> str:
    """Return the version of torch that a net was traced with."""
    text = (export / "torch_version").read_text(encoding="utf-8")
    if not re.fullmatch(r"[\w.+!]{1,60}", text):
        raise ValueError(f"torch_version {text!r:.60}")
    return text


def _write_texts(folder: Path, line: dict[str, Any], *, run: str, model: str, address: str, torch: str) -> None:
    """Write what makes a folder with a traced net in `data` an MLflow model."""
    import yaml

    shape, classes = [int(length) for length in line["input_shape"]], int(line["classes"])
    # Two images: with a single one the net would be traced for that number alone.
    example: Any = 0.0
    for length in reversed((2, *shape)):
        example = [example] * length
    (folder / "input_example.json").write_text(json.dumps(example))
    (folder / "serving_input_example.json").write_text(json.dumps({"inputs": example}, indent=2))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

    def specify(*lengths: int) -> str:
        return json.dumps([{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, *lengths]}}])

    env = {"conda": "conda.yaml", "virtualenv": "python_env.yaml"}
    flavor = {"config": {"device": None}, "data": "data", "env": env, "loader_module": "mlflow.pytorch"}
    flavor |= {"pickle_module_name": "mlflow.pytorch.pickle_module", "python_version": python_version()}
    files = ("input_example.json", "serving_input_example.json")
    content = {
        "artifact_path": address,
        "flavors": {"python_function": flavor, "pytorch": {"code": None, "model_data": "data", "pytorch_version": torch}},
        "is_signature_from_type_hint": False,
        "mlflow_version": version("mlflow"),
        "model_id": model,
        "model_size_bytes": size,
        "model_uuid": model,
        "prompts": None,
        "run_id": run,
        "saved_input_example_info": {"artifact_path": files[0], "serving_input_path": files[1], "type": "ndarray"},
        "signature": {"inputs": specify(*shape), "outputs": specify(classes), "params": None},
        "type_hint_from_example": False,
        "utc_time_created": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}",
    }
    # A run folder must not say what a user of the model installs.
    packages = [word for word in line["requirements"] if re.fullmatch(r"(torch|torchvision|bakeoff)==[\w.+!]+", word)]
    packages = [f"mlflow=={version('mlflow')}", *packages]
    python, pip = f"python={python_version()}", f"pip<={version('pip')}"
    conda = {"channels": ["conda-forge"], "dependencies": [python, pip, {"pip": packages}], "name": "mlflow-env"}
    build = [f"pip=={version('pip')}", f"setuptools=={version('setuptools')}", "wheel"]
    environment = {"python": python_version(), "build_dependencies": build, "dependencies": ["-r requirements.txt"]}
    for name, texts in (("MLmodel", content), ("conda.yaml", conda), ("python_env.yaml", environment)):
        (folder / name).write_text(yaml.safe_dump(texts, default_flow_style=False, sort_keys=name != "python_env.yaml"))
    (folder / "requirements.txt").write_text("\n".join(packages))


def _is_outage(error: Exception) -> bool:
    """Whether the store, and not the net, is the reason: then the export is tried again later."""
    if isinstance(error, sqlite3.Error):
        return True
    # A library that is not loaded has raised nothing.
    for module, name in (("sqlalchemy.exc", "OperationalError"), ("requests", "RequestException")):
        if module in sys.modules and isinstance(error, getattr(sys.modules[module], name)):
            return True
    return getattr(error, "error_code", None) in OUTAGES
