"""Long short-term memory."""

from .base import Cell, sigmoid, tanh


class LSTM(Cell):
    """Long short-term memory with forget gate and without peepholes; the LSTM of torch.nn and cuDNN."""

    name, paper = "lstm", "Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000"
    gates, state = "i f g o", "h c"
    init = {"b.f": 1.0}  # remember at first (Jozefowicz, Zaremba & Sutskever 2015)

    def step(self, x, U, h, c):
        i = sigmoid(x.i + h @ U.i)  # input gate: how much of the candidate to write
        f = sigmoid(x.f + h @ U.f)  # forget gate: how much of the memory to keep
        g = tanh(x.g + h @ U.g)  # candidate
        o = sigmoid(x.o + h @ U.o)  # output gate: how much of the memory to show
        c = f * c + i * g
        h = o * tanh(c)
        return h, c
