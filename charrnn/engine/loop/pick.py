"""Picking symbols, as code: what sample.Picking does, in numbers of the same kind and in the same order."""

from llvmlite import ir

from ..machine.code import INT, Code

DOUBLE, NOTHING = ir.DoubleType(), float("-inf")
VANISHING = -700.0  # the logarithm of what is no probability any more
TEMPERATURE, MIN_P, TOP_P, ALL = range(4)  # where they stand in the settings; the last is a share that none reaches


def write(step) -> None:
    """Code that picks a symbol in each lane by the logits there and the numbers that were drawn."""
    logits = step.address(step.logits)
    with step.lane_by_lane(step.code.number):
        _forbid(step, logits)
        tops = [_largest(step, logits, vector) for vector in range(step.kind.vectors)]
    _weigh(step, logits, tops)
    _filter(step)
    with step.lane_by_lane(DOUBLE):
        for vector in range(step.kind.vectors):
            _search(step, vector)


def _forbid(step, logits):
    code, b = step.code, step.code.build
    with b.if_then(b.icmp_signed(">=", step.forbidden, INT(0))):
        for vector in range(step.kind.vectors):
            code.store(code.spread(NOTHING), step.at(logits, step.forbidden, vector))


def _largest(step, logits, vector):
    code, b, found = step.code, step.code.build, [step.code.spread(NOTHING)]
    with code.summing(INT(step.symbols), found) as (unit, most):
        value = code.load(step.at(logits, unit, vector))
        most[0] = b.select(b.fcmp_ordered(">", value, most[0]), value, most[0])
    return found[0]


def _setting(step, number):
    """One of the settings, in all places of a vector."""
    return step.code.splat(step.code.at(step.settings, INT(number)))


def _weigh(step, logits, tops):
    """The weight of every symbol: that of the likeliest is 1."""
    code, b, sums = step.code, step.code.build, step.inside(step.sums)
    for unit, vector in step.each(step.symbols):
        top = code.spread(b.extract_element(tops[0], INT(0))) if step.kind.alone else tops[vector]
        below = b.fsub(code.load(step.at(logits, unit, vector)), top)
        with code.of(DOUBLE, code.width):
            share = b.fdiv(b.fpext(below, code.vector), _setting(step, TEMPERATURE))
            weight = code.apply("exp", share)
            for value, least in ((share, code.spread(VANISHING)), (weight, _setting(step, MIN_P))):
                weight = b.select(b.fcmp_ordered("<", value, least), code.spread(0.0), weight)
            code.store(weight, step.at(sums, unit, vector))


def _filter(step):
    """Leaves only the likeliest where top_k or top_p ask for it."""
    code, b, sums = step.code, step.code.build, step.inside(step.sums)
    with code.of(DOUBLE, 1):
        top_p = b.load(code.at(step.settings, INT(TOP_P)), typ=DOUBLE)
        some = b.icmp_signed(">", step.top_k, INT(0))
        share = b.fcmp_ordered("<", top_p, DOUBLE(1.0))
        with b.if_then(b.or_(some, share)), code.loop(INT(0), INT(step.kind.lanes)) as lane:
            own, count, lanes = code.at(sums, lane), INT(step.symbols), INT(step.kind.lanes)
            with b.if_then(some):
                b.call(step.keep, [count, lanes, step.top_k, own, code.at(step.settings, INT(ALL))])
            with b.if_then(share):
                b.call(step.keep, [count, lanes, count, own, code.at(step.settings, INT(TOP_P))])


def _search(step, vector):
    """The symbol at a share, the number that was drawn, of the summed weights."""
    code, b, count, sums = step.code, step.code.build, INT(step.symbols), step.inside(step.sums)
    total, passed = [code.spread(0.0)], [code.spread(0.0)]
    with code.summing(count, total) as (unit, running):
        place = step.at(sums, unit, vector)
        running[0] = b.fadd(running[0], code.load(place))
        code.store(running[0], place)
    first = INT(vector * step.kind.width)
    place = b.mul(step.t, step.wide), first
    target = b.fmul(code.load(code.at(step.numbers, *place)), total[0])
    with code.summing(count, passed) as (unit, running):
        here = code.load(step.at(sums, unit, vector))
        below = b.and_(b.fcmp_ordered("<=", here, target), b.fcmp_ordered("<", here, total[0]))
        running[0] = b.fadd(running[0], b.select(below, code.spread(1.0), code.spread(0.0)))
    symbols = b.fptosi(passed[0], ir.VectorType(INT, code.width))
    for address in (b.gep(step.inside(step.ids), [first], source_etype=INT), code.at(step.found, *place)):
        b.store(symbols, address, align=8)


def keep(module, kind):
    """A function of how many symbols, from one to the next of a lane, how many to keep; of their weights, of a share:
    it leaves the likeliest that reach that share of the weights together, as many at most, and of equals the first."""
    code = Code(module, "keep", 3, 2, kind)
    code.function.linkage = "internal"
    code.function.attributes.add("noinline")
    b, (count, stride, most, weights, share) = code.build, code.function.args
    with code.of(DOUBLE, 1):
        at = lambda unit: code.at(weights, b.mul(unit, stride))  # noqa: E731
        whole = [code.spread(0.0)]
        with code.summing(count, whole) as (unit, sums):
            sums[0] = b.fadd(sums[0], code.load(at(unit)))
        bound = b.fmul(b.extract_element(whole[0], INT(0)), b.load(share, typ=DOUBLE))
        before, last, place, taken = (b.alloca(number) for number in (DOUBLE, DOUBLE, INT, INT))  # of those kept
        for value, held in ((DOUBLE(0.0), before), (DOUBLE("inf"), last), (INT(-1), place), (INT(0), taken)):
            b.store(value, held)
        best, where = b.alloca(DOUBLE), b.alloca(INT)
        goes_on = lambda: b.and_(  # noqa: E731
            b.icmp_signed("<", b.load(taken, typ=INT), most), b.fcmp_ordered("<", b.load(before, typ=DOUBLE), bound)
        )
        with code.while_(goes_on):
            b.store(DOUBLE(-1.0), best)
            b.store(INT(-1), where)
            with code.loop(INT(0), count) as unit:
                weight = b.load(at(unit), typ=DOUBLE)
                more = b.fcmp_ordered(">", weight, b.load(best, typ=DOUBLE))
                with b.if_then(b.and_(more, b.not_(_is_kept(b, weight, unit, last, place)))):
                    b.store(weight, best)
                    b.store(unit, where)
            found = b.load(best, typ=DOUBLE)
            b.store(b.fadd(b.load(before, typ=DOUBLE), found), before)
            b.store(found, last)
            b.store(b.load(where, typ=INT), place)
            b.store(b.add(b.load(taken, typ=INT), INT(1)), taken)
        with code.loop(INT(0), count) as unit:
            weight = b.load(at(unit), typ=DOUBLE)
            b.store(b.select(_is_kept(b, weight, unit, last, place), weight, DOUBLE(0.0)), at(unit))
    b.ret_void()
    return code.function


def _is_kept(b, weight, unit, last, place):
    """Whether a symbol is among those that were taken: likelier than the last of them, or equal and no later."""
    least = b.load(last, typ=DOUBLE)
    as_likely = b.and_(b.fcmp_ordered("==", weight, least), b.icmp_signed("<=", unit, b.load(place, typ=INT)))
    return b.or_(b.fcmp_ordered(">", weight, least), as_likely)
