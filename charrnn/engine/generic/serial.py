"""What is left to be done step by step when a gradient goes back through time."""

import torch

from ..products import adding, product, setting
from .pointwise import Calls


class Serial:
    """The calls of a block, the last step first: from the gradients of the nodes to those of rows and states.

    `slope[node]` (steps + 1, n, B) has the gradient of a node after step j in place j + 1; `rows` (steps, R, B) is
    filled.
    """

    def __init__(self, done, slope, rows, size):
        self.done, self.layout, self.cut, self.rows, self.size = done, done.layout, done.cut, rows, size
        self.before = {node: _backwards(a[:size]) for node, a in slope.items()}
        self.after = {node: _backwards(a[1 : size + 1]) for node, a in slope.items()}
        self.calls, self.written = Calls(done.like, {}), set()

    def run(self, again):
        """All steps, with the slopes of the nodes computed `again`."""
        for kind, what in reversed(self.layout.events):
            if kind == "node":
                for meaning, symbols, slope in again.changes(what):
                    self._through_node(what, meaning, symbols, slope)
            else:
                self._through_product(what)
        for symbol in self.cut.row_of.keys() - self.written:
            self.calls.add(torch.Tensor.zero_, self._rows(*self.layout.places[symbol]))
        self.calls.run(self.size)

    def _rows(self, a, b):
        return _backwards(self.rows[: self.size, a:b])

    def _through_node(self, node, meaning, symbols, slope):
        """From a node to what it reads; rows that lie side by side at once."""
        if meaning == "rows":
            (a, _), (_, b) = self.layout.places[symbols[0]], self.layout.places[symbols[-1]]
            shape = self.size, len(symbols), -1, self.done.B
            places = _backwards(self.rows[: self.size, a:b].view(shape))
            self._write(symbols, _set, _add, self.after[node], _backwards(slope.reshape(shape)), places)
        elif meaning != "input":  # which no step waits for
            self.calls.add(_add, self.after[node], _backwards(slope), self._place(symbols[0]))

    def _through_product(self, bundle):
        """From rows to what was multiplied into them, but for inputs, which no step waits for."""
        lefts = [left for left in bundle.spans if self.layout.is_serial(left)]
        if not lefts:
            return
        start, end = bundle.spans[lefts[0]][0], bundle.spans[lefts[-1]][1]
        for part in bundle.parts:
            matrix, rows = self.done.given[bundle, part][start:end], self._rows(*part)
            matrix = matrix.to(self.done.precision.of(matrix.numel() * self.done.B))
            first, more = (chosen(matrix, self.done.B, self.rows.dtype) for chosen in (setting, adding))
            if lefts[0] in self.cut.row_of:  # then it is the only one
                self._write(lefts, first, more, matrix, rows, self._rows(*self.layout.places[lefts[0]]))
            else:
                spans = [(bundle.spans[left][0] - start, bundle.spans[left][1] - start) for left in lefts]
                self.calls.add(_spread(spans) if len(lefts) > 1 else more, matrix, rows, *map(self._place, lefts))

    def _place(self, symbol):
        """Where the gradient of a node, or of an old state, is collected."""
        if symbol in self.cut.nodes:
            return self.after[self.cut.nodes[symbol]]
        return self.before[self.cut.state[symbol.arguments[0]]]

    def _write(self, symbols, first, more, *operands):
        """A call into rows: the first to write sets them, the others add."""
        fresh = not self.written & {*symbols}
        for symbol in () if fresh else {*symbols} - self.written:
            self.calls.add(torch.Tensor.zero_, self._rows(*self.layout.places[symbol]))
        self.written.update(symbols)
        self.calls.add(first if fresh else more, *operands)


def _backwards(a):
    return a.unbind(0)[::-1]


def _set(slope, change, out):
    torch.mul(slope, change, out=out)


def _add(slope, change, out):
    out.addcmul_(slope, change)


def _spread(spans):
    """A product of which each span goes to a place of its own."""

    def spread(matrix, slope, *places):
        result = product(matrix, slope)
        for (a, b), place in zip(spans, places, strict=True):
            place.add_(result[a:b])

    return spread
