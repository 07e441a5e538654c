"""Where the rows of a cell lie in memory, and its weights laid out to match."""

from dataclasses import dataclass

import torch

from ...cells.trace import Symbol
from .cut import cut

X = Symbol("leaf", "x")  # the layer's input, as the left side of a product


@dataclass(eq=False)
class Bundle:
    """Left sides that are multiplied into the same rows, and so at once: their values stand on top of each other,
    (K, B), `spans` says where; with the input comes a row of ones, for the bias."""

    spans: dict  # left: (start, end) of K
    parts: dict  # (a, b): [row, ..], the contiguous parts of the rows
    stacked: bool  # old states and the input: their values are kept on top of each other at all steps
    computed: bool  # values that are only multiplied: they are computed where the product reads them

    @property
    def depth(self):
        """K."""
        return max(end for _, end in self.spans.values()) + (X in self.spans)


class Layout:
    """The rows of a cell of given widths: `places` gives the part (a, b) of each among the `size` numbers; `events` is
    what happens in a step, in order: ("product", bundle) or ("node", node)."""

    def __init__(self, cell, p):
        self.cell, self.cut, self.places, self.size = cell, cut(cell), {}, 0
        for row in self.cut.rows:
            width = (getattr(p.W, row.gate) if row.gate else getattr(p.U, row.terms[0][1])).shape[1]
            self.places[row.symbol] = self.size, self.size + width
            self.size += width
        bundle_of = self._bundles(p)
        self.bundles, self.events = list(dict.fromkeys(bundle_of.values())), []
        events = [("product", X)] * (X in bundle_of) + self.cut.events
        for k, (kind, what) in enumerate(events):
            if kind == "node":
                self.events.append((kind, what))
            elif all(
                bundle_of.get(later) is not bundle_of[what] for kind, later in events[k + 1 :] if kind == "product"
            ):
                self.events.append((kind, bundle_of[what]))  # once the last of its left sides is there

    def _bundles(self, p):
        """The bundle of each left side."""
        rows_of = {left: [row.symbol for row in rows] for left, rows in self.cut.lefts.items()}
        widths = {left: getattr(p.U, self._names(left, rows[0])[0]).shape[0] for left, rows in rows_of.items()}
        if gates := [row for row in self.cut.rows if row.gate]:
            rows_of = {X: [row.symbol for row in gates]} | rows_of
            widths[X] = getattr(p.W, gates[0].gate).shape[0]
        together = {}
        for left, rows in rows_of.items():
            known = self.known_at_start(left)
            computed = left in self.cut.nodes and not self.cut.is_kept(self.cut.nodes[left])
            alone = None if known or computed else left
            together.setdefault((known, computed, alone, frozenset(rows)), []).append(left)
        found = {}
        for (known, computed, _, rows), lefts in together.items():
            spans, end = {}, 0
            for left in lefts:
                spans[left] = end, end + widths[left]
                end += widths[left]
            bundle = Bundle(spans, self.parts(rows), known, computed)
            found |= dict.fromkeys(lefts, bundle)
        return found

    def known_at_start(self, left):
        """Whether a left side is the input or an old state."""
        return left is X or (left.operator == "leaf" and left.arguments[0] in self.cell.states)

    def is_serial(self, left):
        """Whether what is multiplied depends on the step before."""
        return left in self.cut.row_of or left in self.cut.nodes or (left is not X and self.known_at_start(left))

    def width(self, node, usual):
        """How wide a node is: as the product that reads it wants, else as usual."""
        spans = [bundle.spans[node.symbol] for bundle in self.bundles if node.symbol in bundle.spans]
        return spans[0][1] - spans[0][0] if spans else usual

    def _names(self, left, row):
        """The matrices with which a left side is multiplied to give a row."""
        return [name for a, name in self.cut.row_of[row].terms if a is left]

    def parts(self, rows) -> dict:
        """The contiguous parts that these rows make up: {(a, b): [row, ..]}."""
        merged = []
        for row in sorted(rows, key=self.places.get):
            a, b = self.places[row]
            if merged and merged[-1][0][1] == a:
                merged[-1] = (merged[-1][0][0], b), [*merged[-1][1], row]
            else:
                merged.append(((a, b), [row]))
        return dict(merged)

    def matrices(self, p) -> dict:
        """For each bundle and part, (bundle, part): its weights as one matrix (K, b - a)."""
        given = {}
        for bundle in self.bundles:
            for part, rows in bundle.parts.items():
                lines = [torch.cat([self._matrix(p, left, row) for row in rows], 1) for left in bundle.spans]
                if X in bundle.spans:
                    lines.append(torch.cat([self._bias(p, row) for row in rows])[None, :])
                given[bundle, part] = torch.cat(lines)
        return given

    def _matrix(self, p, left, row):
        if left is X:
            return getattr(p.W, self.cut.row_of[row].gate)
        first, *more = [getattr(p.U, name) for name in self._names(left, row)]
        return sum(more, first)

    def _bias(self, p, row):
        gate = self.cut.row_of[row].gate
        return getattr(p.b, gate) if hasattr(p.b, gate) else getattr(p.W, gate).new_zeros(getattr(p.W, gate).shape[1])
