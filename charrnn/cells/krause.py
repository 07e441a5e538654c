"""The LSTM whose recurrent matrix depends on the input."""

from .base import Cell, sigmoid, tanh


class MultiplicativeLSTM(Cell):
    """Multiplicative LSTM: each character chooses its own transition, so that a surprise can be recovered from."""

    name, paper = "mlstm-krause", "Krause, Lu, Murray & Renals 2016, Multiplicative LSTM for Sequence Modelling"
    gates, unbiased, state, counter = "m i f g o", "m", "h c", "c"
    init = {"b.f": 1.0}

    def step(self, x, U, h, c):
        m = x.m * (h @ U.m)  # what stands in the place of h in all gates
        i = sigmoid(x.i + m @ U.i)
        f = sigmoid(x.f + m @ U.f)
        g = tanh(x.g + m @ U.g)
        o = sigmoid(x.o + m @ U.o)
        c = f * c + i * g
        h = o * tanh(c)
        return h, c
