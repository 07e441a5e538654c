"""The LSTM with exponential gates."""

from ..errors import UsageError
from .base import Cell, exp, log_sigmoid, maximum, sigmoid, tanh


class SLSTM(Cell):
    """LSTM with exponential input gate, normalised memory and heads that do not mix; it can revise what it stored."""

    name, paper = "slstm", "Beck et al. 2024, xLSTM: Extended Long Short-Term Memory (sLSTM)"
    gates, state, carried = "i f z o", "h c n m", "c n m"
    init = {"b.f": 1.0}
    heads: int = 4

    def step(self, x, U, h, c, n, m):
        i = x.i + h @ U.i
        f = log_sigmoid(x.f + h @ U.f)
        z = tanh(x.z + h @ U.z)
        o = sigmoid(x.o + h @ U.o)
        m_now = maximum(i, f + m)  # keeps the exponentials below 1 and changes nothing else
        i = exp(i - m_now)
        f = exp(f + m - m_now)
        c = f * c + i * z
        n = f * n + i  # normaliser
        h = o * c / n
        return h, c, n, m_now

    def shapes(self, m, n):
        return {f"U.{gate}": (self.heads, n // self.heads, n // self.heads) for gate in "ifzo"}

    def initial(self):
        return {"m": float("-inf")}

    def check(self, n):
        if self.heads < 1 or n % self.heads:
            raise UsageError(f"--cell-opt heads={self.heads}: slstm takes a number that divides --hidden {n}")
