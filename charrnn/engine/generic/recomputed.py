"""A block of steps once more: how each node changes with what it is made of."""

from ...cells.trace import Symbol
from .forward import beside
from .pointwise import Calls


class Recomputed:
    """The slopes of the nodes of the steps from `start` to `end`, and the values of those that were not kept.

    They are computed from rows, states and the nodes that are there, at all steps at once.
    """

    def __init__(self, done, wanted, inputs, start, end):
        self.done, self.layout, self.cut = done, done.layout, done.cut
        self.wanted, self.inputs, self.start, self.end = wanted, inputs, start, end
        nodes = [what for kind, what in self.layout.events if kind == "node"]
        self._lost = [node.symbol for node in nodes if not self.cut.is_kept(node)]
        self._read = {node: [*self._reads(node)] for node in nodes}
        self.calls = Calls(done.like, {})
        self._place_known()
        self.calls.uses = self._uses()
        for symbol in self._lost:
            self.calls.compute(symbol)
        self._changes = {node: [*self._slopes(node)] for node in nodes}
        self.calls.run(1)

    def changes(self, node):
        """What a node changes with: ("rows" | "node" | "state" | "input", symbols, slope (steps, k, B)).

        Rows that lie side by side come together; a slope that is the same for all units has k = 1, for all lanes B = 1.
        """
        return self._changes[node]

    def value(self, symbol):
        """The values (steps, n, B) of a row, a node, an old state or an input."""
        return self.calls.places[symbol]

    def _reads(self, node):
        """What a node changes with, in the terms of `changes`."""
        rows = [leaf for leaf in node.leaves if leaf in self.cut.row_of and leaf in node.slopes]
        for symbols in self.layout.parts(rows).values():
            yield "rows", symbols
        for leaf in node.leaves:
            if leaf in node.slopes and leaf not in self.cut.row_of:
                name = None if leaf in self.cut.nodes else leaf.arguments[0]
                meaning = "node" if name is None else "state" if name in self.done.names else "input"
                if meaning != "input" or name in self.wanted:
                    yield meaning, [leaf]

    def _place_known(self):
        """What the forward pass left, and what was given."""
        block, places = slice(self.start, self.end), self.calls.places
        for symbol, (a, b) in self.layout.places.items():
            places[symbol] = self.done.rows[block, a:b]
        for node in self.cut.nodes.values():
            if self.cut.is_kept(node):
                places[node.symbol] = self.done.over_time(node)[block]
        for name, symbol in self.cut.named.items():
            if name in self.done.names:
                places[symbol] = self.done.kept[name][block]
            elif name in self.inputs:
                places[symbol] = self.inputs[name][block]
            else:
                places[symbol] = beside(self.done.given[name], self.done.B)

    def _uses(self):
        """How often each symbol that is not there is used, as an argument or as a result."""
        results = [node.slopes[symbol] for node, read in self._read.items() for _, own in read for symbol in own]
        waiting, uses = [*self._lost, *(symbol for symbol in results if isinstance(symbol, Symbol))], {}
        while waiting:
            symbol = waiting.pop()
            uses[symbol] = uses.get(symbol, 0) + 1
            if uses[symbol] == 1 and symbol not in self.calls.places:
                waiting += symbol.inputs
        return uses

    def _slopes(self, node):
        """What `changes` says of a node, with the calls that compute it."""
        for meaning, symbols in self._read[node]:
            if meaning == "rows":
                a, b = self.layout.places[symbols[0]][0], self.layout.places[symbols[-1]][1]
                slope = self.done.like.new_empty(self.end - self.start, b - a, self.done.B)
                for symbol in symbols:
                    start, end = self.layout.places[symbol]
                    self._compute(node.slopes[symbol], slope[:, start - a : end - a])
            else:
                slope = self.calls.compute(node.slopes[symbols[0]])
                slope = slope.expand(self.end - self.start, *slope.shape[-2:] or (1, 1))
            yield meaning, symbols, slope

    def _compute(self, symbol, place):
        """Puts a value into a place, wherever else it may be."""
        there = not isinstance(symbol, Symbol) or symbol in self.calls.places
        found = self.calls.compute(symbol, None if there else place)
        if there:
            self.calls.apply("copy", found, place)
