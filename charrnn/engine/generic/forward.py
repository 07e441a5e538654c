"""The forward pass of the generic engine."""

import torch

from ..products import Precision, adding, setting
from .layout import X
from .pointwise import Calls


class Forward:
    """All T steps of B lanes.

    `given` holds inputs and weights by name. For the backward pass there are `rows` (T, R, B), the states `kept`
    (T + 1, n, B), and `stacks`, the values (T + 1, K, B) of the bundles that are stacked; with `keep` false the rows of
    one step serve all.
    """

    def __init__(self, layout, given, T, B, keep):
        self.layout, self.cut, self.given, self.T, self.B = layout, layout.cut, given, T, B
        self.names = layout.cell.states
        self.like = given[self.names[0]]
        self.precision = Precision(self.like)  # of the products; all else is as precise as the states
        self.rows = self.like.new_empty(T if keep else 1, layout.size, B)
        self._make_buffers()
        self.calls = Calls(self.like, self.cut.uses)
        self._place_leaves()
        self.begun, self.waiting = set(), {row: set() for row in self.cut.rows}
        for bundle in layout.bundles:
            for row in self.waiting:
                if any(row.symbol in {*rows} for rows in bundle.parts.values()):
                    self.waiting[row].add(bundle)
        for kind, what in layout.events:
            if kind == "product":
                self._product(what)
            else:
                self._node(what)
        with torch.autocast(self.like.device.type, enabled=False):  # which would round small products as well
            self.calls.run(T)
        del self.calls, self.begun, self.waiting

    def results(self):
        """What goes up, (T, B, n) each, then the last states, (B, n) each."""
        ups = (self.over_time(node).transpose(1, 2) for node in self.cut.up.values())
        return *ups, *(self.kept[name][-1].t().clone() for name in self.names)

    def states_of(self, node):
        """The names of the states that a node gives."""
        return [name for name, own in self.cut.state.items() if own is node]

    def over_time(self, node):
        """The values of a node that is kept at all steps, (T, n, B)."""
        if states := self.states_of(node):
            return self.kept[states[0]][1:]
        return next(self.handed[name] for name, own in self.cut.up.items() if own is node)

    def _make_buffers(self):
        """Places for the states, for what is multiplied, and for what goes up besides states."""
        T, B, n, new = self.T, self.B, self.like.shape[-1], self.like.new_empty
        self.stacks, self.kept, self.computed = {}, {}, {}
        for bundle in self.layout.bundles:
            if bundle.stacked:
                self.stacks[bundle] = stack = new(T + 1, bundle.depth, B)
                self.kept |= {
                    left.arguments[0]: stack[:, a:b] for left, (a, b) in bundle.spans.items() if left is not X
                }
                if X in bundle.spans:
                    start, end = bundle.spans[X]
                    stack[:-1, start:end].copy_(self.given["x"].transpose(1, 2))
                    stack[:, -1].fill_(1.0)
            elif bundle.computed:
                self.computed[bundle] = stack = new(bundle.depth, B)
                self.computed |= {left: stack[a:b] for left, (a, b) in bundle.spans.items()}
        self.kept |= {name: new(T + 1, n, B) for name in self.names if name not in self.kept}
        for name, buffer in self.kept.items():
            buffer[0].copy_(self.given[name].t())
        self.handed = {name: new(T, n, B) for name, node in self.cut.up.items() if not self.states_of(node)}

    def _part(self, a, b):
        """A part of the rows at each step."""
        views = self.rows[:, a:b].unbind(0)
        return views if len(views) == self.T else views * self.T

    def _place_leaves(self):
        """What the arithmetic reads besides rows and nodes."""
        for name, symbol in self.cut.named.items():
            if name in self.kept:
                self.calls.places[symbol] = self.kept[name][:-1].unbind(0)
            elif self.given[name].dim() == 3:
                self.calls.places[symbol] = feature_major(self.given[name]).unbind(0)
            else:
                self.calls.places[symbol] = beside(self.given[name], self.B)

    def _product(self, bundle):
        """Multiplies left sides into their rows: the first product of a row sets it, the others add to it."""
        if bundle.stacked:
            values = self.stacks[bundle][:-1].unbind(0)
        else:
            values = self.computed[bundle] if bundle.computed else self.calls.places[next(iter(bundle.spans))]
        for part, rows in bundle.parts.items():
            for (a, b), fresh in self._fresh(part, rows):
                matrix = self.given[bundle, part][:, a - part[0] : b - part[0]].t()
                matrix = matrix.to(self.precision.of(matrix.numel() * self.B)).contiguous()
                multiply = (setting if fresh else adding)(matrix, self.B, self.rows.dtype)
                self.calls.add(multiply, matrix, values, self._part(a, b))
            self.begun |= {*rows}
        self._complete(bundle)

    def _fresh(self, part, rows):
        """A part of rows split into those that nothing was added to yet, and the others."""
        for fresh in (True, False):
            chosen = [row for row in rows if (row not in self.begun) == fresh]
            for own in self.layout.parts(chosen):
                yield own, fresh

    def _complete(self, bundle):
        """The rows that waited for this bundle alone can be read; those only read squashed are squashed together."""
        ready = [row for row, bundles in self.waiting.items() if bundles == {bundle}]
        for row in self.waiting:
            self.waiting[row].discard(bundle)
        for row in ready:
            self.calls.places[row.symbol] = self._part(*self.layout.places[row.symbol])
        for function in ("sigmoid", "tanh"):
            chosen = [row.symbol for row in ready if self.cut.squash(row) == function]
            for (a, b), rows in self.layout.parts(chosen).items():
                scratch = self.like.new_empty(b - a, self.B)
                self.calls.apply(function, self._part(a, b), scratch)
                for row in rows:
                    start, end = self.layout.places[row]
                    for symbol in self.cut.readers[row]:
                        self._squashed(symbol, scratch[start - a : end - a])

    def _squashed(self, symbol, place):
        """A squashed row has its place; a node is computed into the place that keeps it."""
        if symbol not in self.cut.nodes:
            self.calls.places[symbol] = place
            self.calls.free.add(symbol)

    def _node(self, node):
        """Computes a node into the buffers that keep it, or where a product reads it."""
        places = [self.kept[name][1:].unbind(0) for name in self.states_of(node)]
        places += [
            self.handed[name].unbind(0) for name, own in self.cut.up.items() if own is node and name in self.handed
        ]
        first = self.calls.compute(node.symbol, places[0] if places else self.computed.get(node.symbol))
        self.calls.free.discard(node.symbol)
        for other in places[1:]:
            self.calls.apply("copy", first, other)


def beside(vector, lanes):
    """A vector (n,) once for each lane, (n, B)."""
    return vector.unsqueeze(-1).expand(-1, lanes).contiguous()


def feature_major(a):
    """(T, B, n) -> (T, n, B), contiguous."""
    return a.transpose(1, 2).contiguous()
