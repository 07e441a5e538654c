"""The eight variants of the peephole LSTM: what becomes of it when one part is taken away, coupled or added."""

from ..errors import UsageError
from .base import Cell, sigmoid, tanh


class NoInputGate(Cell):
    """Peephole LSTM without input gate, i = 1: every candidate is written in full."""

    name, paper = "nig", "Greff et al. 2015, LSTM: A Search Space Odyssey (NIG)"
    gates, state, counter = "f g o", "h c", "c"
    init = {"b.f": 1.0}

    def step(self, x, U, v, h, c):
        f = sigmoid(x.f + h @ U.f + v.f * c)
        g = tanh(x.g + h @ U.g)
        c = f * c + g
        o = sigmoid(x.o + h @ U.o + v.o * c)
        h = o * tanh(c)
        return h, c


class NoForgetGate(Cell):
    """Peephole LSTM without forget gate, f = 1: nothing written is ever let go."""

    name, paper = "nfg", "Greff et al. 2015, LSTM: A Search Space Odyssey (NFG)"
    gates, state, counter = "i g o", "h c", "c"
    init = {"b.i": -3.0}  # write little at first, as `lstm-1997` does

    def step(self, x, U, v, h, c):
        i = sigmoid(x.i + h @ U.i + v.i * c)
        g = tanh(x.g + h @ U.g)
        c = c + i * g
        o = sigmoid(x.o + h @ U.o + v.o * c)
        h = o * tanh(c)
        return h, c


class NoOutputGate(Cell):
    """Peephole LSTM without output gate, o = 1: the memory always shows."""

    name, paper = "nog", "Greff et al. 2015, LSTM: A Search Space Odyssey (NOG)"
    gates, state, counter = "i f g", "h c", "c"
    init = {"b.f": 1.0}

    def step(self, x, U, v, h, c):
        i = sigmoid(x.i + h @ U.i + v.i * c)
        f = sigmoid(x.f + h @ U.f + v.f * c)
        g = tanh(x.g + h @ U.g)
        c = f * c + i * g
        h = tanh(c)
        return h, c


class NoInputActivation(Cell):
    """Peephole LSTM whose candidate is not squashed: it writes numbers of any size."""

    name, paper = "niaf", "Greff et al. 2015, LSTM: A Search Space Odyssey (NIAF)"
    gates, state, counter = "i f g o", "h c", "c"
    init = {"b.f": 1.0}

    def step(self, x, U, v, h, c):
        i = sigmoid(x.i + h @ U.i + v.i * c)
        f = sigmoid(x.f + h @ U.f + v.f * c)
        g = x.g + h @ U.g
        c = f * c + i * g
        o = sigmoid(x.o + h @ U.o + v.o * c)
        h = o * tanh(c)
        return h, c


class NoOutputActivation(Cell):
    """Peephole LSTM whose memory is not squashed on its way out: it shows counts as they are."""

    name, paper = "noaf", "Greff et al. 2015, LSTM: A Search Space Odyssey (NOAF)"
    gates, state, counter = "i f g o", "h c", "c"
    init = {"b.f": 1.0}

    def step(self, x, U, v, h, c):
        i = sigmoid(x.i + h @ U.i + v.i * c)
        f = sigmoid(x.f + h @ U.f + v.f * c)
        g = tanh(x.g + h @ U.g)
        c = f * c + i * g
        o = sigmoid(x.o + h @ U.o + v.o * c)
        h = o * c
        return h, c


class NoPeepholes(Cell):
    """Peephole LSTM without the peepholes, which is `lstm` again; here so that the study is whole."""

    name, paper = "np", "Greff et al. 2015, LSTM: A Search Space Odyssey (NP)"
    gates, state, counter = "i f g o", "h c", "c"
    init = {"b.f": 1.0}

    def step(self, x, U, h, c):
        i = sigmoid(x.i + h @ U.i)
        f = sigmoid(x.f + h @ U.f)
        g = tanh(x.g + h @ U.g)
        c = f * c + i * g
        o = sigmoid(x.o + h @ U.o)
        h = o * tanh(c)
        return h, c


class CoupledGates(Cell):
    """LSTM that forgets as much as it writes, f = 1 - i: a quarter smaller, and as good on the study's three tasks."""

    name, paper = "cifg", "Greff et al. 2015, LSTM: A Search Space Odyssey (CIFG, which has peepholes: peepholes=1)"
    gates, state = "i g o", "h c"
    init = {"b.i": -1.0}  # remember at first: f = 1 - s(a) = s(-a), a forget bias of 1
    peepholes: int = 0

    def step(self, x, U, v, h, c):
        i = sigmoid(x.i + h @ U.i + v.i * c) if self.peepholes else sigmoid(x.i + h @ U.i)
        f = 1 - i
        g = tanh(x.g + h @ U.g)
        c = f * c + i * g
        o = sigmoid(x.o + h @ U.o + v.o * c) if self.peepholes else sigmoid(x.o + h @ U.o)
        h = o * tanh(c)
        return h, c

    def check(self, n):
        if self.peepholes not in (0, 1):
            raise UsageError(f"--cell-opt peepholes={self.peepholes}: cifg takes 0 (without) or 1 (with)")


class FullGateRecurrence(Cell):
    """Peephole LSTM in which every gate also sees the three gates of the step before."""

    name, paper = "fgr", "Greff et al. 2015, LSTM: A Search Space Odyssey (FGR)"
    gates, state, carried, counter = "i f g o", "h c i f o", "i f o", "c"
    init = {"b.f": 1.0}

    def step(self, x, U, v, h, c, i, f, o):
        i_now = sigmoid(x.i + h @ U.i + i @ U.i_i + f @ U.f_i + o @ U.o_i + v.i * c)
        f_now = sigmoid(x.f + h @ U.f + i @ U.i_f + f @ U.f_f + o @ U.o_f + v.f * c)
        g = tanh(x.g + h @ U.g)
        c = f_now * c + i_now * g
        o_now = sigmoid(x.o + h @ U.o + i @ U.i_o + f @ U.f_o + o @ U.o_o + v.o * c)
        h = o_now * tanh(c)
        return h, c, i_now, f_now, o_now
