"""Synthetic tasks, each asking a network for one ability, as batches to learn from and as lines of text.

A line is a sequence of characters, some of which follow from what came before: those are what counts. A task is made
for one `gap`, how far back that lies or how long a line is, and draws from the generator that it is given.
"""

from dataclasses import dataclass, field

import numpy as np

from .errors import UsageError, nearest

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Batch:
    """B lines as ids into a task's symbols: what is read (T, B), what follows (T, B), where that counts (T, B), and
    numbers by which answers are told apart, (T, B) each."""

    inputs: np.ndarray
    targets: np.ndarray
    counts: np.ndarray
    kinds: dict[str, np.ndarray] = field(default_factory=dict)


class Task:
    """What the tasks share; `gap` is from `least` to `most`."""

    name = about = unit = symbols = ""  # the unit is what `gap` counts
    least, most, usual = 1, 100_000, 64
    answers = 1  # so many equally likely answers there are where it counts

    def __init__(self, gap: int, option: str = "--gap"):
        if not self.least <= gap <= self.most:
            raise UsageError(f"{option} {gap}: {self.name} takes from {self.least:,} to {self.most:,} ({self.unit})")
        self.gap = gap

    def lines(self, random: np.random.Generator, count: int) -> np.ndarray:
        """So many lines (T + 1, count), ids."""
        raise NotImplementedError

    def counted(self, lines: np.ndarray) -> np.ndarray:
        """Where in lines[1:] (T, B) is what counts: the last character, unless a task says otherwise."""
        counts = np.zeros((len(lines) - 1, lines.shape[1]), bool)
        counts[-1] = True
        return counts

    def batch(self, random: np.random.Generator, count: int) -> Batch:
        """So many lines to learn from or to be tested on."""
        lines = self.lines(random, count)
        return Batch(lines[:-1], lines[1:], self.counted(lines))

    def text(self, random: np.random.Generator, count: int) -> list[str]:
        """So many lines as text, each with its end of line."""
        table = np.array(list(self.symbols))
        return ["".join(line).rstrip("\n") + "\n" for line in table[self.lines(random, count).T]]

    def ids(self, characters: str) -> list[int]:
        """The ids of characters."""
        return [self.symbols.index(character) for character in characters]


class Recall(Task):
    """`s d1..dL ? s`: a symbol is to be kept over L distractors (P3)."""

    name, about, unit = "recall", "a symbol, distractors, ?, the symbol again", "distractors"
    symbols, answers = "abcdefgh12345678?", 8

    def lines(self, random, count):
        kept = random.integers(8, size=(1, count))
        distractors = 8 + random.integers(8, size=(self.gap, count))
        return np.concatenate([kept, distractors, np.full((1, count), 16), kept])


class Copy(Task):
    """Ten symbols, blanks, a sign, then the ten again (Hochreiter & Schmidhuber 1997 as in Arjovsky et al. 2016).

    To learn from, blanks go on after the sign, and all T + 20 places count, as the baseline of the field has it.
    """

    name, about, unit = "copy", "ten symbols, a wait, !, the ten symbols again", "characters from the first to !"
    symbols, answers, items = "abcdefgh-!", 8, 10

    def lines(self, random, count):
        kept = random.integers(8, size=(self.items, count))
        wait = np.full((self.gap - 1, count), 8)
        return np.concatenate([kept, wait, np.full((1, count), 9), kept])

    def batch(self, random, count):
        inputs = self.lines(random, count)
        kept, blanks = inputs[: self.items].copy(), np.full((self.gap + self.items, count), 8)
        inputs[-self.items :] = 8
        answers = np.zeros(inputs.shape, int)
        answers[-self.items :] = 1
        return Batch(inputs, np.concatenate([blanks, kept]), np.ones(inputs.shape, bool), {"answer": answers})


class Order(Task):
    """Two marks, X or Y, far apart among distractors: in which order? (Hochreiter & Schmidhuber 1997, task 6a).

    As there, the first mark comes in the second tenth of the line, the other in its sixth tenth.
    """

    name, about, unit = "order", "two marks X or Y among letters, then Q R S U for XX XY YX YY", "characters"
    symbols, least, usual, answers = "EBabcdXYQRSU", 10, 100, 4

    def lines(self, random, count):
        inner, lane = 2 + random.integers(4, size=(self.gap, count)), np.arange(count)
        marks = random.integers(2, size=(2, count))
        for start, mark in zip((self.gap // 10, self.gap // 2), marks, strict=True):
            inner[start + random.integers(self.gap // 10, size=count), lane] = 6 + mark
        ends = np.broadcast_to(np.array([[0], [1]]), (2, count))
        return np.concatenate([ends[:1], inner, ends[1:], 8 + 2 * marks[:1] + marks[1:]])


class Count(Task):
    """a^n b^n: after the first b all that follows is known to one who counted (Weiss, Goldberg & Yahav 2018)."""

    name, about, unit = "count", "as many b as a", "at most so many"
    symbols, answers = "ab\n", 2

    def lines(self, random, count):
        return self.of(1 + random.integers(self.gap, size=count))

    def of(self, numbers: np.ndarray) -> np.ndarray:
        """The lines for these numbers (B,), ended and filled up by ends of line."""
        place = np.arange(2 * self.gap + 1)[:, None]
        return (place >= numbers).astype(int) + (place >= 2 * numbers)

    def counted(self, lines):
        return lines[:-1] == 1

    def batch(self, random, count):
        return self.asked(self.lines(random, count))

    def asked(self, lines: np.ndarray) -> Batch:
        """A batch of these lines, told apart by their numbers."""
        counts = self.counted(lines)
        return Batch(lines[:-1], lines[1:], counts, {"n": np.broadcast_to((lines == 0).sum(0), counts.shape)})


class Brackets(Task):
    """Nested brackets of three kinds: each closing one must be of the kind that was opened last."""

    name, about, unit = "brackets", "nested brackets of three kinds", "characters in a line"
    symbols, least, answers = "([{)]}", 2, 3
    deepest = 8

    def lines(self, random, count):
        return self.walk(random, count)[0]

    def walk(self, random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Balanced lines; and of each closing bracket how far back its partner is and how deep the two lie (the
        outermost at 1), 0 elsewhere: (T + 1, B) each."""
        length, lane = self.gap // 2 * 2, np.arange(count)
        lines, distance, depths = (np.zeros((length, count), int) for _ in range(3))
        opened, depth = np.zeros((self.deepest + 1, count), int), np.zeros(count, int)  # where each depth was opened
        kinds, chances = random.integers(3, size=lines.shape), random.random(lines.shape)
        for t in range(length):
            may_open = (depth < self.deepest) & (depth < length - t)
            opens = may_open & ((depth == 0) | (chances[t] < 0.5))
            depth += opens
            opened[np.where(opens, depth, 0), lane] = t
            partner = opened[depth, lane]
            lines[t] = np.where(opens, kinds[t], 3 + lines[partner, lane])
            distance[t], depths[t] = np.where(opens, 0, t - partner), np.where(opens, 0, depth)
            depth -= ~opens
        return lines, distance, depths

    def counted(self, lines):
        return lines[1:] >= 3

    def batch(self, random, count):
        lines, distance, depth = self.walk(random, count)
        return Batch(lines[:-1], lines[1:], self.counted(lines), {"distance": distance[1:], "depth": depth[1:]})


class Pairs(Task):
    """`c9k8j3?c9`: the digit that came with a letter (associative recall, P9; Ba et al. 2016). No letter comes twice."""

    name, about, unit = (
        "pairs",
        "letters each with a digit, ?, one of the letters, its digit",
        "characters of the pairs",
    )
    symbols, least, most, usual, answers = LETTERS + "0123456789?", 2, 2 * len(LETTERS), 16, 10

    def lines(self, random, count):
        pairs, letters, lane = self.gap // 2, len(LETTERS) // (1 if self.gap > len(LETTERS) else 2), np.arange(count)
        keys = random.permuted(np.tile(np.arange(letters)[:, None], count), axis=0)[:pairs]  # (pairs, B)
        values = len(LETTERS) + random.integers(10, size=(pairs, count))
        lines = np.stack([keys, values], axis=1).reshape(2 * pairs, count)
        asked = random.integers(pairs, size=count)
        sign = np.full(count, len(self.symbols) - 1)
        return np.concatenate([lines, np.stack([sign, keys[asked, lane], values[asked, lane]])])


TASKS = {kind.name: kind for kind in (Recall, Copy, Order, Count, Brackets, Pairs)}


def make(name: str, gap: int | None, option: str = "TASK") -> Task:
    """A task by name, made for this gap or its usual one."""
    if name not in TASKS:
        raise UsageError(f"{option} {name}: no such task{nearest(name, TASKS)}; known: {', '.join(TASKS)}")
    return TASKS[name](TASKS[name].usual if gap is None else gap)
