"""The plain recurrent network."""

from ..errors import UsageError
from .base import Cell, relu, tanh


class RNN(Cell):
    """Simple recurrent network: the state is a squashed mix of input and past; it forgets within tens of steps."""

    name, paper = "rnn", "Elman 1990, Finding Structure in Time; with relu: Le, Jaitly & Hinton 2015"
    gates, state = "h", "h"
    activation: str = "tanh"

    def step(self, x, U, h):
        squash = relu if self.activation == "relu" else tanh
        h = squash(x.h + h @ U.h)
        return h

    @property
    def counter(self):
        return "h" if self.activation == "relu" else ""

    def check(self, n):
        if self.activation not in ("tanh", "relu"):
            raise UsageError(f"--cell-opt activation={self.activation}: rnn takes tanh or relu")
