"""How a value changes with what it is made of, in symbols: the chain rule, from the value down (reverse mode)."""

from ...cells.base import sigmoid, where
from ...cells.trace import Symbol

RULES = {  # for y = f(*arguments): from the slope g of a result by y to those by its arguments, symbols or numbers
    "+": lambda g, y, a, b: (g, g),
    "-": lambda g, y, a, b: (g, -g),
    "*": lambda g, y, a, b: (_times(g, b), _times(g, a)),
    "/": lambda g, y, a, b: (g / b, -(_times(g, y) / b)),
    "%": lambda g, y, a, b: (g, -_times(g, (a - y) / b)),
    "sigmoid": lambda g, y, a: (Symbol("sigmoid slope", g, y),),
    "tanh": lambda g, y, a: (Symbol("tanh slope", g, y),),
    "relu": lambda g, y, a: (where(a >= 0, g, 0),),
    "exp": lambda g, y, a: (_times(g, y),),
    "sqrt": lambda g, y, a: (_times(g, 0.5) / y,),
    "log_sigmoid": lambda g, y, a: (_times(g, sigmoid(-a)),),
    "softplus": lambda g, y, a: (_times(g, sigmoid(a)),),
    "maximum": lambda g, y, a, b: (where(y == a, g, 0), where(y == a, 0, g)),
    "where": lambda g, y, condition, a, b: (None, where(condition, g, 0), where(condition, 0, g)),
    "copy": lambda g, y, a: (g,),
    "==": lambda g, y, a, b: (None, None),
    ">=": lambda g, y, a, b: (None, None),
}


def slopes(inside: list[Symbol]) -> dict:
    """The slope of the last of these symbols, which are in order, by each that it is made of: a symbol or a number;
    what it does not change with is left out."""
    found = {inside[-1]: 1}
    for symbol in reversed(inside):
        if symbol in found:
            own = RULES[symbol.operator](found[symbol], symbol, *symbol.arguments)
            for a, slope in zip(symbol.arguments, own, strict=True):
                if isinstance(a, Symbol) and slope is not None:
                    found[a] = _sum(found[a], slope) if a in found else slope
    return found


def _times(a, b):
    if _is_one(a) or _is_one(b):
        return b if _is_one(a) else a
    return a * b


def _is_one(a):
    return not isinstance(a, Symbol) and a == 1


def _sum(a, b):
    """a + b, where one of them may be written as 0 - c."""
    for one, other in ((a, b), (b, a)):
        if isinstance(other, Symbol) and other.operator == "-" and _is_zero(other.arguments[0]):
            return one - other.arguments[1]
    return a + b


def _is_zero(a):
    return not isinstance(a, Symbol) and a == 0
