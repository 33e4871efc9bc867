"""The statistics as a package: its examples run, and it exports what it says."""

from __future__ import annotations

import doctest

from bakeoff import stats


def test_the_examples_run() -> None:
    results = doctest.testmod(stats)
    assert results.attempted == 11 and results.failed == 0


def test_every_exported_name_exists() -> None:
    assert all(hasattr(stats, name) for name in stats.__all__)
