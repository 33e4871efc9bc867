"""What a verdict is about: the net, the data and the length of training that its runs had."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from bakeoff.report import formatting

#: Params of a run that its verdict's scope is made of.
SCOPE_PARAMS = ("model", "model.width", "data", "data.subset", "total_steps", "data.batch_size")


def read_scope(frame: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """The distinct values of each param of the scope over the confirm runs, as the store has them.

    Args:
        frame: runs, with a column `kind` and one for each param.

    Returns:
        Param -> its values, in the order of the runs; params that no run has are missing.
    """
    confirm = frame[frame["kind"] == "confirm"]
    columns = {key: confirm[f"params.{key}"].dropna() for key in SCOPE_PARAMS if f"params.{key}" in confirm.columns}
    values = {key: tuple(dict.fromkeys(column.astype(str))) for key, column in columns.items()}
    return {key: known for key, known in values.items() if known and known != ("None",)}


def scope_sentence(scope: Mapping[str, tuple[str, ...]]) -> str | None:
    """Say for which net, data and length of training a verdict was reached.

    Args:
        scope: what `read_scope` returns.

    Returns:
        One sentence; None where net and data are unknown.
    """
    if not {"model", "data"} <= scope.keys():
        return None

    def listed(key: str) -> str:
        values = scope[key]
        return formatting.join_names(list(values)) if len(values) <= formatting.LISTED else f"{len(values)} values"

    width, subset = ("model.width" in scope and scope["model.width"] not in (("1.0",), ("1",))), "data.subset" in scope
    net = listed("model") + (f" at width {listed('model.width')}" if width else "")
    data = listed("data") + (f" ({listed('data.subset')} training images)" if subset else "")
    steps = f", trained for {listed('total_steps')} steps" if "total_steps" in scope else ""
    steps += f" of {listed('data.batch_size')} images" if steps and "data.batch_size" in scope else ""
    return f"This is about {net} on {data}{steps}; nothing else was tried."
