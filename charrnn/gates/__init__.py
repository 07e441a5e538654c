"""What the quantities that a cell's equations name do while a text is read, one symbol at a time, without torch."""

import math
from dataclasses import dataclass

import numpy as np

from ..cells.interval import intervals
from ..engine import observe

SHUT, OPEN = 0.1, 0.9  # nearly so; left- and right-saturated in Karpathy, Johnson & Fei-Fei 2015
MOSTLY = 0.9  # the share of a text at which a unit counts as one that is always so


@dataclass(frozen=True)
class Quantity:
    """A name in the equations of one layer's cell, and between which numbers it lies whatever is read."""

    layer: int
    name: str
    low: float
    high: float

    @property
    def bounded(self) -> bool:
        """Whether it lies between -1 and 1, so that its values mean the same in every model."""
        return self.low >= -1 and self.high <= 1


def quantities(model) -> list[Quantity]:
    """Every named quantity of a model, layer by layer, as the equations go."""
    found = []
    for layer, cell in enumerate(model.stack):
        within = intervals(cell)
        found += [Quantity(layer, name, within[name].low, within[name].high) for name in observe.quantities(cell)]
    return found


class Watch:
    """A model that is watched while it reads, from a fresh state on: `weights` are numpy arrays by name."""

    def __init__(self, model, weights: dict[str, np.ndarray]):
        self.model, self.p = model, model.bind(weights)
        self.state = model.initial_state(lambda: np.zeros((1, model.hidden), np.float32))

    def read(self, ids: np.ndarray) -> list[dict[str, np.ndarray]]:
        """Reads on: symbols (T,) -> for each layer the values {name: (T, n)} of its quantities at each of them."""
        rows = [self._step(symbol) for symbol in ids]
        return [
            {name: np.concatenate([one[name] for one in own]) for name in own[0]} for own in zip(*rows, strict=True)
        ]

    def _step(self, symbol):
        seen = []

        def run(cell, p, x, below, state):
            up, state, named = observe.step(cell, p, x, below, state)
            seen.append({name: np.atleast_2d(value) for name, value in named.items()})
            return up, state

        with np.errstate(all="ignore"):  # what is not finite is shown as such
            _, self.state = self.model.forward(self.p, np.array([symbol]), self.state, run)
        return seen


class Tally:
    """How often a quantity is nearly shut or open, by its magnitude, in memory that does not grow with the text."""

    def __init__(self, quantity: Quantity):
        self.quantity, self.count, self.total, self.largest = quantity, 0, 0.0, 0.0
        self.shut = self.open = 0  # of each unit, at how many symbols

    def add(self, values: np.ndarray) -> None:
        """More values, (T, n)."""
        size = np.abs(values)
        self.count += len(values)
        self.total += float(values.mean(1, dtype=np.float64).sum())
        self.largest = max(self.largest, float(size[np.isfinite(size)].max(initial=0)))
        self.shut, self.open = self.shut + (size < SHUT).sum(0), self.open + (size > OPEN).sum(0)

    def summary(self) -> dict:
        """Plain data: range, mean and largest magnitude; the shares nearly shut and open, of all values and of each
        unit's, which are None for a quantity that is not bounded."""
        q, n = self.quantity, self.count
        ends = [end if math.isfinite(end) else None for end in (q.low, q.high)]
        told = {"layer": q.layer, "quantity": q.name, "range": ends, "mean": self.total / n, "largest": self.largest}
        for name, share in (("shut", self.shut / n), ("open", self.open / n)):
            told |= {name: float(share.mean()), f"units_{name}": share.tolist()}
            told |= {} if q.bounded else {name: None, f"units_{name}": None}
        return told
