"""Products of a matrix with the lanes of a step, as code.

A matrix (M, K) is packed: `tall` rows at a time, so that the code reads it from beginning to end; what is left over
follows row by row. Each number of the result is summed in the order of K, for whatever lanes.
"""

from .code import INT, Code

TOGETHER = 4  # vectors of rows that are summed at once for a single lane
CHUNK = 256  # columns of what is packed at once for weight gradients: so many fit the first cache, `tall` rows of them


def packed(matrix, tall):
    """The two parts of a matrix (M, K) that `product` reads one behind the other."""
    M, K = matrix.shape
    whole = M // tall * tall
    tiles = matrix[:whole].reshape(-1, tall, K).swapaxes(1, 2)
    return tiles.reshape(-1), matrix[whole:].reshape(-1)


def product(module, name, add, kind, vectors, tall):
    """A function of M, K, from row to row of the values, the same of the result; the packed matrix, values (K, lanes),
    result (M, lanes): it sets or adds to the result, of so many vectors of lanes. Where the kind is mixed, K is that of
    pairs, and so are matrix and values."""
    code = Code(module, name, 4, 3, kind)
    code.function.linkage = "internal"
    code.function.attributes.add("noinline")
    M, K, from_, to, matrix, values, result = code.function.args
    tiles = code.build.sdiv(M, INT(tall))
    done = code.build.mul(tiles, INT(tall))
    for step, start, end in ((tall, INT(0), done), (1, done, M)):
        with code.loop(start, end, step) as row:
            packed, place = code.at(matrix, code.build.mul(row, K)), code.at(result, code.build.mul(row, to))
            _tile(code, kind.mixed, add, step, vectors, K, from_, to, packed, values, place)
    code.build.ret_void()
    return code.function


def _tile(code, mixed, add, tall, vectors, K, from_, to, matrix, values, result):
    """So many rows: their sums stay in registers for all of K."""
    b = code.build
    places = [code.at(result, b.mul(INT(i), to), INT(v * code.width)) for i in range(tall) for v in range(vectors)]
    sums = [code.load(place) if add else code.spread(0.0) for place in places]
    load, splat = (code.pairs_at, code.splat_pair) if mixed else (code.load, code.splat)
    with code.summing(K, sums) as (k, running):
        column, line = code.at(values, b.mul(k, from_)), code.at(matrix, b.mul(k, INT(tall)))
        lanes = [load(code.at(column, INT(v * code.width))) for v in range(vectors)]
        for i in range(tall):
            weight = splat(code.at(line, INT(i)))
            for v in range(vectors):
                so_far = running[i * vectors + v]
                more = code.dot(so_far, lanes[v], weight) if mixed else code.intrinsic("fma", weight, lanes[v], so_far)
                running[i * vectors + v] = more
    for place, value in zip(places, sums, strict=True):
        code.store(value, place)


def alone(module, name, add, kind):
    """As `product`, for a single lane: the vectors are of rows, and the matrix is packed by as many, with rows of 0 to
    fill the last of them."""
    code = Code(module, name, 4, 3, kind)
    code.function.linkage = "internal"
    code.function.attributes.add("noinline")
    M, K, _, _, matrix, values, result = code.function.args
    b, width = code.build, code.width
    whole = b.mul(b.sdiv(M, INT(width * TOGETHER)), INT(width * TOGETHER))
    for vectors, start, end in ((TOGETHER, INT(0), whole), (1, whole, M)):
        with code.loop(start, end, width * vectors) as row:
            place, left = code.at(result, row), b.sub(M, row)
            sums = [code.spread(0.0) for _ in range(vectors)]
            with code.summing(K, sums) as (k, running):
                value = code.splat(code.at(values, k))
                for v in range(vectors):
                    line = code.at(matrix, b.mul(code.sum(row, INT(v * width)), K), b.mul(k, INT(width)))
                    running[v] = code.intrinsic("fma", code.load(line), value, running[v])
            for v, value in enumerate(sums):
                put(code, value, code.at(place, INT(v * width)), add, left if vectors == 1 else None)
    b.ret_void()
    return code.function


def put(code, value, place, add, left):
    """Puts or adds a vector to a place as code, only as much of it as is `left` there, if that is said."""
    b = code.build
    if left is None:
        code.store(b.fadd(code.load(place), value) if add else value, place)
        return
    count = b.select(b.icmp_signed("<", left, INT(code.width)), left, INT(code.width))
    with code.loop(INT(0), count) as j:
        one, there = b.extract_element(value, j), code.at(place, j)
        b.store(b.fadd(code.load(there, code.number), one) if add else one, there)


def halves(module, name, kind):
    """A function of rows, from row to row; source (rows, lanes of a block), target: it rounds them to bfloat16, the
    rows in pairs; one that is left over goes with 0."""
    code = Code(module, name, 2, 2, kind)
    code.function.linkage = "internal"
    code.function.attributes.add("noinline")
    rows, from_row, source, target = code.function.args
    b = code.build
    even = b.and_(rows, INT(-2))
    for alone, start, end in ((False, INT(0), even), (True, even, rows)):
        with code.loop(start, end, 2) as row:
            for v in range(kind.vectors):
                place = code.at(source, b.mul(row, from_row), INT(v * code.width))
                other = code.spread(0.0) if alone else code.load(code.at(place, from_row))
                to = code.at(target, b.mul(b.sdiv(row, INT(2)), INT(kind.lanes)), INT(v * code.width))
                code.store(code.paired(code.load(place), other), to)
    b.ret_void()
    return code.function


def panels(module, name, kind):
    """A function of rows, from step to step, from row to row, steps; source (steps, rows, lanes of a block), target:
    it packs the matrix (rows, steps * lanes) a vector's width of rows at a time, in pairs where the kind is mixed;
    beyond the last row this is repeated."""
    code = Code(module, name, 4, 2, kind)
    code.function.linkage = "internal"
    code.function.attributes.add("noinline")
    rows, from_step, from_row, steps, source, target = code.function.args
    b, width, of_block = code.build, code.width, kind.lanes // kind.together
    with code.loop(INT(0), rows, width) as first, code.loop(INT(0), steps) as step:
        place = code.at(target, b.mul(first, b.mul(steps, INT(of_block))), b.mul(step, INT(of_block * width)))
        for v in range(kind.vectors):
            lines = []
            for i in range(width):
                row = code.sum(first, INT(i))
                row = b.select(b.icmp_signed("<", row, rows), row, b.sub(rows, INT(1)))
                address = code.at(source, b.mul(step, from_step), b.mul(row, from_row), INT(v * width))
                lines.append(code.load(address))
            columns = code.transposed(lines)
            if kind.mixed:
                columns = [code.paired(a, other) for a, other in zip(columns[::2], columns[1::2], strict=True)]
            for j, column in enumerate(columns):
                code.store(column, code.at(place, INT((v * len(columns) + j) * width)))
    b.ret_void()
    return code.function
