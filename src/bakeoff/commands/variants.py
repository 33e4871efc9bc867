"""`bakeoff list model --diff`: what each AlexNet and VGG changes against its paper's net, read from the nets as they are built."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bakeoff.config.slots import package_data_dir

if TYPE_CHECKING:
    from bakeoff.nets.convnet import ConvNet

COLUMNS = ("input", "channels", "kernels", "LRN", "parameters")
"""What the first table tells of each paper's net."""


class Variant(NamedTuple):
    """A choice, its paper's net by name with all its properties, and property -> (the paper's, the choice's) where the two differ."""

    choice: str
    paper: str
    whole: dict[str, str]
    changes: dict[str, tuple[str, str]]


def variants(own: Path | None) -> list[Variant]:
    """Every choice of the model slot that is an AlexNet or a VGG, in its own form: 10 classes where small, else 1000; 3 channels."""
    from bakeoff.config.compose import hydra_session
    from bakeoff.nets.architecture_summary import published_net, summarize_architecture

    folders = [package_data_dir("conf") / "model", *([own / "model"] if own else [])]
    names = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    found = []
    with hydra_session(own):
        for name in names:
            net = built(name)
            if net is not None:
                paper = published_net(net)
                whole, here = summarize_architecture(paper), summarize_architecture(net)
                changes = {key: (value, here[key]) for key, value in whole.items() if here[key] != value}
                found.append(Variant(name, type(paper).__name__, whole, changes))
    return found


def built(name: str) -> ConvNet | None:
    """The net of one choice on the meta device, at its own size; None where it is neither an AlexNet nor a VGG."""
    import torch

    from bakeoff.builders import make_uninitialized_model
    from bakeoff.config.compose import compose_in_session
    from bakeoff.config.targets import resolve_target
    from bakeoff.nets.architecture_summary import CHANNELS, CLASSES
    from bakeoff.nets.convnet import ConvNet

    run = compose_in_session([f"model={name}"]).run
    kind = resolve_target("model", run.model)
    if not (isinstance(kind, type) and issubclass(kind, ConvNet)):
        return None
    head = run.model.get("head", "small")
    classes = CLASSES if head == "imagenet" else 10
    shape = {"model.num_classes": classes, "model.in_channels": CHANNELS, "model.size": kind.native[head]}
    with torch.device("meta"):
        net = make_uninitialized_model(run.replace(**shape))
    assert isinstance(net, ConvNet)
    return net


def text(found: Sequence[Variant]) -> str:
    """Two tables: the papers' nets, and the changes, one line each."""
    papers = {variant.paper: variant.whole for variant in found}
    first = [["paper", *COLUMNS], *([name, *(whole[key] for key in COLUMNS)] for name, whole in papers.items())]
    second = [["choice", "changes", "the paper", "this choice"]]
    for variant in found:
        rows = [[key, *pair] for key, pair in variant.changes.items()] or [["nothing", "", ""]]
        second += [[variant.choice if number == 0 else "", *row] for number, row in enumerate(rows)]
    return f"{aligned(first)}\n\n{aligned(second)}"


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows as lines with every column as wide as its widest word."""
    widths = [max(len(word) for word in column) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(f"{word:<{width}}" for word, width in zip(row, widths, strict=True)).rstrip() for row in rows)
