"""A step cut where time enters: at its recurrent products and at its states. Between the cuts, all is pointwise.

A cell is a few products with pointwise arithmetic between them: [i f g o] of h for the LSTM, [r z] of h and then [n] of
r * h for the GRU of Cho. Sums of products, with the input projection that they are added to, become one leaf each, a
`Row`; a new state, and whatever a product is made of, becomes a `Node` whose arithmetic reaches down to rows, states
and other nodes only.
"""

from dataclasses import dataclass, field
from functools import lru_cache

from ...cells.trace import Symbol, ordered, trace
from .slopes import slopes


@dataclass(eq=False)
class Row:
    """A sum that pointwise arithmetic starts from: an input projection, products of `lefts` with matrices, or both."""

    symbol: Symbol  # the leaf that stands for it
    gate: str = ""  # of the input projection in it, if there is one
    terms: list[tuple[Symbol, str]] = field(default_factory=list)  # what is multiplied, by which matrix


@dataclass(eq=False)
class Node:
    """A value that is kept: a new state, something that goes up, or the left side of a product."""

    symbol: Symbol
    leaves: list[Symbol] = field(default_factory=list)  # what its arithmetic reads: rows, states, nodes, v, below, raw
    slopes: dict = field(default_factory=dict)  # its derivative by each that it changes with: a symbol or a number


class Cut:
    """`rows` in the order in which they lie in memory, `nodes`, and `events`, what happens in a step, in order.

    An event is ("product", left) or ("node", node). `state` and `up` tell the node of each name; leaves of states,
    vectors, what comes from below and the raw input are symbols by name in `named`. What vectors alone decide is such
    a leaf too, and `fixed` has what it stands for, since it is the same at all steps.
    """

    def __init__(self, cell):
        t = trace(cell)
        self._uses = _uses(t)
        self._rewritten, self._rows = {}, []
        self.nodes, self.named, self.fixed = {}, {}, {}
        self.state, self.up = {}, {}
        for name, symbol in t.state.items():
            node = self._node(symbol)
            if node in self.state.values():  # two states that are one value, but did not start as one
                node = self.nodes.setdefault(copy := Symbol("copy", node.symbol), Node(copy))
            self.state[name] = node
        self.up = {name: self._node(symbol) for name, symbol in t.up.items()}
        self._add_lefts()
        for node in self.nodes.values():
            node.leaves = self._leaves(node)
            node.slopes = slopes(self.inside(node))
        self.row_of = {row.symbol: row for row in self._rows}
        self.readers = {row.symbol: [] for row in self._rows}  # the symbols that use a row in arithmetic
        self.uses = {}  # how often a symbol is used in arithmetic
        for symbol in {symbol for node in self.nodes.values() for symbol in self.inside(node)}:
            for a in symbol.inputs:
                self.uses[a] = self.uses.get(a, 0) + 1
                if a in self.readers:
                    self.readers[a].append(symbol)
        self.events = self._ordered()
        self.rows = self._laid_out()
        self.lefts = {left: [row for row in self.rows if left in {*lefts_of(row)}] for left in self._all_lefts()}

    # ---- from the trace to rows and nodes

    def _node(self, symbol):
        """The node of a symbol of the trace, made when it is first asked for."""
        new = self._rewrite(symbol)
        if new.operator == "leaf":
            new = self.nodes[new].symbol if new in self.nodes else Symbol("copy", new)
            self._rewritten[symbol] = new
        return self.nodes.setdefault(new, Node(new))

    def _rewrite(self, symbol):
        """The symbol with rows in the place of sums of products and of input projections."""
        if not isinstance(symbol, Symbol):
            return symbol
        if symbol not in self._rewritten:
            self._rewritten[symbol] = self._new(symbol)
        return self._rewritten[symbol]

    def _new(self, symbol):
        if symbol.operator == "leaf":
            name = symbol.arguments[0]
            if name.startswith("x.") and name != "x.raw":
                return self._row(name[2:], [])
            self.named[name] = symbol
            return symbol
        if all(a.operator != "leaf" or a.arguments[0].startswith("v.") for a in ordered([symbol])):
            name = f"fixed.{len(self.fixed)}"
            self.fixed[name], self.named[name] = symbol, Symbol("leaf", name)
            return self.named[name]
        terms = self._terms(symbol)
        products = [a for a in terms if isinstance(a, Symbol) and a.operator == "@" and self._uses[a] == 1]
        if symbol.operator == "@":
            products, terms = [symbol], [symbol]
        if not products:
            return Symbol(symbol.operator, *map(self._rewrite, symbol.arguments))
        gates = [a for a in terms if _is_gate(a) and self._uses[a] == 1][:1]
        new = self._row(gates[0].arguments[0][2:] if gates else "", products)
        inside = {*products, *gates}  # a set, since == between symbols makes a symbol
        for term in terms:
            if not isinstance(term, Symbol) or term not in inside:
                new = Symbol("+", new, self._rewrite(term))
        return new

    def _terms(self, symbol):
        """The terms of a sum, where what is summed first is used nowhere else."""
        if symbol.operator != "+":
            return []
        found = []
        for a in symbol.arguments:
            inner = isinstance(a, Symbol) and a.operator == "+" and self._uses[a] == 1
            found += self._terms(a) if inner else [a]
        return found

    def _row(self, gate, products):
        row = Row(Symbol("leaf", f"row {len(self._rows)}"), gate)
        self._rows.append(row)
        row.terms = [(self._rewrite(a), matrix.arguments[0][2:]) for a, matrix in (p.arguments for p in products)]
        return row.symbol

    def _all_lefts(self):
        return list(dict.fromkeys(left for row in self._rows for left in lefts_of(row)))

    def _add_lefts(self):
        """Whatever a product is made of is kept, unless it is a leaf."""
        for left in self._all_lefts():
            if left.operator != "leaf":
                self.nodes.setdefault(left, Node(left))

    def _leaves(self, node):
        """What a node's arithmetic reads: it stops at leaves and at other nodes."""
        found, waiting = {}, list(node.symbol.inputs)
        while waiting:
            symbol = waiting.pop(0)
            if symbol.operator == "leaf" or symbol in self.nodes:
                found[symbol] = None
            else:
                waiting += symbol.inputs
        return list(found)

    # ---- the order of things

    def _ordered(self):
        done, multiplied, events = set(), set(), []

        def need(symbol):
            if symbol in done:
                return
            done.add(symbol)
            if symbol in self.row_of:
                for left in lefts_of(self.row_of[symbol]):
                    need(left)
                    if left not in multiplied:
                        multiplied.add(left)
                        events.append(("product", left))
            elif symbol in self.nodes:
                for leaf in self.nodes[symbol].leaves:
                    need(leaf)
                events.append(("node", self.nodes[symbol]))

        for symbol in sorted(self.nodes, key=lambda symbol: symbol.serial):
            need(symbol)
        return events

    def _laid_out(self):
        """The rows so ordered that what is computed together lies side by side: first those of the input alone, last
        those without input; those of a node together; sigmoids beside sigmoids."""
        nodes = [node for kind, node in self.events if kind == "node"]
        place = {}
        for row in self._rows:
            readers = [k for k, node in enumerate(nodes) if row.symbol in {*node.leaves}]
            first = min(readers, default=0)
            kind = (bool(row.terms), not row.gate)
            squashed = self.squash(row) == "sigmoid"
            place[row] = (kind, len(row.terms), first, squashed if first % 2 == 0 else not squashed)
        return sorted(self._rows, key=place.get)

    def squash(self, row):
        """The one function, sigmoid or tanh, that is all that a row is used for; else an empty string."""
        functions = {symbol.operator for symbol in self.readers[row.symbol] if symbol not in self.nodes}
        alone = functions in ({"sigmoid"}, {"tanh"}) and row.symbol not in {*self._all_lefts()}
        return functions.pop() if alone else ""

    def is_kept(self, node):
        """Whether a node is a state or goes up, and so is there at all steps."""
        return any(node is own for own in (*self.state.values(), *self.up.values()))

    def inside(self, node):
        """The symbols of a node's arithmetic in order, the node's own last."""
        found, waiting = set(), [node.symbol]
        while waiting:
            symbol = waiting.pop()
            found.add(symbol)
            waiting += [a for a in symbol.inputs if a.operator != "leaf" and a not in self.nodes]
        return sorted(found, key=lambda symbol: symbol.serial)


def _uses(t):
    """How often each symbol of a trace is used, as an argument or as a result."""
    uses = {}
    for symbol in [a for s in t.steps for a in s.inputs] + [*t.up.values(), *t.state.values()]:
        uses[symbol] = uses.get(symbol, 0) + 1
    return uses


def _is_gate(a):
    return (
        isinstance(a, Symbol) and a.operator == "leaf" and a.arguments[0].startswith("x.") and a.arguments[0] != "x.raw"
    )


def lefts_of(row):
    """What is multiplied to give a row, each once."""
    return list(dict.fromkeys(left for left, _ in row.terms))


cut = lru_cache(maxsize=None)(Cut)
