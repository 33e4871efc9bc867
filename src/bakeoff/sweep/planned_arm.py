"""One arm in one block, as it is planned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bakeoff.config.schema import RunConfig
from bakeoff.config.search_space import SearchSpace
from bakeoff.sweep.candidates import Point

WHOLE = "all"
"""What a block is called in a sweep without blocks."""


@dataclass(frozen=True)
class PlannedArm:
    """One arm in one block: its run before tuning, the spaces that it is tuned in, and its points ({} where the sampler draws them).

    The points are those of the plan's own studies in turn. `parameters`, `steps` and `test_images` are known once the planned arm has
    been examined.
    """

    arm: str
    block: str
    choices: dict[str, Any]
    overrides: tuple[str, ...]
    run: RunConfig
    spaces: dict[str, SearchSpace]
    points: tuple[Point, ...]
    decay_kind: str | None = None
    parameters: int | None = None
    steps: int | None = None
    test_images: int | None = None

    @property
    def title(self) -> str:
        """A short name for runs and tables."""
        return self.arm if self.block == WHOLE else f"{self.arm}-{self.block}"
