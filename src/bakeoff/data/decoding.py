"""Decoding image files in worker processes: what is wanted of a file is told in full by a request, so workers hold no state.

The workers are forked from a server that has imported little and runs one thread. A fork of the training process itself could
inherit a lock that one of its threads (OpenMP, CUDA, the sampler of system metrics) holds, and hang; a spawned process imports torch
each time (seconds of a core for each worker, against one import for all). The same workers serve training, validation and test.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bakeoff.errors import DataError

MODES = {1: "L", 3: "RGB"}
"""Pillow's names of grey and colour, by the number of channels."""
AHEAD = 2
"""Batches that each worker may be ahead of the training: this bounds the memory that decoded images take."""
SHARED = Path("/dev/shm")


class Request(NamedTuple):
    """What is wanted of one file: its shorter side resized to `side`, then a square of `cut` pixels, or all of it where cut is 0.

    top, left: where the square lies, in shares (0 to below 1) of the places that it has; None: in the middle.
    """

    path: str
    side: int
    cut: int
    top: float | None = None
    left: float | None = None


class Flat(NamedTuple):
    """Images of several shapes in one uint8 tensor: one piece of shared memory, however many there are."""

    pixels: Tensor
    shapes: list[tuple[int, int, int]]

    def split(self) -> list[Tensor]:
        """Each uint8[H, W, C]."""
        counts = [height * width * channels for height, width, channels in self.shapes]
        return [part.view(shape) for part, shape in zip(torch.split(self.pixels, counts), self.shapes, strict=True)]


Decoded = Tensor | list[Tensor]
"""uint8[m, cut, cut, C], or m whole images uint8[H, W, C] of shapes of their own."""


@dataclass(frozen=True)
class Damaged:
    """Why a file could not be decoded; workers give it back, since an exception would bring its traceback along."""

    path: str
    reason: str


def resized(width: int, height: int, *, side: int) -> tuple[int, int]:
    """(width, height) with the shorter of the two equal to `side` and the other rounded down, as torchvision's Resize."""
    short = min(width, height)
    return (side, side * height // short) if width <= height else (side * width // short, side)


def place(room: int, share: float | None) -> int:
    """Which of the room + 1 places a cut takes: uniform in whole pixels for a uniform share, the middle for None."""
    return room // 2 if share is None else int(share * (room + 1))


def decode(request: Request, *, channels: int) -> NDArray[np.uint8]:
    """uint8[H, W, C] of one file: bilinear with antialiasing; only the pixels of the cut are computed.

    A JPEG of at least twice the wanted size is decoded at 1/2, 1/4 or 1/8 of its size (libjpeg's scaled transform). A tag that says how
    the camera was held is not followed, as in torchvision's ImageFolder. Errors: whatever Pillow raises.
    """
    with Image.open(request.path) as image:
        wide, high = resized(*image.size, side=request.side)
        image.draft(MODES[channels], (wide, high))
        whole = image.convert(MODES[channels])
    width, height = (request.cut, request.cut) if request.cut else (wide, high)
    left, top = place(wide - width, request.left), place(high - height, request.top)
    if whole.size != (wide, high) or (width, height) != (wide, high):
        x, y = whole.width / wide, whole.height / high
        box = (left * x, top * y, (left + width) * x, (top + height) * y)
        whole = whole.resize(
            (width, height), Image.Resampling.BILINEAR, box=(box[0], box[1], min(box[2], whole.width), min(box[3], whole.height))
        )
    return np.asarray(whole).reshape(height, width, channels)


class Files(Dataset[Any]):
    """Answers a list of requests: what a worker process holds."""

    def __init__(self, *, channels: int) -> None:
        self.channels = channels

    def __getitems__(self, requests: Sequence[Request]) -> Tensor | Flat | Damaged:
        """One tensor for cuts, `Flat` for whole images, `Damaged` for the first file that cannot be decoded."""
        images = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata, once a file and worker
            for request in requests:
                try:
                    images.append(decode(request, channels=self.channels))
                except Exception as error:  # decoders raise nearly anything on damaged bytes
                    return Damaged(request.path, f"{type(error).__name__}: {error}")
        if all(request.cut for request in requests):
            return torch.from_numpy(np.stack(images))
        return Flat(torch.from_numpy(np.concatenate([image.reshape(-1) for image in images])), [image.shape for image in images])


def as_it_is(batch: Any) -> Any:
    """The collation: a batch comes whole already."""
    return batch


def attend(number: int) -> None:
    """The start of a worker: it leaves Ctrl-C to the training process, and ends with it even where that one is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


class Todo:
    """The requests of the present reading, batch by batch, made when a worker is free for them: torch's batch sampler."""

    def __init__(self) -> None:
        self.batches: Iterable[Sequence[Request]] = ()

    def __iter__(self) -> Iterator[Sequence[Request]]:
        return iter(self.batches)


class Decoder:
    """Gives decoded images for batches of requests, in their order, from `workers` processes; 0 decodes in this one.

    channels: 1 (grey) or 3 (colour). pinned: the batches lie in page-locked memory, from where a GPU fetches them while it computes.
    The processes start with the first reading and stay. A second reading begun while one is on is decoded in this process.
    """

    def __init__(self, *, channels: int, workers: int, pinned: bool = False) -> None:
        if channels not in MODES:
            raise DataError(f"channels={channels}: image files are decoded to 1 (grey) or 3 (colour) channels")
        self.channels, self.workers, self.pinned = channels, workers, pinned
        self._files, self._todo = Files(channels=channels), Todo()
        self._loader: DataLoader[Any] | None = None
        self._reading: object | None = None

    def read(self, batches: Iterable[Sequence[Request]], *, count: int) -> Iterator[Decoded]:
        """One answer for each of the `count` batches. Errors: DataError for a damaged file, and where a worker process died."""
        if self.workers == 0 or self._reading is not None:
            yield from (self._checked(self._files.__getitems__(requests)) for requests in batches)
            return
        mine = self._reading = object()
        self._todo.batches = batches
        try:
            answers = self._answers()
            for number in range(count):
                answer = self._checked(self._next(answers))
                if number == count - 1:  # who takes the last batch may never come back for the end
                    self._reading = None
                yield answer
        finally:
            if self._reading is mine:
                self._reading = None

    def survey(self, requests: Sequence[Request]) -> Iterator[Tensor]:
        """uint8[C, cut, cut] of each request in turn, by threads of this process: for few images, before any worker is started."""
        with ThreadPoolExecutor(max(1, self.workers)) as pool:
            for start in range(0, len(requests), 64):
                parts = requests[start : start + 64]
                for answer in pool.map(lambda request: self._files.__getitems__([request]), parts):
                    yield torch.as_tensor(self._checked(answer))[0].permute(2, 0, 1)

    def check_room(self, *, batch: int, images: int, side: int) -> None:
        """DataError where the shared memory of this machine is too small for what the workers have ready; `images` bounds it too."""
        need = min(AHEAD * self.workers * batch, images) * self.channels * side**2
        if self.workers and SHARED.is_dir() and need > (free := shutil.disk_usage(SHARED).free):
            raise DataError(
                f"workers={self.workers}: {AHEAD} batches of {batch} images ahead a worker take {need / 2**20:.0f} MiB of shared "
                f"memory and {SHARED} has {free / 2**20:.0f}: lower `workers`, `batch_size` or `eval_batch_size`, or give the "
                "container more (docker's --shm-size)"
            )

    def _answers(self) -> Iterator[Any]:
        if self._loader is None:
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload([__name__])
            self._loader = DataLoader(
                self._files,
                batch_sampler=self._todo,  # type: ignore[arg-type]
                num_workers=self.workers,
                collate_fn=as_it_is,
                pin_memory=self.pinned,
                worker_init_fn=attend,
                multiprocessing_context=context,
                generator=torch.Generator(),  # its own: the global one is the net's
                prefetch_factor=AHEAD,
                persistent_workers=True,
            )
        return iter(self._loader)

    def _next(self, answers: Iterator[Any]) -> Any:
        try:
            return next(answers)
        except (RuntimeError, EOFError, ConnectionError) as error:
            self._loader = None
            # A worker that dies while it hands over a batch shows as the end of its pipe, before torch sees it gone.
            gone = isinstance(error, EOFError | ConnectionError)
            if not gone and "exited unexpectedly" not in str(error) and "is killed by" not in str(error):
                raise
            raise DataError(
                f"workers={self.workers}: a process that decodes images died, as from a kill or for want of memory "
                f"({str(error) or type(error).__name__}): "
                "run again, or lower `workers`"
            ) from error

    def _checked(self, answer: Any) -> Decoded:
        if isinstance(answer, Damaged):
            raise DataError(f"{answer.path}: cannot be decoded as an image ({answer.reason}): mend the file, or take it out of the folder")
        if isinstance(answer, Flat):
            return answer.split()
        assert isinstance(answer, Tensor)
        return answer
