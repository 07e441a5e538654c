"""What a few seeds say together: the interval of their mean."""

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
