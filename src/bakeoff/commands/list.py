"""`bakeoff list [SLOT [CHOICE]]`: every slot and its choices, one line each; of a choice its arguments, their defaults and ranges.

`--diff` compares the nets with those of their papers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import yaml

from bakeoff.commands.arguments import CommandParser
from bakeoff.config.choices import choice_files, pop_description, read_choice
from bakeoff.config.search_space import SearchSpace
from bakeoff.config.slots import GROUPS, package_data_dir
from bakeoff.config.user_text import read_yaml_text
from bakeoff.errors import BakeoffError, ChoiceError, ConfigError, echo, join_choices, near_miss

if TYPE_CHECKING:
    from bakeoff.nets.convnet import ConvNet

PAPER_COLUMNS = ("input", "channels", "kernels", "LRN", "parameters")
"""What the first table of --diff says about each paper's net."""


def main(argv: list[str]) -> int:
    """Print the choices."""
    parser = CommandParser(prog="bakeoff list", description=__doc__)
    parser.add_argument("slots", nargs="*", metavar="SLOT", help=f"{join_choices(GROUPS)}, sweep; a choice behind its slot is described")
    parser.add_argument("--config-dir", type=Path, help="a folder of your own configs, searched before conf/")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--diff", action="store_true", help="with the slot model: what each net changes against its paper's")
    args = parser.parse_args(argv)
    groups = (*GROUPS, "sweep")
    if args.config_dir is not None and not args.config_dir.is_dir():
        raise ConfigError(f"--config-dir={args.config_dir}: no such folder")
    if len(args.slots) == 2 and args.slots[0] in groups and args.slots[1] not in groups:
        return print_choice(*args.slots, config_dir=args.config_dir, as_json=args.json)
    for slot in args.slots:
        if slot not in groups:
            raise ChoiceError(f"{slot}: no such slot{near_miss(slot, groups)}; slots: {join_choices(groups)}")
    if args.diff:
        if args.slots != ["model"]:
            raise ConfigError("--diff: compares the nets of one slot; write bakeoff list model --diff")
        return print_differences(net_variants(args.config_dir), as_json=args.json)
    return print_choices(args.slots or groups, config_dir=args.config_dir, as_json=args.json)


def print_differences(variants: Sequence[NetVariant], *, as_json: bool) -> int:
    """Print what each net changes against its paper's, and return the exit code."""
    if as_json:
        print(json.dumps({variant.choice: variant.changes for variant in variants}))
    else:
        echo(variants_table(variants))
    return 0


def print_choices(slots: Sequence[str], *, config_dir: Path | None, as_json: bool) -> int:
    """Print the choices of the slots, and return the exit code: 2 where a file cannot be read."""
    errors: list[str] = []
    choices = {slot: about_choices(slot, config_dir, errors=errors) for slot in slots}
    for error in errors:
        echo(f"bakeoff: {error}", err=True)
    if as_json:
        print(json.dumps(choices))
        return 2 if errors else 0
    defaults = default_choices()
    width = max((len(name) for group in choices.values() for name in group), default=0)
    for slot, group in choices.items():
        echo(slot)
        for name, about in group.items():
            echo(f"  {name:<{width}}  {'(default) ' if name == defaults.get(slot) else ''}{about}".rstrip())
    if list(choices) == ["activation"] and not errors:  # nets are composed of a whole folder only
        echo(f"\n{gains_table(choices['activation'], config_dir)}")
    return 2 if errors else 0


def gains_table(names: Iterable[str], config_dir: Path | None) -> str:
    """Return what `gain: auto` of an initializer can mean for each activation, one line each; dashes for one that cannot be built."""
    from bakeoff.builders import make_activation
    from bakeoff.components.initializers import GAIN_COLUMNS, gain_row
    from bakeoff.config.compose import compose_in_session, hydra_session

    rows = [["initializer.gain=auto", *GAIN_COLUMNS]]
    with hydra_session(config_dir):
        for name in names:
            try:
                rows.append([name, *gain_row(make_activation(compose_in_session([f"activation={name}"]).run)())])
            except BakeoffError:
                rows.append([name, *("-" for _ in GAIN_COLUMNS)])
    return _align(rows)


def default_choices() -> dict[str, str]:
    """Return slot -> the choice of a run that names none."""
    tree = yaml.safe_load(read_yaml_text(package_data_dir("conf") / "run.yaml"))
    return {slot: name for entry in tree["defaults"] if isinstance(entry, dict) for slot, name in entry.items()}


def about_choices(group: str, config_dir: Path | None, *, errors: list[str] | None = None) -> dict[str, str]:
    """Return the choices of a group, a user's own included, each with its `about` line, or a sweep's question.

    What is wrong with a file that cannot be read is appended to `errors`, where that is a list, and the others are returned.
    """
    abouts: dict[str, str] = {}
    for name, path in choice_files(group, config_dir).items():
        try:
            tree = read_choice(path)
        except ConfigError as error:
            if errors is None:
                raise
            errors.append(str(error))
        else:
            abouts[name] = str(tree.get("about") or tree.get("question") or "")
    return abouts


def print_choice(slot: str, name: str, *, config_dir: Path | None, as_json: bool) -> int:
    """Print what a choice is, where it comes from, and its arguments, and return the exit code."""
    from bakeoff.config.schema import flatten

    files = choice_files(slot, config_dir)
    if name not in files:
        raise ChoiceError(f"{slot}={name}: no such choice{near_miss(name, files)}; choices: {join_choices(files)}")
    tree = read_choice(files[name])
    if slot == "sweep":
        tree = {"about": tree.get("question", "")}
    about, target = str(tree.get("about", "")), str(tree.get("_target_") or tree.get("source", {}).get("_target_", ""))
    described = pop_description(slot, tree)
    prefix = "" if slot == "experiment" else f"{slot}."
    arguments = [
        {
            "key": f"{prefix}{key}",
            "default": value,
            "valid": str(described.ranges.get(key, "")),
            "searched": spell_space(described.spaces[key]) if key in described.spaces else "",
        }
        for key, value in flatten(tree)
        if not key.endswith("_target_") and key != "defaults"
    ]
    if as_json:
        print(json.dumps({"about": about, "target": target, "file": str(files[name]), "arguments": arguments}))
        return 0
    is_default = name == default_choices().get(slot)
    echo(f"{slot}={name}{' (default)' if is_default else ''}  {about}".rstrip())
    echo(f"  from  {target or files[name]}\n  file  {files[name]}" if target else f"  file  {files[name]}")
    rows = [["argument", "default", "valid", "range of a sweep"]]
    rows += [[row["key"], json.dumps(row["default"]), row["valid"], row["searched"]] for row in arguments]
    if arguments:
        echo("\n" + _align([row[: 4 if any(r[3] for r in rows[1:]) else 3] for row in rows]))
    return 0


def spell_space(space: SearchSpace) -> str:
    """Return a search space in words."""
    if space.choices:
        return ", ".join(map(str, space.choices))
    return f"{space.low:g} to {space.high:g}{', log' if space.log else ''}"


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
