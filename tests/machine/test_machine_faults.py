"""Faults of the machine are told from those of the code."""

from __future__ import annotations

import errno
import shutil

import pytest

from bakeoff.machine import fault_of


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk"),
        (shutil.Error([("a", "b", "[Errno 28] No space left on device: 'b'")]), "disk"),
        (shutil.Error([("a", "b", "[Errno 13] Permission denied: 'b'")]), None),
        (MemoryError(), "memory"),
        (ValueError("no"), None),
    ],
)
def test_faults_are_told_from_errors_of_the_code(error: Exception, kind: str | None) -> None:
    assert fault_of(error) == kind
