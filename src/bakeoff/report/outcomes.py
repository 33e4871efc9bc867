"""What became of the confirm runs: which of them learned, which are no better than guessing, and which failed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from bakeoff.report.results import ENDED, SweepResults
from bakeoff.stats.failures import collapsed
from bakeoff.stats.intervals import ALPHA
from bakeoff.stats.scores import Scores

Labels = npt.NDArray[Any]
#: Permutations times classes of the test for guessing, at most.
MAX_PERMUTED_LABELS = 5_000_000
#: Block -> arm -> seed -> whether the run failed: it diverged, ended with an error, is no better than guessing, or
#: collapsed.
Failures = Mapping[str, Mapping[str, Mapping[int, bool]]]


def guessing_level(sweep: SweepResults, block: str) -> float | None:
    """The accuracy of always naming the most frequent class of the test set; None where no run kept its predictions."""
    shares = sweep.class_shares.get(block)
    return max(shares) if shares else None


def is_guessing(predicted: Labels, target: Labels, *, alpha: float) -> bool:
    """Whether predictions are no better than guessing.

    Two tests at level `alpha`, both of which must reject. The exact binomial test against the share of the most frequent class takes images
    as independent. A net that has learned nothing gives similar images the same class, so its accuracy spreads more than that; but which
    class it gives them is arbitrary. So the classes that it names are permuted (Fisher 1935), and its accuracy must exceed those of all but
    a share `alpha` of the permutations.

    Args:
        predicted: the predicted classes, `(images,)`.
        target: the true classes, `(images,)`.
        alpha: level of each test.
    """
    classes = int(max(predicted.max(), target.max())) + 1
    confusion = np.zeros((classes, classes), int)
    np.add.at(confusion, (predicted, target), 1)
    correct, images = int(np.trace(confusion)), len(target)
    if correct <= stats.binom.ppf(1 - alpha, images, confusion.sum(axis=0).max() / images):
        return True
    rng, permutations = np.random.default_rng(0), min(math.ceil(2 / alpha), MAX_PERMUTED_LABELS // classes)
    renamed = rng.permuted(np.tile(np.arange(classes), (permutations, 1)), axis=1)
    by_chance = confusion[np.arange(classes), renamed].sum(axis=1)
    return float((1 + (by_chance >= correct).sum()) / (permutations + 1)) > max(alpha, 1.5 / (permutations + 1))


def guessing_runs(sweep: SweepResults) -> dict[tuple[str, str, int], bool]:
    """(block, arm, seed) -> whether a confirm run is no better than guessing, for runs that kept their predictions.

    The level of 5 % is shared out over the runs of the block, so that a lucky one does not count as learning.
    """
    rows = sweep.stage_runs("confirm")
    rows = rows[rows["mlflow_id"].isin(list(sweep.test_predictions)) & rows["seed"].notna()]
    guessing: dict[tuple[str, str, int], bool] = {}
    for block, in_block in rows.groupby("block", sort=False):
        for arm, seed, run in zip(in_block["arm"], in_block["seed"], in_block["mlflow_id"], strict=True):
            predicted, target = sweep.test_predictions[run]
            if int(seed) not in sweep.test_correct[str(block)][str(arm)]:
                continue  # it was tested on other images
            guessing[str(block), str(arm), int(seed)] = is_guessing(predicted, target, alpha=ALPHA / len(in_block))
    return guessing


def failures(sweep: SweepResults) -> Failures:
    """Which confirm runs failed, of those that have ended, and of the seeds whose study has no setting to confirm.

    A run fails if it diverges, ends with an error or without a finite score, is no better than guessing, or collapses (`collapsed_runs`).
    Every arm and block is a key.
    """
    guessing, table = guessing_runs(sweep), {block: {arm: dict[int, bool]() for arm in sweep.design.arms} for block in sweep.design.blocks}
    for planned in sweep.design.planned_arms:
        for seed in sweep.seed_order:
            if sweep.never_confirmed(planned.arm, planned.block, seed):
                table[planned.block][planned.arm][seed] = True
    rows = sweep.stage_runs("confirm")
    rows = rows[rows["state"].isin(ENDED) & rows["seed"].notna()]
    columns = (rows["block"], rows["arm"], rows["seed"].astype(int), rows["state"], rows["score"])
    for block, arm, seed, state, score in zip(*columns, strict=True):
        table[block][arm][seed] = state != "finished" or not math.isfinite(score) or guessing.get((block, arm, seed), False)
    for block, arm, seed in collapsed_runs(sweep, table):
        table[block][arm][seed] = True
    return table


def collapsed_runs(sweep: SweepResults, failed: Failures) -> list[tuple[str, str, int]]:
    """The (block, arm, seed) of confirm runs whose accuracy is nearer to guessing than to the median of their arm's other runs there.

    Such runs decide a mean before a few studies have met one of them, so they are counted and not averaged. Where no run kept its
    predictions the level of guessing is unknown, and a run collapses below half of the median. Other scores do not
    collapse.

    Args:
        sweep: the results.
        failed: the runs that failed otherwise, which have no part in the median.
    """
    if not sweep.score_metric.endswith("accuracy"):
        return []
    runs = list[tuple[str, str, int]]()
    for block, by_arm in sweep.scores().items():
        guessing = guessing_level(sweep, block) or 0.0
        for arm, by_seed in by_arm.items():
            scores = {seed: score for seed, score in by_seed.items() if not failed[block][arm].get(seed, False)}
            mask = collapsed(np.array(list(scores.values())), guessing) if scores else ()
            runs += [(block, arm, seed) for seed, has_collapsed in zip(scores, mask, strict=True) if has_collapsed]
    return runs


def learned_scores(sweep: SweepResults, failed: Failures) -> Scores:
    """The scores of the runs that learned.

    In a block where some arm has runs and none of them learned, all runs of all arms keep the scores that they have: the best runs of one
    arm are never compared with all runs of another.
    """
    scores = sweep.scores()
    learned = {}
    for block, by_arm in scores.items():
        selected = {
            arm: {seed: s for seed, s in by_seed.items() if not failed[block][arm].get(seed, False)} for arm, by_seed in by_arm.items()
        }
        one_never_learned = arms_that_never_learned(sweep, failed, block)
        learned[block] = {arm: dict(by_seed) for arm, by_seed in by_arm.items()} if one_never_learned else selected
    return learned


def arms_that_never_learned(sweep: SweepResults, failed: Failures, block: str) -> list[str]:
    """The arms that have runs with a score in a block, all of which failed."""
    return [
        arm for arm, by_seed in sweep.scores()[block].items() if by_seed and all(failed[block][arm].get(seed, False) for seed in by_seed)
    ]


def compared_scores(sweep: SweepResults) -> Scores:
    """The scores that arms are compared by: those of the runs that learned; of runs that no plan asked for, all."""
    return learned_scores(sweep, failures(sweep)) if sweep.design.declared else sweep.scores()


def failed_in_any_block(failed: Failures) -> dict[str, dict[int, bool]]:
    """Arm -> seed -> whether the run failed in some block."""
    merged: dict[str, dict[int, bool]] = {}
    for by_arm in failed.values():
        for arm, by_seed in by_arm.items():
            for seed, has_failed in by_seed.items():
                merged.setdefault(arm, {})[seed] = has_failed or merged.get(arm, {}).get(seed, False)
    return merged


def nothing_learned(failed: Failures, blocks: Sequence[str]) -> bool:
    """Whether confirm runs have ended in these blocks and all of them failed: then no arm is better than another."""
    ended = [has_failed for block in blocks for by_seed in failed[block].values() for has_failed in by_seed.values()]
    return bool(ended) and all(ended)


def failed_tuning_runs(sweep: SweepResults, arm: str, block: str | None) -> tuple[int, int]:
    """(tuning runs of an arm that diverged or failed, those that have ended), in a block or in all."""
    rows = sweep.stage_runs("tune")
    rows = rows[(rows["arm"] == arm) & rows["state"].isin(ENDED)]
    rows = rows if block is None else rows[rows["block"] == block]
    return int(rows["state"].isin(["diverged", "failed"]).sum()), len(rows)


def never_trained_p(sweep: SweepResults, arm: str, rival: str, block: str | None) -> float:
    """The one-sided p of Fisher's exact test that the tuning runs of an arm fail more often than a rival's."""
    failed, runs = failed_tuning_runs(sweep, arm, block)
    rival_failed, rival_runs = failed_tuning_runs(sweep, rival, block)
    if not runs or not rival_runs:
        return 1.0
    counts = [[failed, runs - failed], [rival_failed, rival_runs - rival_failed]]
    return float(stats.fisher_exact(counts, alternative="greater").pvalue)


def best_accuracy(sweep: SweepResults, blocks: Sequence[str]) -> float | None:
    """The best accuracy of a confirm run in these blocks that trained to its end and kept its predictions; None where none has."""
    rows = sweep.stage_runs("confirm")
    rows = rows[rows["state"].eq("finished") & rows["block"].isin(blocks)]
    runs = [
        sweep.test_correct[block][arm][seed]
        for block, arm, seed in zip(rows["block"], rows["arm"], rows["seed"], strict=True)
        if seed in sweep.test_correct[block][arm]
    ]
    return max((float(correct.mean()) for correct in runs), default=None)
