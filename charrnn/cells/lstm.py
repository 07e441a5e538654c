"""Long short-term memory, as it is used and as it was invented."""

from .base import Cell, sigmoid, tanh


class LSTM(Cell):
    """Long short-term memory with forget gate and without peepholes; the LSTM of torch.nn and cuDNN."""

    name, paper = "lstm", "Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000"
    gates, state, counter = "i f g o", "h c", "c"
    init = {"b.f": 1.0}  # remember at first (Jozefowicz, Zaremba & Sutskever 2015)

    def step(self, x, U, h, c):
        i = sigmoid(x.i + h @ U.i)  # input gate: how much of the candidate to write
        f = sigmoid(x.f + h @ U.f)  # forget gate: how much of the memory to keep
        g = tanh(x.g + h @ U.g)  # candidate
        o = sigmoid(x.o + h @ U.o)  # output gate: how much of the memory to show
        c = f * c + i * g
        h = o * tanh(c)
        return h, c


class LSTM1997(Cell):
    """The first long short-term memory, without forget gate: what is written stays until other writing undoes it."""

    name, paper = "lstm-1997", "Hochreiter & Schmidhuber 1997, Long Short-Term Memory"
    gates, state, counter = "i g o", "h c", "c"
    init = {"b.i": -3.0}  # write little at first, against the drift of the memory (section 4)

    def step(self, x, U, h, c):
        i = sigmoid(x.i + h @ U.i)
        g = tanh(x.g + h @ U.g)  # the paper's g and h are tanh in another scale: 2 tanh(a / 2), tanh(c / 2)
        o = sigmoid(x.o + h @ U.o)
        c = c + i * g
        h = o * tanh(c)
        return h, c
