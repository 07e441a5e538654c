"""What a few seeds say together: the interval of their mean, and whether it is as good as none."""

import math
import statistics

CONFIDENCE = 0.95


def t_interval(values: list[float], confidence: float = CONFIDENCE) -> list[float] | None:
    """The interval of the mean of a few values that scatter normally; None for fewer than two."""
    if len(values) < 2:
        return None
    from scipy.stats import t

    half = t.ppf((1 + confidence) / 2, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return [float(mean - half), float(mean + half)]


def ratio_interval(values: list[float]) -> list[float] | None:
    """As t_interval, of the geometric mean of ratios: half as large and twice as large lie equally far from 1."""
    ends = t_interval([math.log(value) for value in values])
    return ends and [math.exp(end) for end in ends]


def equivalence(values: list[float], margin: float) -> float | None:
    """The p-value of two one-sided t tests (Schuirmann 1987) of whether the mean lies within `margin` of 0: small
    where it does. None for fewer than two values."""
    if len(values) < 2:
        return None
    mean = statistics.fmean(values)
    if len(set(values)) == 1:
        return float(abs(mean) >= margin)
    from scipy.stats import ttest_1samp

    sides = ((margin, "less"), (-margin, "greater"))
    return float(max(ttest_1samp(values, end, alternative=side).pvalue for end, side in sides))
