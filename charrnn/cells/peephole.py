"""The LSTM whose gates look into the memory, and the variant that also feeds the gates back to themselves."""

from .base import Cell, sigmoid, tanh


class Peephole(Cell):
    """LSTM with peepholes: input and forget gate see the old memory, the output gate the new one."""

    name, paper = "peephole", "Gers & Schmidhuber 2000, Recurrent Nets that Time and Count"
    gates, state = "i f g o", "h c"
    init = {"b.f": 1.0}

    def step(self, x, U, v, h, c):
        i = sigmoid(x.i + h @ U.i + v.i * c)
        f = sigmoid(x.f + h @ U.f + v.f * c)
        g = tanh(x.g + h @ U.g)
        c = f * c + i * g
        o = sigmoid(x.o + h @ U.o + v.o * c)
        h = o * tanh(c)
        return h, c


class FullGateRecurrence(Cell):
    """Peephole LSTM in which every gate also sees the three gates of the step before."""

    name, paper = "fgr", "Greff et al. 2015, LSTM: A Search Space Odyssey (FGR)"
    gates, state, carried = "i f g o", "h c i f o", "i f o"
    init = {"b.f": 1.0}

    def step(self, x, U, v, h, c, i, f, o):
        def past(gate):  # the gates of the step before, as one gate sees them
            return i @ getattr(U, f"i{gate}") + f @ getattr(U, f"f{gate}") + o @ getattr(U, f"o{gate}")

        i_now = sigmoid(x.i + h @ U.i + past("i") + v.i * c)
        f_now = sigmoid(x.f + h @ U.f + past("f") + v.f * c)
        g = tanh(x.g + h @ U.g)
        c = f_now * c + i_now * g
        o_now = sigmoid(x.o + h @ U.o + past("o") + v.o * c)
        h = o_now * tanh(c)
        return h, c, i_now, f_now, o_now
