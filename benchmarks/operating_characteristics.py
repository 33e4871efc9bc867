"""How often verdicts are right: false winners, false ties, coverage, power and seeds, by simulation with the code that reports use.

    python benchmarks/operating_characteristics.py [verdicts] [--sweeps 2000] [--arms 2 3 6 20] [--json]
    python benchmarks/operating_characteristics.py designs [--sweeps 200]     # designs of equal question, on recorded runs
    python benchmarks/operating_characteristics.py mistuned                   # two different arms of equal means, on recorded runs
    python benchmarks/operating_characteristics.py allowance                  # what the allowance for skew costs

`verdicts`: sweeps of arms that are equal, and of arms of which the first is ahead, over the five analyses of a default plan (5 studies and
10 seeds each), stopping at the first that answers. Scores have mean 0.9 and a standard deviation of 0.01 between seeds of an arm.

- normal, t3: noise of a run; tuned: each study's setting adds luck that is as large as the noise of a run
- one tuned badly: a fifth of the first arm's tunings lose three points, and its mean is that of the others
- skewed: all arms have exponential noise; one skewed: the first arm alone has; one lognormal: the same, with a heavier tail
- failing: a tenth of the first arm's runs fail, which verdicts count apart; those that learn are like the other arms'
- images 355, 10000: a fixed test set on which two arms, equal over all images, differ image by image (standard deviation .15)
- steps: scores are rounded to the accuracies that 355 images allow

Columns: arms; false winner: share of sweeps in which some pair is graded supported; false tie: of the sweeps in which one arm is ahead by
twice the margin (margin 0.005), some pair with it is graded a tie; coverage: share of pairs whose interval holds the truth; power:
share of sweeps that find an arm ahead by 0.02; seeds: mean seeds of an arm until that answer. "+-" is one standard error.

`designs`: for each design, the error of two equal arms that are tuned apart, and the power for a difference of two points, at the first
analysis, with settings chosen and confirmed by resampling `benchmarks/data/digits_response.csv` (see `record_response.py`). Runs that
collapse are counted apart, as verdicts do.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import qmc

from bakeoff.stats import SequentialDesign, holm, paired_power, repeated_confidence_intervals
from bakeoff.stats.failures import collapsed
from bakeoff.stats.image_sampling import image_variance
from bakeoff.stats.repeated_intervals import SKEW_COST, mean_tests, unit_means
from bakeoff.stats.smoothing import smoothed

Array = npt.NDArray[np.float64]
DEFAULT = SequentialDesign.growing((10, 20, 30, 40, 50), 5)
ONE_STUDY = SequentialDesign((10, 20, 30, 40, 50))
MARGIN, AHEAD, RUN_SD, BASE = 0.005, 0.02, 0.01, 0.9
SEEDS = DEFAULT.sizes[-1]
#: The accuracy of guessing one of the ten digits.
GUESSING = 0.1


# Scores of simulated sweeps: (sweeps, arms, seeds), in which all arms are equal.


def normal(rng: np.random.Generator, sweeps: int, arms: int) -> Array:
    """Normal noise."""
    return rng.normal(BASE, RUN_SD, (sweeps, arms, SEEDS))


def t3(rng: np.random.Generator, sweeps: int, arms: int) -> Array:
    """Heavy tails, alike for all arms."""
    return BASE + RUN_SD / math.sqrt(3) * rng.standard_t(3, (sweeps, arms, SEEDS))


def tuned(rng: np.random.Generator, sweeps: int, arms: int) -> Array:
    """Each study's setting is as lucky as a run is noisy."""
    studies = np.array([DEFAULT.study_at(position) for position in range(SEEDS)])
    return normal(rng, sweeps, arms) + rng.normal(0, RUN_SD, (sweeps, arms, DEFAULT.units[-1]))[:, :, studies]


def one_tuned_badly(rng: np.random.Generator, sweeps: int, arms: int) -> Array:
    """A fifth of the first arm's tunings lose three points; the rest of its mean makes up for it."""
    studies = np.array([DEFAULT.study_at(position) for position in range(SEEDS)])
    scores = normal(rng, sweeps, arms)
    luck = np.where(rng.random((sweeps, DEFAULT.units[-1])) < 0.2, -0.03, 0.0) + 0.006
    scores[:, 0] += luck[:, studies]
    return scores


def tuned_once(rng: np.random.Generator, sweeps: int, arms: int) -> Array:
    """One study for all seeds, as lucky as a run is noisy."""
    return normal(rng, sweeps, arms) + rng.normal(0, RUN_SD, (sweeps, arms, 1))


def skewed(rng: np.random.Generator, sweeps: int, arms: int) -> Array:
    """All arms have a tail to the left."""
    return BASE + RUN_SD * (1 - rng.exponential(size=(sweeps, arms, SEEDS)))


def one_skewed(rng: np.random.Generator, sweeps: int, arms: int) -> Array:
    """The first arm has a tail to the left, the others are normal."""
    scores = normal(rng, sweeps, arms)
    scores[:, 0] = skewed(rng, sweeps, 1)[:, 0]
    return scores


def one_lognormal(rng: np.random.Generator, sweeps: int, arms: int) -> Array:
    """The first arm has a heavy tail to the left and the same spread, the others vary a third as much."""
    scores = BASE + (normal(rng, sweeps, arms) - BASE) / 3
    draws = rng.lognormal(0, 1, (sweeps, SEEDS))
    scores[:, 0] = BASE - RUN_SD * (draws - math.exp(0.5)) / math.sqrt((math.e - 1) * math.e)
    return scores


def failing(rng: np.random.Generator, sweeps: int, arms: int) -> Array:
    """A tenth of the first arm's runs are at chance, which verdicts count apart: NaN here; those that learn are like the others'."""
    scores = normal(rng, sweeps, arms)
    scores[:, 0][rng.random((sweeps, SEEDS)) < 0.1] = np.nan
    return scores


def steps(rng: np.random.Generator, sweeps: int, arms: int) -> Array:
    """Accuracies on 355 images."""
    return np.round(normal(rng, sweeps, arms) * 355) / 355


SITUATIONS: dict[str, tuple[Callable[[np.random.Generator, int, int], Array], SequentialDesign]] = {
    "normal": (normal, DEFAULT),
    "t3": (t3, DEFAULT),
    "skewed": (skewed, DEFAULT),
    "one skewed": (one_skewed, DEFAULT),
    "one lognormal": (one_lognormal, DEFAULT),
    "failing": (failing, DEFAULT),
    "steps": (steps, DEFAULT),
    "tuned": (tuned, DEFAULT),
    "one tuned badly": (one_tuned_badly, DEFAULT),
    "tuned once, as if seeds were all": (tuned_once, ONE_STUDY),
}


def evaluate(scores: Array, design: SequentialDesign, *, variances: Array | None = None, n_images: int = 0) -> dict[str, Array]:
    """What the five analyses say of each sweep.

    Args:
        scores: (sweeps, arms, seeds).
        design: the analyses.
        variances: (sweeps, pairs): image variance of each pair's difference; None for none.
        n_images: test images.

    Returns:
        supported and tie, bool (analyses, sweeps, pairs) up to each analysis; covered, bool (sweeps, pairs) by the last intervals with the
        true difference 0; sign, the sign of each pair's mean (analyses, sweeps, pairs).
    """
    sweeps, arms, _ = scores.shape
    first, second = np.triu_indices(arms, 1)
    gaps = (scores[:, first] - scores[:, second]).reshape(-1, scores.shape[2])
    shape, supported, ties, signs = (sweeps, len(first)), [], [], []
    every = [] if variances is None else [variances.ravel()] * len(design.sizes)
    for size in design.sizes:
        seen = np.where(np.arange(gaps.shape[1]) < size, gaps, np.nan)
        result = repeated_confidence_intervals(seen, design, image_variances=every, n_images=n_images)
        p_holm = np.array([holm(row) for row in result.p.reshape(shape)])
        low, high, mean = (column.reshape(shape) for column in (result.low, result.high, result.mean))
        with np.errstate(invalid="ignore"):
            excluded = np.where(mean >= 0, low > 0, high < 0)
            supported.append((p_holm < 0.05) & excluded)
            ties.append(~supported[-1] & (low >= -MARGIN) & (high <= MARGIN))
            covered = ~((low > 0) | (high < 0) | np.isnan(low))
        signs.append(np.sign(mean))
    return {"supported": np.array(supported), "tie": np.array(ties), "covered": covered, "sign": np.array(signs)}


def first_true(by_analysis: Array) -> npt.NDArray[np.int64]:
    """(sweeps,): the first analysis at which `by_analysis` (analyses, sweeps) is true; the number of analyses where none is."""
    return np.where(by_analysis.any(axis=0), by_analysis.argmax(axis=0), len(by_analysis))


def characteristics(name: str, arms: int, *, sweeps: int, seed: int = 0) -> dict[str, object]:
    """One row of the table."""
    make, design = SITUATIONS[name]
    equal = evaluate(make(np.random.default_rng([seed, arms]), sweeps, arms), design)
    apart = {}
    for shift in (2 * MARGIN, AHEAD):
        scores = make(np.random.default_rng([seed + 1, arms]), sweeps, arms)
        scores[:, 1] += shift
        apart[shift] = evaluate(scores, design)
    with_second = np.array([1 in pair for pair in zip(*np.triu_indices(arms, 1), strict=True)])
    right = np.where(np.triu_indices(arms, 1)[0] == 1, 1, -1)
    found = (apart[AHEAD]["supported"] & (apart[AHEAD]["sign"] == right))[:, :, with_second].all(axis=2)
    stop = first_true(found)
    tied = apart[2 * MARGIN]["tie"][:, :, with_second].any(axis=2).any(axis=0)
    return row(name, arms, equal, found=found.any(axis=0), tied=tied, seeds=np.array(design.sizes)[np.minimum(stop, len(design.sizes) - 1)])


def row(
    name: str, arms: int, equal: dict[str, Array], *, found: Array | None, tied: Array | None, seeds: Array | None
) -> dict[str, object]:
    """A row, with standard errors."""
    false = equal["supported"].any(axis=(0, 2))

    def share(values: Array | None) -> tuple[float, float] | None:
        return None if values is None else (float(values.mean()), math.sqrt(max(values.mean() * (1 - values.mean()), 1e-4) / len(values)))

    return {
        "situation": name,
        "arms": arms,
        "false winner": share(false),
        "false tie": share(tied),
        "coverage": share(equal["covered"].mean(axis=1)),
        "power": share(found),
        "seeds": None if seeds is None else (float(seeds.mean()), float(seeds.std() / math.sqrt(len(seeds)))),
    }


def image_characteristics(images: int, arms: int, *, sweeps: int, seed: int = 0, allow: bool = True) -> dict[str, object]:
    """A row for arms that are equal over all images, on one fixed set of them."""
    rng = np.random.default_rng([seed, images, arms])
    first, second = np.triu_indices(arms, 1)
    scores, variances = np.empty((sweeps, arms, SEEDS)), np.zeros((sweeps, len(first)))
    for sweep in range(sweeps):
        skill = rng.normal(0, 0.15 / math.sqrt(2), (arms, 1, images))
        difficulty = rng.random((1, 1, images)) + rng.normal(0, 0.03, (arms, SEEDS, images))
        correct = (difficulty < BASE + skill).astype(np.float32)
        scores[sweep] = correct.mean(axis=2)
        if allow:
            variances[sweep] = [image_variance(correct[a, :10] - correct[b, :10]) for a, b in zip(first, second, strict=True)]
    name = f"images {images}" + ("" if allow else ", as if they were all")
    equal = evaluate(scores, DEFAULT, variances=variances if allow else None, n_images=images)
    return row(name, arms, equal, found=None, tied=None, seeds=None)


def verdicts(arms: Sequence[int], *, sweeps: int) -> list[dict[str, object]]:
    """All rows."""
    rows = [characteristics(name, count, sweeps=max(100, sweeps // (10 if count > 6 else 1))) for name in SITUATIONS for count in arms]
    rows += [image_characteristics(355, 2, sweeps=max(50, sweeps // 10), allow=allow) for allow in (True, False)]
    rows += [image_characteristics(10_000, 2, sweeps=max(20, sweeps // 40), allow=allow) for allow in (True, False)]
    return rows


# Designs, on recorded runs.

DESIGNS = (
    ("one study, best trial", 1, 16, 10, "best"),
    ("one study, smooth", 1, 16, 10, "smooth"),
    ("equal cost, best trial", 5, 4, 1, "best"),
    ("equal cost, smooth", 5, 4, 1, "smooth"),
    ("many small studies", 10, 4, 1, "best"),
    ("5 studies of 8, best trial", 5, 8, 2, "best"),
    ("5 studies of 8, best three again", 5, 8, 2, "three"),
    ("5 studies of 8, smooth (default)", 5, 8, 2, "smooth"),
    ("5 studies of 16, smooth", 5, 16, 2, "smooth"),
)


class RecordedArm:
    """Runs of one optimizer at 16 learning rates, to resample from."""

    def __init__(self, rows: Sequence[dict[str, str]]) -> None:
        """Take the rows of one optimizer."""
        steps = sorted({int(row["step"]) for row in rows})
        runs = [[(float(r["validation_accuracy"]), float(r["test_accuracy"])) for r in rows if int(r["step"]) == step] for step in steps]
        table = np.array(runs)
        self.means = table.mean(axis=1)
        self.residuals = (table - self.means[:, None]) * math.sqrt(table.shape[1] / (table.shape[1] - 1))

    def run(self, positions: Array, rng: np.random.Generator, *, test: bool) -> Array:
        """Scores of new runs at positions in [0, 1]: the mean between recorded rates, and a residual of the nearest."""
        at = positions * (len(self.means) - 1)
        mean = np.interp(at, np.arange(len(self.means)), self.means[:, int(test)])
        drawn = rng.integers(0, self.residuals.shape[1], np.shape(at))
        return np.clip(mean + self.residuals[np.rint(at).astype(int), drawn, int(test)], 0, 1)

    def confirm(self, design: tuple[str, int, int, int, str], rng: np.random.Generator) -> Array:
        """The scores `(studies, seeds)` of one sweep's confirm runs."""
        _, studies, trials, seeds, choose = design
        scores = np.empty((studies, seeds))
        for study in range(studies):
            positions = qmc.Halton(1, scramble=True, rng=rng).random(trials)
            values = self.run(positions[:, 0], rng, test=False)
            if choose == "smooth":
                values = smoothed(positions, values, keys=1)
            elif choose == "three":
                top = np.argsort(-values)[:3]
                again = (values[top] + self.run(positions[top, 0], rng, test=False)) / 2
                values = np.where(np.isin(np.arange(trials), top), 0.0, -1.0)
                values[top] += again
            scores[study] = self.run(np.full(seeds, positions[np.argmax(values), 0]), rng, test=True)
        return scores

    def units(self, design: tuple[str, int, int, int, str], rng: np.random.Generator) -> Array:
        """The study means of one sweep over the runs that did not collapse; with a single study the scores of its seeds."""
        scores = self.confirm(design, rng)
        scores = np.where(collapsed(scores.ravel(), GUESSING).reshape(scores.shape), np.nan, scores)
        if len(scores) == 1:
            return scores[0]
        known = ~np.isnan(scores)
        return np.where(known.any(axis=1), np.nansum(scores, axis=1) / np.maximum(known.sum(axis=1), 1), np.nan)


def recorded_arms() -> dict[str, RecordedArm]:
    """The recorded optimizers."""
    with (Path(__file__).parent / "data" / "digits_response.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: RecordedArm([row for row in rows if row["optimizer"] == name]) for name in sorted({row["optimizer"] for row in rows})}


def designs(*, sweeps: int) -> list[dict[str, object]]:
    """Error and power of each design for each optimizer."""
    recorded, rows = recorded_arms(), list[dict[str, object]]()
    level = DEFAULT.levels[0]
    for design in DESIGNS:
        name, studies, trials, seeds, choose = design
        for optimizer in ("rmsprop", "adam"):
            arm, rng = recorded[optimizer], np.random.default_rng(0)
            pairs = np.array([(arm.units(design, rng), arm.units(design, rng)) for _ in range(sweeps)])
            gaps = pairs[:, 0] - pairs[:, 1]
            error, power = (float((mean_tests(gaps + shift, level).p < level).mean()) for shift in (0.0, 0.02))
            runs = studies * trials + studies * seeds + (3 * studies if choose == "three" else 0)
            spread = math.sqrt(error * (1 - error) / sweeps), math.sqrt(power * (1 - power) / sweeps)
            rows.append({"design": name, "arm": optimizer, "runs": runs, "error": (error, spread[0]), "power": (power, spread[1])})
    return rows


def mistuned(*, sweeps: int) -> list[dict[str, object]]:
    """How often two different recorded optimizers, whose means among runs that learned are made equal, are told apart by the default plan.

    Collapsed runs count as failed, an arm that leads but has failed on more studies is no winner, and all five analyses are made. `counted
    in the mean`: the same with collapsed runs as part of the mean, which is then made equal.
    """
    _, _, trials, seeds, choose = next(design for design in DESIGNS if "default" in design[0])
    plan, rng, recorded = ("", DEFAULT.units[-1], trials, seeds, choose), np.random.default_rng(0), recorded_arms()
    order = np.array([DEFAULT.study_at(i) for i in range(SEEDS)])
    seed_of = np.array([(order[:i] == study).sum() for i, study in enumerate(order)])
    scores = {name: np.array([arm.confirm(plan, rng)[order, seed_of] for _ in range(sweeps)]) for name, arm in recorded.items()}
    rows: list[dict[str, object]] = []
    for first, second in itertools.combinations(recorded, 2):
        row: dict[str, object] = {"arm": first, "against": second}
        for title, counted in (("told apart", False), ("counted in the mean", True)):
            error = float(told_apart(scores[first], scores[second], counted=counted).mean())
            row[title] = (error, math.sqrt(error * (1 - error) / sweeps))
        rows.append(row)
    return rows


def told_apart(first: Array, second: Array, *, counted: bool) -> npt.NDArray[np.bool_]:
    """Whether two arms `(sweeps, seeds)` of equal means are graded apart at one of the analyses, by a leader that fails no more often."""
    learned = [scores if counted else scores[~collapsed(scores.ravel(), GUESSING).reshape(scores.shape)] for scores in (first, second)]
    arms = [first - learned[0].mean() + 0.9, second - learned[1].mean() + 0.9]
    apart = np.zeros(len(first), bool)
    for k, size in enumerate(DEFAULT.sizes):
        seen = [scores[:, :size].copy() for scores in arms]
        failed = [
            np.zeros_like(scores, bool) if counted else collapsed(raw[:, :size], GUESSING)
            for scores, raw in zip(seen, (first, second), strict=True)
        ]
        for scores, mask in zip(seen, failed, strict=True):
            scores[mask] = np.nan
        gaps, failures = unit_means(seen[0] - seen[1], DEFAULT), [1 - unit_means(1.0 - mask, DEFAULT) > 0 for mask in failed]
        test = mean_tests(gaps, DEFAULT.levels[k])
        more = failures[0].sum(axis=1) - failures[1].sum(axis=1)
        apart |= (test.p < DEFAULT.levels[k]) & (np.sign(test.mean) * more <= 0)
    return apart


def allowance() -> list[dict[str, object]]:
    """By how much larger a difference must be to be found in 80 % with the allowance for skew, beside what power analysis assumes."""
    rng, rows = np.random.default_rng(0), list[dict[str, object]]()
    for n in (3, 5, 7, 10, 15, 20, 30, 50):
        noise, ratios = rng.standard_normal((20_000, n)), []
        for level in (0.05, 0.0334, 0.011):
            needed = brentq(lambda delta: float((mean_tests(noise + delta, level).p < level).mean()) - 0.8, 0.05, 40, xtol=0.01)  # noqa: B023
            alone = brentq(lambda delta: float(paired_power(n, delta=delta, sd=1.0, alpha=level)) - 0.8, 0.05, 40)  # noqa: B023
            ratios.append(needed / alone)
        rows.append({"values": n, "measured": tuple(ratios), "assumed": float(np.interp(n, *SKEW_COST))})
    return rows


def print_table(rows: Sequence[dict[str, object]]) -> None:
    """The rows as a Markdown table."""

    def cell(value: object) -> str:
        if value is None:
            return ""
        if isinstance(value, tuple) and len(value) == 2:
            return f"{value[0]:.1f}" if value[0] > 1 else f"{value[0]:.3f} +- {value[1]:.3f}"
        return (
            " ".join(f"{number:.2f}" for number in value)
            if isinstance(value, tuple)
            else f"{value:.3g}"
            if isinstance(value, float)
            else str(value)
        )

    print("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]))
    for line in rows:
        print("| " + " | ".join(cell(value) for value in line.values()) + " |")


def main() -> int:
    """Print the table that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="verdicts", choices=("verdicts", "designs", "mistuned", "allowance"))
    parser.add_argument("--sweeps", type=int, default=2000)
    parser.add_argument("--arms", type=int, nargs="+", default=[2, 3, 6, 20])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.what == "verdicts":
        rows = verdicts(arguments.arms, sweeps=arguments.sweeps)
    else:
        tables = {"designs": designs, "mistuned": mistuned}
        rows = tables[arguments.what](sweeps=arguments.sweeps) if arguments.what in tables else allowance()
    if arguments.json:
        print(json.dumps(rows))
    else:
        print_table(rows)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
