"""Counter-based randomness: every draw is a pure function of (seed, stream, counters), so nothing has to be saved to resume.

Streams in use: `init` (weights), `order` (of the training images, by epoch), `augment` (by epoch and step), `step` (dropout and the
like, by step and rank), `split` and `survey` (which image files moments are measured on), both from `data.split_seed`.
"""

from __future__ import annotations

import functools
import hashlib
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

STREAMS = ("init", "order", "augment", "step")


def derive_seed(seed: int, stream: str, *counters: int) -> int:
    """Return an integer in [0, 2**63) that depends on all arguments and on nothing else (BLAKE2b, RFC 7693).

    Args:
        seed: The run's seed.
        stream: What is drawn; see the module's docstring.
        *counters: Epoch, step, rank or the like.
    """
    text = repr((int(seed), stream, *(int(c) for c in counters)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def make_generator(seed: int, stream: str, *counters: int) -> torch.Generator:
    """Return a CPU generator seeded with `derive_seed(seed, stream, *counters)`."""
    import torch

    return torch.Generator().manual_seed(derive_seed(seed, stream, *counters))


def seed_global_generators(seed: int, stream: str, *counters: int) -> None:
    """Seed torch's generators of all devices, numpy's and Python's with `derive_seed(seed, stream, *counters)`."""
    import numpy as np
    import torch

    derived_seed = derive_seed(seed, stream, *counters)
    if _has_accelerator():
        torch.manual_seed(derived_seed)
    else:  # for devices that are not there, torch.manual_seed keeps the seed with a formatted stack: a millisecond every step
        torch.default_generator.manual_seed(derived_seed)
    random.seed(derived_seed)
    np.random.seed(derived_seed % 2**32)


@functools.cache
def _has_accelerator() -> bool:
    import torch

    return torch.accelerator.is_available()
