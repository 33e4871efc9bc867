"""pydantic's errors become a line with the key, the value, the rule, the choices and the near miss."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from bakeoff.config.validation_errors import explain_validation_error


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    name: Literal["one", "two"] = "one"
    count: Annotated[int, Field(ge=1)] = 1
    weights: Annotated[list[int], Field(max_length=2)] = Field(default_factory=list)
    reserved: dict[str, int] = Field(default_factory=dict, alias="for")


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    inner: Inner | None = None
    by_key: dict[str, list[Inner]] = Field(default_factory=dict)
    size: int | Literal["auto"] = "auto"
    even: int = 0

    @field_validator("even")
    @classmethod
    def check_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("must be even")
        return value


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"iner": {}}, "iner: no such key (did you mean inner?); keys: inner, by_key, size, even"),
        ({"inner": {"nam": "one"}}, "inner.nam: no such key (did you mean name?); keys: name, count, weights, for"),
        ({"inner": {"name": "tow"}}, "inner.name=tow: must be 'one' or 'two' (did you mean two?)"),
        ({"inner": {"count": 0}}, "inner.count=0: must be greater than or equal to 1"),
        ({"inner": {"count": "3"}}, "inner.count=3: must be integer"),
        ({"inner": {"weights": [1, 2, 3]}}, "inner.weights=[1, 2, 3]: must have at most 2 items"),
        ({"inner": 3}, "inner: must be a mapping, as in inner: {name: value}"),
        ({"inner": {"for": {"a": "b"}}}, "inner.for.a=b: must be integer"),
        ({"by_key": {"model.width": [{"count": 1}, {"cuont": 1}]}}, "by_key.model.width.cuont: no such key (did you mean count?)"),
        ({"size": "large"}, "size=large: must be integer"),
        ({"even": 3}, "even=3: must be even"),
    ],
)
def test_a_validation_error_is_one_line(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(tree)
    assert explain_validation_error(caught.value, Outer).startswith(message)
