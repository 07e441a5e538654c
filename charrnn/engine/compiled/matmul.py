"""Products of a matrix with the lanes of a step, as code.

A matrix (M, K) is packed: `tall` rows at a time, so that the code reads it from beginning to end; what is left over
follows row by row. Each number of the result is summed in the order of K, for whatever lanes.
"""

import torch

from .code import INT, Code

CHUNK = 256  # columns of what is packed at once for weight gradients: so many fit the first cache, `tall` rows of them


def pack(matrix, tall):
    """A matrix (M, K) as `product` reads it, in one row."""
    M, K = matrix.shape
    whole = M // tall * tall
    tiles = matrix[:whole].reshape(-1, tall, K).transpose(1, 2)
    return torch.cat([tiles.reshape(-1), matrix[whole:].reshape(-1)])


def product(module, name, add, kind, vectors, tall):
    """A function of M, K, from row to row of the values, the same of the result; the packed matrix, values (K, lanes),
    result (M, lanes): it sets or adds to the result, of so many vectors of lanes."""
    code = Code(module, name, 4, 3, kind)
    code.function.linkage = "internal"
    code.function.attributes.add("noinline")
    M, K, from_, to, matrix, values, result = code.function.args
    tiles = code.build.sdiv(M, INT(tall))
    done = code.build.mul(tiles, INT(tall))
    for step, start, end in ((tall, INT(0), done), (1, done, M)):
        with code.loop(start, end, step) as row:
            packed, place = code.at(matrix, code.build.mul(row, K)), code.at(result, code.build.mul(row, to))
            _tile(code, add, step, vectors, K, from_, to, packed, values, place)
    code.build.ret_void()
    return code.function


def _tile(code, add, tall, vectors, K, from_, to, matrix, values, result):
    """So many rows: their sums stay in registers for all of K."""
    b = code.build
    places = [code.at(result, b.mul(INT(i), to), INT(v * code.width)) for i in range(tall) for v in range(vectors)]
    sums = [code.load(place) if add else code.spread(0.0) for place in places]
    with code.summing(K, sums) as (k, running):
        column, line = code.at(values, b.mul(k, from_)), code.at(matrix, b.mul(k, INT(tall)))
        lanes = [code.load(code.at(column, INT(v * code.width))) for v in range(vectors)]
        weights = [code.splat(code.at(line, INT(i))) for i in range(tall)]
        running[:] = [
            code.intrinsic("fma", weights[i], lanes[v], running[i * vectors + v])
            for i in range(tall)
            for v in range(vectors)
        ]
    for place, value in zip(places, sums, strict=True):
        code.store(value, place)


def panels(module, name, kind):
    """A function of rows, from step to step, from row to row, steps; source (steps, rows, lanes of a block), target:
    it packs the matrix (rows, steps * lanes) a vector's width of rows at a time; beyond the last row this is repeated.
    """
    code = Code(module, name, 4, 2, kind)
    code.function.linkage = "internal"
    code.function.attributes.add("noinline")
    rows, from_step, from_row, steps, source, target = code.function.args
    b, width, block = code.build, code.width, code.width * kind.vectors
    with code.loop(INT(0), rows, width) as first, code.loop(INT(0), steps) as step:
        place = code.at(target, b.mul(first, b.mul(steps, INT(block))), b.mul(step, INT(block * width)))
        for v in range(kind.vectors):
            lines = []
            for i in range(width):
                row = code.sum(first, INT(i))
                row = b.select(b.icmp_signed("<", row, rows), row, b.sub(rows, INT(1)))
                address = code.at(source, b.mul(step, from_step), b.mul(row, from_row), INT(v * width))
                lines.append(code.load(address))
            for j, column in enumerate(code.transposed(lines)):
                code.store(column, code.at(place, INT((v * width + j) * width)))
    code.build.ret_void()
    return code.function
