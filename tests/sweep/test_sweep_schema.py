"""The JSON Schema beside the shipped sweeps is the model's own, takes every one of them, and refuses what the model refuses."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from bakeoff.config.slots import package_data_dir
from bakeoff.sweep.request import load_sweep_file
from bakeoff.sweep.spec import sweep_json_schema

SWEEPS = package_data_dir("sweeps")
FILES = sorted(SWEEPS.glob("*.yaml"))
WRONG: list[dict[str, Any]] = [
    {"blocs": {"model": ["alexnet"]}},
    {"budget": {"trails": 3}},
    {"budget": {"sampler": "halten"}},
    {"confirm": {"seeds": "many"}},
    {"tune": {"optimizer.lr": "spaces"}},
    {"tune": {"optimizer.lr": {"lo": 1.0}}},
    {"metric": {"name": "test/accuracy"}},
    {"prune": "mean"},
    {"allow": ["everything"]},
    {"margin": -1},
]
SHORT_FORMS: list[dict[str, Any]] = [
    {"metric": "val/accuracy"},
    {"prune": "asha"},
    {"allow": "decay"},
    {"factors": {"optimizer": "adam"}},
    {"tune": {"optimizer.lr": ["space"]}},
    {"tune": {"optimizer.lr": {"for": {"optimizer": "adam"}, "choices": [0.1, 0.2]}}},
]


def quickstart(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(load_sweep_file(SWEEPS / "quickstart.yaml")), **changes}


def test_the_committed_schema_is_the_models() -> None:
    """Written anew by `bakeoff schema sweep > sweeps/schema.json`."""
    assert json.loads((SWEEPS / "schema.json").read_text(encoding="utf-8")) == sweep_json_schema()
    jsonschema.Draft202012Validator.check_schema(sweep_json_schema())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_shipped_sweep_names_the_schema_and_keeps_to_it(path: Path) -> None:
    assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=schema.json\n")
    jsonschema.validate(load_sweep_file(path), sweep_json_schema())


@pytest.mark.parametrize("changes", WRONG, ids=str)
def test_the_schema_refuses_what_the_model_refuses(changes: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(quickstart(**changes), sweep_json_schema())


@pytest.mark.parametrize("changes", SHORT_FORMS, ids=str)
def test_the_schema_takes_the_short_forms(changes: dict[str, Any]) -> None:
    jsonschema.validate(quickstart(**changes), sweep_json_schema())


def test_every_field_is_described() -> None:
    schema = sweep_json_schema()
    nodes = {"SweepSpec": schema, **schema["$defs"]}
    missing = [f"{name}.{key}" for name, node in nodes.items() for key, field in node["properties"].items() if "description" not in field]
    assert not missing
