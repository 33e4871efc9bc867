"""The pictures by name, their keys, and how they are drawn. Imports only light modules, so that errors in names and keys appear at once.

Each picture is a module of this package with a function `draw(request: Request) -> Illustration`.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bakeoff.config.choices import choice_files
from bakeoff.errors import ChoiceError, ConfigError, FolderError, join_choices, near_miss


@dataclass(frozen=True)
class Option:
    """A key of a picture, of the default's type (a tuple is a list with items of its first item's type); bounds are inclusive."""

    default: Any
    about: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Picture:
    """A picture that the module `module` of this package draws, with its own keys `options` and the slots whose choices it accepts.

    `takes_variables`: whether any other name=number is a variable of its expression.
    """

    about: str
    module: str
    options: Mapping[str, Option] = field(default_factory=dict)
    slots: tuple[str, ...] = ()
    takes_variables: bool = False


GALLERY = {
    "activations": Picture(
        "every activation and its derivative, with the regions where no gradient passes",
        "activation_curves",
        {"reach": Option(6.0, "the curves go from -reach to reach", low=0.5, high=1000)},
        ("activation",),
    ),
    "initializers": Picture(
        "histograms and standard deviations of the activations by depth, before training",
        "signal_propagation",
        {
            "layers": Option(10, "hidden layers", low=1, high=100),
            "units": Option(500, "units per layer", low=1, high=10_000),
            "samples": Option(1000, "inputs, each of `units` standard normal numbers", low=2, high=100_000),
            "seed": Option(0, "seed of the inputs and the weights", low=0),
        },
        ("activation", "initializer"),
    ),
    "optimizers": Picture(
        "paths of the optimizers on four surfaces, each at its best rate, with the number of steps; animated",
        "optimizer_paths",
        {
            "surface": Option(("beale", "rosenbrock", "saddle", "ravine"), "surfaces to draw"),
            "steps": Option(300, "maximum length of a path", low=5, high=100_000),
            "tolerance": Option((1e-1, 1e-2, 1e-3), "shares of the initial height above the minimum to reach", low=1e-12, high=0.999),
            "rates": Option(2, "learning rates tried per decade from 1e-4 to 10", low=1, high=20),
        },
        ("optimizer",),
    ),
    "backprop": Picture(
        "the graph of an expression with the value and the gradient of every node",
        "computation_graph",
        {"expression": Option("(x + y) * z", "made of + - * / **, exp log sqrt sin cos tanh sigmoid relu max min, numbers and variables")},
        takes_variables=True,
    ),
    "losses": Picture(
        "every loss on the same scores: its value, the contribution of each class, and the gradient",
        "loss_comparison",
        {
            "scores": Option((3.2, 5.1, -1.7), "a score for each class"),
            "target": Option(0, "number of the right class, from 0", low=0),
            "classes": Option(("",), "names of the classes"),
        },
        ("loss",),
    ),
    "convolution": Picture(
        "a filter that slides over an input, and the shape, parameters and receptive field of every layer of a net; animated",
        "convolution",
        {
            "input": Option(5, "pixels per side", low=1, high=12),
            "kernel": Option(3, "pixels per side of the filter", low=1, high=7),
            "stride": Option(1, "pixels from one position to the next", low=1, high=12),
            "pad": Option(0, "pixels of zeros around the input", low=0, high=6),
        },
        ("model", "activation", "data"),
    ),
    "schedules": Picture(
        "every schedule's learning rate over a run, with and without warm-up",
        "schedule_curves",
        {
            "steps": Option(1000, "optimizer steps of the run", low=2, high=1_000_000),
            "epochs": Option(20, "validations of the run", low=1, high=10_000),
            "warmup": Option(0.1, "share of all steps, for the line with warm-up", low=0.001, high=0.9),
        },
        ("scheduler",),
    ),
}


@dataclass(frozen=True)
class Request:
    """A request for the picture `name`: its keys, slot -> choices, overrides such as `optimizer.lr=0.1`, variables of an expression.

    `config_dir` is a folder with choices of the user.
    """

    name: str
    options: Mapping[str, Any]
    choices: Mapping[str, tuple[str, ...]]
    overrides: tuple[str, ...]
    variables: Mapping[str, float]
    config_dir: Path | None = None

    def choices_of(self, slot: str, default: Sequence[str] = ()) -> tuple[str, ...]:
        """Return the choices of a slot that the request names, else `default`, else all of them in alphabetical order."""
        return self.choices.get(slot) or tuple(default) or tuple(choice_files(slot, self.config_dir))


def parse_request(name: str, arguments: Sequence[str], *, config_dir: Path | None = None) -> Request:
    """Parse the request for the picture `name` with arguments `key=value`.

    Raises:
        ConfigError: A name, key or value is wrong.
    """
    if name not in GALLERY:
        raise ChoiceError(f"{name}: no such picture{near_miss(name, GALLERY)}; pictures: {join_choices(GALLERY)}")
    picture = GALLERY[name]
    options = {key: option.default for key, option in picture.options.items()}
    choices: dict[str, tuple[str, ...]] = {}
    overrides: list[str] = []
    variables: dict[str, float] = {}
    keys = (*picture.options, *picture.slots)
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not equals:
            raise ConfigError(f"{argument}: must be key=value; keys of show {name}: {join_choices(keys)}")
        if key in picture.options:
            options[key] = parse_option(key, text, picture.options[key])
        elif key in picture.slots:
            choices[key] = tuple(choice for choice in text.strip("[]").split(",") if choice)
        elif key.split(".")[0] in picture.slots:
            overrides.append(argument)
        elif picture.takes_variables and key.isidentifier() and not (near_miss(key, keys) and not is_number(text)):
            variables[key] = parse_number(key, text)
        else:
            raise ConfigError(f"{key}: show {name} has no such key{near_miss(key, keys)}; keys: {join_choices(keys)}")
    return Request(name, options, choices, tuple(overrides), variables, config_dir)


def parse_option(key: str, text: str, option: Option) -> Any:
    """Return the value of an option; ConfigError if it is not of the default's type or out of bounds."""
    if isinstance(option.default, str):
        return text
    if isinstance(option.default, tuple):
        items = [item.strip() for item in text.strip().strip("[]()").split(",") if item.strip()]
        if not items:
            raise ConfigError(f"{key}={text}: must be a list such as [{join_choices(str(item) for item in option.default)}]")
        if isinstance(option.default[0], str):
            return tuple(items)
        return tuple(check_bounds(key, parse_number(key, item), option) for item in items)
    number = parse_number(key, text)
    if isinstance(option.default, int):
        if number != int(number):
            raise ConfigError(f"{key}={text}: must be a whole number")
        number = int(number)
    return check_bounds(key, number, option)


def check_bounds(key: str, number: float, option: Option) -> float:
    """Return `number`; ConfigError if it is outside the option's bounds."""
    if option.low is not None and number < option.low:
        raise ConfigError(f"{key}={number:g}: must be at least {option.low:g}")
    if option.high is not None and number > option.high:
        raise ConfigError(f"{key}={number:g}: must be at most {option.high:g}")
    return number


def is_number(text: str) -> bool:
    """Whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def parse_number(key: str, text: str) -> float:
    """Return a finite number; ConfigError if the text is not one."""
    if not is_number(text):
        raise ConfigError(f"{key}={text}: must be a number")
    number = float(text)
    if not math.isfinite(number):
        raise ConfigError(f"{key}={text}: must be a finite number")
    return number


def draw_picture(request: Request, folder: Path, *, command: str) -> tuple[str, list[Path]]:
    """Draw a picture into a folder, which is created if missing, and return the text for the terminal and the files."""
    parent = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):  # told before the drawing, which may take a minute
        raise FolderError(f"--out={folder}: cannot be written ({parent} is no folder that may be written)")
    from matplotlib import rc_context

    from bakeoff.illustrations import illustration, output
    from bakeoff.rendering.matplotlib_backend import RC_PARAMS

    module = importlib.import_module(f"bakeoff.illustrations.{GALLERY[request.name].module}")
    with rc_context(RC_PARAMS):
        drawing: illustration.Illustration = module.draw(request)
        return output.terminal_text(drawing), output.write_files(request.name, drawing, folder, command=command)
