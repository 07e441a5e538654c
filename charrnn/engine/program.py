"""A traced step as a list of numpy calls on buffers made once, for sampling.

What depends on the weights alone is computed once. What depends on them and on the symbol that came in becomes a table
with a row per symbol: for the first layer there is no product left. Of the rest, equal operations on neighbouring
arrays become one: one product per left side, one sum, one sigmoid over all gates. All arrays are feature-major, (n, B),
so that a part of a buffer is contiguous; with B = 1 they are (n,), and a product is matrix times vector.
"""

from itertools import groupby

import numpy as np

from ..cells import base
from ..cells.base import Names
from ..cells.trace import Symbol, ordered
from . import on_numpy

TABLE = 1 << 24  # numbers in a table at most; what would be larger is computed at each step

_ARITHMETIC = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "%": np.mod,
    "==": np.equal, ">=": np.greater_equal, "@": np.matmul,
}  # fmt: skip
_UFUNCS = _ARITHMETIC | {"tanh": np.tanh, "exp": np.exp, "sqrt": np.sqrt, "maximum": np.maximum}


def leaves(bound, fixed: dict):
    """The same structure of Names and lists with a leaf symbol for every array; `fixed` is filled: symbol -> array."""
    if isinstance(bound, Names):
        return Names(**{name: leaves(value, fixed) for name, value in vars(bound).items()})
    if isinstance(bound, list):
        return [leaves(value, fixed) for value in bound]
    symbol = Symbol("leaf", f"array {len(fixed)}")
    fixed[symbol] = bound
    return symbol


class Program:
    """One step for `lanes` streams: `run(ids)` gives the output and moves `state` on.

    `output` is a symbol; `states` pairs each state's leaf symbol with the symbol of its next value; `ids` is the leaf
    for the symbols that come in; `fixed` maps leaves to arrays, `widths` the state leaves to their widths.
    """

    def __init__(self, output, states, ids, fixed, width: int, lanes: int):
        self.lanes, self.ids, self.calls, self.places = lanes, ids, [], {}
        self.fixed, self.tables = dict(fixed), {}
        self.widths = {leaf: width for leaf, _ in states}
        self.state = [self._buffer(width) for _ in states]
        for (leaf, _), buffer in zip(states, self.state, strict=True):
            self.places[leaf] = buffer, 0
        live = self._settle(ordered([output, *(after for _, after in states)]))
        for level in self._levels(live):
            for operator, members in self._packs(level):
                self._emit(operator, members)
        self.output = self._whole(output)
        moves = [(self._whole(after), buffer) for (_, after), buffer in zip(states, self.state, strict=True)]
        for k, (value, place) in enumerate(moves):
            if any(np.shares_memory(value, buffer) for buffer in self.state):  # a state that becomes another
                moves[k] = value.copy(), place
                self.calls.append((np.copyto, (moves[k][0], value), {}))
        for value, place in moves:
            self.calls.append((np.copyto, (place, value), {}))

    def run(self, ids: np.ndarray) -> np.ndarray:
        """Symbols (B,) -> the output (B, k), in a buffer that the next run overwrites."""
        for table, scratch, buffer in self.tables.values():
            if self.lanes == 1:
                buffer[...] = table[ids[0]]
            else:
                np.take(table, ids, axis=0, out=scratch, mode="clip")
                np.copyto(buffer, scratch.T)
        for function, arguments, named in self.calls:
            function(*arguments, **named)
        return self.output[None, :] if self.lanes == 1 else self.output.T

    def state_arrays(self) -> list[np.ndarray]:
        """The states as (B, n) views, in the order in which they were given."""
        return [buffer[None, :] if self.lanes == 1 else buffer.T for buffer in self.state]

    # ---- what need not be computed at each step

    def _settle(self, symbols):
        """Computes what is fixed, and by rows what depends on the symbol that comes in; returns the rest."""
        live, self.rows = [], {}
        for symbol in symbols:
            if symbol.operator == "leaf":
                continue
            known = [self._known(a) for a in symbol.arguments]
            if symbol.operator == "take" and symbol.arguments[1] is self.ids:
                self.rows[symbol] = self.fixed[symbol.arguments[0]]
            elif all(k is not None for k in known):
                value = self._compute(symbol, known)
                if any(a in self.rows for a in symbol.inputs):
                    if value.size > TABLE:
                        live.append(symbol)
                    else:
                        self.rows[symbol] = value
                else:
                    self.fixed[symbol] = value
            else:
                live.append(symbol)
            self.widths[symbol] = self._width(symbol)
        return live

    def _known(self, argument):
        if not isinstance(argument, Symbol):
            return argument
        return self.rows.get(argument, self.fixed.get(argument))

    @staticmethod
    def _compute(symbol, values):
        function = _ARITHMETIC.get(symbol.operator) or base.OPERATORS[symbol.operator]
        return function(*values)

    def _width(self, symbol):
        if symbol in self.rows or symbol in self.fixed:
            return self._known(symbol).shape[-1]
        if symbol.operator == "@":
            return self.fixed[symbol.arguments[1]].shape[-1]
        widths = [self.widths[a] if a in self.widths else self._known(a).shape[-1] for a in symbol.inputs]
        return sum(widths) if symbol.operator == "join" else max(widths)

    # ---- what can be done together

    def _levels(self, live):
        """The symbols that must be computed, by how long a chain leads to them: those of a level are independent."""
        depth = {}
        for symbol in live:
            depth[symbol] = 1 + max((depth.get(a, 0) for a in symbol.inputs), default=0)
        users = {}
        for symbol in live:
            for a in symbol.inputs:
                users.setdefault(a, []).append(symbol)
        self.purpose = {symbol: self._purpose(symbol, users) for symbol in live}
        for _, level in groupby(sorted(live, key=depth.get), key=depth.get):
            yield list(level)

    @staticmethod
    def _purpose(symbol, users):
        """The operation that sums and products lead to: what ends in a sigmoid is kept beside its like."""
        while symbol.operator in ("@", "+") and len(users.get(symbol, [])) == 1:
            symbol = users[symbol][0]
        return symbol.operator

    def _packs(self, level):
        """Groups of equal operations whose arguments lie side by side, each in the order of its arguments' places."""

        def signature(symbol):
            return symbol.operator, tuple(self._where(a, symbol) for a in symbol.arguments)

        def order(symbol):
            places = [self.places[a][1] for a in symbol.inputs if a in self.places]
            return (places if symbol.operator != "@" else [self.purpose[symbol]], symbol.serial)

        groups = {}
        for symbol in level:
            groups.setdefault(signature(symbol), []).append(symbol)
        for (operator, _), members in groups.items():
            members.sort(key=order)
            run = members[:1]
            for symbol in members[1:]:
                if operator in ("join", "take", "normalise") or not self._follows(run[-1], symbol):
                    yield operator, run
                    run = []
                run.append(symbol)
            yield operator, run

    def _where(self, argument, symbol):
        """What two operations must share in one argument to be done together."""
        if not isinstance(argument, Symbol):
            return argument
        if symbol.operator == "@":
            return argument.serial if argument is symbol.arguments[0] else "matrix"
        if argument in self.places:
            return id(self.places[argument][0])
        return "row" if argument in self.rows else "fixed"

    def _follows(self, one, other):
        """Whether the arguments of one operation end where those of the other begin."""
        if one.operator == "@":
            return True
        for a, b in zip(one.arguments, other.arguments, strict=True):
            placed = isinstance(a, Symbol) and a in self.places
            if placed and self.places[a][1] + self.widths[a] != self.places[b][1]:
                return False
        return True

    # ---- the calls

    def _buffer(self, width, kind=np.float32):
        return np.zeros(width if self.lanes == 1 else (width, self.lanes), kind)

    def _emit(self, operator, members):
        """The calls for equal operations done as one, into a buffer of their own."""
        kind = np.bool_ if operator in ("==", ">=") else np.float32
        out, place = self._buffer(sum(self.widths[m] for m in members), kind), 0
        for member in members:
            self.places[member] = out, place
            place += self.widths[member]
        if operator == "join":
            start = 0
            for part in members[0].inputs:
                self._call(np.copyto, out[start : start + self.widths[part]], self._whole(part))
                start += self.widths[part]
            return
        if operator == "@":
            matrix = np.concatenate([self.fixed[m.arguments[1]] for m in members], axis=1)  # (k, m)
            self._call(np.dot, np.ascontiguousarray(matrix.T), self._whole(members[0].arguments[0]), out=out)
            return
        arguments = [self._gathered([m.arguments[k] for m in members]) for k in range(len(members[0].arguments))]
        self._elementwise(operator, arguments, out)

    def _elementwise(self, operator, arguments, out):
        if operator in _UFUNCS:
            self._call(_UFUNCS[operator], *arguments, out=out)
        elif operator == "sigmoid":  # 0.5 tanh(0.5 a) + 0.5 cannot overflow
            self._call(np.multiply, arguments[0], np.float32(0.5), out=out)
            self._call(np.tanh, out, out=out)
            self._call(np.multiply, out, np.float32(0.5), out=out)
            self._call(np.add, out, np.float32(0.5), out=out)
        elif operator == "where":
            condition, yes, no = arguments
            self._call(np.copyto, out, no)
            self._call(np.copyto, out, yes, where=condition)
        elif operator == "normalise":
            self._call(lambda a: np.copyto(out, on_numpy.normalise(a.T).T), *arguments)
        else:
            function = base.OPERATORS[operator]
            self._call(lambda *values: np.copyto(out, function(*values)), *arguments)

    def _call(self, function, *arguments, **named):
        self.calls.append((function, arguments, named))

    def _gathered(self, arguments):
        """One argument of several operations as one array: a part of a buffer, a table's row, a constant, a number."""
        first = arguments[0]
        if not isinstance(first, Symbol):
            return first
        if first in self.places:
            buffer, start = self.places[first]
            last = arguments[-1]
            return buffer[start : self.places[last][1] + self.widths[last]]
        if first in self.rows:
            return self._row(tuple(arguments))
        joined = np.ascontiguousarray(np.concatenate([self.fixed[a] for a in arguments]), np.float32)
        return joined if self.lanes == 1 else joined[:, None]

    def _row(self, arguments):
        """The buffer that holds, at each step, the rows of these tables for the symbols that came in."""
        if arguments not in self.tables:
            table = np.ascontiguousarray(np.concatenate([self.rows[a] for a in arguments], axis=1), np.float32)
            scratch = np.empty((self.lanes, table.shape[1]), np.float32)
            self.tables[arguments] = table, scratch, self._buffer(table.shape[1])
        return self.tables[arguments][2]

    def _whole(self, symbol):
        return self._gathered([symbol])
