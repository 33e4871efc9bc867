"""Decoding image files in worker processes: a request says all that is wanted of a file, so workers hold no state.

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
from collections.abc import Generator, Iterable, Iterator, Sequence
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

from bakeoff.errors import DataError, check_argument

PILLOW_MODES = {1: "L", 3: "RGB"}
"""Pillow's names of grey and colour, by the number of channels."""
PREFETCH_FACTOR = 2
"""Batches that each worker may be ahead of the training: this bounds the memory that decoded images take."""
SHARED_MEMORY = Path("/dev/shm")


class Request(NamedTuple):
    """What is wanted of one file: its shorter side resized to `side`, then a square of `crop` pixels, or all of it where crop is 0.

    `top` and `left` say where the square lies, as fractions (0 to below 1) of the offsets that it can have; None: in the middle.
    """

    path: str
    side: int
    crop: int
    top: float | None = None
    left: float | None = None


class PackedImages(NamedTuple):
    """Images of several shapes (H, W, C) in one uint8 tensor: one piece of shared memory, however many there are."""

    pixels: Tensor
    shapes: list[tuple[int, int, int]]

    def unpack(self) -> list[Tensor]:
        """Return each image, uint8[H, W, C]."""
        counts = [height * width * channels for height, width, channels in self.shapes]
        return [part.view(shape) for part, shape in zip(torch.split(self.pixels, counts), self.shapes, strict=True)]


Decoded = Tensor | list[Tensor]
"""uint8[m, crop, crop, C], or m whole images uint8[H, W, C] of shapes of their own."""


@dataclass(frozen=True)
class DecodeFailure:
    """Why a file could not be decoded; workers return it, since an exception would bring its traceback along."""

    path: str
    reason: str


def resized_shape(width: int, height: int, *, side: int) -> tuple[int, int]:
    """Return (width, height) with the shorter of the two equal to `side` and the other rounded down, as torchvision's Resize."""
    shorter = min(width, height)
    return (side, side * height // shorter) if width <= height else (side * width // shorter, side)


def crop_offset(margin: int, fraction: float | None) -> int:
    """Return which of the margin + 1 offsets a crop takes: uniform in whole pixels for a uniform fraction, the middle for None."""
    return margin // 2 if fraction is None else int(fraction * (margin + 1))


def decode(request: Request, *, channels: int) -> NDArray[np.uint8]:
    """Decode one file to uint8[H, W, C]: bilinear with antialiasing; only the pixels of the crop are computed.

    A JPEG of at least twice the wanted size is decoded at 1/2, 1/4 or 1/8 of its size (libjpeg's scaled transform). A tag that says how
    the camera was held is not followed, as in torchvision's ImageFolder. Pillow may raise nearly any exception.
    """
    with Image.open(request.path) as file:
        full_width, full_height = resized_shape(*file.size, side=request.side)
        file.draft(PILLOW_MODES[channels], (full_width, full_height))
        image = file.convert(PILLOW_MODES[channels])
    width, height = (request.crop, request.crop) if request.crop else (full_width, full_height)
    left, top = crop_offset(full_width - width, request.left), crop_offset(full_height - height, request.top)
    if image.size != (full_width, full_height) or (width, height) != (full_width, full_height):
        x, y = image.width / full_width, image.height / full_height
        box = (left * x, top * y, min((left + width) * x, image.width), min((top + height) * y, image.height))
        image = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(image).reshape(height, width, channels)


class FileDataset(Dataset[Any]):
    """Decodes lists of requests: what a worker process holds."""

    def __init__(self, *, channels: int) -> None:
        self.channels = channels

    def __getitems__(self, requests: Sequence[Request]) -> Tensor | PackedImages | DecodeFailure:
        """Return one tensor for crops, `PackedImages` for whole images, `DecodeFailure` for the first file that cannot be decoded."""
        images = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata, once a file and worker
            for request in requests:
                try:
                    images.append(decode(request, channels=self.channels))
                except Exception as error:  # decoders raise nearly anything on damaged bytes
                    return DecodeFailure(request.path, f"{type(error).__name__}: {error}")
        if all(request.crop for request in requests):
            return torch.from_numpy(np.stack(images))
        return PackedImages(torch.from_numpy(np.concatenate([image.reshape(-1) for image in images])), [image.shape for image in images])


def identity(batch: Any) -> Any:
    """Return the batch, which needs no collation."""
    return batch


def init_worker(number: int) -> None:
    """Let a worker leave Ctrl-C to the training process, and end with it even where that one is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def exit_with_parent() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()


class RequestBatches:
    """The requests of the present reading, batch by batch, made when a worker is free for them: torch's batch sampler."""

    def __init__(self) -> None:
        self.batches: Iterable[Sequence[Request]] = ()

    def __iter__(self) -> Iterator[Sequence[Request]]:
        return iter(self.batches)


class Decoder:
    """Decodes batches of requests, in their order, in `workers` processes; 0 decodes in this one.

    The channels are 1 (grey) or 3 (colour). Where `pinned`, batches are in page-locked memory, from where a GPU fetches them while it
    computes. The processes start with the first reading and stay. A second reading begun while one is on is decoded in this process.
    """

    def __init__(self, *, channels: int, workers: int, pinned: bool = False) -> None:
        rule = "image files are decoded to 1 (grey) or 3 (colour) channels"
        check_argument("channels", channels, fits=channels in PILLOW_MODES, rule=rule)
        self.channels, self.workers, self.pinned = channels, workers, pinned
        self._dataset, self._requests = FileDataset(channels=channels), RequestBatches()
        self._loader: DataLoader[Any] | None = None
        self._reading: object | None = None

    def read(self, batches: Iterable[Sequence[Request]], *, count: int) -> Generator[Decoded, None, None]:
        """Yield the images of each of the `count` batches; a damaged file is a DataError, and so is a worker process that died."""
        if self.workers == 0 or self._reading is not None:
            yield from (self._checked(self._dataset.__getitems__(requests)) for requests in batches)
            return
        reading = self._reading = object()
        self._requests.batches = batches
        try:
            results = self._worker_results()
            for number in range(count):
                images = self._checked(self._next(results))
                if number == count - 1:  # who takes the last batch may never come back for the end
                    self._reading = None
                yield images
        finally:
            if self._reading is reading:
                self._reading = None

    def read_in_threads(self, requests: Sequence[Request]) -> Iterator[Tensor]:
        """Yield uint8[C, crop, crop] of each request, from threads of this process: for few images, before any worker is started."""
        with ThreadPoolExecutor(max(1, self.workers)) as pool:
            for start in range(0, len(requests), 64):
                chunk = requests[start : start + 64]
                for result in pool.map(lambda request: self._dataset.__getitems__([request]), chunk):
                    yield torch.as_tensor(self._checked(result))[0].permute(2, 0, 1)

    def check_shared_memory(self, *, batch: int, images: int, side: int) -> None:
        """Raise a DataError where shared memory is too small for the images that the workers have ready, of `side` x `side` pixels.

        `batch` is the number of images of a batch, and `images` that of all, which bounds what is ready too.
        """
        need = min(PREFETCH_FACTOR * self.workers * batch, images) * self.channels * side**2
        if self.workers and SHARED_MEMORY.is_dir() and need > (free := shutil.disk_usage(SHARED_MEMORY).free):
            raise DataError(
                f"workers={self.workers}: {PREFETCH_FACTOR} batches of {batch} images ahead a worker take {need / 2**20:.0f} MiB of shared "
                f"memory and {SHARED_MEMORY} has {free / 2**20:.0f}: lower `workers`, `batch_size` or `eval_batch_size`, or give the "
                "container more (docker's --shm-size)"
            )

    def _worker_results(self) -> Iterator[Any]:
        if self._loader is None:
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload([__name__])
            self._loader = DataLoader(
                self._dataset,
                batch_sampler=self._requests,  # type: ignore[arg-type]
                num_workers=self.workers,
                collate_fn=identity,
                pin_memory=self.pinned,
                worker_init_fn=init_worker,
                multiprocessing_context=context,
                generator=torch.Generator(),  # its own: the global one is the net's
                prefetch_factor=PREFETCH_FACTOR,
                persistent_workers=True,
            )
        return iter(self._loader)

    def _next(self, results: Iterator[Any]) -> Any:
        try:
            return next(results)
        except (RuntimeError, EOFError, ConnectionError) as error:
            self._loader = None
            # A worker that dies while it hands over a batch shows as the end of its pipe, before torch sees it gone.
            pipe_ended = isinstance(error, EOFError | ConnectionError)
            if not pipe_ended and "exited unexpectedly" not in str(error) and "is killed by" not in str(error):
                raise
            raise DataError(
                f"workers={self.workers}: a process that decodes images died, as from a kill or for want of memory "
                f"({str(error) or type(error).__name__}): run again, or lower `workers`"
            ) from error

    def _checked(self, result: Any) -> Decoded:
        if isinstance(result, DecodeFailure):
            raise DataError(f"{result.path}: cannot be decoded as an image ({result.reason}): mend the file, or take it out of the folder")
        if isinstance(result, PackedImages):
            return result.unpack()
        assert isinstance(result, Tensor)
        return result
