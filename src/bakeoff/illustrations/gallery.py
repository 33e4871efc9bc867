"""The pictures by name, the keys that each takes, and how one is drawn. Light: a list of names or a misspelt key needs nothing else."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bakeoff.config.slots import package_data_dir
from bakeoff.errors import ChoiceError, ConfigError, join_choices, near_miss


@dataclass(frozen=True)
class Option:
    """A key of one picture: its default says its type (a tuple is a list of the type of its first item); bounds are inclusive."""

    default: Any
    about: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Picture:
    """What `bakeoff show` knows of a picture before it is drawn; `free` admits any further name=number (a variable)."""

    about: str
    options: Mapping[str, Option] = field(default_factory=dict)
    slots: tuple[str, ...] = ()
    free: bool = False


GALLERY = {
    "activations": Picture(
        "every activation and its derivative, with the regions where no gradient passes",
        {"reach": Option(6.0, "the curves go from -reach to reach", low=0.5, high=1000)},
        ("activation",),
    ),
    "initializers": Picture(
        "what weights do to a signal: histograms of the activations by depth, and their standard deviation",
        {
            "layers": Option(10, "hidden layers", low=1, high=100),
            "units": Option(500, "units a layer", low=1, high=10_000),
            "samples": Option(1000, "inputs, each of `units` standard normal numbers", low=2, high=100_000),
            "seed": Option(0, "of the inputs and the weights", low=0),
        },
        ("activation", "initializer"),
    ),
    "optimizers": Picture(
        "paths of the optimizers on four surfaces, each at its best rate, with the steps that they take; animated",
        {
            "surface": Option(("beale", "rosenbrock", "saddle", "ravine"), "which surfaces"),
            "steps": Option(300, "the most steps that a path has", low=5, high=100_000),
            "tolerance": Option((1e-1, 1e-2, 1e-3), "shares of the first height above the minimum to come down to", low=1e-12, high=0.999),
            "rates": Option(2, "learning rates tried per decade from 1e-4 to 10", low=1, high=20),
        },
        ("optimizer",),
    ),
    "backprop": Picture(
        "the graph of an expression with the value and the gradient on every node",
        {"expression": Option("(x + y) * z", "of + - * / **, exp log sqrt sin cos tanh sigmoid relu max min, numbers and names")},
        free=True,
    ),
    "losses": Picture(
        "every loss on the same scores: its value, what each class adds to it, and the gradient on the scores",
        {
            "scores": Option((3.2, 5.1, -1.7), "one score for each class"),
            "target": Option(0, "number of the right class, from 0", low=0),
            "classes": Option(("",), "names of the classes"),
        },
        ("loss",),
    ),
    "convolution": Picture(
        "a filter that slides over an input, and shapes, parameters and receptive field of every layer of a net; animated",
        {
            "input": Option(5, "pixels a side", low=1, high=12),
            "kernel": Option(3, "pixels a side of the filter", low=1, high=7),
            "stride": Option(1, "pixels from one place to the next", low=1, high=12),
            "pad": Option(0, "pixels of zeros around the input", low=0, high=6),
        },
        ("model", "activation", "data"),
    ),
    "schedules": Picture(
        "every schedule's learning rate over a run, with and without warm-up",
        {
            "steps": Option(1000, "optimizer steps of the run", low=2, high=1_000_000),
            "epochs": Option(20, "validations of the run", low=1, high=10_000),
            "warmup": Option(0.1, "share of all steps of the line with warm-up", low=0.001, high=0.9),
        },
        ("scheduler",),
    ),
}


@dataclass(frozen=True)
class Request:
    """One picture as asked for: `choices` holds the slots that were named, `overrides` the arguments of their choices."""

    name: str
    options: Mapping[str, Any]
    choices: Mapping[str, tuple[str, ...]]
    overrides: tuple[str, ...]
    variables: Mapping[str, float]
    config_dir: Path | None = None

    def named(self, slot: str, default: Sequence[str] = ()) -> tuple[str, ...]:
        """The choices of a slot that were asked for; else `default`; else every file of its folder, in alphabetical order."""
        return self.choices.get(slot) or tuple(default) or choices_of(slot, self.config_dir)


def choices_of(slot: str, own: Path | None = None) -> tuple[str, ...]:
    """The names of every choice of a slot, those of a user's folder included."""
    folders = [package_data_dir("conf") / slot, *([own / slot] if own else [])]
    return tuple(sorted({path.stem for folder in folders for path in folder.glob("*.yaml")}))


def request(name: str, words: Sequence[str], *, config_dir: Path | None = None) -> Request:
    """A request from the words of a command line; `ConfigError` in one line for a name, key or value that does not fit."""
    if name not in GALLERY:
        raise ChoiceError(f"{name}: no such picture{near_miss(name, GALLERY)}; pictures: {join_choices(GALLERY)}")
    picture = GALLERY[name]
    options = {key: option.default for key, option in picture.options.items()}
    choices: dict[str, tuple[str, ...]] = {}
    overrides: list[str] = []
    variables: dict[str, float] = {}
    known = (*picture.options, *picture.slots)
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise ConfigError(f"{word}: must be key=value; keys of show {name}: {join_choices(known)}")
        if key in picture.options:
            options[key] = value(key, text, picture.options[key])
        elif key in picture.slots:
            choices[key] = tuple(part for part in text.strip("[]").split(",") if part)
        elif key.split(".")[0] in picture.slots:
            overrides.append(word)
        elif picture.free and key.isidentifier() and not (near_miss(key, known) and not numeric(text)):
            variables[key] = number(key, text)
        else:
            raise ConfigError(f"{key}: show {name} has no such key{near_miss(key, known)}; keys: {join_choices(known)}")
    return Request(name, options, choices, tuple(overrides), variables, config_dir)


def value(key: str, text: str, option: Option) -> Any:
    """The value of an option, of its default's type and within its bounds."""
    if isinstance(option.default, str):
        return text
    if isinstance(option.default, tuple):
        parts = [part.strip() for part in text.strip().strip("[]()").split(",") if part.strip()]
        if not parts:
            raise ConfigError(f"{key}={text}: must be a list such as [{join_choices(str(item) for item in option.default)}]")
        if isinstance(option.default[0], str):
            return tuple(parts)
        return tuple(bounded(key, number(key, part), option) for part in parts)
    found = number(key, text)
    if isinstance(option.default, int):
        if found != int(found):
            raise ConfigError(f"{key}={text}: must be a whole number")
        found = int(found)
    return bounded(key, found, option)


def bounded(key: str, found: float, option: Option) -> float:
    """`found`, where it lies within the option's bounds."""
    if option.low is not None and found < option.low:
        raise ConfigError(f"{key}={found:g}: must be at least {option.low:g}")
    if option.high is not None and found > option.high:
        raise ConfigError(f"{key}={found:g}: must be at most {option.high:g}")
    return found


def numeric(text: str) -> bool:
    """Whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def number(key: str, text: str) -> float:
    """A finite number."""
    if not numeric(text):
        raise ConfigError(f"{key}={text}: must be a number")
    found = float(text)
    if found - found != 0:
        raise ConfigError(f"{key}={text}: must be a finite number")
    return found


def show(asked: Request, out: Path, *, line: str) -> tuple[str, list[Path]]:
    """Draw a picture into the folder `out`: (what the terminal shows, the files written). `line` is the command, told on the page."""
    import matplotlib

    from bakeoff.illustrations import files, paper

    module = importlib.import_module(f"bakeoff.illustrations.{asked.name}")
    with matplotlib.rc_context(paper.STYLE):
        drawn: paper.Drawn = module.draw(asked)
        return files.terminal(drawn), files.write(asked.name, drawn, out, line=line)
