"""Code for the processor, put together from loops, vectors of lanes and the functions of a step."""

from contextlib import contextmanager

from llvmlite import ir

INT, POINTER = ir.IntType(64), ir.PointerType()
EXPONENTIAL = {"float": 7, "double": 13}  # terms of the series by which exp is as good as the kind of number
LOGARITHM = {"float": 8, "double": 17}
LIMITS = {"float": (-87.0, 88.0), "double": (-708.0, 709.0)}  # where exp stops: it neither vanishes nor overflows
PAIR = ir.IntType(32)  # two bfloat16
BITS = {"float": (32, 23, 127), "double": (64, 52, 1023)}  # of the number, of its mantissa; what its exponent is off by


class _BFloat(ir.Type):
    """A type that `ir` does not have."""

    def _to_string(self):
        return "bfloat"


BFLOAT = _BFloat()


class Code:
    """A function `name(integers.., pointers..)` in the making, on vectors of a kind (`processor.Kind`).

    A product and the sum it goes into may become one operation; nothing else is rearranged: what is computed for a lane
    does not depend on where in a vector it stands.
    """

    def __init__(self, module, name, integers, pointers, kind):
        signature = ir.FunctionType(ir.VoidType(), [INT] * integers + [POINTER] * pointers)
        self.module, self.function = module, ir.Function(module, signature, name)
        self.function.attributes.add("nounwind")
        self.build = ir.IRBuilder(self.function.append_basic_block())
        self.number, self.width = kind.number, kind.width
        self.vector = ir.VectorType(self.number, self.width)

    @contextmanager
    def by_one(self):
        """Vectors of a single number, in the lines under it."""
        with self.of(self.number, 1):
            yield

    @contextmanager
    def of(self, number, width):
        """Vectors of so many numbers of this type, in the lines under it."""
        before = self.number, self.width, self.vector
        self.number, self.width, self.vector = number, width, ir.VectorType(number, width)
        yield
        self.number, self.width, self.vector = before

    # ---- loops and memory

    @contextmanager
    def loop(self, start, end, step=1):
        """The lines under it for start, start + step, .. below the end; gives the index."""
        step = step if isinstance(step, ir.Value) else INT(step)
        with self._repeated(start, lambda index: self.build.icmp_signed("<", index, end)) as (index, _):
            yield index
            self._next(index, self.build.add(index, step))

    @contextmanager
    def countdown(self, start, end):
        """The lines under it for end - 1, .., start; gives the index."""
        with self._repeated(end, lambda index: self.build.icmp_signed(">", index, start)) as (index, _):
            here = self.build.sub(index, INT(1))
            yield here
            self._next(index, here)

    @contextmanager
    def while_(self, goes_on):
        """The lines under it as long as goes_on(), which is asked before each round."""
        b = self.build
        head, body, after = (b.append_basic_block() for _ in range(3))
        b.branch(head)
        b.position_at_end(head)
        b.cbranch(goes_on(), body, after)
        b.position_at_end(body)
        yield
        b.branch(head)
        b.position_at_end(after)

    @contextmanager
    def summing(self, end, values):
        """As `loop` from 0, with values that each round replaces: gives the index and a list of them, which it changes;
        afterwards `values` are those of the last round."""
        b = self.build
        with self._repeated(INT(0), lambda index: b.icmp_signed("<", index, end), values) as (index, values[:]):
            changed = values[:]
            yield index, changed
            for phi, value in zip(values, changed, strict=True):
                phi.add_incoming(value, b.block)
            self._next(index, b.add(index, INT(1)))

    @contextmanager
    def _repeated(self, first, goes_on, values=()):
        """A loop while goes_on(index): gives the index, and what `values` are in each round; whoever asks says their
        next ones."""
        b = self.build
        before, head, body, after = b.block, *(b.append_basic_block() for _ in range(3))
        b.branch(head)
        b.position_at_end(head)
        index = b.phi(INT)
        index.add_incoming(first, before)
        held = [b.phi(self.vector) for _ in values]
        for phi, value in zip(held, values, strict=True):
            phi.add_incoming(value, before)
        b.cbranch(goes_on(index), body, after)
        b.position_at_end(body)
        yield index, held
        b.branch(head)
        b.position_at_end(after)

    def _next(self, index, value):
        index.add_incoming(value, self.build.block)

    def at(self, base, *indices):
        """The address of a number, so many of them from `base`."""
        return self.build.gep(base, [self.sum(*indices)], source_etype=self.number)

    def sum(self, first, *more):
        """Of integers."""
        for other in more:
            first = self.build.add(first, other)
        return first

    def load(self, address, kind=None):
        """The vector, or the number of a kind, at an address."""
        alignment = None if kind else self.bytes
        return self.build.load(address, typ=kind or self.vector, align=alignment)

    def store(self, value, address):
        """Puts a vector there."""
        self.build.store(value, address, align=self.bytes)

    @property
    def bytes(self):
        """Of one number: nothing is known of an address but that it is one of a number."""
        return BITS[str(self.number)][0] // 8

    def spread(self, value):
        """A number, known now or when the function runs, in all places of a vector."""
        if not isinstance(value, ir.Value):
            return ir.Constant(self.vector, [self.number(value)] * self.width)
        return self._everywhere(value, self.number)

    def _everywhere(self, value, kind):
        vector = ir.VectorType(kind, self.width)
        start = self.build.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
        order = ir.Constant(ir.VectorType(ir.IntType(32), self.width), [0] * self.width)
        return self.build.shuffle_vector(start, ir.Constant(vector, ir.Undefined), order)

    def splat(self, address):
        """The one number at an address in all places of a vector."""
        return self.spread(self.load(address, self.number))

    def pairs_at(self, address):
        """The vector of pairs of bfloat16 that lies at an address."""
        return self.build.load(address, typ=ir.VectorType(PAIR, self.width), align=4)

    def splat_pair(self, address):
        """The one pair of bfloat16 at an address in all places of a vector."""
        return self._everywhere(self.build.load(address, typ=PAIR), PAIR)

    def paired(self, a, b):
        """Two vectors of floats, rounded, as one of pairs of bfloat16."""
        build, pairs = self.build, ir.VectorType(PAIR, self.width)
        short = ir.VectorType(ir.IntType(16), self.width)
        a, b = (build.fptrunc(value, ir.VectorType(BFLOAT, self.width)) for value in (a, b))
        low, high = (build.zext(build.bitcast(value, short), pairs) for value in (a, b))
        return build.or_(low, build.shl(high, ir.Constant(pairs, [16] * self.width)))

    def dot(self, sums, a, b):
        """Sums, and the products of both numbers of each pair with those of another added to them."""
        kind = ir.VectorType(BFLOAT, 2 * self.width)
        name = f"llvm.x86.avx512bf16.dpbf16ps.{32 * self.width}"
        a, b = (self.build.bitcast(value, kind) for value in (a, b))
        return self._call(name, sums, a, b)

    def shorter(self, bits):
        """The type of twice as many whole numbers of so many bits as a vector has numbers."""
        return ir.VectorType(ir.IntType(bits), 2 * self.width)

    def dot_of_shorts(self, a, b):
        """The sum of both products of each pair of whole numbers of 16 bits, of 32 bits."""
        name = {16: "avx512.pmaddw.d.512", 8: "avx2.pmadd.wd", 4: "sse2.pmadd.wd"}[self.width]
        a, b = (self.build.bitcast(value, self.shorter(16)) for value in (a, b))
        return self._call(f"llvm.x86.{name}", a, b)

    def transposed(self, lines):
        """As many vectors as each has numbers, the other way round: interleaving the two halves of them, as a deck of
        cards, until each number has its place."""
        order = ir.VectorType(ir.IntType(32), self.width)
        half = self.width // 2
        low = ir.Constant(order, [n // 2 + n % 2 * self.width for n in range(self.width)])
        high = ir.Constant(order, [half + n // 2 + n % 2 * self.width for n in range(self.width)])
        for _ in range(self.width.bit_length() - 1):
            pairs = zip(lines[:half], lines[half:], strict=True)
            lines = [self.build.shuffle_vector(a, b, mask) for a, b in pairs for mask in (low, high)]
        return lines

    # ---- arithmetic

    def apply(self, name, *arguments):
        """An operation of a step by name."""
        arguments = [a if isinstance(a, ir.Value) else self.spread(a) for a in arguments]
        return getattr(self, _method(name))(*arguments)

    @classmethod
    def knows(cls, name) -> bool:
        """Whether there is such an operation."""
        return hasattr(cls, _method(name))

    def _fast(self, operation, *arguments):
        result = getattr(self.build, operation)(*arguments)
        result.flags = ["contract"]
        return result

    def _add(self, a, b):
        return self._fast("fadd", a, b)

    def _subtract(self, a, b):
        return self._fast("fsub", a, b)

    def _multiply(self, a, b):
        return self._fast("fmul", a, b)

    def _divide(self, a, b):
        return self._fast("fdiv", a, b)

    def _remainder(self, a, b):
        return self._subtract(a, self._multiply(self.intrinsic("floor", self._divide(a, b)), b))

    def _equal(self, a, b):
        return self.build.fcmp_ordered("==", a, b)

    def _reaches(self, a, b):
        return self.build.fcmp_ordered(">=", a, b)

    def _where(self, condition, a, b):
        return self.build.select(condition, a, b)

    def _maximum(self, a, b):
        return self.intrinsic("maximum", a, b)

    def _relu(self, a):
        return self._maximum(a, self.spread(0.0))

    def _sqrt(self, a):
        return self.intrinsic("sqrt", a)

    def _copy(self, a):
        return a

    def _sigmoid(self, a):
        one = self.spread(1.0)
        return self._divide(one, self._add(one, self._exp(self._subtract(self.spread(0.0), a))))

    def _tanh(self, a):
        one, two = self.spread(1.0), self.spread(2.0)
        return self._subtract(self._multiply(two, self._sigmoid(self._multiply(two, a))), one)

    def _softplus(self, a):
        zero = self.spread(0.0)
        small = self._exp(self._subtract(zero, self._maximum(a, self._subtract(zero, a))))  # of -|a|
        return self._add(self._relu(a), self._log_of_one_and(small))

    def _log_sigmoid(self, a):
        zero = self.spread(0.0)
        return self._subtract(zero, self._softplus(self._subtract(zero, a)))

    def _sigmoid_slope(self, slope, y):
        return self._multiply(slope, self._subtract(y, self._multiply(y, y)))

    def _tanh_slope(self, slope, y):
        return self._subtract(slope, self._multiply(slope, self._multiply(y, y)))

    def _exp(self, a):
        """2**k * exp(r), r between -ln 2 / 2 and ln 2 / 2; adding a large number rounds to a whole k and leaves it in
        the last bits."""
        kind = str(self.number)
        size, mantissa, bias = BITS[kind]
        low, high = map(self.spread, LIMITS[kind])
        a = self._where(self.build.fcmp_ordered(">", a, high), high, a)
        a = self._where(self.build.fcmp_ordered("<", a, low), low, a)
        large = self.spread(1.5 * 2.0**mantissa)
        shifted = self._add(self._multiply(a, self.spread(1.4426950408889634)), large)
        k = self._subtract(shifted, large)
        rest = self._subtract(a, self._multiply(k, self.spread(0.693359375)))
        rest = self._subtract(rest, self._multiply(k, self.spread(-2.12194440054690583e-4)))
        terms, factorial = [1.0], 1.0
        for n in range(1, EXPONENTIAL[kind] + 1):
            factorial *= n
            terms.append(1 / factorial)
        series = self._series(terms, rest)
        whole = ir.VectorType(ir.IntType(size), self.width)
        constant = lambda number: ir.Constant(whole, [number] * self.width)  # noqa: E731
        exponent = self.build.add(self.build.bitcast(shifted, whole), constant(bias))
        return self._multiply(series, self.build.bitcast(self.build.shl(exponent, constant(mantissa)), self.vector))

    def _log_of_one_and(self, a):
        """log(1 + a) for a from 0 to 1: 2 artanh(a / (2 + a))."""
        s = self._divide(a, self._add(self.spread(2.0), a))
        terms = [2 / (2 * n + 1) for n in range(LOGARITHM[str(self.number)])]
        return self._multiply(s, self._series(terms, self._multiply(s, s)))

    def _series(self, terms, a):
        value = self.spread(terms[-1])
        for term in terms[-2::-1]:
            value = self._add(self._multiply(value, a), self.spread(term))
        return value

    def intrinsic(self, name, *arguments):
        """An operation of LLVM's own on vectors."""
        return self._call(f"llvm.{name}.v{self.width}f{BITS[str(self.number)][0]}", *arguments)

    def _call(self, name, *arguments):
        signature = ir.FunctionType(self.vector, [a.type for a in arguments])
        return self.build.call(self.module.globals.get(name) or ir.Function(self.module, signature, name), arguments)


def _method(name):
    return f"_{_METHODS.get(name, name.replace(' ', '_'))}"


_METHODS = {
    "+": "add", "-": "subtract", "*": "multiply", "/": "divide", "%": "remainder", "==": "equal", ">=": "reaches",
}  # fmt: skip
