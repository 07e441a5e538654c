"""A step of a cell, forward and back, as code that runs over time for a block of lanes.

Nothing in a recurrent network passes between lanes: so a processor takes a block of them from the first step to the
last, with its products, sums and states in the cache, and need not wait for another one. Between the cuts
(`generic.cut`) all arithmetic of a node is done in one pass over its units.
"""

from dataclasses import dataclass

from llvmlite import ir

from ...cells.trace import Symbol
from ..generic.layout import X
from ..machine import matmul
from ..machine.code import INT, POINTER, Code

# Kinds of places but for those of a step: the same at the step after; the same at all steps and for all lanes; two that
# take turns; each thread's own, for a chunk of steps, or for all steps
NEXT, VECTOR, TURNS, CHUNK, STILL = "next", "vector", "turns", "chunk", "still"
OWN = CHUNK, STILL


@dataclass(frozen=True)
class Place:
    """Where values lie: in an array by name, (time, k, lanes), from row `start` on."""

    array: object
    start: int = 0
    kind: str = "step"


class Step:
    """Where a layer's values lie, in `arrays` by name: (rows k, whether it has a place more than there are steps).

    Those named ("value", ..) are filled by the forward pass.
    """

    def __init__(self, layout, n):
        self.layout, self.cut, self.n, self.arrays = layout, layout.cut, n, {}
        self.state, self.lefts, self.nodes = {}, {}, {}
        for bundle in layout.bundles:
            if bundle.stacked or bundle.computed:
                self.arrays["value", bundle] = bundle.depth, bundle.stacked
                for left, (a, _) in bundle.spans.items():
                    self.lefts[left] = Place(("value", bundle), a)
                    if bundle.stacked and left is not X:
                        self.state[left.arguments[0]] = self.lefts[left]
        for name in layout.cell.states:
            if name not in self.state:
                self.arrays["value", name] = n, True
                self.state[name] = Place(("value", name))
        for node in self.cut.nodes.values():
            self.nodes[node] = self._homes(node)
        self.arrays["value", "rows"] = layout.size, False
        self.places = {symbol: Place(("value", "rows"), a) for symbol, (a, _) in layout.places.items()}
        for name, symbol in self.cut.named.items():
            constant = name.startswith(("v.", "fixed."))
            self.places[symbol] = (
                self.state[name] if name in self.state else Place(("given", name), kind=VECTOR if constant else "step")
            )
        self.places |= {node.symbol: homes[0] for node, homes in self.nodes.items()}

    def _homes(self, node):
        """The places into which a node is computed."""
        found = [Place(self.state[name].array, self.state[name].start, NEXT) for name in self.states_of(node)]
        for name, own in self.cut.up.items():
            if own is node and not found:
                self.arrays["value", "up", name] = self.n, False
                found.append(Place(("value", "up", name)))
        return found or [self.lefts[node.symbol]]

    def states_of(self, node):
        """The names of the states that a node gives."""
        return [name for name, own in self.cut.state.items() if own is node]

    def values(self, bundle):
        """Where the left sides of a bundle lie, on top of each other."""
        left = next(iter(bundle.spans))
        return Place(("value", bundle)) if ("value", bundle) in self.arrays else self.places[left]

    def multiplied(self, bundle):
        """Which of the values of a bundle are states, from where to where."""
        spans = [span for left, span in bundle.spans.items() if left is not X]
        return (spans[0][0], spans[-1][1]) if spans else (0, 0)

    def width(self, node):
        """How many numbers a node has in a lane."""
        return self.layout.width(node, self.n)


class _Kernel:
    """A function `name(steps, lanes, first; arrays, strides)` for the block of lanes from `first` on.

    `arrays` are the addresses of what is in `names`, strides how far apart its steps are.
    """

    def __init__(self, module, name, step, kind):
        self.step, self.layout, self.cut = step, step.layout, step.layout.cut
        self.kind, self.names, self._known = kind, {}, {}  # names have numbers
        self.halves = matmul.halves(module, "halves", kind) if kind.mixed else None
        self.products = {name: self._product_of(module, name, kind) for name in ("set", "add")}
        self.code = Code(module, name, 3, 2, kind)
        self.steps, self.lanes, self.first, self.arrays, self.strides = self.code.function.args
        self.head = self.code.build.block
        body = self.code.build.append_basic_block()
        self.code.build.position_at_end(body)
        self._write_body()
        self.code.build.ret_void()
        self.code.build.position_at_end(self.head)
        self.code.build.branch(body)

    @staticmethod
    def _product_of(module, name, kind):
        if kind.alone:
            return matmul.alone(module, name, name == "add", kind)
        return matmul.product(module, name, name == "add", kind, kind.vectors, kind.tall)

    def _address(self, place, t=None, unit=None, later=0):
        """Of the first lane of the block in row `unit` of a place; `later` steps on."""
        code, b = self.code, self.code.build
        base, stride = self._array(place.array)
        row = INT(place.start) if unit is None else code.sum(INT(place.start), unit)
        if place.kind == VECTOR:
            return code.at(base, row)
        if place.kind == TURNS:
            t = b.and_(code.sum(t, INT(later)), INT(1))
        elif place.kind == CHUNK:
            t = b.and_(t, INT(self.kind.chunk - 1))
        elif place.kind == NEXT:
            t = code.sum(t, INT(1))
        if place.kind in OWN:
            return code.at(base, b.mul(t, stride), b.mul(row, INT(self.kind.lanes)))
        return code.at(base, b.mul(t, stride), b.mul(row, self.lanes), self.first)

    def _array(self, name):
        """Address and stride of an array, read when the function begins."""
        number = self.names.setdefault(name, len(self.names))
        if number not in self._known:
            b = self.code.build
            with b.goto_block(self.head):
                base = b.load(b.gep(self.arrays, [INT(number)], source_etype=POINTER), typ=POINTER)
                stride = b.load(b.gep(self.strides, [INT(number)], source_etype=INT), typ=INT)
            self._known[number] = base, stride
        return self._known[number]

    def _between(self, place):
        """How far apart the rows of a place are."""
        return INT(self.kind.lanes) if place.kind in OWN else self.lanes

    def _ready(self, place, rows, t):
        """Values as products read them: address, and how far apart their rows are; in pairs where the kind is mixed."""
        address, between = self._address(place, t), self._between(place)
        if not self.kind.mixed:
            return address, between
        pairs = self._address(Place("pairs", kind=VECTOR))
        self.code.build.call(self.halves, [INT(rows), between, address, pairs])
        return pairs, INT(self.kind.lanes)

    def _multiply(self, name, rows, depth, matrix, values, result, t, later=0):
        """The product of a packed matrix, by name, with values that are ready: "set" it in a place or "add" it to what
        is there."""
        address, between = values
        sizes = INT(rows), INT(-(-depth // self.kind.together)), between, self._between(result)
        addresses = self._address(Place(matrix, kind=VECTOR)), address, self._address(result, t, later=later)
        self.code.build.call(self.products[name], [*sizes, *addresses])

    def _value(self, symbol, t, unit, vector, known):
        """The value of a symbol for one unit and one vector of lanes; `known` are those that were computed before."""
        if not isinstance(symbol, Symbol):
            return float(symbol)
        if symbol not in known:
            if symbol in self.step.places:
                known[symbol] = self._read(self.step.places[symbol], t, unit, vector)
            else:
                known[symbol] = self._computed(symbol, t, unit, vector, known)
        return known[symbol]

    def _computed(self, symbol, t, unit, vector, known):
        values = [self._value(a, t, unit, vector, known) for a in symbol.arguments]
        return self.code.apply(symbol.operator, *values)

    def _read(self, place, t, unit, vector, later=0):
        address = self._address(place, t, unit, later)
        if place.kind == VECTOR and not self.kind.alone:
            return self.code.splat(address)
        return self.code.load(self.code.at(address, INT(vector * self.code.width)))

    def _write(self, value, place, t, unit, vector, later=0, add=False):
        address = self.code.at(self._address(place, t, unit, later), INT(vector * self.code.width))
        if not isinstance(value, ir.Value):
            value = self.code.spread(value)
        if add:
            value = self.code.apply("+", self.code.load(address), value)
        self.code.store(value, address)


class Forward(_Kernel):
    """From inputs and old states to rows, nodes and new states."""

    def _write_body(self):
        begun = set()
        for bundle in filter(self._has_begun, self.layout.bundles):
            begun |= {row for rows in bundle.parts.values() for row in rows}
        with self.code.loop(INT(0), self.steps) as t:
            for what, which in self.layout.events:
                if what == "product":
                    self._product(which, t, begun)
                else:
                    self._node(which, t)

    def _has_begun(self, bundle):
        """Whether the rows hold the products of the input, for all steps: of a single lane they are made beforehand."""
        return self.kind.alone and X in bundle.spans

    def _product(self, bundle, t, begun):
        start, end = self.step.multiplied(bundle) if self._has_begun(bundle) else (0, bundle.depth)
        if start == end:
            return
        place = self.step.values(bundle)
        values = self._ready(Place(place.array, place.start + start, place.kind), end - start, t)
        for part, rows in bundle.parts.items():
            for fresh in (True, False):
                for a, b in self.layout.parts([row for row in rows if (row not in begun) == fresh]):
                    matrix, result = ("forward", bundle, part, (a, b)), Place(("value", "rows"), a)
                    self._multiply("set" if fresh else "add", b - a, end - start, matrix, values, result, t)
            begun |= {*rows}

    def _node(self, node, t):
        width = INT(self.step.width(node))
        if not self.kind.alone:
            return self._units(node, t, INT(0), width, 1)
        whole = INT(self.step.width(node) // self.kind.width * self.kind.width)
        self._units(node, t, INT(0), whole, self.kind.width)
        with self.code.by_one():
            self._units(node, t, whole, width, 1)

    def _units(self, node, t, start, end, step):
        with self.code.loop(start, end, step) as unit:
            for vector in range(self.kind.vectors):
                value = self._computed(node.symbol, t, unit, vector, {})
                for place in self.step.nodes[node]:
                    self._write(value, place, t, unit, vector)


class Backward(_Kernel):
    """From the slopes of what went up and of the last states to those of weights, inputs and first states; `wanted` are
    the names of those that are needed.

    Arrays: ("above", name) what comes from above; ("carry", name) the slopes of a state after a step and before it in
    turns; ("change", name) those of inputs, and of vectors summed over time. Each thread has its own ("slope", node),
    those of other nodes; "rows" of a chunk of steps; ("weights", bundle, part) summed over time and lanes.
    """

    def __init__(self, module, name, step, kind, wanted):
        self.wanted, self.written = wanted, set()
        self.outer = matmul.product(module, "outer", True, kind, 1, kind.width)
        self.panels = matmul.panels(module, "panels", kind)
        super().__init__(module, name, step, kind)

    def _write_body(self):
        code, size = self.code, INT(self.kind.chunk)
        chunks = code.build.sdiv(code.sum(self.steps, INT(self.kind.chunk - 1)), size)
        with code.countdown(INT(0), chunks) as chunk:
            start = code.build.mul(chunk, size)
            end = code.sum(start, size)
            end = code.build.select(code.build.icmp_signed("<", end, self.steps), end, self.steps)
            with code.countdown(start, end) as t:
                self._step(t)
            self._weights(start, code.build.sub(end, start))

    def _step(self, t):
        for what, which in reversed(self.layout.events):
            if what == "product":
                self._product(which, t)
            else:
                self._node(which, t)
        self._clear(self.cut.rows, t)
        for name in self.step.state:
            if ("before", name) not in self.written:
                self._zero(Place(("carry", name), kind=TURNS), self.step.n, t)

    def _target(self, symbol):
        """Where the slopes of a row, a node, an old state or an input are collected: a key, a place, steps later."""
        if symbol in self.layout.places:
            return symbol, Place("rows", self.layout.places[symbol][0], CHUNK), 0
        if symbol in self.cut.nodes:
            node = self.cut.nodes[symbol]
            names = self.step.states_of(node)
            return node, Place(("carry", names[0]), kind=TURNS) if names else Place(("slope", node), kind=STILL), 1
        name = symbol.arguments[0]
        if name in self.step.state:
            return ("before", name), Place(("carry", name), kind=TURNS), 0
        return symbol, Place(("change", name)), 0

    def _is_written(self, key, symbol):
        """Whether there is something to add to: a new state has what the step after it left, a vector all of them."""
        if symbol in self.cut.nodes and self.step.states_of(self.cut.nodes[symbol]):
            return True
        vector = symbol in self.step.places and self.step.places[symbol].kind == VECTOR
        return vector or key in self.written

    def _node(self, node, t):
        key, place, later = self._target(node.symbol)
        above = [Place(("above", name)) for name, own in self.cut.up.items() if own is node]
        there = self._is_written(key, node.symbol)
        if not there and not above:
            return
        targets = [leaf for leaf in node.leaves if leaf in node.slopes and self._is_needed(leaf)]
        with self.code.loop(INT(0), INT(self.step.width(node))) as unit:
            for vector in range(self.kind.vectors):
                slopes = [self._read(place, t, unit, vector, later)] if there else []
                slopes += [self._read(own, t, unit, vector) for own in above]
                slope = slopes[0]
                for other in slopes[1:]:
                    slope = self.code.apply("+", slope, other)
                known = {}
                for leaf in targets:
                    own = self._value(node.slopes[leaf], t, unit, vector, known)
                    value = slope if own == 1.0 else self.code.apply("*", slope, own)
                    target, to, after = self._target(leaf)
                    self._write(value, to, t, unit, vector, after, self._is_written(target, leaf))
        self.written |= {self._target(leaf)[0] for leaf in targets}

    def _is_needed(self, leaf):
        """Whether anybody asks for the slope of what a node reads, or a product is made of."""
        known = leaf in self.layout.places or leaf in self.cut.nodes or leaf.arguments[0] in self.step.state
        return known or leaf.arguments[0] in self.wanted

    def _product(self, bundle, t):
        lefts = [left for left in bundle.spans if self._is_needed(left)]
        for (a, b), rows in bundle.parts.items() if lefts else ():
            self._clear([self.cut.row_of[row] for row in rows], t)
            slopes = self._ready(Place("rows", a, CHUNK), b - a, t)
            for left in lefts:
                start, end = bundle.spans[left]
                key, place, later = self._target(left)
                name = "add" if self._is_written(key, left) else "set"
                self._multiply(name, end - start, b - a, ("backward", bundle, (a, b), left), slopes, place, t, later)
                self.written.add(key)

    def _weights(self, start, steps):
        """The gradients of the matrices, of a chunk of steps: one product of what was multiplied and the slopes of the
        rows, both packed."""
        code, b, width = self.code, self.code.build, self.kind.width
        columns = b.mul(steps, INT(self.kind.lanes // self.kind.together))
        left, right = (self._address(Place(name, kind=VECTOR)) for name in ("left panels", "right panels"))
        for bundle in self.layout.bundles:
            parts = [part for part in bundle.parts if (bundle, part) in self.wanted]
            if parts:
                self._packed(self.step.values(bundle), bundle.depth, start, steps, left)
            for part in parts:
                place, rows = Place("rows", part[0], CHUNK), part[1] - part[0]
                self._packed(place, rows, start, steps, right)
                gradient, across = self._address(Place(("weights", bundle, part), kind=VECTOR)), INT(whole(rows, width))
                with code.loop(INT(0), across, width) as first:
                    sizes = INT(whole(bundle.depth, width)), columns, INT(width), across
                    values, result = code.at(right, b.mul(first, columns)), code.at(gradient, first)
                    b.call(self.outer, [*sizes, left, values, result])

    def _packed(self, place, rows, start, steps, target):
        stride = self._array(place.array)[1]
        self.code.build.call(
            self.panels, [INT(rows), stride, self._between(place), steps, self._address(place, start), target]
        )

    def _clear(self, rows, t):
        """Rows that nothing was written into have a slope of 0."""
        for row in rows:
            if row.symbol not in self.written:
                a, b = self.layout.places[row.symbol]
                self._zero(Place("rows", a, CHUNK), b - a, t)
                self.written.add(row.symbol)

    def _zero(self, place, width, t):
        with self.code.loop(INT(0), INT(width)) as unit:
            for vector in range(self.kind.vectors):
                self._write(0.0, place, t, unit, vector)


def whole(number, width):
    """The next multiple of a width."""
    return -(-number // width) * width
