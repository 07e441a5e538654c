"""The gated recurrent unit, in its two published forms; both keep the past with z, as torch, flax and Keras do."""

from .base import Cell, sigmoid, tanh


class GRU(Cell):
    """Gated recurrent unit, reset after the recurrent product; the GRU of torch.nn and cuDNN."""

    name, paper = "gru", "Cho et al. 2014, Learning Phrase Representations using RNN Encoder-Decoder (version 1)"
    gates, state = "r z n", "h"

    def step(self, x, U, v, h):
        r = sigmoid(x.r + h @ U.r)  # reset gate: how much of the past the candidate sees
        z = sigmoid(x.z + h @ U.z)  # update gate: how much of the past to keep
        n = tanh(x.n + r * (h @ U.n + v.n))  # candidate
        h = (1 - z) * n + z * h
        return h


class GRUCho(Cell):
    """Gated recurrent unit, reset before the recurrent product; the equations most introductions print."""

    name, paper = "gru-cho", "Cho et al. 2014, Learning Phrase Representations using RNN Encoder-Decoder (version 3)"
    gates, state = "r z n", "h"

    def step(self, x, U, h):
        r = sigmoid(x.r + h @ U.r)  # reset gate: how much of the past the candidate sees
        z = sigmoid(x.z + h @ U.z)  # update gate: how much of the past to keep
        n = tanh(x.n + (r * h) @ U.n)  # candidate
        h = (1 - z) * n + z * h
        return h
