"""The nodes of a block of steps once more, as autograd sees them: how each changes with what it is made of."""

import torch

from .forward import beside
from .pointwise import evaluate


class Recomputed:
    """The nodes of the steps from `start` to `end`, each computed from leaves of its own.

    `leaves[node]` lists (meaning, symbols, leaf): the rows side by side, the old state or the node that a leaf, (steps,
    n, B), stands for; `slope(leaf)` is how the node changes with it. What no step waits for (vectors, inputs) is one
    leaf for all nodes; `pass_on` gives its gradient once those of the nodes are known. `values` has all nodes.
    """

    def __init__(self, done, wanted, inputs, start, end):
        self.done, self.layout, self.cut = done, done.layout, done.cut
        self.inputs, self.start, self.end = inputs, start, end
        self.shared = {name: self._input(name).requires_grad_() for name in self._waited_for_by_none() & wanted}
        self.fixed = {name: self._input(name) for name in self._waited_for_by_none() - wanted}
        self.leaves, self.values, self._results = {}, {}, {}
        with torch.enable_grad():
            for kind, node in self.layout.events:
                if kind == "node":
                    self._compute(node)
        self._slopes = self._all_slopes()

    def _waited_for_by_none(self):
        return {name for name in self.cut.named if name not in self.done.names}

    def _input(self, name):
        if name in self.inputs:
            return self.inputs[name][self.start : self.end].detach()
        return beside(self.done.given[name].detach(), self.done.B)

    def _compute(self, node):
        known = {self.cut.named[name]: leaf for name, leaf in (self.shared | self.fixed).items()}
        self.leaves[node] = []
        for meaning, symbols in self._read(node):
            leaf = self.left(*symbols).detach().requires_grad_()
            self.leaves[node].append((meaning, symbols, leaf))
            widths = [b - a for a, b in map(self.layout.places.get, symbols)] if meaning == "rows" else []
            known.update(zip(symbols, leaf.split(widths, 1) if len(widths) > 1 else [leaf], strict=True))
        result = evaluate(node.symbol, known)
        self.values[node.symbol] = result.detach()
        if result.requires_grad:
            self._results[node] = result

    def _read(self, node):
        """What a node reads that depends on time: ("rows" | "node" | "state", symbols)."""
        for symbols in self.layout.parts([leaf for leaf in node.leaves if leaf in self.cut.row_of]).values():
            yield "rows", symbols
        for leaf in node.leaves:
            if leaf in self.cut.nodes:
                yield "node", [leaf]
            elif leaf not in self.cut.row_of and leaf.arguments[0] in self.done.names:
                yield "state", [leaf]

    def left(self, symbol, *more):
        """The values (steps, n, B) of a node, an old state, an input, or of rows that lie side by side."""
        block = slice(self.start, self.end)
        if symbol in self.cut.row_of:
            return self.done.rows[block, self.layout.places[symbol][0] : self.layout.places[(symbol, *more)[-1]][1]]
        if symbol in self.cut.nodes:
            node = self.cut.nodes[symbol]
            return self.done.over_time(node)[block] if self.cut.is_kept(node) else self.values[symbol]
        name = symbol.arguments[0]
        return self.done.kept[name][block] if name in self.done.names else self.inputs[name][block]

    def _all_slopes(self):
        leaves = [leaf for own in self.leaves.values() for *_, leaf in own]
        if not leaves or not self._results:
            return {}
        results = list(self._results.values())
        ones = [torch.ones((), dtype=result.dtype, device=result.device).expand_as(result) for result in results]
        slopes = torch.autograd.grad(results, leaves, ones, retain_graph=bool(self.shared), allow_unused=True)
        return dict(zip(map(id, leaves), slopes, strict=True))

    def slope(self, leaf):
        """How a leaf's node changes with it, (steps, k, B); None where it does not."""
        return self._slopes.get(id(leaf))

    def pass_on(self, slope_of):
        """Yields the gradient of each leaf that all nodes share: (name, gradient)."""
        if self.shared and self._results:
            given = [slope_of(node) for node in self._results]
            slopes = torch.autograd.grad(
                list(self._results.values()), list(self.shared.values()), given, allow_unused=True
            )
            yield from ((name, s) for name, s in zip(self.shared, slopes, strict=True) if s is not None)
