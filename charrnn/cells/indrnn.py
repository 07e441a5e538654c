"""The plain network whose units do not see each other."""

from .base import Cell, relu, where


class IndRNN(Cell):
    """Independently recurrent network: each unit sees its own past alone, weighted within a bound; layers mix them."""

    name, paper = "indrnn", "Li, Li, Cook, Zhu & Gao 2018, Independently Recurrent Neural Network (IndRNN)"
    gates, state, counter = "h", "h", "h"
    init = {"v.u": (0.0, 1.0)}  # from fading at once to keeping for ever (section 4.2)

    def step(self, x, v, h):
        u = where(v.u >= 1, 1.0, where(-v.u >= 1, -1.0, v.u))  # 2^(1/T) of section 4.1 for a text without end
        h = relu(x.h + u * h)
        return h
