"""Bad input gets one line on standard error and exit code 2, and leaves nothing behind."""

from __future__ import annotations

import gzip
import socket
from pathlib import Path

import pytest

from bakeoff.commands.main import main

LINES = [
    (["trian"], "trian: no such command (did you mean train?)"),
    (["train", "optimizer=adamm"], "optimizer=adamm: no such choice (did you mean adam?); choices: adadelta, adagrad, adam"),
    (["train", "optimiser=adam"], "optimiser: no such key (did you mean optimizer?)"),
    (["train", "optimizer.momentom=0.5"], "optimizer.momentom: no such key (did you mean momentum?)"),
    (["train", "+optimizer.momentom=0.5"], "optimizer.momentom: SGD has no such argument (did you mean momentum?)"),
    (["train", "lr=0.1"], "lr: no such key (did you mean optimizer.lr?)"),
    (["train", "+lr=0.1"], "lr: no such key (did you mean optimizer.lr?)"),
    (["train", "epochs=3"], "epochs: no such key (did you mean trainer.max_epochs?)"),
    (["train", "batch_size=64"], "batch_size: no such key (did you mean data.batch_size?)"),
    (["train", "momentum=0.5"], "momentum: no such key (did you mean optimizer.momentum?)"),
    (["train", "size=64"], "size: no such key (did you mean model.size or data.size?)"),
    (["train", "optimizer.learning_rate=1"], "optimizer.learning_rate: no such key (did you mean optimizer.lr?)"),
    (["train", "trainer.gradient_clip_val=1"], "trainer.gradient_clip_val: no such key (did you mean trainer.clip?)"),
    (["train", "trials=3"], "trials: no such key; a sweep has budget.trials, as in bakeoff sweep NAME budget.trials=5"),
    (["train", "fast_dev_run=true"], "fast_dev_run: no such key; trainer.max_steps=1 test=true is one step"),
    (["train", "-m", "optimizer.lr=interval(0.1,1)"], "-m needs a list of values, as in optimizer.lr=0.1,0.316,1; an interval is searched"),
    (["train", "seed=range(1,4)"], "seed=range(1,4): several values are a grid, which needs -m"),
    (["train", "--config-name", "x"], "--config-name and --config-path: not supported; --config-dir names a folder"),
    (["train", "seed=1", "--frob", "seed=2"], "bakeoff train: unrecognized arguments: --frob"),
    (["sweep", "quickstart", "optimizer=choice(sgd,adam)"], "optimizer=choice(sgd,adam): write optimizer=sgd,adam"),
    (["sweep", "quickstart", "epochs=3"], "epochs: no such key (did you mean trainer.max_epochs?)"),
    (["list", "optimizer", "adm"], "optimizer=adm: no such choice (did you mean adam?)"),
    (["train", "trainer.max_epoch=1"], "trainer.max_epoch: no such key (did you mean max_epochs?)"),
    (["train", "data.augment.crp=1"], "data.augment.crp: no such key (did you mean crop?)"),
    (["train", "trainer.max_epochs=abc"], "trainer.max_epochs=abc: must be"),
    (["train", "trainer.max_epochs=1.5"], "trainer.max_epochs=1.5: must be"),
    (["train", "trainer.max_epochs=0"], "trainer.max_epochs=0: must be greater than or equal to 1"),
    (["train", "trainer.precision=12"], "trainer.precision=12: must be '32-true'"),
    (["train", "optimizer.lr=-1"], "optimizer.lr=-1: must be a number above 0"),
    (["train", "optimizer.lr=nan"], "optimizer.lr: nan is not a finite number"),
    (["train", "optimizer.lr=fast"], "optimizer.lr=fast: must be a number above 0"),
    (["train", "optimizer=adam", "optimizer.betas=[0.9]"], "optimizer.betas=[0.9]: Adam needs a list of 2, each float or Tensor"),
    (["train", "optimizer=lamb", "optimizer.betas=[0.9,1.5]"], "optimizer.betas=[0.9, 1.5]: must be numbers at least 0 and below 1"),
    (["train", "optimizer=rmsprop", "optimizer.alpha=1.5"], "optimizer.alpha=1.5: must be a number at least 0 and below 1"),
    (["train", "optimizer=prodigy", "optimizer.d0=0"], "optimizer.d0=0: must be a number above 0"),
    (["train", "optimizer=shampoo", "optimizer.preconditioning_compute_steps=0"], "preconditioning_compute_steps must be positive"),
    (["train", "optimizer=lbfgs", "optimizer.line_search_fn=wolfe"], "LBFGS needs one of strong_wolfe or null"),
    (["train", "optimizer=lbfgs", "optimizer.max_iter=0"], "optimizer.max_iter=0: must be at least 1"),
    (["train", "activation=softplus", "activation.beta=0"], "activation: torch.nn.Softplus with these settings gives nan or inf"),
    (["train", "initializer.gain=atuo"], "initializer.gain=atuo: HeNormal needs float or one of auto"),
    (["train", "initializer=from_run", "initializer.rest._target_=os.system"], "initializer.rest._target_=os.system: not a public name"),
    (["train", "initializer=from_run", "initializer.rest=he_uniform"], "initializer.rest=he_uniform: names no choice"),
    (["train", "data.augment.scale=[1,2,3]"], "data.augment.scale=[1, 2, 3]: must have at most 2 items"),
    (["train", "model.head=tiny"], "model.head=tiny: alexnet needs one of small, imagenet"),
    (["train", "model.head=imagenet"], "data.size"),
    (["train", "initializer.mode=3"], "initializer.mode=3: HeNormal needs one of"),
    (
        ["train", "data.batch_size=100", "trainer.devices=3"],
        "data.batch_size=100: must divide by trainer.devices x trainer.accumulate = 3 x 1",
    ),
    (["train", "data.batch_size=100000"], "data.batch_size=100000"),
    (["train", "data.val_fraction=0.9999"], "data.val_fraction"),
    (["train", "data.num_classes=7"], "data.num_classes=7"),
    (["train", "seed=1,2"], "seed=1,2: several values are a grid, which needs -m"),
    (["train", "-m", "hydra/launcher=joblib", "seed=1,2"], "hydra/launcher=joblib: not supported; bakeoff itself runs the jobs of -m"),
    (["train", "-m", "seed=1,2", "--cfg", "job"], "--multirun and --cfg: only one of them goes on a line"),
    (["train", "-m", "optimizer=sgd,adamm"], "optimizer=adamm: no such choice"),
    (["train", "model._target_=os.system"], "model._target_=os.system: not a public name of"),
    (["train", "model._target_=bakeoff.nets.vgg.require"], "model._target_=bakeoff.nets.vgg.require"),
    (["train", "activation._target_=torch.nn.Flatten"], "activation"),
    (["train", "loss._target_=torch.nn.KLDivLoss"], "loss"),
    (["train", "trust=3"], "trust=3: must be a list of module names"),
    (["train", "resume=abcdef123456"], "run abcdef123456: no such run"),
    (["train", "--config-dir", "nowhere"], "--config-dir=nowhere: no such folder"),
    (["train", "data=cifar10"], "cifar10"),
    (["reproduce", "abcdef123456"], "there is no such file"),
    (["reproduce", "abcdef123456", "--tolerance", "-1"], "--tolerance=-1.0: must be 0 or more"),
    (["report", "quickstart"], "there is no such file"),
    (["list", "optimiser"], "optimiser: no such slot (did you mean optimizer?)"),
    (["ui", "--port", "0"], "--port=0: must be at least 1"),
    (["sweep", "quickstrat"], "quickstrat"),
    (["sweep", "quickstart", "optimizer=sgdd"], "sgdd"),
    (["sweep", "quickstart", "metric.name=val/acc"], "val/acc"),
]


@pytest.mark.parametrize(("line", "words"), LINES, ids=[" ".join(line) for line, _ in LINES])
def test_one_line_and_nothing_written(
    line: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(line) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("bakeoff: ")
    assert err.count("\n") == 1, err
    assert words in err
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file")
    assert main(["train", "tracking.folder=taken"]) == 2
    assert "tracking.folder=taken" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_truncated_dataset_names_file_and_checksums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "images"
    root.mkdir()
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (root / f"{name}-ubyte.gz").write_bytes(gzip.compress(b"short"))
    assert main(["train", "data=fashion_mnist", f"data.root={root}"]) == 2
    err = capsys.readouterr().err
    assert "-ubyte.gz" in err
    assert "expected" in err and "found" in err
    assert err.count("\n") == 1


def test_a_taken_port_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert main(["ui", "--port", str(port)]) == 2
    assert str(port) in capsys.readouterr().err
