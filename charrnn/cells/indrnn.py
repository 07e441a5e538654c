"""The plain network whose units do not see each other."""

from ..errors import UsageError
from .base import Cell, relu, where


class IndRNN(Cell):
    """Independently recurrent network: each unit sees its own past alone, weighted within a bound; layers mix them."""

    name, paper = "indrnn", "Li, Li, Cook, Zhu & Gao 2018, Independently Recurrent Neural Network (IndRNN)"
    gates, state, counter = "h", "h", "h"
    init = {"v.u": (0.0, 1.0)}  # from fading at once to keeping for ever (section 4.2)
    longest: int = 1000  # steps over which no unit may more than double: abs(u) is at most 2^(1/longest)

    def step(self, x, v, h):
        bound = 2 ** (1 / self.longest)
        u = where(v.u >= bound, bound, where(-v.u >= bound, -bound, v.u))
        h = relu(x.h + u * h)
        return h

    def check(self, n):
        if self.longest < 1:
            raise UsageError(f"--cell-opt longest={self.longest}: indrnn takes 1 or more, usually the length of a text")
