"""A line is composed once and its run validated once; grids are those that Hydra itself would make."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bakeoff import builders
from bakeoff.commands.main import main
from bakeoff.config import compose
from bakeoff.config.choices import ValueRange
from bakeoff.config.schema import RunConfig
from bakeoff.config.slots import package_data_dir
from bakeoff.errors import ConfigError

SOURCE = Path(compose.__file__).resolve().parents[1]


class StopHereError(Exception):
    """Ends a command where training would begin."""


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count compositions and validations, and stop where training would begin."""
    calls: list[str] = []
    composing, validating = compose.compose_in_session, builders.validate_run

    def compose_counted(overrides: list[str]) -> compose.ComposedConfig:
        calls.append("compose")
        return composing(overrides)

    def validate_counted(run: RunConfig) -> object:
        calls.append("validate")
        return validating(run)

    def stop(*args: object, **kwargs: object) -> None:
        raise StopHereError

    monkeypatch.setattr(compose, "compose_in_session", compose_counted)
    monkeypatch.setattr(builders, "validate_run", validate_counted)
    monkeypatch.setattr("bakeoff.training.run_lifecycle.create_run_dir", stop)
    monkeypatch.setattr("bakeoff.commands.train.train_grid", stop)
    return calls


@pytest.mark.parametrize(("words", "runs"), [(["data.subset=200"], 1), (["-m", "data.subset=200", "seed=1,2", "trainer.max_epochs=1"], 2)])
def test_a_line_is_composed_and_validated_once(words: list[str], runs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    calls = count_calls(monkeypatch)
    with pytest.raises(StopHereError):
        main(["train", *words])
    assert calls == ["compose"] * runs + ["validate"] * runs


def test_a_grid_is_that_of_hydras_sweeper() -> None:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    words = ["optimizer=sgd,adam", "seed=range(3)", "optimizer.lr=choice(0.1,0.2)", "+name='a b'", "data.augment.scale=[]", "test=true"]
    with compose.hydra_session():
        parsed = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader()).parse_overrides(words)
        assert compose.split_multirun(words) == BasicSweeper.split_arguments(parsed, None)[0]


@pytest.mark.parametrize(("word", "message"), [("hydra/launcher=joblib", "runs the jobs"), ("optimizer.lr=interval(0,1)", "needs a list")])
def test_an_invalid_grid_is_an_error(word: str, message: str) -> None:
    with compose.hydra_session(), pytest.raises(ConfigError, match=message):
        compose.split_multirun([word])


def test_no_private_module_of_hydra_is_used() -> None:
    assert not [path for path in SOURCE.rglob("*.py") if re.search(r"hydra\._internal|omegaconf\._", path.read_text(encoding="utf-8"))]


def test_hydras_pages_hide_the_bases(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_LINE", "train model=")
    monkeypatch.setenv("COMP_POINT", "12")
    assert main(["train", "-sc", "query=bash"]) == 0
    words = capsys.readouterr().out.split()
    assert words == [f"model={path.stem}" for path in sorted((package_data_dir("conf") / "model").glob("*.yaml"))]


@pytest.mark.parametrize(
    ("allowed", "inside", "outside", "rule"),
    [
        (ValueRange(gt=0), [1e-9, 3, [1, 2.5]], [0, -1, True, "1", [1, 0], None], "above 0"),
        (ValueRange(ge=0), [0, 2], [-1e-9], "0 or more"),
        (ValueRange(ge=0, lt=1), [0, 0.99], [1, -0.1], "at least 0 and below 1"),
        (ValueRange(ge=0, le=1, note="a share"), [0, 1], [1.1], "at least 0 and at most 1 (a share)"),
    ],
)
def test_a_value_range_has_a_rule(allowed: ValueRange, inside: list[object], outside: list[object], rule: str) -> None:
    assert all(value in allowed for value in inside) and not any(value in allowed for value in outside)
    assert str(allowed) == rule


def test_a_stored_config_passes_the_ranges_of_its_target() -> None:
    text = compose.dump_frozen(compose.compose().replace(**{"optimizer.momentum": 1.5}))
    with pytest.raises(ConfigError, match=r"stored: optimizer\.momentum=1\.5: must be a number at least 0 and below 1"):
        compose.load_frozen(text, origin="stored")
