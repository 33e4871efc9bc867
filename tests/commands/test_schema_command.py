"""`bakeoff schema` prints what the models say, with a description of every field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bakeoff.commands.main import COMMANDS, main
from bakeoff.config.schema import RunConfig


@pytest.mark.parametrize("model", ["run", "sweep"])
def test_every_field_is_described(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "schema" in COMMANDS and main(["schema", model]) == 0
    schema: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert schema["$schema"].startswith("https://json-schema.org/") and schema["additionalProperties"] is False
    for name, field in schema["properties"].items():
        # A field that says the same as its class has the description of the class alone.
        target = schema["$defs"][field["$ref"].rpartition("/")[2]] if "$ref" in field else {}
        assert field.get("description") or target.get("description"), name


def test_the_run_schema_has_every_field_of_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "run"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert set(schema["properties"]) == set(RunConfig.model_fields)
    assert schema["properties"]["model"]["required"] == ["_target_"]
    for node in schema["$defs"].values():
        assert all(field.get("description") for field in node["properties"].values())
