"""A traced step as a list of operations on buffers made once, for sampling.

What depends on the weights alone is computed once. What depends on them and on the symbol that came in becomes a table
with a row per symbol: for the first layer there is no product left. Of the rest, equal operations on neighbouring
arrays become one: one product per left side, one sum, one tanh over all gates. All arrays are feature-major, (n, B),
so that a part of a buffer is contiguous; with B = 1 they are (n,), and a product is matrix times vector. The states lie
side by side, those that are multiplied first, and a new one is written over the old one where nobody needs that any
more: so the outputs of several layers stand together without being moved.
"""

from itertools import groupby
from typing import NamedTuple

import numpy as np

from ..cells import base
from ..cells.base import Names
from ..cells.trace import Symbol, ordered
from . import on_numpy
from .rewrite import rewritten

TABLE = 1 << 24  # numbers in a table at most; what would be larger is computed at each step

_ARITHMETIC = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "%": np.mod,
    "==": np.equal, ">=": np.greater_equal, "@": np.matmul,
}  # fmt: skip
_MADE = {"rows": lambda *matrices: np.concatenate(matrices)}  # what rewriting adds
_ALONE = ("join", "take", "normalise", "attend")  # what is not elementwise is not done together with a neighbour
_UFUNCS = _ARITHMETIC | {"tanh": np.tanh, "exp": np.exp, "sqrt": np.sqrt, "maximum": np.maximum, "@": np.dot}


class Operation(NamedTuple):
    """What is computed from parts of buffers, fixed arrays and numbers, into a part of a buffer.

    A product has its matrix (M, K) first, and in `pieces` how many of its columns belong together; what looks back and
    what remembers have lanes first. Of a memory that is moved on, `out` is all of it.
    """

    name: str
    arguments: list
    out: np.ndarray
    pieces: tuple = ()

    def calls(self):
        """The same as calls of numpy: functions, arguments, named ones."""
        out, arguments = self.out, self.arguments
        if self.name in _UFUNCS:
            yield _UFUNCS[self.name], arguments, {"out": out}
        elif self.name == "copy":
            yield np.copyto, [out, *arguments], {}
        elif self.name == "where":
            condition, yes, no = arguments
            yield np.copyto, [out, no], {}
            yield np.copyto, [out, yes], {"where": condition}
        elif self.name == "normalise":
            yield lambda a: np.copyto(out, on_numpy.normalise(a.T).T), arguments, {}
        elif self.name == "attend":
            yield lambda *values: np.copyto(out, on_numpy.attend(*values).T.reshape(out.shape)), arguments, {}
        else:
            function = base.OPERATORS[self.name]
            yield lambda *values: np.copyto(out, function(*values)), arguments, {}


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
    """One step for `lanes` streams: `run(ids)` gives the output and moves `state`, a list of (B, ..) arrays, on.

    `output` is a symbol; `states` pairs each state's leaf symbol with the symbol of its next value; `ids` is the leaf
    for the symbols that come in; `fixed` maps leaves to arrays. `shapes` are those of the states of one lane: (n,), or
    for one that remembers (N, n + 1), as base.remember has it. The `operations` are those of a step, once the rows of
    the `tables` (V, k), for a single lane, or (k, V) stand in their buffers.
    """

    def __init__(self, output, states, ids, fixed, shapes: list[tuple], lanes: int):
        self.lanes, self.ids, self.operations, self.places, self.buffers = lanes, ids, [], {}, []
        self.widths = {leaf: array.shape[-1] for leaf, array in fixed.items()}
        self.fixed, self.tables, self.memories = dict(fixed), {}, {}
        output, *after = rewritten([output, *(after for _, after in states)], self.fixed, ids)
        states = [(leaf, new) for (leaf, _), new in zip(states, after, strict=True)]
        symbols = ordered([output, *after])
        self._place(states, shapes, symbols)
        levels, users = self._levels(self._settle(symbols))
        self.homes = self._homes(states, users)
        for level in levels:
            for operator, members in self._packs(level):
                self._emit(operator, members)
        self.output = self._whole(output)
        self._move(states)
        self.calls = [call for operation in self.operations for call in operation.calls()]
        self.state = [self.memories[leaf] if leaf in self.memories else self._lanes_first(leaf) for leaf, _ in states]

    def run(self, ids: np.ndarray) -> np.ndarray:
        """Symbols (B,) -> the output (B, k), in a buffer that the next run overwrites."""
        for table, buffer in self.tables.values():
            if self.lanes == 1:
                buffer[...] = table[ids[0]]
            else:
                np.take(table, ids, axis=1, out=buffer, mode="clip")
        for function, arguments, named in self.calls:
            function(*arguments, **named)
        return self.output[None, :] if self.lanes == 1 else self.output.T

    # ---- where the states lie

    def _place(self, states, shapes, symbols):
        """Gives each state its place: memories for themselves, the rest side by side, first what is multiplied."""
        lefts = {a for symbol in symbols if symbol.operator in ("@", "join") for a in symbol.inputs}
        plain = []
        for (leaf, after), shape in zip(states, shapes, strict=True):
            if after.operator == "remember":
                self.memories[leaf] = np.zeros((self.lanes, *shape), np.float32)
            else:
                plain.append((leaf, after))
                (self.widths[leaf],) = shape
        plain.sort(key=lambda state: lefts.isdisjoint(state))
        self.together, start = self._buffer(sum(self.widths[leaf] for leaf, _ in plain)), 0
        for leaf, _ in plain:
            self.places[leaf] = self.together, start
            start += self.widths[leaf]

    def _homes(self, states, users):
        """The new states that can be written over the old ones, with their places: all that reads these is done before
        that."""
        homes, moved = {}, {after for _, after in states}
        for leaf, after in states:
            if leaf in self.memories or leaf in moved or after not in self.depth or after in homes:
                continue
            readers = list(users.get(leaf, ()))
            for reader in readers:
                if reader.operator == "join":  # which may leave it where it lies, for others to read
                    readers += users.get(reader, ())
            if after.operator != "join" and all(self.depth[reader] < self.depth[after] for reader in readers):
                homes[after] = self.places[leaf][1]
        return homes

    # ---- what need not be computed at each step

    def _settle(self, symbols):
        """Computes what is fixed, and by rows what depends on the symbol that comes in; returns the rest."""
        live, self.rows = [], {}
        for symbol in symbols:
            if symbol.operator in ("leaf", "remember"):
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
        function = (_ARITHMETIC | _MADE).get(symbol.operator) or base.OPERATORS[symbol.operator]
        return function(*values)

    def _width(self, symbol):
        if symbol in self.rows or symbol in self.fixed:
            return self._known(symbol).shape[-1]
        if symbol.operator == "@":
            return self.fixed[symbol.arguments[1]].shape[-1]
        if symbol.operator == "attend":
            return self.widths[symbol.arguments[0]]
        widths = [self.widths[a] for a in symbol.inputs]
        return sum(widths) if symbol.operator == "join" else max(widths)

    # ---- what can be done together

    def _levels(self, live):
        """The symbols that must be computed, by how long a chain leads to them: those of a level are independent. And
        by whom each symbol is used."""
        self.depth, users = {}, {}
        for symbol in live:
            self.depth[symbol] = 1 + max((self.depth.get(a, 0) for a in symbol.inputs), default=0)
            for a in symbol.inputs:
                users.setdefault(a, []).append(symbol)
        self.purpose = {symbol: self._purpose(symbol, users) for symbol in live}
        by_depth = groupby(sorted(live, key=self.depth.get), key=self.depth.get)
        return [list(level) for _, level in by_depth], users

    @staticmethod
    def _purpose(symbol, users):
        """What sums, products and squashing lead to: a logistic function, which ends in 0.5 times, stands beside its
        like."""
        while symbol.operator in ("@", "+", "tanh") and len(users.get(symbol, [])) == 1:
            symbol = users[symbol][0]
        return f"{symbol.operator} {[a for a in symbol.arguments if not isinstance(a, Symbol)]}"

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
                if operator in _ALONE or not self._follows(run[-1], symbol) or not self._beside(run[-1], symbol):
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

    def _beside(self, one, other):
        """Whether the results of two operations may lie side by side."""
        a, b = self.homes.get(one), self.homes.get(other)
        return b is None if a is None else b == a + self.widths[one]

    # ---- the operations

    def _move(self, states):
        """Puts those next states in the place of the present ones that are not there yet, once all else is done."""
        moves = []
        for leaf, after in states:
            if leaf in self.memories:
                memory = self.memories[leaf]
                self._operate("remember", [memory, self._lanes_first(after.arguments[1])], memory)
            elif self.homes.get(after) != self.places[leaf][1]:
                moves.append([self._whole(after), self._whole(leaf)])
        for move in moves:
            if any(np.shares_memory(move[0], place) for _, place in moves):  # a state that becomes another
                held = self._buffer(len(move[0]))
                self._operate("copy", [move[0]], held)
                move[0] = held
        for value, place in moves:
            self._operate("copy", [value], place)

    def _buffer(self, width, kind=np.float32):
        self.buffers.append(np.zeros(width if self.lanes == 1 else (width, self.lanes), kind))
        return self.buffers[-1]

    def _emit(self, operator, members):
        """Equal operations done as one, into a buffer of their own."""
        if operator == "join" and self._joined(*members):
            return
        kind = np.bool_ if operator in ("==", ">=") else np.float32
        home, width = self.homes.get(members[0]), sum(self.widths[m] for m in members)
        buffer, place = (self._buffer(width, kind), 0) if home is None else (self.together, home)
        out = buffer[place : place + width]
        for member in members:
            self.places[member] = buffer, place
            place += self.widths[member]
        if operator == "join":
            start = 0
            for part in members[0].inputs:
                self._operate("copy", [self._whole(part)], out[start : start + self.widths[part]])
                start += self.widths[part]
        elif operator == "@":
            matrices = [m.arguments[1] for m in members]
            whole = np.concatenate([self.fixed[matrix] for matrix in matrices], axis=1)  # (k, m)
            stacks = [matrix.inputs for matrix in matrices if matrix.operator == "rows"] or [matrices[:1]]
            pieces = tuple(len(self.fixed[matrix]) for matrix in stacks[0])
            self._operate("@", [np.ascontiguousarray(whole.T), self._whole(members[0].arguments[0])], out, pieces)
        elif operator == "attend":
            query, new, memory = members[0].arguments
            self._operate("attend", [self._lanes_first(query), self._lanes_first(new), self.memories[memory]], out)
        else:
            count = len(members[0].arguments)
            self._operate(operator, [self._gathered([m.arguments[k] for m in members]) for k in range(count)], out)

    def _joined(self, symbol):
        """Whether what is to be joined lies side by side already; then that is its place."""
        places = [self.places.get(part, (None, 0)) for part in symbol.inputs]
        buffer, start = places[0]
        end = start
        for part, (other, place) in zip(symbol.inputs, places, strict=True):
            if buffer is None or other is not buffer or place != end:
                return False
            end += self.widths[part]
        self.places[symbol] = buffer, start
        return True

    def _operate(self, name, arguments, out, pieces=()):
        self.operations.append(Operation(name, arguments, out, pieces))

    def _gathered(self, arguments):
        """One argument of several operations as one array: a part of a buffer, a table's row, a constant, a number."""
        first = arguments[0]
        if not isinstance(first, Symbol):
            return np.array(first, np.float32)
        if first in self.places:
            buffer, start = self.places[first]
            last = arguments[-1]
            return buffer[start : self.places[last][1] + self.widths[last]]
        if first in self.rows:
            return self._row(tuple(arguments))
        joined = np.concatenate([self.fixed[a] for a in arguments])
        joined = joined if joined.dtype == bool else joined.astype(np.float32)
        return joined if self.lanes == 1 else joined[:, None]

    def _row(self, arguments):
        """The buffer that holds, at each step, the rows of these tables for the symbols that came in."""
        if arguments not in self.tables:
            table = np.concatenate([self.rows[a] for a in arguments], axis=1)  # (V, k)
            table, buffer = table if self.lanes == 1 else table.T, self._buffer(table.shape[1])
            self.tables[arguments] = np.ascontiguousarray(table, np.float32), buffer
        return self.tables[arguments][1]

    def _whole(self, symbol):
        return self._gathered([symbol])

    def _lanes_first(self, symbol):
        """As a view (B, n)."""
        array = self._whole(symbol)
        return array[None, :] if self.lanes == 1 else array.T
