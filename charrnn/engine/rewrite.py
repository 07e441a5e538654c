"""A traced step rewritten so that a program needs fewer calls for the same values.

A logistic function becomes 0.5 tanh(0.5 a) + 0.5, which cannot overflow, and its inner half goes into the weights,
which changes no digit: so all gates that are squashed, by whichever function, are squashed together. And a sum of
products becomes one product of what lies side by side with matrices that stand on each other.
"""

from ..cells.trace import Symbol, ordered


def rewritten(results: list, fixed, ids) -> list:
    """The results in fewer operations. `fixed` has the leaves that are weights, `ids` is that of what comes in. Of the
    operators used only "rows" is new: matrices (k, m), .. on top of each other."""
    return _products(_logistic(results, fixed), {*fixed, ids})


def _uses(symbols, results):
    """How often each symbol is used, as a result too."""
    uses = dict.fromkeys(symbols, 0)
    for a in [a for symbol in symbols for a in symbol.inputs] + results:
        uses[a] += 1
    return uses


def _again(symbol, new):
    """The symbol made of what its arguments have become."""
    arguments = [new[a] if isinstance(a, Symbol) else a for a in symbol.arguments]
    same = all(a is b for a, b in zip(arguments, symbol.arguments, strict=True))
    return symbol if same else Symbol(symbol.operator, *arguments)


# ---- squashing


def _logistic(results, fixed):
    """With tanh in the place of the logistic function."""
    symbols, new = ordered(results), {}
    uses = _uses(symbols, results)

    def half(symbol):
        if uses[symbol] == 1 and symbol.operator in ("+", "-"):
            return Symbol(symbol.operator, *(half(a) if isinstance(a, Symbol) else a / 2 for a in symbol.arguments))
        if uses[symbol] == 1 and symbol.operator == "@":
            left, matrix = symbol.arguments
            return Symbol("@", new[left], Symbol("*", matrix, 0.5))
        if uses[symbol] == 1 and symbol.operator == "*" and symbol.arguments[0] in fixed:
            vector, other = symbol.arguments
            return Symbol("*", Symbol("*", vector, 0.5), new[other] if isinstance(other, Symbol) else other)
        return Symbol("*", new[symbol], 0.5)

    for symbol in symbols:
        if symbol.operator == "sigmoid":
            new[symbol] = Symbol("+", Symbol("*", Symbol("tanh", half(*symbol.arguments)), 0.5), 0.5)
        else:
            new[symbol] = symbol if symbol.operator == "leaf" else _again(symbol, new)
    return [new[symbol] for symbol in results]


# ---- products


def _products(results, given):
    """With one product in the place of a sum of several, where that leaves fewer products to be computed."""
    symbols = ordered(results)
    sums = _sums(symbols, _uses(symbols, results), _past(symbols, given))
    whose = {product: lefts for lefts, products, _ in sums.values() for product in products}
    pairs = {}  # by left side, what it is summed with, for each product that it is in
    for symbol in symbols:
        if symbol.operator == "@":
            pairs.setdefault(symbol.arguments[0], set()).add(whose.get(symbol))
    new, joins = {}, {}
    for symbol in symbols:
        lefts, products, others = sums.get(symbol, ((), (), ()))
        if any(pairs[left] == {lefts} for left in lefts):
            if lefts not in joins:
                joins[lefts] = Symbol("join", *(new[left] for left in lefts))
            total = Symbol("@", joins[lefts], Symbol("rows", *(new[product.arguments[1]] for product in products)))
            for other in others:
                total = Symbol("+", total, new[other] if isinstance(other, Symbol) else other)
            new[symbol] = total
        else:
            new[symbol] = symbol if symbol.operator == "leaf" else _again(symbol, new)
    return [new[symbol] for symbol in results]


def _past(symbols, given):
    """The symbols that depend on a state."""
    past = set()
    for symbol in symbols:
        if (symbol.operator == "leaf" and symbol not in given) or past & {*symbol.inputs}:
            past.add(symbol)
    return past


def _sums(symbols, uses, past):
    """Sums of two or more products, each used there alone: {sum: (left sides, products, other terms)}."""

    def terms(symbol):
        found = []
        for a in symbol.arguments:
            inner = isinstance(a, Symbol) and a.operator == "+" and a in past and uses[a] == 1
            found += terms(a) if inner else [a]
        return found

    found, inside = {}, set()
    for symbol in reversed(symbols):  # the outermost sum comes first
        if symbol.operator != "+" or symbol not in past:
            continue
        inside |= {a for a in symbol.inputs if a.operator == "+" and uses[a] == 1}
        if symbol in inside:
            continue
        products, others = [], []
        for term in terms(symbol):
            own = isinstance(term, Symbol) and term.operator == "@" and term in past and uses[term] == 1
            (products if own else others).append(term)
        lefts = tuple(product.arguments[0] for product in products)
        if len(lefts) > 1:
            found[symbol] = lefts, products, others
    return found
