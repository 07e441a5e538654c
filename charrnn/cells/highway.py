"""The network that is deep within a step."""

from ..errors import UsageError
from .base import Cell, sigmoid, tanh


class RecurrentHighway(Cell):
    """Recurrent highway network: each step passes through several layers, each of which may let its input by."""

    name, paper = "rhn", "Zilly, Srivastava, Koutník & Schmidhuber 2017, Recurrent Highway Networks"
    gates, state = "a t", "h"
    depth: int = 5

    def step(self, x, U, v, h):
        for layer in range(1, self.depth + 1):
            seen = (x.a, x.t) if layer == 1 else (getattr(v, f"a{layer}"), getattr(v, f"t{layer}"))
            a = tanh(seen[0] + h @ getattr(U, f"a{layer}"))
            t = sigmoid(seen[1] + h @ getattr(U, f"t{layer}"))  # transform gate: how much to change
            h = a * t + h * (1 - t)
        return h

    @property
    def init(self):
        """Carry at first: the transform gates start nearly shut (section 5)."""
        return {"b.t": -2.0} | {f"v.t{layer}": -2.0 for layer in range(2, self.depth + 1)}

    def check(self, n):
        if not 1 <= self.depth <= 20:
            raise UsageError(f"--cell-opt depth={self.depth}: rhn takes 1 to 20, usually 5 to 10")
