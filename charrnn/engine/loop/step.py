"""The operations of a program as code."""

import numpy as np
from llvmlite import ir

from ...cells.base import EPSILON
from ..machine import matmul, processor, threads, whole
from ..machine.code import INT, POINTER, Code
from . import pick

LINE = 64  # bytes of a cache line


class Step:
    """The function `draw`(steps, wide, part, parts, top_k, forbidden, *places), which draws for a block of lanes.

    The places are those of an arena, shared, meeting, settings, numbers and found. All that a block of lanes has stands
    in its arena: what the program has in its buffers, the weights of the symbols, and the symbols. `wide` is from step
    to step of numbers and found. If it `meets`, its products can be computed in parts, each by a thread.
    """

    signature = 6, 6  # integers, pointers

    def __init__(self, module, program, kind, meets):
        self.module, self.kind, self.meets = module, kind, meets
        self.size = self.shared = self.meetings = 0  # floats of an arena, of what threads share; how often they meet
        self.kept, self.rows = [], {}  # what the code reads; where the rows of tables lie, by their buffers
        self.functions = {}
        self.offsets = {id(buffer): self._room(len(buffer)) for buffer in program.buffers}
        self.logits, self.symbols = program.output, len(program.output)
        self.sums, self.ids = self._room(2 * self.symbols), self._room(2)
        self.keep = pick.keep(module, kind)
        self.code = Code(module, "draw", *self.signature, kind)
        steps, self.wide, self.part, self.parts, self.top_k, self.forbidden, *places = self.code.function.args
        self.arena, self.scratch, self.meeting, self.settings, self.numbers, self.found = places
        self.count = sum(each.name == "@" for each in program.operations)
        with self.code.loop(INT(0), steps) as self.t:
            pick.write(self)
            self._take_rows(program.tables)
            for operation in program.operations:
                self._write(*operation)
        self.code.build.ret_void()

    # ---- where things lie

    def _room(self, rows):
        """Room for so many rows in an arena, and for as many as make up whole vectors; the offset in floats."""
        start = self.size
        self.size += -(-rows // LINE) * LINE * self.kind.lanes
        return start

    def _found(self, array):
        """The buffer of the program that an array is a part of, and the row that it begins with; None if of none."""
        owner = array if array.base is None else array.base
        if id(owner) not in self.offsets:
            return None
        return id(owner), (array.ctypes.data - owner.ctypes.data) // owner.itemsize // self.kind.lanes

    def part_of(self, arena, array):
        """What stands in an arena for a part of one of the program's buffers, (rows, lanes)."""
        owner, row = self._found(array)
        start = self.offsets[owner] + row * self.kind.lanes
        return arena[start : start + array.size].reshape(-1, self.kind.lanes)

    def address(self, array):
        """Of the first number of an array."""
        found = self._found(array)
        if found is None:
            return self._fixed(array)
        owner, row = found
        if owner in self.rows:
            return self.code.at(self.rows[owner], INT(row))
        return self.inside(self.offsets[owner] + row * self.kind.lanes)

    def inside(self, offset):
        """The address of a place of the arena."""
        return self.code.build.gep(self.arena, [INT(offset)], source_etype=ir.FloatType())

    def _fixed(self, array):
        """The address of a copy of what never changes, bit by bit."""
        self.kept.append(aligned(array.size))
        self.kept[-1].view(np.int32)[...] = np.ascontiguousarray(array, np.float32).reshape(-1).view(np.int32)
        return self.code.build.inttoptr(INT(self.kept[-1].ctypes.data), POINTER)

    def at(self, base, unit, vector):
        """The address of a vector of lanes in a row, so many from `base`; of a single lane, of one of units."""
        code = self.code
        return code.at(base, code.build.mul(unit, INT(self.kind.lanes)), INT(vector * self.kind.width))

    def each(self, rows):
        """Units and vectors of so many rows: the code that is written for each runs for all."""
        code, width = self.code, self.kind.width
        if not self.kind.alone:
            with code.loop(INT(0), INT(rows)) as unit:
                for vector in range(self.kind.vectors):
                    yield unit, vector
            return
        whole = rows // width * width
        with code.loop(INT(0), INT(whole), width) as unit:
            yield unit, 0
        with code.by_one(), code.loop(INT(whole), INT(rows)) as unit:
            yield unit, 0

    def lane_by_lane(self, number):
        """Vectors in which no two numbers are of the same lane, in the lines under it."""
        return self.code.of(number, 1 if self.kind.alone else self.kind.width)

    def _reader(self, array, rows):
        """How an argument of an operation on so many rows is read: a function of unit and vector."""
        code = self.code
        if array.ndim == 0:
            return lambda unit, vector: code.spread(float(array))
        base, one = self.address(array), len(array) == 1 < rows
        if self._found(array) is None and not self.kind.alone:  # the same for all lanes
            return lambda unit, vector: code.splat(code.at(base, INT(0) if one else unit))
        if self.kind.alone and one:
            return lambda unit, vector: code.splat(base)
        return lambda unit, vector: code.load(self.at(base, INT(0) if one else unit, vector))

    # ---- operations

    def _write(self, name, arguments, out, pieces):
        if name == "@":
            return self._multiply(*arguments, out, pieces)
        if name == "normalise":
            return self._normalise(*arguments, out)
        code, place = self.code, self.address(out)
        readers = [self._reader(argument, len(out)) for argument in arguments]
        for unit, vector in self.each(len(out)):
            values = [read(unit, vector) for read in readers]
            if name == "where":
                values[0] = code.build.fcmp_unordered("!=", values[0], code.spread(0.0))
            value = code.apply(name, *values)
            if out.dtype == bool:
                value = code.build.select(value, code.spread(1.0), code.spread(0.0))
            code.store(value, self.at(place, unit, vector))

    def _function(self, make, name, *how):
        """A function of products, made when it is first asked for."""
        if name not in self.functions:
            self.functions[name] = make(self.module, name, *how)
        return self.functions[name]

    def _multiply(self, matrix, left, out, pieces):
        code, b, M = self.code, self.code.build, len(matrix)
        product, place = self._product(matrix, left, pieces), self.address(out)
        if not self.meets:
            return product(INT(0), INT(M), place)
        result = code.at(self.scratch, INT(self.shared))
        self.shared += -(-M // LINE) * LINE
        first, end = (self._share(M, k) for k in (self.part, code.sum(self.part, INT(1))))
        product(first, b.sub(end, first), code.at(result, first))
        self.meetings += 1
        meetings = code.sum(b.mul(self.t, INT(self.count)), INT(self.meetings))
        b.call(self._function(threads.meet, "meet", self.kind), [b.mul(meetings, self.parts), self.parts, self.meeting])
        for unit, vector in self.each(M):
            code.store(code.load(self.at(result, unit, vector)), self.at(place, unit, vector))

    def _product(self, matrix, left, pieces):
        """The code of a product: a function of the first row, how many, and where they go."""
        ends = np.cumsum(pieces)
        if processor.in_bytes():
            parts = [whole.rows_of(matrix[:, end - size : end]) for end, size in zip(ends, pieces, strict=True)]
            if all(parts):
                return self._whole_product(parts, left)
        K, lanes, tall = INT(matrix.shape[1]), INT(self.kind.lanes), self.kind.tall
        if self.kind.alone:
            matrix = np.pad(matrix, ((0, -len(matrix) % tall), (0, 0)))
            function = self._function(matmul.alone, "product", False, self.kind)
        else:
            function = self._function(matmul.product, "product", False, self.kind, self.kind.vectors, tall)
        packed, values = self._fixed(np.concatenate(matmul.packed(matrix, tall))), self.address(left)

        def rows(first, count, place):
            own = self.code.at(packed, self.code.build.mul(first, K))
            self.code.build.call(function, [count, K, lanes, lanes, own, values, place])

        return rows

    def _whole_product(self, pieces, left):
        """As `_product`, of matrices beside each other that are whole numbers."""
        code, b, parts, start, tall = self.code, self.code.build, [], 0, self.kind.tall
        for matrix, scales in pieces:
            K, values, factor = matrix.shape[1], self.inside(self._room(matrix.shape[1])), self.inside(self._room(1))
            source = code.at(self.address(left), INT(start * self.kind.lanes))
            shorts = self._function(whole.shorts, "shorts", self.kind)
            b.call(shorts, [INT(K), INT(whole.largest(K)), source, values, factor])
            packed = self._fixed(whole.packed(matrix, self.kind).view(np.float32))
            parts.append(
                (INT(-(-K // 2)), packed, values, self._fixed(np.pad(scales, (0, -len(scales) % tall))), factor)
            )
            start += K

        def rows(first, count, place):
            for number, (K, packed, values, scales, factor) in enumerate(parts):
                product = self._function(whole.product, "add whole" if number else "set whole", number > 0, self.kind)
                own = b.gep(packed, [b.mul(first, K)], source_etype=ir.IntType(16))
                b.call(product, [count, K, own, values, place, code.at(scales, first), factor])

        return rows

    def _share(self, rows, part):
        """The row with which the share of a part begins."""
        b, tall = self.code.build, self.kind.tall
        first = b.mul(b.sdiv(b.mul(INT(-(-rows // tall)), part), self.parts), INT(tall))
        return b.select(b.icmp_signed("<", first, INT(rows)), first, INT(rows))

    def _normalise(self, array, out):
        """Lane by lane, rows summed in their order."""
        code, count, place = self.code, INT(len(out)), self.address(out)
        read = self._reader(array, len(out))
        with self.lane_by_lane(code.number):
            for vector in range(self.kind.vectors):
                total, squares = [code.spread(0.0)], [code.spread(0.0)]
                with code.summing(count, total) as (unit, sums):
                    sums[0] = code.apply("+", sums[0], read(unit, vector))
                mean = code.apply("/", total[0], float(len(out)))
                with code.summing(count, squares) as (unit, sums):
                    off = code.apply("-", read(unit, vector), mean)
                    sums[0] = code.apply("+", sums[0], code.apply("*", off, off))
                variance = code.apply("/", squares[0], float(len(out)))
                spread = code.apply("sqrt", code.apply("+", variance, EPSILON))
                with code.loop(INT(0), count) as unit:
                    value = code.apply("/", code.apply("-", read(unit, vector), mean), spread)
                    code.store(value, self.at(place, unit, vector))

    def _take_rows(self, tables):
        """The rows of the tables for the symbols that were picked: of a single lane they are read where they lie."""
        code, b, width = self.code, self.code.build, self.kind.width
        ids = self.inside(self.ids)
        for table, buffer in tables.values():
            if self.kind.alone:
                symbol = b.load(ids, typ=INT)
                self.rows[id(buffer)] = code.at(self._fixed(table), b.mul(symbol, INT(table.shape[1])))
                continue
            wide = -(-len(table) // width) * width
            lines, place = self._fixed(np.pad(table.T, ((0, 0), (0, wide - len(table))))), self.address(buffer)
            with code.loop(INT(0), INT(wide), width) as unit:
                for vector in range(self.kind.vectors):
                    places = (b.gep(ids, [INT(vector * width + k)], source_etype=INT) for k in range(width))
                    firsts = [b.mul(b.load(place, typ=INT), INT(wide)) for place in places]
                    own = [code.load(code.at(lines, first, unit)) for first in firsts]
                    for k, column in enumerate(code.transposed(own)):
                        code.store(column, self.at(place, code.sum(unit, INT(k)), vector))


def aligned(numbers):
    """So many floats, all 0, from the beginning of a cache line on."""
    whole = np.zeros(numbers + LINE // 4, np.float32)
    start = -whole.ctypes.data % LINE // 4
    return whole[start : start + numbers]
