"""The network in modules that tick at different speeds."""

from ..errors import UsageError
from .base import Cell, tanh, where


class Clockwork(Cell):
    """Plain network in modules with periods 1, 2, 4, ..: slow modules remember, fast ones read them."""

    name, paper = "clockwork", "Koutník, Greff, Gomez & Schmidhuber 2014, A Clockwork RNN"
    gates, state, carried = "h", "h t", "t"
    modules: int = 8

    def step(self, x, U, v, h, t):
        due = t % v.period == 0
        h = where(due, tanh(x.h + h @ U.h), h)
        t = (t + 1) % v.cycle
        return h, t

    def masks(self, n):
        return {"U.h": lambda source, target: self._period(source, n) >= self._period(target, n)}

    def constants(self, n):
        return {
            "v.period": lambda unit: self._period(unit, n),
            "v.cycle": lambda unit: 2 ** (self.modules - 1) + 0 * unit,
        }

    def _period(self, unit, n):
        return 2 ** (unit * self.modules // n)

    def check(self, n):
        if not 1 <= self.modules <= 24 or n % self.modules:
            raise UsageError(
                f"--cell-opt modules={self.modules}: clockwork needs --hidden {n} to be a multiple of the modules"
            )
