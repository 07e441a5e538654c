"""Between which numbers a named quantity lies, told by the operators that made it: a gate lies between 0 and 1."""

import math

from . import base
from .trace import evaluate, ordered, trace


class Interval:
    """All numbers from `low` to `high`, in place of an array; arithmetic gives an interval that holds the result."""

    def __init__(self, low, high, terms=()):
        self.low, self.high, self.terms = low, high, terms

    def __repr__(self):
        return f"{self.low} to {self.high}"

    def __add__(self, other):
        a, b = self, _interval(other)
        return Interval(a.low + b.low, a.high + b.high, (a, b))

    def __mul__(self, other):
        a, b = self, _interval(other)
        ends = [_times(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
        return Interval(min(ends), max(ends))

    def __sub__(self, other):
        return self + -1 * _interval(other)

    def __rsub__(self, other):
        return _interval(other) - self

    def __truediv__(self, other):
        a, b = self, _interval(other)
        if any(term is a for term in b.terms) and all(term.low >= 0 for term in b.terms):
            return Interval(0.0, 1.0)  # a / (a + b) is a share
        return a * Interval(1 / b.high, 1 / b.low) if b.low > 0 else ANY

    def __rtruediv__(self, other):
        return _interval(other) / self

    __radd__, __rmul__ = __add__, __mul__
    __matmul__ = __mod__ = __rmod__ = lambda self, other: ANY
    __eq__ = __ge__ = lambda self, other: Interval(0.0, 1.0)
    __hash__ = None


ANY = Interval(-math.inf, math.inf)


def _interval(value):
    return value if isinstance(value, Interval) else Interval(value, value)


def _times(x, y):
    return 0.0 if 0 in (x, y) else x * y  # also where the other is infinite: the ends are limits


def _exp(a):
    return math.exp(a) if a < 700 else math.inf


def _softplus(a):
    return max(a, 0.0) + math.log1p(_exp(-abs(a)))


def _hull(a, b):
    a, b = _interval(a), _interval(b)
    return Interval(min(a.low, b.low), max(a.high, b.high))


def _greater(a, b):
    a, b = _interval(a), _interval(b)
    return Interval(max(a.low, b.low), max(a.high, b.high))


_RISING = dict(
    sigmoid=lambda a: 1 / (1 + _exp(-a)),
    tanh=math.tanh,
    relu=lambda a: max(a, 0.0),
    exp=_exp,
    sqrt=lambda a: math.sqrt(max(a, 0.0)),
    log_sigmoid=lambda a: -_softplus(-a),
    softplus=_softplus,
)
for _name, _f in _RISING.items():
    base.OPERATORS[_name].register(Interval, lambda a, _f=_f: Interval(_f(a.low), _f(a.high)))
base.maximum.register(Interval, _greater)
base.where.register(Interval, lambda condition, a, b: _hull(a, b))


def intervals(cell) -> dict[str, Interval]:
    """The interval of every named quantity of a step, whatever its inputs, states and weights are."""
    named = trace(cell).named
    values = evaluate(ordered(named.values()), lambda name: ANY)
    return {name: values[symbol] for name, symbol in named.items()}
