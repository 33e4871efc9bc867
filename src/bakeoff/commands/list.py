"""`bakeoff list [SLOT ...]`: every slot and its choices, one line each with what it is; `--diff`: the nets against their papers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bakeoff.commands.arguments import CommandParser
from bakeoff.config.choices import choice_files, read_choice
from bakeoff.config.slots import GROUPS
from bakeoff.errors import ChoiceError, ConfigError, echo, join_choices, near_miss

if TYPE_CHECKING:
    from bakeoff.nets.convnet import ConvNet

PAPER_COLUMNS = ("input", "channels", "kernels", "LRN", "parameters")
"""What the first table of --diff says about each paper's net."""


def main(argv: list[str]) -> int:
    """Print the choices."""
    parser = CommandParser(prog="bakeoff list", description=__doc__)
    parser.add_argument("slots", nargs="*", metavar="SLOT", help=f"of {join_choices(GROUPS)}, sweep; all where none is named")
    parser.add_argument("--config-dir", type=Path, help="a folder of your own, laid over conf/")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--diff", action="store_true", help="with the slot model: what each net changes against its paper's")
    args = parser.parse_args(argv)
    groups = (*GROUPS, "sweep")
    for slot in args.slots:
        if slot not in groups:
            raise ChoiceError(f"{slot}: no such slot{near_miss(slot, groups)}; slots: {join_choices(groups)}")
    if args.config_dir is not None and not args.config_dir.is_dir():
        raise ConfigError(f"--config-dir={args.config_dir}: no such folder")
    if args.diff:
        if args.slots != ["model"]:
            raise ConfigError("--diff: compares the nets of one slot; write bakeoff list model --diff")
        variants = net_variants(args.config_dir)
        if args.json:
            print(json.dumps({variant.choice: variant.changes for variant in variants}))
        else:
            echo(variants_table(variants))
        return 0
    choices = {slot: about_choices(slot, args.config_dir) for slot in args.slots or groups}
    if args.json:
        print(json.dumps(choices))
        return 0
    width = max((len(name) for group in choices.values() for name in group), default=0)
    for slot, group in choices.items():
        echo(slot)
        for name, about in group.items():
            echo(f"  {name:<{width}}  {about}".rstrip())
    return 0


def about_choices(group: str, config_dir: Path | None) -> dict[str, str]:
    """Return the choices of a group, a user's own included, each with its `about` line, or a sweep's question."""
    trees = {name: read_choice(path) for name, path in choice_files(group, config_dir).items()}
    return {name: str(tree.get("about") or tree.get("question") or "") for name, tree in trees.items()}


class NetVariant(NamedTuple):
    """A choice of the model slot beside the net of its paper."""

    choice: str
    paper: str
    """The paper's net by name."""
    paper_properties: dict[str, str]
    changes: dict[str, tuple[str, str]]
    """Property -> (the paper's, the choice's), where the two differ."""


def net_variants(config_dir: Path | None) -> list[NetVariant]:
    """Compare every AlexNet and VGG of the model slot with its paper's net, read from the nets as they are built.

    Each is built in its own form: 3 channels, and 10 classes where its head is the small one, else 1000.
    """
    from bakeoff.config.compose import hydra_session
    from bakeoff.nets.architecture_summary import published_net, summarize_architecture

    variants = []
    with hydra_session(config_dir):
        for name in choice_files("model", config_dir):
            net = _build_on_meta(name)
            if net is not None:
                paper = published_net(net)
                properties, own = summarize_architecture(paper), summarize_architecture(net)
                changes = {key: (value, own[key]) for key, value in properties.items() if own[key] != value}
                variants.append(NetVariant(name, type(paper).__name__, properties, changes))
    return variants


def _build_on_meta(name: str) -> ConvNet | None:
    """Build the net of a choice on the meta device, at its own size; None where it is neither an AlexNet nor a VGG."""
    import torch

    from bakeoff.builders import make_uninitialized_model
    from bakeoff.config.compose import compose_in_session
    from bakeoff.config.targets import resolve_target
    from bakeoff.nets.architecture_summary import CHANNELS, CLASSES
    from bakeoff.nets.convnet import ConvNet

    run = compose_in_session([f"model={name}"]).run
    target = resolve_target("model", run.model)
    if not (isinstance(target, type) and issubclass(target, ConvNet)):
        return None
    head = run.model.get("head", "small")
    classes = CLASSES if head == "imagenet" else 10
    shape = {"model.num_classes": classes, "model.in_channels": CHANNELS, "model.size": target.native_sizes[head]}
    with torch.device("meta"):
        net = make_uninitialized_model(run.replace(**shape))
    assert isinstance(net, ConvNet)
    return net


def variants_table(variants: Sequence[NetVariant]) -> str:
    """Return two tables: the papers' nets, and the changes, one line each."""
    papers = {variant.paper: variant.paper_properties for variant in variants}
    paper_rows = [["paper", *PAPER_COLUMNS]]
    paper_rows += [[name, *(properties[key] for key in PAPER_COLUMNS)] for name, properties in papers.items()]
    change_rows = [["choice", "changes", "the paper", "this choice"]]
    for variant in variants:
        rows = [[key, *pair] for key, pair in variant.changes.items()] or [["nothing", "", ""]]
        change_rows += [[variant.choice if number == 0 else "", *row] for number, row in enumerate(rows)]
    return f"{_align(paper_rows)}\n\n{_align(change_rows)}"


def _align(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as lines with every column as wide as its widest word."""
    widths = [max(len(word) for word in column) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(f"{word:<{width}}" for word, width in zip(row, widths, strict=True)).rstrip() for row in rows)
