"""Small sweeps in a folder of their own, with a trial that trains nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from bakeoff.config import compose
from bakeoff.config.compose import ComposedConfig
from bakeoff.config.slots import package_data_dir
from bakeoff.sweep.plan import Plan, make_plan

HERE = Path(__file__).parent
SHEET = {
    "question": "Which optimizer?",
    "factors": {"optimizer": ["momentum", "adam"]},
    "metric": {"name": "val/accuracy", "goal": "maximize"},
    "tune": {"optimizer.lr": "space"},
    "budget": {"trials": 3},
    "confirm": {"seeds": 2},
    "fixed": {"data": "digits", "model.width": 0.125, "trainer.max_epochs": 1},
    "scales": {"smoke": {"trainer.max_epochs": 2, "budget.trials": 2}, "paper": {"trainer.max_epochs": 90}},
}

SINGLE_STUDY = {"studies": 1, "choose": "best"}
"""Unless a test says otherwise, each arm is tuned once, and its best trial is confirmed."""


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder of the test's own; the fake trial can be imported by children too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(HERE))
    source = str(HERE.parents[1] / "src")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), source, *sys.path[:0]]))
    yield tmp_path


@pytest.fixture(autouse=True, scope="session")
def composed_once() -> Iterator[None]:
    """The same words over conf/ alone give the same run: composing it takes a tenth of a second, and these tests ask for few in turn."""
    plain, kept = compose.compose_in_session, dict[tuple[str, ...], ComposedConfig]()

    def compose_in_session(overrides: Sequence[str] = ()) -> ComposedConfig:
        from hydra.core.global_hydra import GlobalHydra

        loader = GlobalHydra.instance().config_loader()
        top = next(item.path for item in loader.get_search_path().get_path() if item.provider == "main")
        if top != str(package_data_dir("conf")):
            return plain(overrides)
        key = tuple(overrides)
        if key not in kept:
            kept[key] = plain(overrides)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compose, "compose_in_session", compose_in_session)
        yield


@pytest.fixture
def sheet() -> Callable[..., Path]:
    """Writes sweeps/small.yaml with keys changed, or left out by `...`; `budget` has the defaults of `SINGLE_STUDY`."""

    def write(name: str = "small", **changes: object) -> Path:
        tree = {**SHEET, **changes}
        if isinstance(tree["budget"], dict):
            tree["budget"] = {**SINGLE_STUDY, **tree["budget"]}
        path = Path("sweeps") / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump({key: value for key, value in tree.items() if value is not ...}))
        return path

    return write


@pytest.fixture
def small(sheet: Callable[..., Path]) -> Callable[..., Plan]:
    """The plan of sweeps/small.yaml with words behind it."""

    def make(*words: str, **changes: object) -> Plan:
        sheet(**changes)
        return make_plan("small", overrides=words)

    return make
