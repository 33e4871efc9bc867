"""Analysis of variance of factorial sweeps: main effects and two-factor interactions."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bakeoff.stats.intervals import ALPHA, MeanInterval, mean_interval


@dataclass(frozen=True)
class FactorialEffect:
    """One row of the analysis of variance: a factor, or an interaction with the name 'a x b'. `share` is partial eta squared."""

    block: str
    name: str
    df: float
    sum_of_squares: float
    f: float
    p: float
    share: float


@dataclass(frozen=True)
class FactorLevel:
    """The mean of all runs with one value of a factor, averaged seed by seed over the other factors."""

    block: str
    factor: str
    value: str
    interval: MeanInterval


@dataclass(frozen=True)
class FactorialAnova:
    """The effects in one block, and the means of every factor's values.

    `residual_df` are the degrees of freedom of the residuals against which effects are tested, and `n` is the number of runs.
    """

    block: str
    effects: tuple[FactorialEffect, ...]
    levels: tuple[FactorLevel, ...]
    residual_df: float
    n: int

    @property
    def interactions(self) -> tuple[FactorialEffect, ...]:
        """The interactions that are significant at 5 %: with one, a factor's mean does not hold for each value of the other factor."""
        return tuple(effect for effect in self.effects if " x " in effect.name and effect.p < ALPHA)


def factorial_anova(
    block: str, scores_by_arm: Mapping[str, Mapping[int, float]], choices: Mapping[str, Mapping[str, Any]], factors: Sequence[str]
) -> FactorialAnova | None:
    """Type II analysis of variance of score ~ all factors and their pairs + seed (Yates 1934; statsmodels' anova_lm).

    The seed is a factor of its own, as arms share it. An interaction is left out where a combination of its two factors was never run.

    Args:
        block: the name of the block.
        scores_by_arm: arm -> seed -> score.
        choices: arm -> factor -> value.
        factors: the factors.

    Returns:
        The analysis; None with fewer than two factors that vary, or where no variance is left to test against.
    """
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    rows = [
        {"score": score, "seed": seed, **{f"f{i}": str(choices[arm].get(name)) for i, name in enumerate(factors)}}
        for arm, scores_by_seed in scores_by_arm.items()
        for seed, score in scores_by_seed.items()
    ]
    frame = pd.DataFrame(rows)
    varied = [i for i, _ in enumerate(factors) if len(frame) and frame[f"f{i}"].nunique() > 1]
    if len(varied) < 2:
        return None
    crossed = [
        (i, j)
        for i, j in itertools.combinations(varied, 2)
        if len(frame.groupby([f"f{i}", f"f{j}"])) == frame[f"f{i}"].nunique() * frame[f"f{j}"].nunique()
    ]
    terms = {f"C(f{i})": factors[i] for i in varied} | {f"C(f{i}):C(f{j})": f"{factors[i]} x {factors[j]}" for i, j in crossed}
    model = ols(f"score ~ {' + '.join(terms)}{' + C(seed)' if frame['seed'].nunique() > 1 else ''}", data=frame).fit()
    if model.df_resid < 1 or model.ssr <= 1e-24 * max(1.0, float((frame["score"] ** 2).sum())):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a covariance of low rank, which the degrees of freedom show
        anova = anova_lm(model, typ=2)
    effects: list[FactorialEffect] = []
    for key, name in terms.items():
        row = anova.loc[key]
        squares = float(row["sum_sq"])
        if math.isfinite(float(row["F"])):
            effects.append(
                FactorialEffect(
                    block, name, float(row["df"]), squares, float(row["F"]), float(row["PR(>F)"]), squares / (squares + model.ssr)
                )
            )
    levels = tuple(
        FactorLevel(block, factors[i], str(value), mean_interval([float(v) for v in part.groupby("seed")["score"].mean()]))
        for i in varied
        for value, part in frame.groupby(f"f{i}", sort=False)
    )
    return FactorialAnova(block, tuple(effects), levels, float(model.df_resid), len(frame))
