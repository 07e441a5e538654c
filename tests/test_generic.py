"""The generic engine against the reference, for every cell, and the parts that it is made of; the compiled one where
they have to do the same."""

import itertools
import weakref
from importlib import import_module
from itertools import pairwise

import numpy as np
import pytest
import torch
from test_cells import (
    NAMES,
    arrays,
    cases,
    chunks_equal_whole,
    close,
    detached,
    every_case,
    every_size,
    gradients,
    over,
    tensors,
    unrolled,
)

from charrnn import cells
from charrnn.cells import base
from charrnn.cells.base import Cell, exp, log_sigmoid, maximum, relu, sigmoid, softplus, sqrt, tanh, where
from charrnn.cells.trace import Symbol, evaluate, ordered
from charrnn.cells.zoneout import Zoneout
from charrnn.engine import compiled, generic, machine, products, reference
from charrnn.engine.generic import backward
from charrnn.engine.generic.cut import cut
from charrnn.engine.generic.pointwise import Calls
from charrnn.engine.generic.slopes import RULES, slopes
from charrnn.engine.products import adding, affine, product, setting

by_passes = pytest.mark.parametrize(
    "engine",
    [
        pytest.param(generic, id="generic"),
        pytest.param(compiled, id="compiled", marks=pytest.mark.skipif(machine.trouble() != "", reason="no llvmlite")),
    ],
)


@pytest.fixture(params=[1 << 19, 60], ids=["one block", "many blocks"])
def blocks(request, monkeypatch):
    """The backward pass over all steps at once, and in blocks of a few."""
    monkeypatch.setattr(backward, "BLOCK", request.param)


def equals_reference(engine, case, drawn, tolerance):
    mine, law = (unrolled(one, case.cell(), drawn, case.n) for one in (engine, reference))
    close(detached(mine), detached(law), tolerance, str(case))
    close(gradients(mine, drawn), gradients(law, drawn), tolerance, str(case))


@every_case
def test_it_equals_the_reference(case, blocks):
    equals_reference(generic, case, tensors(arrays(case, 7), gradients=True), 1e-10)


@by_passes
@over(cases(sizes=((16, 32),)))
def test_it_equals_the_reference_in_float32(engine, case):
    """Products go through oneDNN there; 1e-4 because sums of 7 steps and 32 units are rounded to 24 bits."""
    drawn = {name: 0.3 * torch.tensor(a, dtype=torch.float32) for name, a in arrays(case, 7).items()}
    if "state.t" in drawn:
        drawn["state.t"] = torch.tensor(arrays(case, 7)["state.t"], dtype=torch.float32)
    drawn = {name: a.requires_grad_(name != "state.t") for name, a in drawn.items()}
    equals_reference(engine, case, drawn, 1e-4)


@pytest.mark.parametrize("small", [0, products.SMALL])
@pytest.mark.parametrize("columns", [1, 2, 15, 16, 40])
@pytest.mark.parametrize("transposed", [False, True])
def test_products_of_all_widths(small, columns, transposed, monkeypatch):
    """Narrow, by torch, by oneDNN: the same product, made, put or added."""
    monkeypatch.setattr(products, "SMALL", small)
    rows = 200
    random = np.random.default_rng(columns)
    a, b = (random.normal(size=shape).astype(np.float32) for shape in ((rows, 300), (300, columns)))
    law = a.astype(float) @ b
    left, right = torch.from_numpy(a), torch.from_numpy(b.T.copy()).t() if transposed else torch.from_numpy(b)
    put, added = torch.full((rows, columns), 5.0), torch.full((rows, columns), 5.0)
    setting(left, columns, put.dtype)(left, right, put)
    adding(left, columns, added.dtype)(left, right, added)
    for found, expected in ((product(left, right), law), (put, law), (added, law + 5)):
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize(
    ("name", "large"),
    [
        *itertools.product(["lstm", "gru-cho", "mogrifier"], [True, False]),
        ("mut1", True),
    ],  # whose raw input is projected
)
def test_mixed_precision_rounds_the_large_products_alone(name, large, monkeypatch):
    """Within 0.05, since bfloat16 has 8 bits; states stay float32, and gradients come in the weights' precision."""
    monkeypatch.setattr(products, "COARSE", 0 if large else 10**9)
    case = cases([name], sizes=((16, 32),))[0]
    drawn = {k: torch.tensor(0.3 * a, dtype=torch.float32).requires_grad_() for k, a in arrays(case, 7).items()}
    exact = unrolled(generic, case.cell(), drawn, case.n)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = unrolled(generic, case.cell(), drawn, case.n)
    assert all(a.dtype == torch.float32 for a in mixed.values())
    assert torch.equal(mixed["up.h"], exact["up.h"]) != large
    close(detached(mixed), detached(exact), 0.05, str(case))
    mine, law = gradients(mixed, drawn), gradients(exact, drawn)
    for key in mine:
        assert large or torch.equal(mine[key], law[key])
        error = (mine[key] - law[key]).norm() / law[key].norm()
        assert mine[key].dtype == torch.float32 and error < 0.05, (key, error)


@by_passes
@every_size
def test_chunks_equal_the_whole(engine, case):
    chunks_equal_whole(engine, case, torch.tensor)


@by_passes
@every_size
def test_without_gradients_the_values_are_the_same(engine, case):
    drawn = tensors(arrays(case, 6), gradients=True)
    kept = unrolled(engine, case.cell(), drawn, case.n)
    with torch.no_grad():
        close(unrolled(engine, case.cell(), drawn, case.n), detached(kept), 0.0, str(case))


@by_passes
@every_size
def test_gradients_are_finite_from_the_initial_state(engine, case):
    drawn = tensors(arrays(case, 3, "initial"), gradients=True)
    outputs = unrolled(engine, case.cell(), drawn, case.n)
    for name, gradient in gradients({k: a for k, a in outputs.items() if k[:2] == "up"}, drawn).items():
        assert gradient.isfinite().all(), name


@by_passes
def test_only_the_gradients_that_are_wanted(engine):
    """The input of the first layer, or frozen weights, need none."""
    case = cases(["lstm"])[0]
    drawn = tensors(arrays(case, 5))
    drawn["U.i"].requires_grad_()
    mine, law = (gradients(unrolled(one, case.cell(), drawn, case.n), drawn) for one in (engine, reference))
    assert set(mine) == {"U.i"}
    close(mine, law, 1e-12)


@by_passes
@pytest.mark.parametrize("backwards", [False, True])
def test_what_a_pass_kept_goes_with_its_results(engine, backwards, monkeypatch):
    """Without waiting for the collector of circles, which does not see those of autograd."""
    made, case = [], cases(["peephole"])[0]
    room = generic if engine is generic else import_module("charrnn.engine.compiled.unrolled")

    class Watched(room.Forward):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(weakref.ref(self))

    monkeypatch.setattr(room, "Forward", Watched)
    drawn = tensors(arrays(case, 5), gradients=True)
    results = unrolled(engine, case.cell(), drawn, case.n)
    assert made[0]() is not None
    if backwards:
        results["up.h"].sum().backward()
    del results
    assert made[0]() is None


def test_one_lane_and_one_step():
    case = cases(["gru"])[0]
    drawn = {k: a[:1, :1] if k == "x" else a[:1] if k == "state.h" else a for k, a in arrays(case, 1).items()}
    equals_reference(generic, case, {k: torch.tensor(a).requires_grad_() for k, a in drawn.items()}, 1e-12)


def test_it_refuses_what_is_no_tensor():
    assert "torch tensors" in generic.refuses(cells.make("lstm"), np.zeros(1))
    assert not generic.refuses(cells.make("lstm"), torch.zeros(1))


# ---- the cut


def rows(name):
    return [(row.gate, [matrix for _, matrix in row.terms]) for row in cut(cells.make(name)).rows]


def test_sums_become_rows():
    assert rows("lstm") == [("g", ["g"]), ("f", ["f"]), ("i", ["i"]), ("o", ["o"])]  # sigmoids side by side
    assert rows("gru") == [("n", []), ("z", ["z"]), ("r", ["r"]), ("", ["n"])]  # n is gated between the two
    assert sorted(rows("sru")) == [("f", []), ("r", []), ("u", [])]
    assert ("i", ["i", "i_i", "f_i", "o_i"]) in rows("fgr")


def test_what_vectors_alone_decide_is_computed_once():
    """The bound of indrnn and the decay of rg-lru; no step reads the vector itself."""
    for name, vector, made in [
        ("indrnn", "v.u", "where(>=(v.u, 1), 1.0, where(>=(-(0, v.u), 1), -1.0, v.u))"),
        ("rg-lru", "v.decay", "*(-8, softplus(v.decay))"),
    ]:
        found = cut(cells.make(name))
        assert [repr(symbol) for symbol in found.fixed.values()] == [made]
        assert "fixed.0" in found.named and vector not in found.named


def test_events_follow_what_they_need():
    found = cut(cells.make("gru-cho"))
    kinds = [kind for kind, _ in found.events]
    assert kinds == ["product", "node", "product", "node"]  # h into r and z, r * h, that into n, the new h
    assert found.events[1][1].symbol is found.events[2][1] and found.events[3][1] is found.state["h"]


@pytest.mark.parametrize("name", NAMES)
def test_what_lies_together_is_contiguous(name):
    """No cell of ours wants more than two products for one left side."""
    cell = cells.make(name)
    size = {row.symbol: (k, k + 1) for k, row in enumerate(cut(cell).rows)}
    for left, fed in cut(cell).lefts.items():
        places = sorted(size[row.symbol] for row in fed)
        assert sum(a[1] != b[0] for a, b in pairwise(places)) <= 1, (name, left)


class Twins(Cell):
    """Two states with one value, one that only moves on, and one that is the input: nothing that any paper has."""

    gates, state, up = "a b", "h c d e", "y h"

    def step(self, x, U, v, h, c, d, e):
        a = tanh(x.a + h @ U.a + c @ U.a2 + v.a * d)
        y = (1 - sigmoid(a)) * h + sigmoid(a) * x.raw
        return y, a, a, c, x.b


@by_passes
@pytest.mark.parametrize("m", [3, 4])
def test_whatever_a_person_writes(engine, m, blocks):
    random, cell = np.random.default_rng(3), Twins()
    shapes = {"W.a": (m, 4), "b.a": (4,), "W.b": (m, 4), "b.b": (4,), "U.a": (4, 4), "U.a2": (4, 4), "v.a": (4,)}
    shapes |= {"W.raw": (m, 4)} if m != 4 else {}
    shapes |= {"x": (6, 2, m)} | {f"state.{name}": (2, 4) for name in "hcde"}
    drawn = {name: torch.tensor(random.normal(size=shape)).requires_grad_() for name, shape in shapes.items()}
    mine, law = (unrolled(one, cell, drawn, 4) for one in (engine, reference))
    close(detached(mine), detached(law), 1e-12)
    close(gradients(mine, drawn), gradients(law, drawn), 1e-12)


@by_passes
@pytest.mark.parametrize("drawn", [True, False])
@pytest.mark.parametrize("name", ["lstm", "gru-cho", "depth-gated", "sru"])
def test_zoneout(engine, name, drawn):
    """With what is drawn in training, and without, as in evaluation."""
    case = cases([name])[0]
    cell, given = Zoneout(case.cell(), 0.3), arrays(case, 5)
    for state in cell.regularised if drawn else ():
        given[f"below.zoneout_{state}"] = np.random.default_rng(2).choice([0.7, -0.3], (5, 2, case.n))
    given = {k: torch.tensor(a).requires_grad_("zoneout" not in k) for k, a in given.items()}
    mine, law = (unrolled(one, cell, given, case.n) for one in (engine, reference))
    close(detached(mine), detached(law), 1e-12)
    close(gradients(mine, given), gradients(law, given), 1e-12)


# ---- arithmetic into buffers


def leaf(name):
    return Symbol("leaf", name)


def uses(*symbols):
    counts, waiting = {}, list(symbols)
    while waiting:
        for a in waiting.pop().inputs:
            counts[a] = counts.get(a, 0) + 1
            waiting += [a] if counts[a] == 1 else []
    return counts


def computed(symbol, values):
    """What calls give at two steps; the values at the second are twice those at the first."""
    like = torch.zeros(1, dtype=torch.float64)
    calls = Calls(like, uses(symbol))
    calls.places = {name: [a, 2 * a] for name, a in values.items()}
    results = [like.new_empty(3, 2), like.new_empty(3, 2)]
    calls.compute(symbol, results)
    calls.run(2)
    return calls, results


a, b, c, z = (leaf(name) for name in "abcz")


@pytest.mark.parametrize(
    ("symbol", "count"),
    [
        (a + b * c, 1),
        (b * c + a, 1),
        ((1 - z) * a + z * b, 1),
        (z * a + (1 - z) * b, 1),
        (a + 2 * c, 2),
        ((2 - z) * a + z * b, 3),
        ((1 - z) * a + c * b, 3),
        (tanh(a) * sigmoid(b) - c / (a * a + 1), 7),
        (a % (b * b + 1), 3),
    ],
    ids=str,
)
def test_calls_do_what_the_symbols_say(symbol, count):
    random = np.random.default_rng(1)
    values = {name: torch.tensor(random.uniform(0.2, 0.9, (3, 2))) for name in (a, b, c, z)}
    before = {name: value.clone() for name, value in values.items()}
    calls, results = computed(symbol, values)
    assert len(calls.functions) == count
    for factor, result in enumerate(results, 1):
        expected = evaluate(ordered([symbol]), {repr(a): factor * value for a, value in before.items()}.get)[symbol]
        torch.testing.assert_close(result, expected, rtol=1e-14, atol=1e-14)
    for name in values:  # inputs are not written over
        assert torch.equal(values[name], before[name])


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_the_remainder_of_powers_of_two_is_exact(kind):
    """Also of what is no whole number, and below 0."""
    random, periods = np.random.default_rng(5), 2.0 ** np.arange(12)
    values = np.concatenate([random.normal(0, 10.0**e, (50, 12)) for e in range(-8, 9)])
    values = torch.tensor(
        np.concatenate([values, values.round(), periods * random.integers(0, 99, (50, 12))]), dtype=kind
    )
    period = torch.tensor(periods, dtype=kind).expand_as(values)
    for symbol, place in ((a % b, values.clone()), ((a + 0) % b, None)):  # in a place of its own, and over a's
        calls = Calls(values, uses(symbol))
        calls.places = {a: values, b: period}
        result = calls.compute(symbol, place)
        calls.run(1)
        assert torch.equal(result, torch.remainder(values, period))
        assert len(calls.functions) == 3 + (place is None)


@pytest.mark.parametrize(
    "symbol",
    [
        a + 2 * b - c, -a, 1 - a, a * a * b, 3 * a / b, 2 / (a * b), a % b, (a + 2) % (b / 3), sigmoid(a * b),
        tanh(a) * tanh(a), relu(a - b), relu(a * b) * c, exp(a - b), sqrt(a * b), log_sigmoid(a * b), softplus(a - c),
        maximum(a, b) * c, maximum(a, a * b), where(a >= b, a * c, b), where(a >= b, 2, b) * a, where(a == b, a, b * c),
        (1 - z) * a + z * b, exp(log_sigmoid(a) + maximum(b, c) - b) * tanh(c) / (1 + z),
    ],
    ids=str,
)  # fmt: skip
def test_slopes_are_those_of_autograd(symbol):
    random = np.random.default_rng(6)
    given = {name: torch.tensor(random.uniform(0.2, 0.9, (3, 2)), requires_grad=True) for name in (a, b, c, z)}
    inside = ordered([symbol])
    read = [name for name in given if name in {*inside}]
    value = evaluate(inside, {repr(name): given[name] for name in given}.get)[symbol]
    law = torch.autograd.grad(value.sum(), [given[name] for name in read], allow_unused=True)
    mine = slopes([s for s in inside if s.operator != "leaf"])
    for name, expected in zip(read, law, strict=True):
        if name not in mine:
            assert expected is None
            continue
        calls = Calls(torch.zeros(1, dtype=torch.float64), uses(mine[name]) if isinstance(mine[name], Symbol) else {})
        calls.places = {name: value.detach() for name, value in given.items()}
        found = calls.compute(mine[name])
        calls.run(1)
        torch.testing.assert_close(found.expand(3, 2), expected, rtol=1e-12, atol=1e-12)


def test_whatever_a_step_may_be_written_with_has_a_slope():
    around = {"take", "affine", "join", "stack", "normalise", "attend", "remember", "block_diagonal", "constant"}
    assert {*RULES} == {*"+-*/%", "==", ">=", "copy"} | (base.OPERATORS.keys() - around)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("N", [1, 5])
def test_product(kind, N):
    random = np.random.default_rng(4)
    a, b = random.normal(size=(6, 9)), random.normal(size=(9, N))
    result = product(torch.tensor(a, dtype=kind), torch.tensor(b, dtype=kind))
    np.testing.assert_allclose(result.numpy(), a @ b, rtol=0, atol=1e-5 if kind is torch.float32 else 1e-13)


def test_affine_is_a_product_and_a_sum():
    random = np.random.default_rng(4)
    drawn = [torch.tensor(random.normal(size=shape)).requires_grad_() for shape in ((3, 2, 5), (5, 4), (4,))]
    assert torch.autograd.gradcheck(affine, drawn)
    a, W, b = (d.detach().numpy() for d in drawn)
    np.testing.assert_allclose(affine(*drawn).detach(), a @ W + b, rtol=0, atol=1e-13)
