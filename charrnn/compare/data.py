"""What more text is worth: a curve through the sizes of each cell, and whether its gap to the first changes (P2)."""

import math
import statistics

import numpy as np

from ..seeds import t_interval
from .plan import Plan
from .work import jobs

FEWEST = 4  # sizes that a curve of three numbers is fitted to, so that it can fail to fit
STEEPEST = 3.0  # exponent


def worth(plan: Plan, rows: dict[str, dict]) -> list[dict]:
    """A line for each cell (and varied setting) of a comparison with several sizes; none where there is one size.

    `floor` E, `scale` A and `exponent` a of bits = E + A size^-a, and `residual`, the root mean square of what the
    curve misses; `slope`, by how many bits the gap to the first line grows each time the text doubles, the mean over
    seeds with its t interval.
    """
    if len(plan.asked["sizes"]) < 2:
        return []
    found, lines = scores(plan, rows), []
    first = next(iter(found))
    for label, own in found.items():
        means = {size: statistics.fmean(by_seed.values()) for size, by_seed in own.items() if by_seed}
        line = {"label": label, "sizes": sorted(means)} | _curve(means)
        grows = [] if label == first else list(slopes(own, found[first]).values())
        line |= {"against": None if label == first else first, "seeds": len(grows)}
        lines.append(line | {"slope": statistics.fmean(grows) if grows else None, "slope_interval": t_interval(grows)})
    return lines


def scores(plan: Plan, rows: dict[str, dict]) -> dict[str, dict]:
    """Bits by label without size, by size, by seed."""
    found = {}
    for job in jobs(plan, rows):
        if job.purpose == "result":
            by_size = found.setdefault(job.entry.label.rsplit(", ", 1)[0], {}).setdefault(job.entry.size, {})
            if (row := rows.get(job.name)) and row["status"] == "done":
                by_size[job.seed] = row["bits"]
    return found


def _curve(means):
    """The curve through a mean for each size, all None where there are too few or none fits."""
    names = ("floor", "scale", "exponent", "residual")
    if len(means) < FEWEST:
        return dict.fromkeys(names)
    from scipy.optimize import curve_fit

    sizes, bits = (np.array(each, float) for each in zip(*sorted(means.items()), strict=True))
    least, drop = sizes[0], bits.max() - bits.min()
    curve = lambda x, floor, height, exponent: floor + height * x**-exponent  # noqa: E731
    start = (max(bits.min() - drop, 0.0), 2 * drop + 1e-6, 0.3)
    try:
        (floor, height, exponent), _ = curve_fit(
            curve, sizes / least, bits, start, bounds=([0, 0, 0], [np.inf, np.inf, STEEPEST])
        )
    except RuntimeError:  # it did not come to an end
        return dict.fromkeys(names)
    left = bits - curve(sizes / least, floor, height, exponent)
    values = floor, height * least**exponent, exponent, math.sqrt(np.mean(left**2))
    return dict(zip(names, map(float, values), strict=True))


def slopes(own: dict, first: dict) -> dict[int, float]:
    """By seed, for those that have two sizes or more of both: bits per doubling, by a straight line through the gaps
    of two cells' `scores`."""
    from scipy.stats import linregress

    gaps = {}
    for size, by_seed in own.items():
        for seed in by_seed.keys() & first.get(size, {}).keys():
            gaps.setdefault(seed, {})[size] = by_seed[seed] - first[size][seed]
    return {
        seed: float(linregress(np.log2(list(by_size)), list(by_size.values())).slope)
        for seed, by_size in sorted(gaps.items())
        if len(by_size) > 1
    }
