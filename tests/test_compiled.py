"""The compiled engine against the reference, for every cell, and the code that it is made of."""

import itertools
import sys

import numpy as np
import pytest
import torch
from test_cells import (
    arrays,
    cases,
    close,
    detached,
    every_case,
    gradients,
    tensors,
    unrolled,
)
from test_generic import equals_reference

from charrnn import cells
from charrnn.cells import base
from charrnn.engine import choose, compiled, machine, reference

pytest.importorskip("llvmlite")
from llvmlite import ir

from charrnn.engine.compiled import unrolled as passes
from charrnn.engine.machine import matmul, processor
from charrnn.engine.machine.code import INT, Code

pairs = pytest.mark.skipif(not processor.in_pairs(), reason="this processor does not multiply in bfloat16")


@pytest.fixture(params=[256, 16], ids=["one chunk", "many chunks"])
def chunks(request, monkeypatch):
    """Weight gradients of all steps at once, and of a few at a time."""
    monkeypatch.setattr(processor.Kind, "chunk", property(lambda kind: max(1, request.param // kind.lanes)))
    passes.function.cache_clear()
    yield
    passes.function.cache_clear()


@every_case
def test_it_equals_the_reference(case):
    equals_reference(compiled, case, tensors(arrays(case, 7), gradients=True), 1e-10)


@pytest.mark.parametrize("name", ["lstm", "gru", "mut1", "mogrifier", "sru", "grid", "clockwork"])
def test_it_equals_the_reference_in_chunks(name, chunks):
    for case in cases([name]):
        equals_reference(compiled, case, tensors(arrays(case, 7), gradients=True), 1e-10)


def wide(name, lanes, steps=9, m=5, n=19):
    """Inputs, a state and weights of a cell for so many lanes, in float32."""
    case, random = cases([name], sizes=((m, n),))[0], np.random.default_rng(lanes)
    drawn = arrays(case, 1)
    drawn["x"] = random.normal(size=(steps, lanes, m))
    drawn |= {k: random.normal(size=(lanes, n)) for k in drawn if k.startswith("state.")}
    return case, {k: torch.tensor(0.3 * a, dtype=torch.float32).requires_grad_() for k, a in drawn.items()}


@pytest.mark.parametrize("lanes", [1, 3, 8, 17, 33, 70])
def test_lanes_of_any_number(lanes):
    for name in ("lstm", "gru-cho"):
        case, drawn = wide(name, lanes)
        equals_reference(compiled, case, drawn, 1e-4)


@pytest.mark.parametrize("threads", [2, 3, 5])
@pytest.mark.parametrize("openmp", [True, False])
def test_threads_do_not_change_what_goes_up(threads, openmp, monkeypatch):
    """Not by a bit, however the lanes are cut; gradients of weights are sums over the blocks, in another order."""
    if not openmp:
        monkeypatch.setattr(processor, "openmp", lambda: None)
        monkeypatch.setattr(passes, "function", passes.function.__wrapped__)
    case, drawn = wide("gru", 70)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    one = unrolled(compiled, case.cell(), drawn, case.n)
    law = gradients(one, drawn)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    several = unrolled(compiled, case.cell(), drawn, case.n)
    close(detached(several), detached(one), 0.0)
    found = gradients(several, drawn)
    close({"x": found["x"]}, {"x": law["x"]}, 0.0)
    close(found, law, 1e-4)


@pairs
@pytest.mark.parametrize("name", ["lstm", "gru-cho", "mogrifier", "mut1", "grid"])
def test_mixed_precision_rounds_what_is_multiplied(name):
    """Within 0.05, since bfloat16 has 8 bits; states stay float32, and gradients come in the weights' precision."""
    case = cases([name], sizes=((16, 32),))[0]
    drawn = {k: torch.tensor(0.3 * a, dtype=torch.float32).requires_grad_() for k, a in arrays(case, 7).items()}
    exact = unrolled(compiled, case.cell(), drawn, case.n)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = unrolled(compiled, case.cell(), drawn, case.n)
    assert all(a.dtype == torch.float32 for a in mixed.values())
    assert not any(torch.equal(mixed[key], exact[key]) for key in mixed)
    close(detached(mixed), detached(exact), 0.05, str(case))
    mine, law = gradients(mixed, drawn), gradients(exact, drawn)
    for key in [key for key in mine if law[key].any()]:  # where nothing is below, not all matter
        error = (mine[key] - law[key]).norm() / law[key].norm()
        assert mine[key].dtype == torch.float32 and error < 0.02, (key, error)


@every_case
def test_a_single_lane_without_gradients(case):
    """There the vectors are of units."""
    one = {
        k: a[:, :1] if k == "x" or k.startswith("below") else a[:1] if k[:5] == "state" else a
        for k, a in arrays(case, 7).items()
    }
    with torch.no_grad():
        mine, law = (unrolled(engine, case.cell(), tensors(one), case.n) for engine in (compiled, reference))
    close(detached(mine), detached(law), 1e-10, str(case))


@pytest.mark.parametrize("n", [5, 16, 37, 150])
@pytest.mark.parametrize("name", ["lstm", "gru", "mogrifier", "sru"])
def test_a_single_lane_of_any_width(name, n):
    case, drawn = wide(name, 1, n=n)
    with torch.no_grad():
        mine, law = (unrolled(engine, case.cell(), drawn, case.n) for engine in (compiled, reference))
    close(detached(mine), detached(law), 1e-5, str(case))


def test_lesser_processors_compute_the_same(lesser, monkeypatch):
    """Narrower vectors, fewer registers; the second has no instruction for a product and a sum either."""
    monkeypatch.setattr(passes, "function", passes.function.__wrapped__)
    assert processor.kind_for(64, 1) == processor.Kind(False, 8 if lesser == "haswell" else 4, 2)
    assert not processor.in_pairs()
    for name in ("lstm", "mogrifier", "slstm", "rg-lru"):
        equals_reference(compiled, *wide(name, 11, n=20), 1e-4)


def test_what_it_refuses(monkeypatch):
    """Arrays of numpy, other devices, and machines that it cannot compile for."""
    lstm, tensor = cells.make("lstm"), torch.zeros(1)
    assert not compiled.refuses(lstm, tensor)
    assert "torch tensors" in compiled.refuses(lstm, np.zeros(1))
    assert "CPU" in compiled.refuses(lstm, torch.zeros(1, device="meta"))
    monkeypatch.setitem(sys.modules, "llvmlite.binding", None)
    monkeypatch.delitem(sys.modules, "charrnn.engine.machine.processor")
    monkeypatch.delattr(machine, "processor")
    machine.trouble.cache_clear()
    assert "llvmlite" in compiled.refuses(lstm, tensor)
    assert choose("auto", cells.make("gru"), tensor)[0] == "generic"
    monkeypatch.undo()
    machine.trouble.cache_clear()
    assert not compiled.refuses(lstm, tensor)


# ---- the code


KINDS = [processor.Kind(double, width, 1) for double in (False, True) for width in (1, 2, 4, 8, 16)]


def computed(kind, function, *columns):
    """What a function of code and vectors gives for columns of numbers."""
    module = ir.Module()
    code = Code(module, "test", 1, len(columns) + 1, kind)
    length, result, *given = code.function.args
    with code.loop(INT(0), length, kind.width) as place:
        values = [code.load(code.at(a, place)) for a in given]
        code.store(function(code, *values), code.at(result, place))
    code.build.ret_void()
    call = processor.Compiled(module).function("test", 1, len(columns) + 1)
    number = np.float64 if kind.double else np.float32
    columns = [np.ascontiguousarray(a, number) for a in columns]
    result = np.empty_like(columns[0])
    call(len(result), result.ctypes.data, *(a.ctypes.data for a in columns))
    return result


SYMBOLS = {
    "exp": np.exp,
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "tanh": np.tanh,
    "relu": lambda a: np.maximum(a, 0),
    "softplus": lambda a: np.logaddexp(0, a),
    "log_sigmoid": lambda a: -np.logaddexp(0, -a),
}


@pytest.mark.parametrize("name", SYMBOLS)
@pytest.mark.parametrize("double", [False, True])
def test_functions_are_as_good_as_their_numbers(name, double):
    """Within 4 units of the last place, of 1 or of the value: tanh is twice a logistic function less 1."""
    kind = processor.Kind(double, 8, 1)
    limit = 85.0 if not double or name == "exp" else 700.0
    a = np.concatenate([np.linspace(-limit, limit, 40_000), np.linspace(-2, 2, 40_000), [0.0, -0.0, 1e-30, -1e-30] * 2])
    a = a.astype(float if double else np.float32)
    found, law = computed(kind, lambda code, a: code.apply(name, a), a), SYMBOLS[name](a.astype(float))
    unit = np.finfo(found.dtype).eps
    error = np.abs(found - law) / (law if name == "exp" else np.maximum(np.abs(law), 1))
    assert error.max() < 4 * unit


@pytest.mark.parametrize("name", ["exp", "sigmoid", "tanh", "relu", "softplus", "log_sigmoid", "sqrt"])
def test_what_is_no_number_stays_none(name):
    for kind in KINDS:
        assert np.isnan(computed(kind, lambda code, a: code.apply(name, a), np.full(16, np.nan))).all()


def test_far_out_functions_reach_their_limits():
    far = np.array([-np.inf, -1e30, -500, -100, 100, 500, 1e30, np.inf] * 2)
    kind = processor.Kind(False, 16, 1)
    run = lambda name: computed(kind, lambda code, a: code.apply(name, a), far)[:8]  # noqa: E731
    np.testing.assert_allclose(run("sigmoid"), [0, 0, 0, 0, 1, 1, 1, 1], atol=1e-30)
    assert (run("tanh") == [-1, -1, -1, -1, 1, 1, 1, 1]).all()
    np.testing.assert_allclose(run("softplus"), [0, 0, 0, 0, 100, 500, 1e30, np.inf], atol=1e-30)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_arithmetic_is_that_of_the_operators(kind):
    random = np.random.default_rng(1)
    number = np.float64 if kind.double else np.float32
    a, b = random.normal(size=32).astype(number), random.normal(size=32).astype(number)
    b[:4] = a[:4]
    for name, law in {
        "+": a + b, "-": a - b, "*": a * b, "/": a / b, "%": a - np.floor(a / b) * b, "maximum": np.maximum(a, b),
        "sigmoid slope": a * b * (1 - b), "tanh slope": a * (1 - b * b), "sqrt": np.sqrt(np.abs(a)),
    }.items():  # fmt: skip
        if name == "sqrt":
            found = computed(kind, lambda code, a, b: code.apply("sqrt", code.apply("maximum", a, b)), np.abs(a), a)
        else:
            found = computed(kind, lambda code, a, b: code.apply(name, a, b), a, b)  # noqa: B023
        np.testing.assert_allclose(found, law, rtol=1e-6 if not kind.double else 1e-14, atol=1e-6, err_msg=name)
    for name, law in {"==": a == b, ">=": a >= b}.items():
        chosen = lambda code, a, b: code.apply("where", code.apply(name, a, b), 1.0, code.apply("*", a, 0.5))  # noqa: B023,E731
        np.testing.assert_array_equal(computed(kind, chosen, a, b), np.where(law, 1, a * number(0.5)))


def test_all_operators_of_a_step_are_there():
    """But for those of the stack around the cells."""
    around = {"take", "affine", "join", "stack", "normalise", "attend", "remember", "block_diagonal", "constant"}
    code = Code(ir.Module(), "test", 0, 0, processor.Kind(False, 4, 1))
    a, condition = code.spread(1.0), code.apply(">=", code.spread(1.0), code.spread(2.0))
    for name in base.OPERATORS.keys() - around:
        arguments = {"where": [condition, a, a], "maximum": [a, a]}.get(name, [a])
        assert code.apply(name, *arguments) is not None


def function(module, name, integers, pointers):
    """A function of a module, to be called with numbers and tensors."""
    call = processor.Compiled(module).function(name, integers, pointers)
    return lambda *given: call(*(a.data_ptr() if isinstance(a, torch.Tensor) else a for a in given))


def pack(matrix, tall, mixed=False):
    """As `packed`, in one row; in pairs of bfloat16 where it is mixed."""
    if mixed:
        matrix = torch.nn.functional.pad(matrix, (0, matrix.shape[1] % 2)).bfloat16().contiguous().view(torch.int32)
    return torch.cat(matmul.packed(matrix, tall))


def exported(function):
    """A function of a module that can be found from without."""
    function.linkage = ""


@pytest.mark.parametrize("kind", [k for k in KINDS if k.width > 1], ids=str)
@pytest.mark.parametrize(("M", "K"), [(1, 1), (7, 5), (16, 3), (37, 20)])
def test_products(kind, M, K):
    random, number = np.random.default_rng(M), torch.float64 if kind.double else torch.float32
    for vectors, tall in itertools.product((1, 2), (2, 8)):
        lanes, module = kind.width * vectors, ir.Module()
        a, b = (torch.tensor(random.normal(size=size), dtype=number) for size in ((M, K), (K, lanes + 3)))
        exported(matmul.product(module, "set", False, kind, vectors, tall))
        exported(matmul.product(module, "add", True, kind, vectors, tall))
        for name, start in (("set", 0.0), ("add", 5.0)):
            out = torch.full((M, lanes + 1), 5.0, dtype=number)
            function(module, name, 4, 3)(M, K, lanes + 3, lanes + 1, pack(a, tall), b, out)
            torch.testing.assert_close(out[:, :lanes], a @ b[:, :lanes] + start, rtol=1e-5, atol=1e-5)
            assert (out[:, lanes] == 5.0).all()  # what lies beside is left alone


def rounded(a):
    return a.bfloat16().float()


@pairs
@pytest.mark.parametrize("width", [4, 8, 16])
@pytest.mark.parametrize(("M", "K"), [(1, 1), (7, 5), (37, 20)])
def test_products_of_pairs(width, M, K):
    """What is multiplied is rounded to bfloat16, the sums are float32; a row that has no other goes with 0."""
    random, kind, module = np.random.default_rng(M), processor.Kind(False, width, 2, True), ir.Module()
    a, b = (torch.tensor(random.normal(size=size), dtype=torch.float32) for size in ((M, K), (K, 2 * width + 3)))
    exported(matmul.product(module, "set", False, kind, 2, 8))
    exported(matmul.halves(module, "halves", kind))
    together, out = torch.full((-(-K // 2) * 2 * width,), torch.nan), torch.empty(M, 2 * width)
    function(module, "halves", 2, 2)(K, 2 * width + 3, b, together)
    function(module, "set", 4, 3)(M, -(-K // 2), 2 * width, 2 * width, pack(a, 8, True), together, out)
    torch.testing.assert_close(out, rounded(a) @ rounded(b)[:, : 2 * width], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize(("M", "K"), [(1, 1), (7, 5), (16, 3), (77, 20), (128, 9)])
def test_products_for_a_single_lane(double, M, K):
    random, kind, module = np.random.default_rng(M), processor.kind_alone(double), ir.Module()
    number = torch.float64 if double else torch.float32
    a, b = (torch.tensor(random.normal(size=size), dtype=number) for size in ((M, K), (K,)))
    packed = pack(torch.nn.functional.pad(a, (0, 0, 0, -M % kind.tall)), kind.tall)
    exported(matmul.alone(module, "set", False, kind))
    exported(matmul.alone(module, "add", True, kind))
    for name, start in (("set", 0.0), ("add", 5.0)):
        out = torch.full((M + 1,), 5.0, dtype=number)
        function(module, name, 4, 3)(M, K, 1, 1, packed, b, out)
        torch.testing.assert_close(out[:M], a @ b + start, rtol=1e-5, atol=1e-5)
        assert out[M] == 5.0  # what lies behind is left alone


@pytest.mark.parametrize("kind", [*KINDS, pytest.param(processor.Kind(False, 8, 2, True), marks=pairs)], ids=str)
def test_panels_are_a_packed_matrix(kind):
    """Rows beyond the last are the last once more."""
    rows, steps, lanes, module = 2 * kind.width + 1, 3, kind.lanes, ir.Module()
    source = torch.arange(steps * (rows + 1) * (lanes + 2), dtype=torch.float64 if kind.double else torch.float32)
    source = source.view(steps, rows + 1, lanes + 2)
    exported(matmul.panels(module, "panels", kind))
    whole = -(-rows // kind.width) * kind.width
    target = source.new_empty(whole * steps * lanes // kind.together)
    function(module, "panels", 4, 2)(rows, source.stride(0), source.stride(1), steps, source, target)
    matrix = source[:, :rows, :lanes].transpose(0, 1).reshape(rows, -1)
    matrix = torch.cat([matrix, matrix[-1:].expand(whole - rows, -1)])
    assert torch.equal(target.view(torch.int32), pack(matrix, kind.width, kind.mixed).view(torch.int32))


def test_blocks_fit_lanes_and_threads(monkeypatch):
    monkeypatch.setattr(processor, "_widest", lambda: 64)
    found = {given: processor.kind_for(*given).lanes for given in ((64, 2), (50, 2), (16, 2), (4, 1), (64, 8))}
    assert found == {(64, 2): 32, (50, 2): 32, (16, 2): 8, (4, 1): 8, (64, 8): 8}
    assert processor.kind_for(64, 2, double=True).lanes == 16
