"""`bakeoff list [SLOT ...]`: every slot and its choices, one line each with what it is; `--diff`: the nets against their papers."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import yaml

from bakeoff.config.slots import GROUPS, package_data_dir
from bakeoff.errors import ChoiceError, ConfigError, join_choices, near_miss


def main(argv: list[str]) -> int:
    """Print the choices."""
    parser = argparse.ArgumentParser(prog="bakeoff list", description=__doc__)
    parser.add_argument("slots", nargs="*", metavar="SLOT", help=f"of {join_choices(GROUPS)}, sweep; all where none is named")
    parser.add_argument("--config-dir", type=Path, help="a folder of your own, laid over conf/")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--diff", action="store_true", help="with the slot model: what each net changes against its paper's")
    args = parser.parse_args(argv)
    known = (*GROUPS, "sweep")
    for slot in args.slots:
        if slot not in known:
            raise ChoiceError(f"{slot}: no such slot{near_miss(slot, known)}; slots: {join_choices(known)}")
    if args.config_dir is not None and not args.config_dir.is_dir():
        raise ConfigError(f"--config-dir={args.config_dir}: no such folder")
    if args.diff:
        if args.slots != ["model"]:
            raise ConfigError("--diff: compares the nets of one slot; write bakeoff list model --diff")
        print(differences(args.config_dir, plain=args.json))
        return 0
    found = {slot: choices(slot, args.config_dir) for slot in args.slots or known}
    if args.json:
        print(json.dumps(found))
        return 0
    width = max((len(name) for group in found.values() for name in group), default=0)
    for slot, group in found.items():
        print(slot)
        for name, about in group.items():
            print(f"  {name:<{width}}  {about}".rstrip())
    sys.stdout.flush()
    return 0


def differences(own: Path | None, *, plain: bool) -> str:
    """What each net changes against its paper's, as tables or as JSON."""
    from bakeoff.commands.variants import text, variants

    found = variants(own)
    return json.dumps({variant.choice: variant.changes for variant in found}) if plain else text(found)


def choices(slot: str, own: Path | None) -> dict[str, str]:
    """Name -> what it is, of one slot, a user's own included."""
    folders = [package_data_dir("sweeps")] if slot == "sweep" else [package_data_dir("conf") / slot, *([own / slot] if own else [])]
    files = {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}
    return {name: about(path) for name, path in sorted(files.items())}


def about(path: Path) -> str:
    """A file's `about` line, or a sweep's question."""
    tree = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return str(tree.get("about") or tree.get("question") or "")
