"""plan.json: the plan that a sweep writes beside its runs and that a report reads, as one model with a version.

The keys on disk keep the names of the first version: `cells` for the arms in their blocks, `looks` for the interim analyses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from bakeoff.config.validation_errors import explain_validation_error
from bakeoff.errors import StoreError
from bakeoff.run_files.json_text import parse_json

PLAN_FILE = "plan.json"
VERSION = 2
"""The version that is written; the only one that is read."""
ADDED_STUDIES = 5
"""Studies at a time that can be added to a sweep which tuned each arm once."""
MAX_STUDIES = 25
"""Studies of such a sweep in all, at most."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class StoredSpace(_Record):
    """The range of one tuned key, or its few `choices`."""

    low: float
    high: float
    log: bool = False
    integer: bool = False
    choices: tuple[Any, ...] = ()
    complement: bool = False

    @model_serializer(mode="wrap")
    def _leave_out_complement(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # The field is younger than the first plans, whose hashes it must not change.
        tree: dict[str, Any] = handler(self)
        return {key: value for key, value in tree.items() if value or key != "complement"}


class StoredArm(_Record):
    """One arm in one block: what it is tuned in, its tuning points, its resolved recipe, and facts about its net."""

    arm: str
    block: str
    spaces: dict[str, StoredSpace]
    points: tuple[dict[str, Any], ...]
    recipe: dict[str, Any] = Field(default_factory=dict)
    choices: dict[str, Any] = Field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    parameters: int | None = None
    steps: int | None = None


class StoredMetric(_Record):
    """The metric that tuning looks at."""

    name: str
    goal: Literal["maximize", "minimize"]


class StoredBudget(_Record):
    """How much is tuned: `trials` for each arm, block and study.

    With `grow`, every further analysis adds `studies` new ones, and the seed at place i of the pool, n1 of which are the first
    analysis's, confirms study (i // n1) * studies + i % n1 % studies. Otherwise seeds are dealt to the same studies in turn.
    """

    trials: int | None = None
    sampler: str
    points: int | None = None
    studies: int = Field(default=1, ge=1, le=1_000)
    choose: Literal["smooth", "best"] = Field(default="best", exclude_if=lambda choose: choose == "best")
    grow: bool = Field(default=False, exclude_if=lambda grow: not grow)


class StoredPrune(_Record):
    """What stops a trial early."""

    by: str
    warmup: float
    startup: int
    audit: int


class StoredConfirm(_Record):
    """The confirming seeds: of the first analysis, and of all of them in order (`pool`)."""

    seeds: tuple[int, ...]
    max_seeds: int | None = None
    analyses: tuple[Annotated[int, Field(le=1_000_000)], ...] = Field(alias="looks")
    pool: tuple[int, ...]


class StoredTuneEntry(_Record):
    """One entry of a tuned key: its space, None for the range that the choice declares, and the arms that it is for."""

    space: StoredSpace | None
    only_for: dict[str, tuple[Any, ...]] = Field(alias="for")


class StoredDifference(_Record):
    """A difference between arms that the sweep file allows."""

    rule: str
    text: str


class StoredPlan(_Record):
    """A sweep's plan with everything resolved."""

    version: Literal[2]
    # Both name folders.
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)
    hash: str = Field(pattern=r"^[0-9a-f]{8,64}$")
    question: str
    metric: StoredMetric
    margin: float
    factors: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    blocks: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    tune: dict[str, tuple[StoredTuneEntry, ...]] = Field(default_factory=dict)
    budget: StoredBudget
    prune: StoredPrune | None = None
    confirm: StoredConfirm
    baseline: str | None = None
    allow: tuple[str, ...] = ()
    differs: tuple[StoredDifference, ...] = ()
    fixed: dict[str, Any]
    scale: str | None = None
    overrides: tuple[str, ...] = ()
    command: str
    arms: tuple[StoredArm, ...] = Field(alias="cells")

    def to_tree(self) -> dict[str, Any]:
        """The plan in plain types, under the keys on disk."""
        return self.model_dump(mode="json", by_alias=True)

    def to_json(self) -> str:
        """The text of plan.json."""
        return json.dumps(self.to_tree(), indent=2) + "\n"


def parse_stored_plan(tree: Mapping[str, Any], *, origin: str = PLAN_FILE) -> StoredPlan:
    """Check the content of a plan.json.

    Args:
        tree: The parsed file.
        origin: Where it came from, for messages.

    Raises:
        StoreError: It is of another version, or a key is missing or wrong.
    """
    version = tree.get("version", VERSION)
    if version != VERSION:
        raise StoreError(f"{origin}: version={version}: this bakeoff reads version {VERSION}; use the one that wrote the file")
    try:
        return StoredPlan.model_validate(dict(tree))
    except ValidationError as error:
        raise StoreError(f"{origin}: not a plan of this version: {explain_validation_error(error, StoredPlan)}") from None


def read_stored_plan(path: Path) -> StoredPlan:
    """Read and check a plan.json.

    Raises:
        StoreError: The file is damaged or of another version.
    """
    try:
        tree = parse_json(path.read_bytes())
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise StoreError(f"{path}: not JSON: {error}") from None
    return parse_stored_plan(tree if isinstance(tree, dict) else {}, origin=str(path))
