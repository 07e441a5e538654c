"""The LSTM whose input and state first modulate each other."""

from ..errors import UsageError
from .base import Cell, sigmoid, tanh


class Mogrifier(Cell):
    """LSTM before which input and state gate each other in rounds; the best published pure recurrent results."""

    name, paper = "mogrifier", "Melis, Kočiský & Blunsom 2020, Mogrifier LSTM"
    state, counter = "h c", "c"
    init = {"v.f": 1.0}
    rounds: int = 5
    rank: int = 32

    def step(self, x, U, v, h, c):
        x = x.raw
        for k in range(1, self.rounds + 1):
            left, right, bias = getattr(U, f"left{k}"), getattr(U, f"right{k}"), getattr(v, f"round{k}")
            if k % 2:
                x = 2 * sigmoid(h @ left @ right + bias) * x
            else:
                h = 2 * sigmoid(x @ left @ right + bias) * h
        i = sigmoid(x @ U.xi + h @ U.i + v.i)
        f = sigmoid(x @ U.xf + h @ U.f + v.f)
        g = tanh(x @ U.xg + h @ U.g + v.g)
        o = sigmoid(x @ U.xo + h @ U.o + v.o)
        c = f * c + i * g
        h = o * tanh(c)
        return h, c

    def shapes(self, m, n):
        shapes = {"x.raw": (m,)} | {f"U.x{gate}": (m, n) for gate in "ifgo"}
        for k in range(1, self.rounds + 1):
            a, b = (n, m) if k % 2 else (m, n)
            shapes |= {f"U.left{k}": (a, self.rank), f"U.right{k}": (self.rank, b), f"v.round{k}": (b,)}
        return shapes

    def check(self, n):
        if self.rounds < 0:
            raise UsageError(f"--cell-opt rounds={self.rounds}: mogrifier takes 0 or more, usually 4 to 6")
        if self.rank < 1:
            raise UsageError(f"--cell-opt rank={self.rank}: mogrifier takes 1 or more, usually 24 to 79")
