"""Cells that are linear in their state: training can compute all steps at once."""

from ..errors import UsageError
from .base import Cell, exp, log_sigmoid, sigmoid, softplus, sqrt, tanh, where


class QRNN(Cell):
    """Quasi-recurrent network: gates are convolutions over this character and the one before, the rest is pooling."""

    name, paper = (
        "qrnn",
        "Bradbury, Merity, Xiong & Socher 2017, Quasi-Recurrent Neural Networks (window 2, fo-pooling)",
    )
    gates, unbiased = "z f o z_past f_past o_past", "z_past f_past o_past"
    state, up, carried = "c z_past f_past o_past", "h", "z_past f_past o_past"
    init = {"b.f": 1.0}

    def step(self, x, c, z_past, f_past, o_past):
        z = tanh(x.z + z_past)  # the past is what the matrices of the window made of the character before
        f = sigmoid(x.f + f_past)
        o = sigmoid(x.o + o_past)
        c = f * c + (1 - f) * z
        h = o * c
        return h, c, x.z_past, x.f_past, x.o_past


class MinGRU(Cell):
    """GRU whose gate and candidate see the input alone."""

    name, paper = "mingru", "Feng, Tung, Ahmed, Bengio & Hajimirsadeghi 2024, Were RNNs All We Needed? (minGRU)"
    gates, state = "z n", "h"

    def step(self, x, h):
        z = sigmoid(x.z)  # update gate: how much of the candidate to write
        n = where(x.n >= 0, x.n + 0.5, sigmoid(x.n))  # candidate, kept positive (appendix B)
        h = (1 - z) * h + z * n
        return h


class MinLSTM(Cell):
    """LSTM whose gates and candidate see the input alone; the gates are made to add up to one."""

    name, paper = "minlstm", "Feng, Tung, Ahmed, Bengio & Hajimirsadeghi 2024, Were RNNs All We Needed? (minLSTM)"
    gates, state = "f i n", "h"
    init = {"b.f": 1.0}

    def step(self, x, h):
        f = log_sigmoid(x.f)
        i = log_sigmoid(x.i)
        n = where(x.n >= 0, x.n + 0.5, sigmoid(x.n))  # candidate, kept positive (appendix B)
        keep = sigmoid(f - i)  # f / (f + i) of the gates whose logarithms these are, even where both are 0
        h = keep * h + (1 - keep) * n
        return h


class RGLRU(Cell):
    """Real-gated linear recurrent unit of Hawk and Griffin: the input decides how fast the memory fades."""

    name, paper = "rg-lru", "De et al. 2024, Griffin: Mixing Gated Linear Recurrences with Local Attention (RG-LRU)"
    state = "h"
    init = {"v.decay": (-6.9, -2.2)}  # softplus of it is -log a: a from 0.999 to 0.9, as in the authors' code
    blocks: int = 4

    def step(self, x, U, v, h):
        r = sigmoid(x.raw @ U.r + v.r)  # recurrence gate: how much to let fade
        i = sigmoid(x.raw @ U.i + v.i)  # input gate
        log_a = -8 * softplus(v.decay) * r
        a = exp(log_a)
        h = a * h + sqrt(1 - a * a + 1e-12) * (i * x.raw)  # the 1e-12 bounds the slope of the root, as its authors do
        return h

    def shapes(self, m, n):
        return {f"U.{gate}": (self.blocks, n // self.blocks, n // self.blocks) for gate in "ri"}

    def check(self, n):
        if self.blocks < 1 or n % self.blocks:
            raise UsageError(f"--cell-opt blocks={self.blocks}: rg-lru takes a number that divides --hidden {n}")
