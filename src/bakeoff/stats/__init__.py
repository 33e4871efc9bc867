"""Statistics on plain numbers and arrays: intervals, comparisons, alpha spending, power, ranks, aggregates, survival, tuning curves.

Scores are mappings block -> arm -> seed -> score. Two arms that were trained with the same seeds are compared like this:

>>> from bakeoff.stats import compare_pairs
>>> scores = {"mnist": {"adam": {1: 0.97, 2: 0.98, 3: 0.975}, "sgd": {1: 0.95, 2: 0.965, 3: 0.955}}}
>>> [difference] = compare_pairs(scores, ["adam", "sgd"], goal="maximize", margin=0.005)
>>> difference.better, difference.n, round(difference.advantage, 4), difference.grade
('adam', 3, 0.0183, 'supported')

Steps until runs reach a target, of which one run in each arm never does within 100:

>>> import numpy as np
>>> from bakeoff.stats import CensoredTimes, kaplan_meier, log_rank_tests
>>> reached = np.array([True, True, True, False])
>>> adam, sgd = (CensoredTimes(np.array(steps), reached) for steps in ([10.0, 20.0, 30.0, 100.0], [40.0, 50.0, 60.0, 100.0]))
>>> kaplan_meier(adam).survival.tolist(), kaplan_meier(sgd).median
([0.75, 0.5, 0.25, 0.25], 50.0)
>>> [test] = log_rank_tests({"adam": adam, "sgd": sgd})
>>> test.faster, round(test.p, 3)
('adam', 0.4)
"""

from bakeoff.stats.aggregates import InterquartileMean, PerformanceProfile, interquartile_means, performance_profiles
from bakeoff.stats.alpha_spending import SequentialDesign, boundaries, spent_alpha
from bakeoff.stats.factorial import FactorialAnova, FactorialEffect, FactorLevel, factorial_anova
from bakeoff.stats.intervals import ALPHA, LEVEL, MeanInterval, clopper_pearson, clustered_mean_interval, mean_interval
from bakeoff.stats.multiple_comparisons import SimultaneousComparison, dunnett_vs_baseline, holm, tukey_all_pairs
from bakeoff.stats.paired import Grade, PairedDifference, compare_family, compare_pairs, permutation_p, win_shares
from bakeoff.stats.power import paired_power, seeds_needed
from bakeoff.stats.ranks import MeanRanks, critical_difference, mean_ranks
from bakeoff.stats.repeated_intervals import RepeatedIntervals, repeated_confidence_intervals
from bakeoff.stats.resolution import images_resolution
from bakeoff.stats.scores import ALL_BLOCKS, Goal, Scores, mean_over_blocks, mean_over_studies
from bakeoff.stats.sensitivity import GoodRegion, good_region
from bakeoff.stats.survival import CensoredTimes, LogRankTest, SurvivalCurve, kaplan_meier, log_rank_tests
from bakeoff.stats.tuning_curves import TuningCurve, leading_budgets, tuning_curve
from bakeoff.stats.variance_components import TuningVariance, tuning_variances, variance_components

__all__ = [
    "ALL_BLOCKS",
    "ALPHA",
    "LEVEL",
    "CensoredTimes",
    "FactorLevel",
    "FactorialAnova",
    "FactorialEffect",
    "Goal",
    "GoodRegion",
    "Grade",
    "InterquartileMean",
    "LogRankTest",
    "MeanInterval",
    "MeanRanks",
    "PairedDifference",
    "PerformanceProfile",
    "RepeatedIntervals",
    "Scores",
    "SequentialDesign",
    "SimultaneousComparison",
    "SurvivalCurve",
    "TuningCurve",
    "TuningVariance",
    "boundaries",
    "clopper_pearson",
    "clustered_mean_interval",
    "compare_family",
    "compare_pairs",
    "critical_difference",
    "dunnett_vs_baseline",
    "factorial_anova",
    "good_region",
    "holm",
    "images_resolution",
    "interquartile_means",
    "kaplan_meier",
    "leading_budgets",
    "log_rank_tests",
    "mean_interval",
    "mean_over_blocks",
    "mean_over_studies",
    "mean_ranks",
    "paired_power",
    "performance_profiles",
    "permutation_p",
    "repeated_confidence_intervals",
    "seeds_needed",
    "spent_alpha",
    "tukey_all_pairs",
    "tuning_curve",
    "tuning_variances",
    "variance_components",
    "win_shares",
]
