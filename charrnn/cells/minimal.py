"""Gated cells reduced to two matrices: which part of the gating matters?"""

from .base import Cell, sigmoid, tanh


class JANET(Cell):
    """Just another network: an LSTM with nothing but its forget gate, whose memory is its output."""

    name, paper = "janet", "van der Westhuizen & Lasenby 2018, The unreasonable effectiveness of the forget gate"
    gates, state = "s g", "h"
    init = {"b.s": 1.0}
    beta: float = 1.0  # how much less is written than forgotten (equation 8)

    def step(self, x, U, h):
        s = x.s + h @ U.s
        g = tanh(x.g + h @ U.g)  # candidate
        f = sigmoid(s)  # forget gate: how much of the memory to keep
        i = 1 - sigmoid(s - self.beta)  # how much of the candidate to write
        h = f * h + i * g
        return h


class MGU(Cell):
    """Minimal gated unit: a GRU in which one gate does what two did."""

    name, paper = "mgu", "Zhou, Wu, Zhang & Zhou 2016, Minimal Gated Unit for Recurrent Neural Networks"
    gates, state = "f g", "h"

    def step(self, x, U, h):
        f = sigmoid(x.f + h @ U.f)  # how much of the past the candidate sees, and how much of it to write
        g = tanh(x.g + (f * h) @ U.g)  # candidate
        h = (1 - f) * h + f * g
        return h


class UGRNN(Cell):
    """Update gate network: a plain network with one gate that decides what stays."""

    name, paper = "ugrnn", "Collins, Sohl-Dickstein & Sussillo 2017, Capacity and Trainability in RNNs"
    gates, state = "g c", "h"
    init = {"b.g": 1.0}

    def step(self, x, U, h):
        g = sigmoid(x.g + h @ U.g)  # update gate: how much of the past to keep
        c = tanh(x.c + h @ U.c)  # candidate
        h = g * h + (1 - g) * c
        return h
