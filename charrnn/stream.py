"""The training stream: B lanes that read on through the text, T characters at a time, the state carried along.

What step k reads is a pure function of the seed and k, so there is nothing to save and resume is exact.
"""

from dataclasses import dataclass

import numpy as np

SHORTEST = 8  # the least sequence length that a short text may force


def draws(seed: int, name: str, number: int = 0) -> np.random.Generator:
    """The random generator for one purpose at one time: the same arguments, the same draws, whatever came before."""
    return np.random.default_rng([seed, *name.encode(), number])


@dataclass(frozen=True)
class Stream:
    """Lanes over `ids` (a contiguous part, N of them): B = `lanes`, T = `length`, counted in symbols; `offsets`: they
    begin elsewhere in each epoch."""

    ids: np.ndarray
    lanes: int
    length: int
    seed: int
    offsets: bool = True

    @classmethod
    def fit(cls, ids: np.ndarray, lanes: int, length: int, seed: int, offsets: bool = True) -> tuple["Stream", str]:
        """A stream over these ids, with fewer lanes, then shorter sequences, where the text is too short for what was
        asked; and a sentence that says so, or an empty string."""
        asked = lanes, length
        while lanes > 1 and len(ids) < 2 * lanes * length:
            lanes //= 2
        while length > SHORTEST and len(ids) < 2 * lanes * length:
            length //= 2
        said = f"{len(ids):,} training characters are few: {lanes} lanes x {length} instead of {asked[0]} x {asked[1]}"
        return cls(ids, lanes, length, seed, offsets), said if (lanes, length) != asked else ""

    @property
    def steps_per_epoch(self) -> int:
        """As many as leave room for an offset of one sequence, so that every place is read in some epoch."""
        return max(1, (len(self.ids) - self.length) // (self.lanes * self.length))

    @property
    def lane(self) -> int:
        """How many symbols one lane reads in an epoch."""
        return self.steps_per_epoch * self.length

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray, bool]:
        """Step 0, 1, ..: inputs (T, B), the symbols that follow them (T, B), and whether a new epoch starts here."""
        epoch, chunk = divmod(step, self.steps_per_epoch)
        room = len(self.ids) - 1 - self.lanes * self.lane  # what an epoch leaves out, here before and behind it
        offset = int(draws(self.seed, "offset", epoch * self.offsets).integers(room + 1))
        starts = offset + np.arange(self.lanes) * self.lane + chunk * self.length  # (B,)
        read = np.stack([self.ids[start : start + self.length + 1] for start in starts], axis=1)  # (T + 1, B)
        return read[:-1], read[1:], chunk == 0
