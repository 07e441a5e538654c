"""A step, run once on symbols: which parameters there are, which products, in what order, under which names."""

import operator
import sys
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import count

from . import base
from .base import advance

_serial = count()


class Symbol:
    """One value of a traced step: an operator and what it is applied to; a leaf is ("leaf", "U.i")."""

    def __init__(self, operator, *arguments):
        self.operator, self.arguments, self.serial = operator, arguments, next(_serial)

    def __repr__(self):
        if self.operator == "leaf":
            return self.arguments[0]
        return f"{self.operator}({', '.join(map(repr, self.arguments))})"

    def __hash__(self):
        return id(self)

    def __bool__(self):
        raise TypeError("a step is straight-line arithmetic: it cannot branch on a value; use where(condition, a, b)")

    @property
    def inputs(self):
        return [a for a in self.arguments if isinstance(a, Symbol)]


def _arithmetic(name, symbol):
    def forward(self, other):
        return Symbol(symbol, self, other)

    def reflected(self, other):
        return Symbol(symbol, other, self)

    setattr(Symbol, f"__{name}__", forward)
    if name not in ("eq", "ge"):
        setattr(Symbol, f"__r{name}__", reflected)


_FUNCTIONS = {}
for _name, _symbol in dict(add="+", sub="-", mul="*", truediv="/", matmul="@", mod="%", eq="==", ge=">=").items():
    _arithmetic(_name, _symbol)
    _FUNCTIONS[_symbol] = getattr(operator, _name)
Symbol.__neg__ = lambda self: Symbol("-", 0, self)
for _name, _operator in base.OPERATORS.items():
    _operator.register(Symbol, lambda *arguments, _name=_name: Symbol(_name, *arguments))
base.affine.register(Symbol, lambda a, W, b: a @ W + b)


class _Leaves:
    """A namespace in which every name is a symbol, made when it is first asked for and remembered in order."""

    def __init__(self, prefix):
        self._prefix, self._made = prefix, {}

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self._made.setdefault(name, Symbol("leaf", f"{self._prefix}.{name}"))


class Trace:
    """What one run of a cell's step on symbols tells."""

    def __init__(self, cell):
        x, U, v, below = (_Leaves(prefix) for prefix in ("x", "U", "v", "below"))
        state = {name: Symbol("leaf", name) for name in cell.states}
        self.named = {}
        self.up, self.state = _with_locals(self.named, cell, x, U, v, below, state)
        self.gates, self.matrices, self.vectors = list(x._made), list(U._made), list(v._made)
        self.below = list(below._made)
        self.raw = "raw" in self.gates
        if self.raw:
            self.gates.remove("raw")
        declared = cell.gates.split()
        assert sorted(self.gates) == sorted(declared), f"{cell.name}: gates {declared}, but step uses {self.gates}"
        self.gates = declared
        self.steps = ordered([*self.up.values(), *self.state.values()])

    @property
    def stages(self):
        """The recurrent products grouped by what must come first: [[r, z], [n]] for the GRU of Cho 2014."""
        depth, stages, past = {}, {}, set()  # `past` has what depends on a state
        for symbol in self.steps:
            depth[symbol] = max((depth[a] for a in symbol.inputs), default=0)
            if (symbol.operator == "leaf" and "." not in symbol.arguments[0]) or past & {*symbol.inputs}:
                past.add(symbol)
            if symbol.operator == "@" and symbol in past:
                depth[symbol] += 1
                stages.setdefault(depth[symbol], []).append(repr(symbol.arguments[1])[2:])
        return [stages[d] for d in sorted(stages)]

    @property
    def leaves(self):
        """The leaves of all that a step computes."""
        return [symbol for symbol in self.steps if symbol.operator == "leaf"]

    @cached_property
    def linear(self):
        """How the states follow from themselves, where each is linear in its old value, unit by unit, and otherwise
        depends on inputs and on states that come before it: [(name, its leaf, factor, summand)] in such an order, with
        the factor None for a state that does not see its old value. None for all other cells."""
        found, solved, open_ = [], set(), dict(self.state)
        by_name = {leaf.arguments[0]: leaf for leaf in self.leaves}
        while open_:
            for name, symbol in open_.items():
                leaf = by_name.get(name)
                others = {a for a in ordered([symbol]) if a.operator == "leaf" and "." not in a.arguments[0]} - solved
                parts = _linear(symbol, leaf) if others <= {leaf} else None
                if parts:
                    break
            else:
                return None
            found.append((name, leaf, *parts))
            solved.add(leaf)
            del open_[name]
        return found


def _linear(symbol, leaf):
    """(factor, summand) of a symbol that is linear in a leaf, the factor None where it does not see it; None if not."""
    if symbol is leaf:
        return 1, 0
    if not isinstance(symbol, Symbol) or leaf not in {*ordered([symbol])}:
        return None, symbol
    parts = [_linear(a, leaf) for a in symbol.arguments]
    if any(part is None for part in parts) or len(parts) != 2:
        return None
    (a, b), (c, d) = parts
    if symbol.operator == "+":
        return (a if c is None else c if a is None else a + c), _plus(b, d)
    if symbol.operator == "-":
        return (a if c is None else -c if a is None else a - c), b - d
    if symbol.operator == "*" and c is None:
        return _times(a, d), _times(b, d)
    if symbol.operator == "*" and a is None:
        return _times(c, b), _times(d, b)
    if symbol.operator == "/" and c is None:
        return a / d, b / d
    return None


def _plus(a, b):
    """A sum, where 0 is nothing to be computed with."""
    return a if _is(b, 0) else b if _is(a, 0) else a + b


def _times(a, b):
    """A product, where 0 and 1 are nothing to be computed with."""
    if _is(a, 0) or _is(b, 0):
        return 0
    return a if _is(b, 1) else b if _is(a, 1) else a * b


def _is(a, number):
    return not isinstance(a, Symbol) and a == number


def _with_locals(named, cell, *arguments):
    """Runs a step on symbols and keeps what its local names stood for when it returned."""
    code = type(cell.equations).step.__code__

    def watch(frame, event, _):
        if event == "return" and frame.f_code is code:
            named.update({k: s for k, s in frame.f_locals.items() if isinstance(s, Symbol) and s.operator != "leaf"})

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        return advance(cell, *arguments)
    finally:
        sys.setprofile(before)


def ordered(results):
    """Every symbol that the results depend on, in the order in which the step made them."""
    seen, waiting = set(), [symbol for symbol in results if isinstance(symbol, Symbol)]
    while waiting:
        symbol = waiting.pop()
        if symbol not in seen:
            seen.add(symbol)
            waiting += symbol.inputs
    return sorted(seen, key=lambda symbol: symbol.serial)


def evaluate(symbols, leaf):
    """A traced step run again, on values of any kind: the value of each of the symbols, given in order; that of a leaf
    is leaf("U.i")."""
    values = {}
    for symbol in symbols:
        if symbol.operator == "leaf":
            values[symbol] = leaf(symbol.arguments[0])
        else:
            arguments = (values[a] if isinstance(a, Symbol) else a for a in symbol.arguments)
            values[symbol] = function(symbol.operator)(*arguments)
    return values


def function(name):
    """What an operator of a step computes, on values of any kind."""
    return _FUNCTIONS.get(name) or base.OPERATORS[name]


trace = lru_cache(maxsize=None)(Trace)


def parameters(cell, m, n):
    """Name and shape of every trained array of a layer with inputs m wide and states n wide."""
    t, declared = trace(cell), cell.shapes(m, n)
    shapes = {}
    for gate in t.gates:
        shapes[f"W.{gate}"] = declared.get(f"W.{gate}", (m, n))
        if gate not in cell.unbiased.split():
            shapes[f"b.{gate}"] = (n,)
    raw = declared.get("x.raw", (n,))
    if t.raw and raw != (m,):
        shapes["W.raw"] = (m, *raw)
    for name in t.matrices:
        shapes[f"U.{name}"] = declared.get(f"U.{name}", (n, n))
    for name in t.vectors:
        if f"v.{name}" not in cell.constants(n):
            shapes[f"v.{name}"] = declared.get(f"v.{name}", (n,))
    return shapes


class Size:
    """A width that is only a letter: sizes multiply and divide, so that shapes give a formula."""

    def __init__(self, letters="", factor=Fraction(1)):
        self.letters, self.factor = "".join(sorted(letters, reverse=True)), Fraction(factor)

    def __floordiv__(self, divisor):
        return Size(self.letters, self.factor / divisor)

    def __mul__(self, other):
        other = other if isinstance(other, Size) else Size("", other)
        return Size(self.letters + other.letters, self.factor * other.factor)

    __rmul__ = __mul__

    def __eq__(self, other):
        return isinstance(other, Size) and (self.letters, self.factor) == (other.letters, other.factor)

    def __hash__(self):
        return hash((self.letters, self.factor))


def formula(cell, projected=False):
    """The number of a layer's parameters in m (inputs) and n (units), as in `4nm + 4n² + 4n`.

    `projected` counts what an input that the cell uses as it is costs where m is not n.
    """
    try:
        total, arrays = {}, parameters(cell, Size("m"), Size("n"))
    except TypeError:  # such as m + n or min(n, 64) in the shapes of a person's own cell
        return "no formula"
    if not projected:
        arrays.pop("W.raw", None)
    for name, shape in arrays.items():
        size = Size()
        for length in shape:
            size = size * length
        letters = size.letters + (" (masked)" if name in cell.masks(1) else "")
        total[letters] = total.get(letters, 0) + size.factor
    order = ["nm", "nn", "nn (masked)", "n", "m"]
    terms = [(letters, total[letters]) for letters in [*order, *sorted({*total} - {*order})] if letters in total]
    squares = [(letters.replace("nn", "n²").replace("mm", "m²"), k) for letters, k in terms]
    return " + ".join(letters if k == 1 and letters else f"{k}{letters}" for letters, k in squares)
