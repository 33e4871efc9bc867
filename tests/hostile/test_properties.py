"""Whatever is written on a command line, in a sweep file, a journal or a plan: a result, or one clear line, within seconds."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bakeoff.commands.main import main
from bakeoff.config import compose
from bakeoff.config.compose import load_frozen
from bakeoff.errors import BakeoffError
from bakeoff.report.design import read_design
from bakeoff.run_files.journal import Journal, read_journal
from bakeoff.run_files.run_dir import RunDir, RunManifest
from bakeoff.run_files.settling import settle_run
from bakeoff.run_files.stored_plan import parse_stored_plan
from bakeoff.sweep.metric_tail import MetricTail
from bakeoff.sweep.plan import make_plan
from bakeoff.training.reproduction import journal_metrics

SECONDS = 3.0
SWEEP: dict[str, Any] = {
    "question": "Which?",
    "factors": {"optimizer": ["sgd", "adam"]},
    "blocks": {"model": ["alexnet_mini"]},
    "metric": {"name": "val/accuracy", "goal": "maximize"},
    "tune": {"optimizer.lr": {"low": 0.001, "high": 0.1, "log": True}},
    "budget": {"trials": 2, "studies": 1, "sampler": "halton"},
    "prune": {"by": "median", "warmup": 0.25},
    "confirm": {"seeds": 2},
    "margin": 0.01,
    "allow": [],
    "baseline": "sgd",
    "fixed": {"model.width": 0.125},
    "scales": {"smoke": {"budget.trials": 1}},
}
KEYS = ["seed", "name", "optimizer", "optimizer.lr", "model.width", "data.size", "data.augment.scale", "trainer", "trainer.clip"]
KEYS += ["trainer.max_time", "tracking", "tracking.folder", "trust", "resume", "hydra.run.dir", "hydra/launcher", "experiment", "choices"]
TEXTS = ["", "sgd", "1e-3", "${seed}", "${oc.env:HOME}", "../x", "nan", "null", "[", "{a:1}", "a,b", "'", "\\", "\x1b[2J", "\0"]
HYDRA_TEXTS = ["range(3)", "glob(*)", "choice(1,2)", "int(x)", "[1,[2]]", "{a: {b: 1}}"]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**62, max_value=2**70),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(TEXTS),
)
TREES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3), max_leaves=6
)
WORDS = st.one_of(
    st.builds("{}={}".format, st.sampled_from(KEYS), SCALARS | st.sampled_from(HYDRA_TEXTS)),
    st.builds("{}{}={}".format, st.sampled_from(["+", "++", "~", "@", ".", "/", " "]), st.sampled_from(KEYS), SCALARS),
    st.builds("{}={}".format, st.text(max_size=12), st.text(max_size=12)),
    st.text(max_size=20),
)


def bounded(examples: int) -> Callable[[Any], Any]:
    """Settings of a test that is the same every time."""
    health = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=examples, derandomize=True, database=None, deadline=None, suppress_health_check=health)


@contextlib.contextmanager
def one_line_at_once() -> Iterator[None]:
    """Let the block end within seconds, by itself or by an error of one line."""
    start = time.process_time()
    try:
        yield
    except BakeoffError as error:
        text = str(error)
        assert text and text.isprintable() and len(text) < 2000, text
    assert time.process_time() - start < SECONDS


def paths(tree: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield (*above, key)
        yield from paths(value, (*above, key))


@st.composite
def changed(draw: st.DrawFn, tree: dict[str, Any]) -> dict[str, Any]:
    """A tree with other values, or further keys, at one to three places."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 3))):
        node: Any = tree
        *parents, last = draw(st.sampled_from(list(paths(tree))))
        for parent in parents:
            node = node[parent]
        if isinstance(last, str) and draw(st.booleans()):
            last = draw(st.sampled_from([last, "+" + last, last + ".x", "trust", "hydra", ""]) | st.text(max_size=8))
        node[last] = draw(TREES)
    return tree


@bounded(120)
@given(words=st.lists(WORDS, min_size=1, max_size=4))
def test_overrides(words: list[str]) -> None:
    with one_line_at_once():
        compose.compose(words)


@bounded(40)
@given(words=st.lists(WORDS, min_size=1, max_size=3))
def test_a_line_of_the_shell(words: list[str]) -> None:
    out, err = io.StringIO(), io.StringIO()
    start = time.process_time()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(["train", "--cfg", "job", *words])
        except SystemExit as stop:  # of --help
            code = int(stop.code or 0)
    assert time.process_time() - start < SECONDS
    assert code == 0 or (code, out.getvalue(), err.getvalue().count("\n"), err.getvalue()[:9]) == (2, "", 1, "bakeoff: "), err.getvalue()


@bounded(100)
@given(tree=changed(SWEEP), words=st.lists(WORDS, max_size=1))
def test_sweep_files(tree: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(tree, allow_unicode=False), encoding="utf-8")
    with one_line_at_once():
        make_plan(str(file), overrides=words).stored()


BOMB = "\n".join([f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" if i else "a0: &a0 [x]" for i in range(12)])


def test_a_text_in_a_text_is_not_read_as_yaml(tmp_path: Path) -> None:
    """The inner text would be read without the limits of the outer one."""
    file = tmp_path / "own.yaml"
    for text in ("|\n 0", "|\n" + "".join(f"  {line}\n" for line in BOMB.splitlines())):
        file.write_text(text)
        for read in (lambda: make_plan(str(file)), lambda: load_frozen(file.read_text(), origin="config.yaml")):
            with one_line_at_once(), pytest.raises(BakeoffError, match="not a mapping, as in key: value"):
                read()


@bounded(150)
@given(text=st.text(alphabet="ab:-[]{}&*!|>'\"#%@,?\n\t 01.~<\x85\u2028\ufeff", max_size=60))
def test_text_of_any_kind_as_a_sweep_file(text: str, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text, encoding="utf-8")
    with one_line_at_once():
        make_plan(str(file))
    with one_line_at_once():
        load_frozen(text, origin="config.yaml")


@pytest.fixture(scope="module")
def stored_plan(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A plan.json."""
    file = tmp_path_factory.mktemp("plan") / "own.yaml"
    file.write_text(yaml.safe_dump(SWEEP))
    return make_plan(str(file)).tree()


@bounded(200)
@given(data=st.data())
def test_plans(data: st.DataObject, stored_plan: dict[str, Any]) -> None:
    tree = json.loads(json.dumps(data.draw(changed(stored_plan))))
    with one_line_at_once():
        read_design(parse_stored_plan(tree))


@pytest.fixture(scope="module")
def stored_config() -> dict[str, Any]:
    """A config.yaml."""
    return dict(yaml.safe_load(compose.dump_frozen(compose.compose([]))))


@bounded(150)
@given(data=st.data())
def test_stored_configs(data: st.DataObject, stored_config: dict[str, Any]) -> None:
    with one_line_at_once():
        load_frozen(yaml.safe_dump(data.draw(changed(stored_config))), origin="config.yaml")


LINES = st.one_of(
    st.builds(
        lambda kind, tree: {**(tree if isinstance(tree, dict) else {}), "kind": kind},
        st.sampled_from(["start", "params", "tags", "metrics", "dataset", "artifact", "model", "end", "flush", "", 3]),
        st.fixed_dictionaries({}, optional={name: TREES for name in ("ts", "step", "values", "status", "reason", "path", "name")}),
    ),
    changed({"kind": "metrics", "ts": 1, "step": 3, "values": {"val/loss": 1.0, "val/accuracy": "nan"}}),
    changed({"kind": "params", "values": {"total_steps": "10", "steps_per_epoch": "5"}}),
    changed({"kind": "end", "ts": 1, "status": "FINISHED", "reason": ""}),
    TREES,
)


@bounded(150)
@given(lines=st.lists(LINES, max_size=6), result=st.none() | changed({"id": "a", "name": "b", "status": "finished", "metrics": {"a": 1.0}}))
def test_journals(lines: list[Any], result: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = RunDir(tmp_path_factory.mktemp("run", numbered=True))
    folder.job.write_text(RunManifest(id="0" * 12, name="b", experiment="c").to_json())
    folder.journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if result is not None:
        folder.result.write_text(json.dumps(result))
    for read in (journal_metrics, lambda path: list(read_journal(path)), lambda path: list(MetricTail(path, metric="val/loss").news())):
        with one_line_at_once():
            read(folder.journal)
    with one_line_at_once():
        settle_run(folder)
    with one_line_at_once(), Journal(folder.journal) as journal:
        journal.metrics({"val/loss": float("nan")}, step=3)
        journal.end("FINISHED")
    assert list(read_journal(folder.journal))[-1]["kind"] == "end"
