"""Faults of the machine are told from those of the code."""

from __future__ import annotations

import errno
import shutil

import pytest
import torch

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


def accelerator_error(code: int) -> Exception:
    error = torch.AcceleratorError("CUDA error: of another wording")
    error.error_code = code  # type: ignore[attr-defined]  # set where torch raises it
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (torch.cuda.OutOfMemoryError("of another wording"), "memory"),
        (accelerator_error(2), "memory"),
        (accelerator_error(214), "device"),
        (accelerator_error(719), "device"),
        (accelerator_error(710), None),
        (accelerator_error(700), None),
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), "device"),
        (RuntimeError("CUDA error: unspecified launch failure"), "device"),
        (RuntimeError("CUDA out of memory. Tried to allocate 20 MiB"), "memory"),
        (torch.distributed.DistBackendError("of another wording"), "peer"),
        (RuntimeError("size mismatch"), None),
    ],
    ids=repr,
)
def test_exceptions_of_torch_are_told_by_their_type(error: Exception, kind: str | None) -> None:
    assert fault_of(error) == kind
    outer = ValueError("a library's own")
    outer.__cause__ = error
    assert fault_of(outer) == kind
