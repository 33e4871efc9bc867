"""`bakeoff show NAME [key=value ...]`: the ideas as pictures (PNG, SVG and an HTML page), drawn from the classes that train the nets."""

from __future__ import annotations

import shlex
from pathlib import Path

from bakeoff.commands.arguments import CommandParser
from bakeoff.errors import echo
from bakeoff.illustrations.gallery import GALLERY, draw_picture, parse_request


def main(argv: list[str]) -> int:
    """Draw one picture and say where its files are; without a name, list the pictures and their keys."""
    parser = CommandParser(prog="bakeoff show", description=__doc__)
    parser.add_argument("name", nargs="?", metavar="NAME", help="of the list that `bakeoff show` prints")
    parser.add_argument(
        "arguments", nargs="*", metavar="key=value", help="the picture's own keys, choices as in bakeoff train, or trust=[...]"
    )
    parser.add_argument("--out", type=Path, help="folder of the files (default: pictures/NAME)")
    parser.add_argument("--config-dir", type=Path, help="a folder of your own configs, searched before conf/")
    args = parser.parse_intermixed_args(argv)
    if args.name is None:
        echo(list_pictures())
        return 0
    trusted = [argument for argument in args.arguments if argument.startswith("trust=")]
    request = parse_request(args.name, [argument for argument in args.arguments if argument not in trusted], config_dir=args.config_dir)
    if trusted:
        from bakeoff.config.compose import compose_config
        from bakeoff.config.targets import trust_modules

        trust_modules(compose_config(trusted).trust)
    text, paths = draw_picture(request, args.out or Path("pictures") / args.name, command=shlex.join(["bakeoff", "show", *argv]))
    if text:
        echo(f"{text}\n")
    for path in paths:
        echo(path)
    return 0


def list_pictures() -> str:
    """Return every picture with what it shows and the keys that it takes."""
    lines = []
    for name, picture in GALLERY.items():
        lines.append(f"{name:<13} {picture.about}")
        for key, option in picture.options.items():
            default = ",".join(str(item) for item in option.default) if isinstance(option.default, tuple) else option.default
            lines.append(f"{'':<13}   {key}={default}  {option.about}")
        if picture.slots:
            lines.append(f"{'':<13}   {', '.join(picture.slots)}: one choice, or several with commas; their arguments as in bakeoff train")
        if picture.takes_variables:
            lines.append(f"{'':<13}   NAME=number for every name of the expression")
    return "\n".join(lines)
