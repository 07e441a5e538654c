"""Turns in time: who runs when, which samples count, their medians, and how far a ratio can be trusted.

Contenders take turns, round by round, so that whatever the machine does meanwhile happens to all of them. A sample is
one turn; it is dropped where other processes used a part of the machine while it was taken.
"""

import math
import os
import time
from dataclasses import dataclass
from itertools import count
from statistics import median, quantiles

FOREIGN = 0.03  # the share of the machine that others may use while a sample is taken
TICK = 0.01  # seconds; the system counts the time of its processors no finer
SHORTEST = 0.05  # seconds of which that can tell anything
LOOK = 0.3  # seconds for which the machine is looked at beforehand
TURN = 0.3  # seconds of a turn, in which the work is repeated
FEWEST = 5  # rounds that are to fit: where time is short, turns are


@dataclass(frozen=True)
class Limit:
    """When a comparison ends: at so many seconds or rounds, whichever comes first, but after one round at least."""

    seconds: float = math.inf
    rounds: float = math.inf


@dataclass(frozen=True)
class Turn:
    """What a turn took: seconds on the clock, and the seconds of processors that the contender itself used."""

    seconds: float
    own: float


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles, low and high; of a single value all three are that value."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values) -> "Spread":
        values = list(values)
        low, _, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
        return cls(median(values), low, high)


def timed(once) -> float:
    """The seconds that one call takes."""
    start = time.perf_counter()
    once()
    return time.perf_counter() - start


class Series:
    """The samples of one contender: the seconds of one repetition, of `units` characters or the like, by round."""

    def __init__(self, units: float):
        self.units, self.samples, self.loaded = units, {}, {}

    def add(self, number: int, seconds: float, loaded: bool | None) -> None:
        """The sample of a round, and whether it was taken under foreign load (None: nobody knows)."""
        self.samples[number], self.loaded[number] = seconds, loaded

    @property
    def used(self) -> dict[int, float]:
        """The samples that count: those not taken under foreign load; all, where every one was."""
        quiet = {number: seconds for number, seconds in self.samples.items() if not self.loaded[number]}
        return quiet or self.samples

    @property
    def load(self) -> str:
        """What is known of foreign load on the samples that count: clean, loaded or unknown."""
        known = {self.loaded[number] for number in self.used}
        return "loaded" if True in known else "unknown" if None in known else "clean"

    def seconds(self) -> Spread:
        """The time of one repetition."""
        return Spread.of(self.used.values())

    def speed(self) -> Spread:
        """Units per second."""
        return Spread.of(self.units / seconds for seconds in self.used.values())


def faster(ours: Series, theirs: Series) -> Spread:
    """How many times as fast ours is, unit by unit: the ratio of the medians, with the quartiles of the ratios of each
    sample of theirs to each sample of ours."""
    scale = ours.units / theirs.units
    ratio = scale * theirs.seconds().median / ours.seconds().median
    pairs = Spread.of(scale * a / b for a in theirs.used.values() for b in ours.used.values())
    return Spread(ratio, min(ratio, pairs.low), max(ratio, pairs.high))  # of few samples it may be just outside


def interleave(contenders, limit: Limit, clock=time.monotonic, busy=None) -> list[Series]:
    """Lets contenders take turns until the limit; each has `units` and `turn(repetitions) -> Turn`.

    Every other round goes backwards, so that nobody always follows the same one. `busy` is as busy() below.
    """
    busy = busy or processors_busy
    end = clock() + limit.seconds
    length = min(TURN, limit.seconds / (FEWEST * len(contenders)))
    repetitions = [_repetitions(contender, length) for contender in contenders]
    series = [Series(contender.units) for contender in contenders]
    order, last = range(len(contenders)), 0.0
    for number in count():
        began = clock()
        if number and (number >= limit.rounds or began + last > end):
            return series
        for k in order[:: -1 if number % 2 else 1]:
            before, start = busy(), clock()
            turn = contenders[k].turn(repetitions[k])
            loaded = foreign_load(before, busy(), turn.own, clock() - start)
            series[k].add(number, turn.seconds / repetitions[k], loaded)
        last = clock() - began


def _repetitions(contender, length):
    """How often a contender does its work in a turn of this many seconds, found while it warms up."""
    seconds, number = contender.turn(1).seconds, 1
    if seconds >= length:
        seconds = contender.turn(1).seconds  # the first time it may have made something for itself, such as code
    if seconds >= length:
        return 1
    while (seconds := contender.turn(number).seconds) < length / 2:
        number = math.ceil(number * min(10, length / max(seconds, 1e-9)))
    return max(1, round(number * length / seconds))


def foreign_load(before, after, own: float, seconds: float) -> bool | None:
    """Whether others used more than FOREIGN of the machine in these seconds, in which we used `own` of its time.

    `before` and `after` are what processors_busy() said; None where that tells nothing, or nothing of so short a time.
    """
    if before is None or after is None or seconds < SHORTEST:
        return None
    worked, processors = after[0] - before[0], after[1]
    slack = TICK * processors
    if worked < own / 2 - slack:
        return None  # a sandbox whose counters stand still
    return worked - own > FOREIGN * seconds * processors + slack


def used_by_others(clock=time.monotonic, sleep=time.sleep, busy=None) -> float | None:
    """The share of the machine that others use now, while we look on; None where nobody can tell."""
    busy = busy or processors_busy
    before, start = busy(), clock()
    sleep(LOOK)
    after, seconds = busy(), clock() - start
    if before is None or after is None or seconds < SHORTEST:
        return None
    return min(1.0, (after[0] - before[0]) / (seconds * after[1]))


def processors_busy() -> tuple[float, int] | None:
    """The seconds that all processors together have worked since the system started, and how many there are.

    Only Linux's /proc/stat tells; None elsewhere.
    """
    try:
        with open("/proc/stat", encoding="ascii") as file:
            return read_stat(file.read(), os.sysconf("SC_CLK_TCK"))
    except OSError:
        return None


def read_stat(text: str, ticks: int) -> tuple[float, int] | None:
    """As processors_busy, from the text of /proc/stat, which counts in so many ticks a second.

    What another machine on the same host took ("steal") counts as work of others.
    """
    lines = [line.split() for line in text.splitlines() if line.startswith("cpu")]
    if len(lines) < 2:
        return None
    user, nice, system, _, _, *rest = map(int, lines[0][1:9])  # left out: idle, and idle while a disk works
    return (user + nice + system + sum(rest)) / ticks, len(lines) - 1
