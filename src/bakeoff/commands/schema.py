"""`bakeoff schema run|sweep`: the JSON Schema of a run's config or of a sweep file, for editors that complete and check YAML."""

from __future__ import annotations

import json
from typing import Any

from bakeoff.commands.arguments import CommandParser


def main(argv: list[str]) -> int:
    """Print the schema."""
    parser = CommandParser(prog="bakeoff schema", description=__doc__)
    parser.add_argument("model", choices=("run", "sweep"), help="the config of one run, or a file of sweeps/")
    print(json.dumps(json_schema(parser.parse_args(argv).model), indent=2))
    return 0


def json_schema(model: str) -> dict[str, Any]:
    """Return the JSON Schema of `run` or `sweep`."""
    if model == "sweep":
        from bakeoff.sweep.spec import sweep_json_schema

        return sweep_json_schema()
    from bakeoff.config.schema import RunConfig

    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **RunConfig.model_json_schema()}
