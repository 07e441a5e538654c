"""What was foretold of cells, what was found, and the verdict: supported, not supported or inconclusive, by one rule.

A prediction says between which numbers the mean of a measure lies. The interval of that mean over the seeds (Student's
t, 95 %) decides: within those numbers the prediction is supported, outside of them it is not, else it is
inconclusive, and so is one of a single seed, which has no interval. Several predictions together are supported if
each is, and not supported if one is not.
"""

import statistics
from dataclasses import asdict, dataclass, field

from ..seeds import ratio_interval, t_interval

SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE = "supported", "not supported", "inconclusive"


@dataclass(frozen=True)
class Prediction:
    """That the measure of a cell lies from `low` to `high`, ends included; with `over`, that what it has more than
    that cell does, seed by seed."""

    cell: str
    low: float | None = None
    high: float | None = None
    over: str = ""

    def told(self, measure: str) -> str:
        """The prediction in words."""
        who = f"{self.cell} over {self.over}" if self.over else self.cell
        if self.low is None:
            return f"{who}: {measure} at most {self.high:g}"
        ends = f"at least {self.low:g}" if self.high is None else f"{self.low:g} to {self.high:g}"
        return f"{who}: {measure} {ends}"


@dataclass(frozen=True)
class Finding:
    """What came of one prediction: the mean over the seeds, its interval, the verdict and why."""

    prediction: str
    effect: float | None
    interval: list[float] | None
    seeds: int
    verdict: str
    reason: str


def judge(
    prediction: Prediction, measure: str, found: dict[str, dict[int, float]], most: float, ratios: bool = False
) -> Finding:
    """The verdict on a prediction from the measures `found`, by cell and seed; none can be more than `most`. The mean
    of `ratios` is the geometric one."""
    values = found[prediction.cell]
    if prediction.over:
        other = found[prediction.over]
        values = {seed: value - other[seed] for seed, value in values.items() if seed in other}
    values = list(values.values())
    average, ends = (statistics.geometric_mean, ratio_interval) if ratios else (statistics.fmean, t_interval)
    mean, interval = average(values) if values else None, ends(values)
    verdict, reason = _decided(prediction, interval, len(values), most)
    return Finding(prediction.told(measure), mean, interval, len(values), verdict, reason)


def _decided(prediction, interval, seeds, most):
    low, high = prediction.low, prediction.high
    if interval is None:
        return INCONCLUSIVE, "one seed gives no interval" if seeds else "no run came to its end"
    if (low or 0) > most or (high or 0) >= most:
        return INCONCLUSIVE, f"nothing above {most:g} was tried"
    above, below = low is None or interval[0] >= low, high is None or interval[1] <= high
    if above and below:
        return SUPPORTED, "the interval lies within what was foretold"
    if (low is not None and interval[1] < low) or (high is not None and interval[0] > high):
        return NOT_SUPPORTED, "the interval lies outside of what was foretold"
    return INCONCLUSIVE, "the interval reaches over an end of what was foretold"


def together(findings: list[Finding]) -> str:
    """The verdict on all findings together; inconclusive where nothing was foretold."""
    verdicts = [finding.verdict for finding in findings]
    if NOT_SUPPORTED in verdicts:
        return NOT_SUPPORTED
    return SUPPORTED if verdicts and set(verdicts) == {SUPPORTED} else INCONCLUSIVE


@dataclass(frozen=True)
class Result:
    """What a probe gives: rows as they were measured, a table with a line for each cell, findings, verdict."""

    probe: str
    question: str
    measure: str  # what effect and interval are of
    expectation: str  # stated beforehand, in words
    source: str  # where it comes from
    baseline: str  # chance level, or what a model without memory reaches
    rows: list[dict]
    table: list[dict]
    findings: list[Finding]
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """That on all findings together."""
        return together(self.findings)

    @property
    def deciding(self) -> Finding | None:
        """The first finding whose verdict is that on the whole."""
        return next((finding for finding in self.findings if finding.verdict == self.verdict), None)

    @property
    def effect(self) -> float | None:
        """That of the deciding finding."""
        return self.deciding.effect if self.deciding else None

    @property
    def interval(self) -> list[float] | None:
        """That of the deciding finding."""
        return self.deciding.interval if self.deciding else None

    def record(self) -> dict:
        """All of it as plain data."""
        own = {name: getattr(self, name) for name in ("effect", "interval", "verdict")}
        return asdict(self) | own
