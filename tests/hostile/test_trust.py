"""Only the command line trusts modules: files of a stranger name neither code nor environment variables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from bakeoff.commands.main import main
from bakeoff.config.compose import compose, compose_config
from bakeoff.errors import BakeoffError
from bakeoff.sweep.plan import make_plan
from bakeoff.sweep.request import find_sweep_file, read_request, shadowed_sweep

SWEEP: dict[str, Any] = {"question": "Which?", "factors": {"optimizer": ["sgd", "adam"]}, "metric": "val/accuracy", "fixed": {}}
CALL = {"initializer._target_": "os.popen", "initializer.cmd": "touch ran"}
CALLBACK = {"hydra": {"callbacks": {"own": {"_target_": "site.addsitedir", "sitedir": "."}}}}


@pytest.fixture
def sweep_file(tmp_path: Path) -> Callable[..., str]:
    def write(**changes: Any) -> str:
        path = tmp_path / "own.yaml"
        path.write_text(yaml.safe_dump({**SWEEP, **changes}))
        return str(path)

    return write


@pytest.fixture
def config_dir(tmp_path: Path) -> Callable[..., Path]:
    """A folder for --config-dir with one file of the given content."""

    def write(name: str, content: Any, *, package: str = "_global_") -> Path:
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# @package {package}\n" + (content if isinstance(content, str) else yaml.safe_dump(content)))
        return tmp_path / "conf"

    return write


@pytest.mark.parametrize(
    "changes",
    [
        {"fixed": {"trust": ["os"], **CALL}},
        {"fixed": {"+trust": ["os"]}},
        {"fixed": {"++trust": ["os"], **CALL}},
        {"fixed": {"trust=[os] x": 1}},
        {"factors": {"trust": ["os", "sys"]}},
        {"blocks": {"trust": ["os"]}},
        {"scales": {"smoke": {"trust": ["os"]}}},
        {"fixed": {"hydra/callbacks": "own"}},
        {"fixed": {"hydra": {"callbacks": {"own": {"_target_": "site.addsitedir"}}}}},
        {"fixed": {"experiment@hydra": "own"}},
        {"fixed": {"hydra.searchpath": ["pkg://this"]}},
        {"fixed": {"tracking.uri": "http://127.0.0.1:1"}},
        {"fixed": {"tracking": {"folder": "/tmp/elsewhere"}}},
        {"fixed": {"tracking": "server"}},
        {"blocks": {"tracking.folder": ["/tmp/elsewhere"]}},
        {"scales": {"smoke": {"tracking.uri": "http://127.0.0.1:1"}}},
        {"fixed": {"hydra.sweep.dir": "/tmp/elsewhere"}},
    ],
    ids=lambda changes: str(changes)[:60],
)
def test_a_sweep_file_cannot_trust(changes: dict[str, Any], sweep_file: Callable[..., str]) -> None:
    with pytest.raises(BakeoffError, match=r"own.yaml: .*: a sweep file cannot set this"):
        read_request(sweep_file(**changes))


def test_the_command_line_of_a_sweep_can_trust(sweep_file: Callable[..., str]) -> None:
    assert make_plan(sweep_file(), overrides=["trust=[os]"]).trust == ("os",)


@pytest.mark.parametrize("content", [{"trust": ["os"]}, {"trust": ["os"], "initializer": {"_target_": "os.popen", "cmd": "touch ran"}}])
def test_a_file_of_the_config_folder_cannot_trust(content: dict[str, Any], config_dir: Callable[..., Path]) -> None:
    folder = config_dir("experiment/own.yaml", content)
    with pytest.raises(BakeoffError, match=r"trust=\['os'\]: stands in a file; only the command line may trust"):
        compose(["experiment=own"], config_dir=folder)


def test_the_command_line_overrides_the_trust_of_a_file(config_dir: Callable[..., Path]) -> None:
    folder = config_dir("experiment/own.yaml", {"trust": ["os"]})
    assert compose_config(["experiment=own", "trust=[re]"], config_dir=folder).trust == ("re",)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("experiment/own.yaml", CALLBACK, ["experiment=own"]),
        ("hydra/callbacks/own.yaml", {"_target_": "site.addsitedir", "sitedir": "."}, ["hydra/callbacks=own"]),
        ("hydra/sweeper/own.yaml", {"_target_": "site.addsitedir", "sitedir": "."}, ["hydra/sweeper=own"]),
        ("hydra/job_logging/own.yaml", {"handlers": {"own": {"()": "os.getcwd"}}}, ["hydra/job_logging=own"]),
        ("experiment/own.yaml", {"hydra": {"hydra_logging": {"handlers": {"own": {"()": "os.getcwd"}}}}}, ["experiment=own"]),
        ("run.yaml", {"hydra": {"searchpath": ["pkg://this"]}}, []),
    ],
    ids=["experiment", "callback", "sweeper", "job logging", "hydra logging", "search path"],
)
def test_hydras_own_nodes_are_fixed(
    name: str, content: Any, words: list[str], config_dir: Callable[..., Path], bakeoff: Callable[..., tuple[int, str, str]]
) -> None:
    package = name.rpartition("/")[0].replace("/", ".") if name.startswith("hydra/") else "_global_"
    folder = config_dir(name, content, package=f"{package}.own" if name.startswith("hydra/callbacks") else package)
    with pytest.raises(BakeoffError, match=r"^hydra\.\w+: is fixed"):
        compose(words, config_dir=folder)
    code, _, err = bakeoff("train", "--cfg", "job", "--config-dir", str(folder), *words)
    assert code == 2 and "is fixed" in err.splitlines()[-1] and "Traceback" not in err


DESTINATIONS: dict[str, Any] = {
    "tracking.uri": {"tracking": {"uri": "http://127.0.0.1:1"}},
    "tracking.folder": {"tracking": {"folder": "elsewhere"}},
    "hydra.sweep": {"hydra": {"sweep": {"dir": "elsewhere"}}},
    "hydra.run": {"hydra": {"run": {"dir": "elsewhere"}}},
    "hydra.output_subdir": {"hydra": {"output_subdir": "elsewhere"}},
}


@pytest.mark.parametrize(("key", "content"), DESTINATIONS.items(), ids=list(DESTINATIONS))
def test_only_the_command_line_says_where_results_go(
    key: str,
    content: Any,
    config_dir: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = str(config_dir("experiment/own.yaml", content))
    for line in (["train"], ["train", "-m", "seed=0,1"], ["check"]):
        assert main([*line, "experiment=own", "--config-dir", folder]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith(f"bakeoff: {key}=") and err.count("\n") == 1, err
        assert "stands in a file; only the command line may say where results go" in err
    assert [path.name for path in tmp_path.iterdir()] == ["conf"]


def test_a_file_that_shadows_the_shipped_tracking_is_refused(config_dir: Callable[..., Path]) -> None:
    folder = config_dir("tracking/local.yaml", {"uri": "http://127.0.0.1:1", "folder": "runs"}, package="tracking")
    config_dir("tracking/own.yaml", {"uri": None, "folder": "elsewhere"}, package="tracking")
    for words in ([], ["tracking=own"], ["optimizer=adam"]):
        with pytest.raises(BakeoffError, match=r"^tracking\.(uri|folder)=\S+: stands in a file"):
            compose(words, config_dir=folder)
    words = ["experiment=other", "tracking.uri=sqlite:///own.db", "tracking.folder=own"]
    config_dir("experiment/other.yaml", {"tracking": {"uri": "http://127.0.0.1:1", "folder": "elsewhere"}})
    tracking = compose(words, config_dir=folder).tracking
    assert (tracking.uri, tracking.folder) == ("sqlite:///own.db", "own")
    assert compose(["tracking=server"]).tracking.uri == "http://127.0.0.1:5000"


def test_environment_variables_come_from_the_command_line_alone(
    config_dir: Callable[..., Path], sweep_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "hidden")
    folder = config_dir("experiment/own.yaml", {"name": "${oc.env:SECRET}"})
    with pytest.raises(BakeoffError, match=r"name=\$\{oc.env:SECRET\}: a file may refer to other keys only"):
        compose(["experiment=own"], config_dir=folder)
    for text in ("${oc.env:SECRET}", "${${metric}.env:SECRET}", "a ${oc.decode:${oc.env:SECRET}} b"):
        with pytest.raises(BakeoffError, match="a sweep file may refer to other keys of its own only"):
            read_request(sweep_file(question=text))
    with pytest.raises(BakeoffError, match="a sweep file may refer"):
        read_request(sweep_file(fixed={"name": "${oc.env:SECRET}"}))
    assert compose(["name=${oc.env:SECRET}"]).name == "hidden"
    assert read_request(sweep_file(question="${metric}: which?")).spec.question == "val/accuracy: which?"


def test_a_sweep_that_shadows_a_shipped_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bakeoff: Callable[..., tuple[int, str, str]]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shadowed_sweep(find_sweep_file("quickstart")) is None
    own = tmp_path / "sweeps" / "quickstart.yaml"
    own.parent.mkdir()
    own.write_text(yaml.safe_dump({**SWEEP, "fixed": {"trust": ["os"], **CALL}}))
    code, _, err = bakeoff("sweep", "quickstart", "--plan")
    assert code == 2 and err.splitlines()[0] == "bakeoff: sweeps/quickstart.yaml is taken in place of the shipped sweep quickstart"
    assert not (tmp_path / "ran").exists()
