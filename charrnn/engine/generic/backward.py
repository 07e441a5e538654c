"""The backward pass of the generic engine."""

from itertools import accumulate

import torch

from ..products import product
from .forward import feature_major
from .layout import X
from .recomputed import Recomputed
from .serial import Serial

BLOCK = 1 << 20  # numbers in the rows of a block of steps


class Backward:
    """The `gradients` by name from `slopes`: those of what went up (T, B, n), then those of the last states (B, n).

    `done` is the forward pass, `wanted` the names whose gradient is needed. Of a block of steps, `slope[node]` has the
    gradient of a node after step j in place j + 1; place 0 of a state is the carry to the block before.
    """

    def __init__(self, done, slopes, wanted):
        self.done, self.layout, self.cut, self.wanted = done, done.layout, done.cut, wanted
        blocks = -(-done.T * self.layout.size * done.B // BLOCK) or 1
        self.length = -(-done.T // blocks)
        self.inputs = {
            name: feature_major(a) for name, a in done.given.items() if name in self.cut.named and a.dim() == 3
        }
        self._make_buffers()
        self._begin(slopes[: len(self.cut.up)], slopes[len(self.cut.up) :])
        for start in reversed(range(0, done.T, self.length)):
            self._block(start, min(done.T, start + self.length))
        for name in done.names:
            self.gradients[name] = self.slope[self.cut.state[name]][0].t()

    def _make_buffers(self):
        done, like, B = self.done, self.done.like, self.done.B
        self.gradients = {name: torch.zeros_like(done.given[name]) for name in self.wanted - {"x"}}
        if "x" in self.wanted:  # feature-major, as the layer below likes it
            self.gradients["x"] = like.new_empty(done.T, done.given["x"].shape[-1], B).transpose(1, 2)
        widths = {node: self.layout.width(node, like.shape[-1]) for node in self.cut.nodes.values()}
        self.slope = {node: like.new_empty(self.length + 1, width, B) for node, width in widths.items()}
        for slope in self.slope.values():
            slope[0].zero_()
        self.rows = like.new_empty(self.length, self.layout.size, B)
        columns = self.length * B  # of the large products, those of all steps of a block at once
        self.kind = done.precision.of(self.layout.size * like.shape[-1] * columns)
        self.side = like.new_empty(self.layout.size * columns, dtype=self.kind)

    def _begin(self, ups, states):
        """What comes from above, and into the carry what comes from after the last step."""
        self.above = {}  # (T, n, B) by node
        for node, slope in zip(self.cut.up.values(), ups, strict=True):
            slope = feature_major(slope)
            self.above[node] = self.above[node] + slope if node in self.above else slope
        for name, slope in zip(self.done.names, states, strict=True):
            self.slope[self.cut.state[name]][0].add_(slope.t())
        for node, slope in self.above.items():
            if self.done.states_of(node):
                self.slope[node][0].add_(slope[-1])

    def _block(self, start, end):
        """The steps from `start` to `end`."""
        size = end - start
        for node, slope in self.slope.items():
            self._start(slope, self.above.get(node), bool(self.done.states_of(node)), start, size)
        again = Recomputed(self.done, self.wanted, self.inputs, start, end)
        Serial(self.done, self.slope, self.rows, size).run(again)
        for node, slope in self.slope.items():
            self._inputs(again.changes(node), slope[1 : size + 1], start, end)
        self._weights(again)

    @staticmethod
    def _start(slope, above, carried, start, size):
        """A node's gradient begins with what comes from above; that of a state's last step was carried here with it."""
        if carried:
            slope[size].copy_(slope[0])
            slope[0].zero_()
        fresh = slope[1 : size + 1 - carried]
        if above is None:
            fresh.zero_()
            return
        fresh.copy_(above[start : start + size - carried])
        if carried and start:
            slope[0].copy_(above[start - 1])

    def _inputs(self, changes, slope, start, end):
        """The gradients of what a node reads and no step waits for: vectors, and inputs over time."""
        for meaning, (symbol, *_), change in changes:
            if meaning == "input":
                name = symbol.arguments[0]
                if name in self.inputs:
                    self.gradients[name][start:end].transpose(1, 2).addcmul_(slope, change)
                else:
                    self.gradients[name].add_((slope * change).sum((0, 2)))

    def _weights(self, again):
        """The gradients of the matrices, and of the inputs that are multiplied, for a block."""
        start, end, B, R = again.start, again.end, self.done.B, self.layout.size
        side = self.side[: R * (end - start) * B].view(R, -1)  # the steps side by side
        side.view(R, -1, B).copy_(self.rows[: end - start].transpose(0, 1))
        for bundle in self.layout.bundles:
            lefts = [self.done.stacks[bundle][start:end]] if bundle.stacked else map(again.value, bundle.spans)
            value = self._side([*lefts])
            for k, (a, b) in enumerate(bundle.parts):
                if (bundle, (a, b)) in self.wanted:
                    self.gradients[bundle, (a, b)].add_(product(value, side[a:b].t()))
                for left, (c, d) in bundle.spans.items():
                    if not self.layout.is_serial(left) and left.arguments[0] in self.wanted:
                        matrix = self.done.given[bundle, (a, b)][c:d].to(self.kind)
                        change = product(matrix, side[a:b]).view(d - c, -1, B).transpose(0, 1)
                        place = self.gradients[left.arguments[0]][start:end].transpose(1, 2)
                        (place.copy_ if left is X and k == 0 else place.add_)(change)

    def _side(self, lefts):
        """[(steps, k, B), ..] -> (K, steps * B), the steps side by side, in the precision of the large products."""
        ends = [0, *accumulate(left.shape[1] for left in lefts)]
        steps, _, B = lefts[0].shape
        side = lefts[0].new_empty(ends[-1], steps, B, dtype=self.kind)
        for left, start, end in zip(lefts, ends, ends[1:], strict=False):
            side[start:end].copy_(left.transpose(0, 1))
        return side.view(ends[-1], -1)
