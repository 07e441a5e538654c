"""Zoneout: states that now and then stay what they were. Not a cell of its own, but what any cell can be wrapped in."""

from ..errors import UsageError
from .base import Cell, advance


class Zoneout(Cell):
    """A cell of which each unit of each state keeps its old value with the probability `rate` (Krueger et al. 2017).

    What keeps its value is drawn where the noise of training is drawn and arrives as `below.zoneout_h` for a state h:
    1 - rate where the old value stays, -rate where the new one comes. Without it, in evaluation and sampling, it is 0,
    its mean: then both are mixed in the proportion of the rate. The states in `carried` are left alone.
    """

    inner: Cell
    rate: float

    def __post_init__(self):
        for name, value in vars(Cell).items():  # all that the contract says, but for the step
            if not (name.startswith("_") or name in ("step", "at") or isinstance(value, property)):
                object.__setattr__(self, name, getattr(self.inner, name))
        object.__setattr__(self, "name", f"{self.inner.name} with zoneout")
        if not self.regularised:
            raise UsageError(f"--zoneout {self.rate}: {self.inner.name} has no state that may be regularised")

    def step(self, x, U, v, below, *states):
        old = dict(zip(self.states, states, strict=True))
        up, new = advance(self.inner, x, U, v, below, old)
        for name in self.regularised:
            stay = self.rate + getattr(below, f"zoneout_{name}")
            new[name] = stay * old[name] + (1 - stay) * new[name]
        return *(up[name] for name in self.ups if name not in new), *new.values()

    @property
    def regularised(self):
        """The states that are now and then kept."""
        return [name for name in self.states if name not in self.carried.split()]

    @property
    def equations(self):
        return self.inner.equations
