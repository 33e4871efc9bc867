"""The runs of a -m line are named by what differs between them, unless the line names them."""

from __future__ import annotations

from bakeoff.commands.train import name_jobs
from bakeoff.config import compose


def names(*words: str) -> list[str]:
    with compose.hydra_session():
        lines = compose.split_multirun(words)
        return [run.title for run in name_jobs([compose.compose_in_session(line).run for line in lines], lines)]


def test_jobs_are_named_by_what_varies() -> None:
    expected = ["optimizer=sgd seed=1", "optimizer=sgd seed=2", "optimizer=adam seed=1", "optimizer=adam seed=2"]
    assert names("optimizer=sgd,adam", "data.subset=200", "seed=range(1,3)") == expected
    assert names("name=mine", "seed=1,2") == ["mine", "mine"]
    assert names("data.root=a/b,a/c") == ["data.root=a_b", "data.root=a_c"], "a name has no slash"
    assert names("seed=3") == ["digits-alexnet_mini-relu-he_normal-momentum-s3"]
    secret = names("seed=1", "tracking.uri='http://me:secret@host','http://host'")
    assert len(secret) == 2 and "secret" not in "".join(secret)
