"""The LSTM whose memory also flows upwards, from layer to layer."""

from .base import Cell, sigmoid, tanh
from .peephole import Peephole


class DepthGated(Cell):
    """Peephole LSTM with a gate that lets in the memory of the layer below."""

    name, paper = "depth-gated", "Yao et al. 2015, Depth-Gated Recurrent Neural Networks"
    gates, state, up, counter = "i f g o d", "h c", "h c", "c"
    init = {"b.f": 1.0}

    def step(self, x, U, v, below, h, c):
        i = sigmoid(x.i + h @ U.i + v.i * c)
        f = sigmoid(x.f + h @ U.f + v.f * c)
        g = tanh(x.g + h @ U.g)
        d = sigmoid(x.d + v.d * c + v.below * below.c)  # depth gate: how much of the memory below to add
        c = f * c + i * g + d * below.c
        o = sigmoid(x.o + h @ U.o + v.o * c)
        h = o * tanh(c)
        return h, c

    def at(self, layer):
        return self if layer else _FirstLayer()


class _FirstLayer(Peephole):
    """The first layer: a peephole LSTM that hands its memory up as well."""

    up = "h c"
