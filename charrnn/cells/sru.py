"""The recurrence that is only elementwise."""

from .base import Cell, sigmoid


class SRU(Cell):
    """Simple recurrent unit, version 2: no recurrent matrix, gates that see the memory, a highway for the input."""

    name, paper = "sru", "Lei et al. 2018, Simple Recurrent Units for Highly Parallelizable Recurrence"
    gates, unbiased, state, up = "u f r", "u", "c", "h"
    scale: float = 3**0.5  # of the highway: sqrt(1 + 2 exp(b_r)) at b_r = 0 keeps the variance (section 3.2)

    def step(self, x, v, c):
        f = sigmoid(x.f + v.f * c)
        r = sigmoid(x.r + v.r * c)
        c = f * c + (1 - f) * x.u
        h = r * c + (1 - r) * x.raw * self.scale
        return h, c
