"""The nodes of a block of steps once more, as autograd sees them: how each changes with what it is made of."""

import torch

from .forward import beside
from .pointwise import evaluate


class Recomputed:
    """The nodes of the steps from `start` to `end`, each computed from leaves of its own.

    `leaves[node]` lists (meaning, symbols, leaf): the rows side by side, the node, the old state or the input that a
    leaf, (steps, n, B), stands for; `slope(leaf)` is how the node changes with it. `values` has all nodes.
    """

    def __init__(self, done, wanted, inputs, start, end):
        self.done, self.layout, self.cut = done, done.layout, done.cut
        self.wanted, self.inputs, self.start, self.end = wanted, inputs, start, end
        self.leaves, self.values, self._results = {}, {}, []
        with torch.enable_grad():
            for kind, node in self.layout.events:
                if kind == "node":
                    self._compute(node)
        self._slopes = self._all_slopes()

    def _compute(self, node):
        known, self.leaves[node] = {}, []
        for meaning, symbols in self._read(node):
            leaf = self.value(*symbols).detach()
            if meaning != "fixed":
                leaf.requires_grad_()
                self.leaves[node].append((meaning, symbols, leaf))
            widths = [b - a for a, b in map(self.layout.places.get, symbols)] if meaning == "rows" else []
            known.update(zip(symbols, leaf.split(widths, 1) if len(widths) > 1 else [leaf], strict=True))
        result = evaluate(node.symbol, known)
        self.values[node.symbol] = result.detach()
        if result.requires_grad:
            self._results.append(result)

    def _read(self, node):
        """What a node reads: ("rows" | "node" | "state" | "input" | "fixed", symbols)."""
        for symbols in self.layout.parts([leaf for leaf in node.leaves if leaf in self.cut.row_of]).values():
            yield "rows", symbols
        for leaf in node.leaves:
            if leaf in self.cut.nodes:
                yield "node", [leaf]
            elif leaf not in self.cut.row_of:
                name = leaf.arguments[0]
                yield "state" if name in self.done.names else "input" if name in self.wanted else "fixed", [leaf]

    def value(self, symbol, *more):
        """The values (steps, n, B) of a node, an old state, an input, or of rows that lie side by side."""
        block = slice(self.start, self.end)
        if symbol in self.cut.row_of:
            return self.done.rows[block, self.layout.places[symbol][0] : self.layout.places[(symbol, *more)[-1]][1]]
        if symbol in self.cut.nodes:
            node = self.cut.nodes[symbol]
            return self.done.over_time(node)[block] if self.cut.is_kept(node) else self.values[symbol]
        name = symbol.arguments[0]
        if name in self.done.names:
            return self.done.kept[name][block]
        if name in self.inputs:
            return self.inputs[name][block]
        vector = beside(self.done.given[name], self.done.B)
        return vector.expand(self.end - self.start, *vector.shape)

    def _all_slopes(self):
        leaves = [leaf for own in self.leaves.values() for *_, leaf in own]
        if not leaves or not self._results:
            return {}
        ones = [torch.ones((), dtype=result.dtype, device=result.device).expand_as(result) for result in self._results]
        slopes = torch.autograd.grad(self._results, leaves, ones, allow_unused=True)
        return {id(leaf): slope for leaf, slope in zip(leaves, slopes, strict=True) if slope is not None}

    def changes(self, node):
        """What a node changes with: (meaning, symbols, slope (steps, k, B))."""
        return [
            (what, symbols, self._slopes[id(leaf)])
            for what, symbols, leaf in self.leaves[node]
            if id(leaf) in self._slopes
        ]
