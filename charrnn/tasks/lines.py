"""The lines of the tasks, drawn from the generator that is given: as batches of ids and as text."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import numpy as np

from . import KINDS, LETTERS


@dataclass(frozen=True)
class Batch:
    """B lines as ids: what is read (T, B), what follows (T, B), which of that is to be predicted (T, B), which of it
    is asked for (T, B), and numbers by which answers are told apart, (T, B) each."""

    inputs: np.ndarray
    targets: np.ndarray
    counts: np.ndarray
    asked: np.ndarray
    kinds: dict[str, np.ndarray] = field(default_factory=dict)


class Task(ABC):
    """What all have in common."""

    name = ""

    def __init__(self, gap: int):
        self.kind, self.gap = KINDS[self.name], gap
        self.kind.check(gap)

    @abstractmethod
    def lines(self, random: np.random.Generator, count: int) -> np.ndarray:
        """So many lines (T + 1, count), ids."""

    def asked(self, lines: np.ndarray) -> np.ndarray:
        """What of lines[1:] (T, B) is asked for: the last character, unless a task says otherwise."""
        asked = np.zeros((len(lines) - 1, lines.shape[1]), bool)
        asked[-1] = True
        return asked

    def batch(self, random: np.random.Generator, count: int) -> Batch:
        """So many lines to learn from or to be tested on."""
        return self.of(self.lines(random, count))

    def of(self, lines: np.ndarray, **kinds: np.ndarray) -> Batch:
        """These lines, each character to be predicted from those before it."""
        asked = self.asked(lines)
        return Batch(lines[:-1], lines[1:], asked, asked, kinds)

    def text(self, random: np.random.Generator, count: int) -> list[str]:
        """So many lines as text, each with its end of line."""
        table = np.array(list(self.kind.symbols))
        return ["".join(line).rstrip("\n") + "\n" for line in table[self.lines(random, count).T]]


class Recall(Task):
    """`s d1..dL ? s`: a symbol is to be kept over L distractors."""

    name = "recall"

    def lines(self, random, count):
        kept = random.integers(8, size=(1, count))
        distractors = 8 + random.integers(8, size=(self.gap, count))
        return np.concatenate([kept, distractors, np.full((1, count), 16), kept])


class Copy(Task):
    """Ten symbols, blanks, a sign, then the ten again (Hochreiter & Schmidhuber 1997; Arjovsky, Shah & Bengio 2016).

    A batch has blanks after the sign, and blanks to predict before it: all T + 20 places count, as the field's
    baseline has it.
    """

    name = "copy"
    items, blank, sign = 10, 8, 9

    def lines(self, random, count):
        kept = random.integers(8, size=(self.items, count))
        wait = np.full((self.gap, count), self.blank)
        wait[-1] = self.sign
        return np.concatenate([kept, wait, kept])

    def batch(self, random, count):
        targets = self.lines(random, count)
        inputs, asked = targets.copy(), np.zeros(targets.shape, bool)
        inputs[-self.items :], targets[: -self.items], asked[-self.items :] = self.blank, self.blank, True
        return Batch(inputs, targets, np.ones(targets.shape, bool), asked)


class Order(Task):
    """Two marks, X or Y, far apart among distractors: in which order? (Hochreiter & Schmidhuber 1997, task 6a).

    As there, the first mark comes in the second tenth of the line, the other in its sixth tenth.
    """

    name = "order"

    def lines(self, random, count):
        inner, lane = 2 + random.integers(4, size=(self.gap, count)), np.arange(count)
        marks = random.integers(2, size=(2, count))
        for start, mark in zip((self.gap // 10, self.gap // 2), marks, strict=True):
            inner[start + random.integers(self.gap // 10, size=count), lane] = 6 + mark
        ends = np.broadcast_to(np.array([[0], [1]]), (2, count))
        return np.concatenate([ends[:1], inner, ends[1:], 8 + 2 * marks[:1] + marks[1:]])


class Count(Task):
    """a^n b^n: after the first b all that follows is known to one who counted (Weiss, Goldberg & Yahav 2018)."""

    name = "count"

    def lines(self, random, count):
        return self.written(1 + random.integers(self.gap, size=count))

    def written(self, numbers: np.ndarray) -> np.ndarray:
        """The lines of these numbers (B,), filled up with ends of line."""
        place = np.arange(2 * self.gap + 1)[:, None]
        return (place >= numbers).astype(int) + (place >= 2 * numbers)

    def asked(self, lines):
        return lines[:-1] == 1

    def of(self, lines):
        return super().of(lines, n=np.broadcast_to((lines == 0).sum(0), lines[1:].shape))


class Brackets(Task):
    """Nested brackets of three kinds: each closing one must be of the kind that was opened last."""

    name = "brackets"
    deepest = 8

    def lines(self, random, count):
        return self.walk(random, count)[0]

    def walk(self, random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Balanced lines; and of each closing bracket how far back its partner is, and how deep the two lie (the
        outermost at 1), 0 elsewhere: (T + 1, B) each."""
        length, lane = self.gap // 2 * 2, np.arange(count)
        lines, distances, depths = (np.zeros((length, count), int) for _ in range(3))
        opened, depth = np.zeros((self.deepest + 1, count), int), np.zeros(count, int)  # where each depth was opened
        kinds, chances = random.integers(3, size=lines.shape), random.random(lines.shape)
        for t in range(length):
            may_open = (depth < self.deepest) & (depth < length - t)
            opens = may_open & ((depth == 0) | (chances[t] < 0.5))
            depth += opens
            opened[np.where(opens, depth, 0), lane] = t
            partner = opened[depth, lane]
            lines[t] = np.where(opens, kinds[t], 3 + lines[partner, lane])
            distances[t], depths[t] = np.where(opens, 0, t - partner), np.where(opens, 0, depth)
            depth -= ~opens
        return lines, distances, depths

    def asked(self, lines):
        return lines[1:] >= 3

    def batch(self, random, count):
        lines, distances, depths = self.walk(random, count)
        return self.of(lines, distance=distances[1:], depth=depths[1:])


class Pairs(Task):
    """`c9k8j3?c9`: the digit that came with a letter, none of which comes twice (Ba et al. 2016)."""

    name = "pairs"

    def lines(self, random, count):
        pairs, lane = self.gap // 2, np.arange(count)
        letters = len(LETTERS) if self.gap > len(LETTERS) else len(LETTERS) // 2
        keys = random.permuted(np.tile(np.arange(letters)[:, None], count), axis=0)[:pairs]  # (pairs, B)
        values = len(LETTERS) + random.integers(10, size=(pairs, count))
        lines = np.stack([keys, values], axis=1).reshape(2 * pairs, count)
        asked, sign = random.integers(pairs, size=count), np.full(count, len(self.kind.symbols) - 1)
        return np.concatenate([lines, np.stack([sign, keys[asked, lane], values[asked, lane]])])


TASKS = {kind.name: kind for kind in (Recall, Copy, Order, Count, Brackets, Pairs)}


def make(name: str, gap: int) -> Task:
    """The task of a name in KINDS, for this gap."""
    return TASKS[name](gap)
