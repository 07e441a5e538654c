"""The LSTM whose gates look into the memory."""

from .base import Cell, sigmoid, tanh


class Peephole(Cell):
    """LSTM with peepholes: input and forget gate see the old memory, the output gate the new one."""

    name, paper = "peephole", "Gers & Schmidhuber 2000, Recurrent Nets that Time and Count"
    gates, state, counter = "i f g o", "h c", "c"
    init = {"b.f": 1.0}

    def step(self, x, U, v, h, c):
        i = sigmoid(x.i + h @ U.i + v.i * c)
        f = sigmoid(x.f + h @ U.f + v.f * c)
        g = tanh(x.g + h @ U.g)
        c = f * c + i * g
        o = sigmoid(x.o + h @ U.o + v.o * c)
        h = o * tanh(c)
        return h, c
