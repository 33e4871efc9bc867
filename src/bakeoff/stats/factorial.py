"""What each factor of a factorial does by itself, and what only a combination does."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bakeoff.stats.alpha_spending import ALPHA
from bakeoff.stats.paired import MeanInterval, mean_interval


@dataclass(frozen=True)
class FactorialEffect:
    """One row of the analysis of variance: a factor, or two joined by `name` 'a x b'. `share` is partial eta squared."""

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
    """One block's effects, and the means of every factor's values; `residual_df` is what the tests rest on."""

    block: str
    effects: tuple[FactorialEffect, ...]
    levels: tuple[FactorLevel, ...]
    residual_df: float
    n: int

    @property
    def interactions(self) -> tuple[FactorialEffect, ...]:
        """Effects of two factors together that are found at 5 %: where there is one, a factor's own mean does not tell the whole story."""
        return tuple(one for one in self.effects if " x " in one.name and one.p < ALPHA)


def factorial_anova(
    block: str, table: Mapping[str, Mapping[int, float]], choices: Mapping[str, Mapping[str, Any]], factors: Sequence[str]
) -> FactorialAnova | None:
    """Type II analysis of variance of score ~ all factors and their pairs + seed (Yates 1934; statsmodels' anova_lm).

    `table` is arm -> seed -> score, `choices` arm -> factor -> value. The seed is a factor of its own, as arms share it. None with fewer
    than two factors that vary, where no spread is left to test against, or where a combination of two factors was never run.
    """
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    rows = [
        {"score": score, "seed": seed, **{f"f{i}": str(choices[arm].get(name)) for i, name in enumerate(factors)}}
        for arm, seeds in table.items()
        for seed, score in seeds.items()
    ]
    frame = pd.DataFrame(rows)
    varied = [i for i, _ in enumerate(factors) if len(frame) and frame[f"f{i}"].nunique() > 1]
    if len(varied) < 2:
        return None
    pairs = [(i, j) for at, i in enumerate(varied) for j in varied[at + 1 :]]
    whole = [(i, j) for i, j in pairs if len(frame.groupby([f"f{i}", f"f{j}"])) == frame[f"f{i}"].nunique() * frame[f"f{j}"].nunique()]
    terms = {f"C(f{i})": factors[i] for i in varied} | {f"C(f{i}):C(f{j})": f"{factors[i]} x {factors[j]}" for i, j in whole}
    several = frame["seed"].nunique() > 1
    model = ols(f"score ~ {' + '.join(terms)}{' + C(seed)' if several else ''}", data=frame).fit()
    if model.df_resid < 1 or model.ssr <= 1e-24 * max(1.0, float((frame["score"] ** 2).sum())):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a covariance of low rank is told by the degrees of freedom
        told = anova_lm(model, typ=2)
    effects: list[FactorialEffect] = []
    for key, name in terms.items():
        row = told.loc[key]
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
