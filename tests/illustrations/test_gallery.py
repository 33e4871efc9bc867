"""Every picture is written as PNG, SVG and a self-contained page; errors are a single line; skipped choices have a reason."""

from __future__ import annotations

import csv
import html
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bakeoff.commands.main import main
from bakeoff.config.choices import choice_files
from bakeoff.errors import BakeoffError, FolderError
from bakeoff.illustrations import activation_curves, loss_comparison, output, schedule_curves
from bakeoff.illustrations.gallery import GALLERY, Request, draw_picture, parse_request
from bakeoff.illustrations.illustration import Illustration
from bakeoff.illustrations.slot_choices import build_choices
from bakeoff.rendering.page import INTERACTIVE_POLICY

SMALL = {
    "activations": "activation=relu,tanh",
    "initializers": "layers=3 units=20 samples=30",
    "optimizers": "optimizer=momentum,adam surface=ravine steps=30 rates=1",
    "backprop": "",
    "losses": "loss=softmax,svm",
    "convolution": "model=alexnet_mini",
    "schedules": "scheduler=cosine,plateau steps=40 epochs=10",
}


ANIMATED = ("optimizers", "convolution")


def first_spec(page: str) -> dict[str, object]:
    """The specification of the page's first plot."""
    script = re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    assert script
    spec = json.loads(script[1])
    assert isinstance(spec, dict)
    return spec


def test_every_picture_is_tested() -> None:
    assert set(SMALL) == set(GALLERY)


@pytest.mark.parametrize("name", GALLERY)
def test_a_picture_is_three_files(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out" / name
    assert main(["show", name, *SMALL[name].split(), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for ending in ("png", "svg", "html"):
        assert str(out / f"{name}.{ending}") in printed
    assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (out / f"{name}.svg").read_text(encoding="utf-8")
    page = (out / f"{name}.html").read_text(encoding="utf-8")
    assert INTERACTIVE_POLICY in html.unescape(page[:1000]) and not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=", page)
    spec = first_spec(page)
    if name in ANIMATED:
        layout, frames = spec["layout"], spec["frames"]
        assert isinstance(layout, dict) and isinstance(frames, list) and len(frames) >= 5
        assert [button["label"] for button in layout["updatemenus"][0]["buttons"]] == ["play", "pause"]
        assert len(layout["sliders"][0]["steps"]) == len(frames)
    assert all(len(list(csv.reader(path.open(encoding="utf-8")))) > 1 for path in out.glob("*.csv"))


def test_a_picture_is_reproducible(tmp_path: Path) -> None:
    for turn in ("a", "b"):
        assert main(["show", "backprop", "--out", str(tmp_path / turn)]) == 0
    for ending in ("png", "svg"):
        assert (tmp_path / "a" / f"backprop.{ending}").read_bytes() == (tmp_path / "b" / f"backprop.{ending}").read_bytes()


def test_show_without_a_name_lists_the_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show"]) == 0
    printed = capsys.readouterr().out
    assert all(re.search(rf"^{name} ", printed, re.MULTILINE) for name in GALLERY)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("activatoins", "did you mean activations?"),
        ("activations activatoin=relu", "did you mean activation?"),
        ("activations activation=reluu", "no such choice"),
        ("activations relu", "must be key=value"),
        ("initializers layers=0", "must be at least 1"),
        ("initializers layers=1.5", "must be a whole number"),
        ("initializers initializer.sdt=1 initializer=normal", "did you mean std?"),
        ("optimizers surface=monkey", "no such surface"),
        ("optimizers tolerance=nan", "must be a finite number"),
        ("backprop expression=__import__('os')", "no such function"),
        ("backprop expresion=x*y", "did you mean expression?"),
        ("losses scores=[1,2] target=2", "must be below the number of scores"),
        ("losses scores=[1,2] classes=[a]", "1 names for 2 scores"),
        ("convolution kernel=7", "must be at most input + 2 pad"),
        ("schedules steps=none", "must be a number"),
    ],
)
def test_a_wrong_argument_is_a_one_line_error(line: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", *line.split(), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_users_module_is_drawn_if_it_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_units.py").write_text("import torch\n\nclass Cube(torch.nn.Module):\n    def forward(self, x):\n        return x**3\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("BAKEOFF_TRUST", "")
    line = ["show", "activations", "activation=tanh", "activation._target_=own_units.Cube", "--out", str(tmp_path / "out")]
    assert main(line) == 2
    assert "trust=[own_units]" in capsys.readouterr().err
    assert main([*line, "trust=[own_units]"]) == 0
    assert main(["show", "activations", "trust={a: 1}"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_output_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(FolderError, match="cannot be written"):
        draw_picture(parse_request("backprop", []), tmp_path / "file", command="")


def test_new_files_of_a_folder_are_drawn_and_failing_ones_have_a_reason(tmp_path: Path) -> None:
    folder = tmp_path / "scheduler"
    folder.mkdir()
    (folder / "mine.yaml").write_text('_target_: bakeoff.components.schedulers.cosine\nabout: "x"\nwarmup: 0.0\n', encoding="utf-8")
    (folder / "wrong.yaml").write_text('_target_: bakeoff.components.schedulers.cosin\nabout: "x"\nwarmup: 0.0\n', encoding="utf-8")
    assert set(choice_files("scheduler", tmp_path)) == {*choice_files("scheduler"), "mine", "wrong"}
    illustration = schedule_curves.draw(parse_request("schedules", ["steps=20"], config_dir=tmp_path))
    assert {"cosine", "mine"} <= {plot.title for plot in illustration.plots}
    assert set(illustration.skipped) == {"wrong"} and "did you mean cosine?" in illustration.skipped["wrong"]
    assert "left out: wrong: scheduler._target_" in output.terminal_text(illustration) and "Left out" in output.illustration_page(
        illustration, command=""
    )
    with pytest.raises(BakeoffError, match="did you mean cosine"):
        schedule_curves.draw(parse_request("schedules", ["scheduler=wrong"], config_dir=tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("draw", "slot", "words"),
    [
        (activation_curves.draw, "activation", []),
        (loss_comparison.draw, "loss", []),
        (schedule_curves.draw, "scheduler", ["steps=20"]),
    ],
)
def test_every_choice_of_a_folder_is_drawn(draw: Callable[[Request], Illustration], slot: str, words: list[str]) -> None:
    (name,) = [name for name, picture in GALLERY.items() if draw.__module__.endswith(picture.module)]
    illustration = draw(parse_request(name, words))
    assert illustration.skipped == {}
    titles = [plot.title.split(":")[0].split(" (")[0] for plot in illustration.plots]
    assert set(choice_files(slot)) <= set(titles)


def test_choices_are_those_of_the_request() -> None:
    built, skipped = build_choices(parse_request("losses", ["loss=svm", "loss.p=2"]), "loss", lambda run: run.loss["p"])
    assert (built, skipped) == ({"svm": 2}, {})


def test_one_cycle_rises_and_falls_and_every_loss_has_a_curve() -> None:
    plots = {plot.title: plot.spec for plot in schedule_curves.draw(parse_request("schedules", ["scheduler=one_cycle,cosine"])).plots}
    rates = plots["one_cycle"]["data"][0]["y"]
    assert rates[0] < 0.1 and max(rates) > 0.99 and rates[-1] < 0.1
    (*_, curves) = loss_comparison.draw(parse_request("losses", [])).plots
    top = curves.spec["layout"]["yaxis"]["range"][1]
    assert all(min(trace["y"]) < top for trace in curves.spec["data"])
