"""Products of matrices of 8 bits, as code: whole numbers times a number for each row, with values rounded to 16 bits.

Two products and their sum are one operation on 32 bits. A matrix is packed in pairs of columns. The values of a lane
are rounded so that the largest of them is as large as can be summed; what they are then times what they are apart is
exact. So are sums: what a lane gives depends neither on how many there are nor on who computes it.
"""

import numpy as np
from llvmlite import ir

from .code import INT, PAIR, Code
from .matmul import TOGETHER, put

LARGEST = 127  # of what a matrix has; the other sign has one more
SHORT = ir.IntType(16)


def rows_of(matrix):
    """A matrix as whole numbers of 8 bits (M, K) and a number for each row (M,); None if it is no such matrix."""
    scales = np.abs(matrix).max(1) / LARGEST
    exact = matrix / np.where(scales > 0, scales, 1)[:, None]
    whole = np.rint(exact)
    return (whole.astype(np.int8), scales) if np.abs(exact - whole).max() < 1e-3 else None


def packed(whole, kind):
    """A matrix of whole numbers as `product` reads it: `tall` rows at a time; for lanes they have 16 bits already."""
    M, K = whole.shape
    even = np.pad(whole, ((0, -M % kind.tall), (0, K % 2)))
    pairs = even.reshape(-1, kind.tall, even.shape[1] // 2, 2).swapaxes(1, 2).reshape(-1)
    return pairs if kind.alone else pairs.astype(np.int16)


def largest(K):
    """The largest of K values, as a whole number."""
    return min(2**15 - 1, (2**31 - 1) // (LARGEST * K))


def shorts(module, name, kind):
    """A function of how many values, of the largest; of the values (K, lanes), where they go in pairs, and where what
    makes them what they were does, for each lane."""
    code = Code(module, name, 2, 3, kind)
    code.function.linkage = "internal"
    code.function.attributes.add("noinline")
    (_alone if kind.alone else _lanes)(code, kind, *code.function.args)
    code.build.ret_void()
    return code.function


def _alone(code, kind, count, most, values, target, factor):
    b, width = code.build, INT(kind.width)
    wide = b.mul(b.sdiv(count, width), width)
    many = [code.spread(1e-30)]
    with code.summing(b.sdiv(count, width), many) as (k, longest):
        longest[0] = _longer(code, longest[0], code.load(code.at(values, b.mul(k, width))))
    tops = [b.extract_element(many[0], INT(n)) for n in range(kind.width)]
    with code.by_one():
        top = [code.spread(tops[0])]
        for other in tops[1:]:
            top[0] = _longer(code, top[0], code.spread(other))
        with code.summing(b.sub(count, wide), top) as (k, longest):
            longest[0] = _longer(code, longest[0], code.load(code.at(values, wide, k)))
        step = b.fdiv(b.extract_element(top[0], INT(0)), b.sitofp(most, kind.number))
        b.store(step, factor)
    for size, start, end in ((kind.width, INT(0), wide), (1, wide, count)):
        with code.of(kind.number, size), code.loop(start, end, size) as k:
            rounded = _rounded(code, code.load(code.at(values, k)), code.spread(step))
            b.store(b.trunc(rounded, ir.VectorType(SHORT, size)), b.gep(target, [k], source_etype=SHORT), align=2)


def _lanes(code, kind, count, most, values, target, factor):
    b, lanes = code.build, INT(kind.lanes)
    pairs, even = ir.VectorType(PAIR, kind.width), b.and_(count, INT(-2))
    for v in range(kind.vectors):
        own = INT(v * kind.width)
        top = [code.spread(1e-30)]
        with code.summing(count, top) as (k, longest):
            longest[0] = _longer(code, longest[0], code.load(code.at(values, b.mul(k, lanes), own)))
        step = b.fdiv(top[0], code.spread(b.sitofp(most, kind.number)))
        code.store(step, code.at(factor, own))
        for single, start, end in ((False, INT(0), even), (True, even, count)):
            with code.loop(start, end, 2) as k:
                place = code.at(values, b.mul(k, lanes), own)
                first = _rounded(code, code.load(place), step)
                first = b.and_(first, ir.Constant(pairs, [0xFFFF] * kind.width))
                if not single:
                    second = _rounded(code, code.load(code.at(place, lanes)), step)
                    first = b.or_(first, b.shl(second, ir.Constant(pairs, [16] * kind.width)))
                b.store(first, code.at(target, b.mul(b.sdiv(k, INT(2)), lanes), own), align=4)


def _longer(code, length, value):
    """The greater of a length and that of a value."""
    value = code.intrinsic("fabs", value)
    return code.build.select(code.build.fcmp_ordered(">", value, length), value, length)


def _rounded(code, value, step):
    exact = code.intrinsic("rint", code.build.fdiv(value, step))
    return code.build.fptosi(exact, ir.VectorType(PAIR, code.width))


def product(module, name, add, kind):
    """A function of M, of how many pairs K has; of the packed matrix, the values in pairs, the result (M, lanes), the
    number of each row, that of each lane: it sets or adds to the result."""
    code = Code(module, name, 2, 5, kind)
    code.function.linkage = "internal"
    code.function.attributes.add("noinline")
    M = code.function.args[0]
    together, write = (kind.width * TOGETHER, _of_rows) if kind.alone else (kind.tall, _of_lanes)
    least = kind.width if kind.alone else 1
    whole = code.build.mul(code.build.sdiv(M, INT(together)), INT(together))
    for step, start, end in ((together, INT(0), whole), (least, whole, M)):
        with code.loop(start, end, step) as row:
            write(code, kind, add, step, row, *code.function.args)
    code.build.ret_void()
    return code.function


def _of_rows(code, kind, add, step, row, M, K, matrix, values, result, scales, factor):
    """So many rows of a single lane, in vectors."""
    b, width, vectors = code.build, kind.width, step // kind.width
    place, left = code.at(result, row), b.sub(M, row)
    with code.of(PAIR, width):
        sums = [code.spread(0) for _ in range(vectors)]
        with code.summing(K, sums) as (k, running):
            value = code.splat_pair(code.at(values, k))
            for v in range(vectors):
                line = b.add(b.mul(code.sum(row, INT(v * width)), K), b.mul(k, INT(width)))
                small = b.load(b.gep(matrix, [line], source_etype=SHORT), typ=code.shorter(8), align=2)
                running[v] = b.add(running[v], code.dot_of_shorts(b.sext(small, code.shorter(16)), value))
    for v, value in enumerate(sums):
        scale = code.apply("*", code.splat(factor), code.load(code.at(scales, row, INT(v * width))))
        value = code.apply("*", b.sitofp(value, code.vector), scale)
        put(code, value, code.at(place, INT(v * width)), add, left if vectors == 1 else None)


def _of_lanes(code, kind, add, step, row, M, K, matrix, values, result, scales, factor):
    """So many rows, or one of those that do not make up a whole tile, which are packed as the others are."""
    b, lanes, tall = code.build, INT(kind.lanes), INT(kind.tall)
    tile = b.sdiv(row, tall)
    line = b.add(b.mul(tile, b.mul(K, tall)), b.sub(row, b.mul(tile, tall)))
    spots = [(i, v) for i in range(step) for v in range(kind.vectors)]
    with code.of(PAIR, kind.width):
        sums = [code.spread(0) for _ in spots]
        with code.summing(K, sums) as (k, running):
            column = code.at(values, b.mul(k, lanes))
            own = [code.pairs_at(code.at(column, INT(v * kind.width))) for v in range(kind.vectors)]
            for i in range(step):
                weight = code.splat_pair(code.at(matrix, line, b.mul(k, tall), INT(i)))
                for v in range(kind.vectors):
                    spot = i * kind.vectors + v
                    running[spot] = b.add(running[spot], code.dot_of_shorts(own[v], weight))
    for (i, v), value in zip(spots, sums, strict=True):
        scale = code.apply(
            "*", code.load(code.at(factor, INT(v * kind.width))), code.splat(code.at(scales, row, INT(i)))
        )
        value = code.apply("*", b.sitofp(value, code.vector), scale)
        put(code, value, code.at(result, b.mul(code.sum(row, INT(i)), lanes), INT(v * kind.width)), add, None)
