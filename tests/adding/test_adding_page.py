"""The page docs/adding.md, run as it stands: its files in a folder outside the package, its lines in that folder."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from bakeoff import builders
from bakeoff.builders import validate_run
from bakeoff.commands.list import about_choices
from bakeoff.config import compose
from bakeoff.config.slots import SLOTS, package_data_dir
from bakeoff.config.targets import TRUST_VARIABLE
from bakeoff.errors import ChoiceError
from bakeoff.sweep.plan import make_plan
from bakeoff.training.run_lifecycle import create_run_dir
from bakeoff.training.run_training import train_from_dir

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "adding.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`([\w./]+)`:\n\n```\w+\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL))
LINES = [line for block in re.findall(r"^```bash\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL) for line in block.splitlines()]
TRAINED = [line for line in LINES if line.startswith("bakeoff train")]
SWEPT = [line for line in LINES if line.startswith("bakeoff sweep")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The page's folder, its modules found as `export PYTHONPATH=$PWD` has them found."""
    folder = tmp_path_factory.mktemp("my_bakeoff")
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        yield folder


def words(line: str) -> list[str]:
    """What stands behind `bakeoff train`, less the flag that the composition gets by itself."""
    found = shlex.split(line)[2:]
    at = found.index("--config-dir")
    assert found[at + 1] == "conf"
    return found[:at] + found[at + 2 :]


def test_the_page_has_an_example_of_each() -> None:
    slots = {name.split("/")[1] for name in FILES if name.startswith("conf/")}
    assert slots == {"activation", "initializer", "optimizer", "data", "model"} <= set(SLOTS)
    used = {word.partition("=")[2] for line in TRAINED for word in words(line) if word.partition("=")[0] in SLOTS}
    assert {Path(name).stem for name in FILES if name.startswith("conf/")} <= used
    assert len(LINES) == len(TRAINED) + len(SWEPT) + 2 and len(SWEPT) == 2


@pytest.mark.parametrize("line", TRAINED)
def test_a_line_trains(line: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = compose.compose_config([*words(line), "data.subset=200", "trainer.threads=1"], config_dir="conf")
    if given.trust:
        with pytest.raises(ChoiceError, match=r"not a public name of .*; trust="):
            builders.validate_components(given.run)
    monkeypatch.setenv(TRUST_VARIABLE, ",".join(given.trust))
    validate_run(given.run)
    result = train_from_dir(create_run_dir(given.run).path)
    assert result.status == "finished" and result.steps > 0
    for slot, name in given.run.choices.items():
        file = place / "conf" / slot / f"{name}.yaml"
        if file.is_file():
            leaf = given.run.data.source if slot == "data" else getattr(given.run, slot)
            assert leaf["_target_"] in file.read_text(encoding="utf-8")


def test_its_choices_are_listed(place: Path) -> None:
    for name, text in FILES.items():
        if name.startswith("conf/"):
            _, slot, file = name.split("/")
            assert about_choices(slot, Path("conf"))[Path(file).stem] == yaml.safe_load(text)["about"]


@pytest.mark.parametrize("line", SWEPT)
def test_its_sweep_makes_a_plan(line: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, *rest = [word for word in words(line) if word != "--plan"]
    made = make_plan(name, overrides=rest, config_dir="conf")
    monkeypatch.setenv(TRUST_VARIABLE, ",".join(made.trust))
    assert [planned_arm.arm for planned_arm in made.planned_arms] == ["relu", "hardtanh", "snake"]
    for planned_arm in made.planned_arms:
        builders.validate_components(planned_arm.run)


def test_the_tables_slots_are_the_doors() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE)
    assert set(rows) == set(SLOTS)


@pytest.mark.slow
def test_lines_of_the_page_run_in_a_shell(tmp_path: Path) -> None:
    """All but the trained ones, of which the last stands for the others: a process each takes its time."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    lines = [line for line in LINES if line not in TRAINED[:-1]]
    script = "\n".join(["set -euo pipefail", f'bakeoff() {{ {shlex.quote(sys.executable)} -m bakeoff.commands.main "$@"; }}', *lines])
    # Where the package is no installed one, it is found beside the page's folder.
    script = script.replace("export PYTHONPATH=$PWD", f"export PYTHONPATH=$PWD:{package_data_dir('conf').parent / 'src'}")
    ended = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "digits-lenet5-scaled_tanh-he_normal-momentum-s0: finished" in ended.stdout
    assert "  hardtanh " in ended.stdout and "nothing has been started" in ended.stdout
    assert "Does the snake learn digits better" in ended.stdout and "page:" in ended.stdout
