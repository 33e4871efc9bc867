"""What became of the confirm runs: which of them learned, which are no better than guessing, and which failed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

from scipy import stats

from bakeoff.report.results import ENDED, SweepResults
from bakeoff.stats.intervals import ALPHA
from bakeoff.stats.scores import Scores

#: Block -> arm -> seed -> whether the run failed: it diverged, ended with an error, or is no better than guessing.
Failures = Mapping[str, Mapping[str, Mapping[int, bool]]]


def guessing_level(sweep: SweepResults, block: str) -> float | None:
    """The accuracy of always naming the most frequent class of the test set; None where no run kept its predictions."""
    shares = sweep.class_shares.get(block)
    return max(shares) if shares else None


def is_guessing(accuracy: float, *, images: int, level: float, alpha: float) -> bool:
    """Whether an accuracy on so many images could come from guessing: the one-sided exact binomial test at level `alpha`."""
    return accuracy <= _guessing_limit(images, level, alpha)


@lru_cache(maxsize=256)
def _guessing_limit(images: int, level: float, alpha: float) -> float:
    """The largest accuracy that the test does not reject."""
    return float(stats.binom.ppf(1 - alpha, images, level)) / images


def guessing_runs(sweep: SweepResults) -> dict[tuple[str, str, int], bool]:
    """(block, arm, seed) -> whether a confirm run is no better than guessing, for runs that kept their predictions.

    The level of 5 % is shared out over the runs of the block, so that a lucky one does not count as learning.
    """
    guessing: dict[tuple[str, str, int], bool] = {}
    for block, by_arm in sweep.test_correct.items():
        level, runs = guessing_level(sweep, block), sum(map(len, by_arm.values()))
        for arm, by_seed in by_arm.items():
            for seed, correct in by_seed.items():
                if level is not None:
                    guessing[block, arm, seed] = is_guessing(float(correct.mean()), images=len(correct), level=level, alpha=ALPHA / runs)
    return guessing


def failures(sweep: SweepResults) -> Failures:
    """Which confirm runs failed, of those that have ended; every arm and block is a key."""
    guessing, table = guessing_runs(sweep), {block: {arm: dict[int, bool]() for arm in sweep.design.arms} for block in sweep.design.blocks}
    rows = sweep.stage_runs("confirm")
    rows = rows[rows["state"].isin(ENDED) & rows["seed"].notna()]
    for block, arm, seed, state in zip(rows["block"], rows["arm"], rows["seed"].astype(int), rows["state"], strict=True):
        table[block][arm][seed] = state in ("diverged", "failed") or guessing.get((block, arm, seed), False)
    return table


def learned_scores(sweep: SweepResults, failed: Failures) -> Scores:
    """The scores of the runs that learned; an arm none of whose runs did keeps the scores that it has."""
    scores = sweep.scores()
    return {
        block: {
            arm: {seed: score for seed, score in by_seed.items() if not failed[block][arm].get(seed, False)} or dict(by_seed)
            for arm, by_seed in by_arm.items()
        }
        for block, by_arm in scores.items()
    }


def failed_in_any_block(failed: Failures) -> dict[str, dict[int, bool]]:
    """Arm -> seed -> whether the run failed in some block."""
    merged: dict[str, dict[int, bool]] = {}
    for by_arm in failed.values():
        for arm, by_seed in by_arm.items():
            for seed, has_failed in by_seed.items():
                merged.setdefault(arm, {})[seed] = has_failed or merged.get(arm, {}).get(seed, False)
    return merged


def nothing_learned(failed: Failures, sweep: SweepResults) -> bool:
    """Whether no confirm run of the sweep learned, and guessing is known: then no arm is better than another."""
    ended = [has_failed for by_arm in failed.values() for by_seed in by_arm.values() for has_failed in by_seed.values()]
    return bool(ended) and all(ended) and any(guessing_runs(sweep).values())


def failed_tuning_runs(sweep: SweepResults, arm: str, block: str | None) -> tuple[int, int]:
    """(tuning runs of an arm that diverged or failed, those that have ended), in a block or in all."""
    rows = sweep.stage_runs("tune")
    rows = rows[(rows["arm"] == arm) & rows["state"].isin(ENDED)]
    rows = rows if block is None else rows[rows["block"] == block]
    return int(rows["state"].isin(["diverged", "failed"]).sum()), len(rows)


def best_accuracy(sweep: SweepResults) -> float:
    """The best accuracy of a confirm run that kept its predictions."""
    accuracies = [float(c.mean()) for by_arm in sweep.test_correct.values() for by_seed in by_arm.values() for c in by_seed.values()]
    return max(accuracies, default=math.nan)
