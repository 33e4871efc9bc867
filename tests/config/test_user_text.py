"""The limits of what people write: YAML files, and words of a command line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from bakeoff.config.choices import read_choice
from bakeoff.config.compose import compose, dump_frozen
from bakeoff.config.slots import package_data_dir
from bakeoff.config.user_text import MAX_DEPTH, MAX_FILE_BYTES, check_words, check_yaml_text, parse_yaml, read_yaml_text
from bakeoff.errors import ConfigError

ALIASES = "\n".join(["a0: &a0 [x, x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))])
BAD_TEXTS = {
    "nested aliases": (ALIASES, "too many values, aliases included"),
    "300 deep maps": ("".join(" " * i + "a:\n" for i in range(300)), "nested too deeply"),
    "100000 open brackets": ("a: " + "[" * 100_000, "nest"),
    "an alias of itself": ("a: &a [*a]", "*a stands for itself"),
    "4301 digits": (f"a: {'9' * 4301}", "a whole number may have 40 digits"),
    "4301 hex digits": (f"a: 0x{'f' * 4301}", "a whole number may have 40 digits"),
    "a tag": ("a: !!python/object/apply:os.system [ls]", "the tag tag:yaml.org,2002:python/object/apply:os.system is not supported"),
    "a tab": ("a:\n\tb: 1", "line 2"),
    "half a surrogate pair": ('a: "\\ud800"', "line 1"),
    "unclosed": ("a: [1, 2", "line"),
    "too large": ("a: 1\n" * MAX_FILE_BYTES, "too large"),
}


@pytest.mark.parametrize(("text", "words"), BAD_TEXTS.values(), ids=list(BAD_TEXTS))
def test_hostile_yaml_gets_one_line_at_once(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "relu.yaml"
    path.write_text(text, encoding="utf-8")
    start = time.perf_counter()
    for read in (read_yaml_text, read_choice):
        with pytest.raises(ConfigError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ") and words in str(caught.value)
    assert time.perf_counter() - start < 2


def test_bytes_that_are_no_utf8_are_told_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "relu.yaml"
    path.write_bytes("a: 1\nb: schön".encode("latin-1"))
    with pytest.raises(ConfigError, match="line 2: byte 0xf6 is not UTF-8"):
        read_yaml_text(path)


def test_what_people_write_is_within_the_limits() -> None:
    check_yaml_text("base: &base {a: [1, 2.5, x], b: 'y'}\nother: {<<: *base, c: 2026-11-24}\n" + "# a comment\n" * 100, origin="x")
    check_yaml_text("commit: '" + "1" * 80 + "'", origin="x")
    check_words(["optimizer.betas=[0.9,0.99]", "+optimizer.x={a:{b:1}}", "a.b.c='[[[[[['", "name=" + "x" * 100, "lr=0." + "1" * 60])


BAD_WORDS = {
    "=1": "not understood",
    "": "'': not understood",
    "~optimizer.lr": "a key cannot be taken out",
    "a" + ".a" * MAX_DEPTH + "=1": "nested too deeply",
    "a=" + "[" * 3000: "nested too deeply",
    "seed=" + "9" * 4301: "a whole number may have 40 digits",
    "name=" + "x" * 10_000: "too long",
    "name=\udcff": "no UTF-8",
}


@pytest.mark.parametrize(("word", "words"), BAD_WORDS.items(), ids=[word[:20].encode("ascii", "replace").decode() for word in BAD_WORDS])
def test_hostile_words_get_one_line(word: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_words(["optimizer=adam", word])
    assert words in str(caught.value) and len(str(caught.value)) < 200


def test_a_choice_that_is_a_base_of_itself_is_told(tmp_path: Path) -> None:
    path = tmp_path / "relu.yaml"
    path.write_text("defaults: [relu@_here_, _self_]\n")
    with pytest.raises(ConfigError, match="a base of itself"):
        read_choice(path)


SCALARS = """
floats: [1e-3, -1e3, +1E+2, .5, .5e-1, .5e1, 1., 1.5e3, 1_0.5, 1_0e1, 1:30.5, .inf, -.INF, .nan, 1e, e5, 1e5e]
other: [2026-11-25, 2026-11-25 10:00:00, 012, 0x1f, 0b1, 0o17, 1_000, 1:30, yes, No, on, ~, null, Null, "1e-3", '', "???", "=", a=b, "${b}"]
base: &base {a: 1, b: [x, {y: z}]}
derived: {<<: *base, a: 2, 3: int, true: bool, 1.5: float}
text: |
  1e-3
"""


def test_yaml_is_read_as_omegaconf_reads_it() -> None:
    files = [path for folder in ("conf", "sweeps") for path in package_data_dir(folder).rglob("*.yaml")]
    assert len(files) > 100
    for text in [SCALARS, dump_frozen(compose()), *(path.read_text(encoding="utf-8") for path in files)]:
        expected = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
        assert repr(parse_yaml(text) or {}) == repr(expected)  # repr tells 1 from 1.0 and from true, and takes NaN for itself


def test_a_key_occurs_once() -> None:
    with pytest.raises(yaml.YAMLError, match="found duplicate key a"):
        parse_yaml("b: {a: 1, c: 2, a: 3}")
