"""Every cell against its oracle, every engine against the reference, and what the trace tells about a cell.

The tests run over whatever cells the folder holds: a new cell is registered nowhere, but it fails here, by name, until
it has an oracle in tests/oracles.py and a count in COUNTS.
"""

import ast
import inspect
import math
import re
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import oracles
import pytest
import torch

from charrnn import cells
from charrnn.cells.base import OPERATORS, Cell, Names, advance, relu, sigmoid, tanh
from charrnn.cells.trace import formula, parameters, trace
from charrnn.engine import (
    _fastest_first,
    bind,
    choose,
    compiled,
    generic,
    native,
    on_numpy,  # noqa: F401  teaches the operators numpy arrays
    on_torch,  # noqa: F401  and torch tensors
    reference,
)
from charrnn.errors import UsageError
from charrnn.model import Model, mask_count

NAMES = list(cells.classes())
SETTINGS = {  # small enough for n = 4, and each branch of a step; other cells run with their defaults
    "rnn": [{"activation": "tanh"}, {"activation": "relu"}],
    "clockwork": [{"modules": 2}, {"modules": 4}],
    "slstm": [{"heads": 2}],
    "mogrifier": [{"rounds": 5, "rank": 2}, {"rounds": 0, "rank": 1}],
    "sru": [{}, {"scale": 1.5}],
    "rhn": [{"depth": 1}, {"depth": 3}],
    "janet": [{}, {"beta": 0.25}],
    "rg-lru": [{"blocks": 1}, {"blocks": 2}],
    "cifg": [{"peepholes": 0}, {"peepholes": 1}],
}
B = 2


@pytest.fixture(scope="module", autouse=True)
def one_thread():  # the arrays hold a few numbers
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Case:
    """A cell with settings, in a layer, with sizes, with or without a layer below."""

    name: str
    settings: tuple
    layer: int
    m: int
    n: int
    below: bool

    def __str__(self):
        parts = [self.name, *(f"{key}={value}" for key, value in self.settings), f"{self.m}x{self.n}"]
        return "-".join(parts + ["first"] * (self.layer == 0) + ["below"] * self.below)

    def cell(self, kind=None):
        """The cell; of another class than the one of that name where `kind` is given."""
        return (kind or cells.classes()[self.name])(**dict(self.settings)).at(self.layer)


def cases(names=NAMES, sizes=((3, 4), (4, 4))):
    found = []
    for name in names:
        for settings in SETTINGS.get(name, [{}]):
            cell = cells.make(name, settings)
            for layer in (0, 1) if cell.at(0) != cell.at(1) else (1,):
                for below in (False, True) if trace(cell.at(layer)).below else (False,):
                    found += [Case(name, tuple(settings.items()), layer, m, n, below) for m, n in sizes]
    return found


def over(found):
    return pytest.mark.parametrize("case", found, ids=str)


every_case = over(cases())
every_size = over(cases(sizes=((3, 4),)))
native_cases = over([c for c in cases() if not native.refuses(c.cell(), torch.zeros(1))])
every_cell = pytest.mark.parametrize("name", NAMES)


def nonzero(random, *shape):
    return random.uniform(0.2, 0.9, shape) * random.choice([-1.0, 1.0], shape)


def arrays(case, T, start="random"):
    """Random inputs, none of them zero: weights, x (T, B, m), below (T, B, n) and the state (B, n), by full name."""
    random, cell = np.random.default_rng(11), case.cell()
    drawn = {name: nonzero(random, *shape) for name, shape in parameters(cell, case.m, case.n).items()}
    if case.name == "indrnn":
        drawn["v.u"] *= 3  # some beyond the bound, on either side
    if case.name == "rg-lru":
        drawn["v.decay"][0] = -40.0  # a memory that does not fade at all
    drawn["x"] = nonzero(random, T, B, case.m)
    for name in trace(cell).below if case.below else []:
        drawn[f"below.{name}"] = nonzero(random, T, B, case.n)
    for name in cell.states:
        state = nonzero(random, B, case.n)
        if start == "initial":
            state = np.full((B, case.n), cell.initial().get(name, 0.0))
        elif (case.name, name) == ("slstm", "n"):  # a sum of exponentials
            state = abs(state)
        elif (case.name, name) == ("clockwork", "t"):  # whole numbers, the same for all units
            state = np.repeat(np.arange(1.0, B + 1)[:, None] % 2 ** (dict(case.settings)["modules"] - 1), case.n, 1)
        drawn[f"state.{name}"] = state
    return drawn


def part(drawn, family):
    """{"state.h": array} -> {"h": array}."""
    return {name.split(".", 1)[1]: array for name, array in drawn.items() if name.startswith(f"{family}.")}


def bound(cell, drawn, n):
    return bind(cell, {name: array for name, array in drawn.items() if name[:2] in ("W.", "b.", "U.", "v.")}, n)


def unrolled(engine, cell, drawn, n):
    """An engine's outputs and states by full name."""
    up, state = engine.unroll(cell, bound(cell, drawn, n), drawn["x"], part(drawn, "below"), part(drawn, "state"))
    return {f"up.{name}": up[name] for name in up} | {f"state.{name}": state[name] for name in state}


def tensors(drawn, gradients=False):
    return {name: torch.tensor(array).requires_grad_(gradients and name != "state.t") for name, array in drawn.items()}


def close(a, b, tolerance, what=""):
    assert set(a) == set(b), f"{what}: {sorted(a)} and {sorted(b)}"
    for name in a:
        mine, other = np.asarray(a[name]), np.asarray(b[name])
        np.testing.assert_allclose(mine, other, rtol=0, atol=tolerance, err_msg=f"{what} {name}")


# The law: equations


def equals_oracle(case, kind=None, start="random", library=np.asarray, T=5):
    """T steps of the reference engine equal the oracle, all that goes up and all states, to 1e-12.

    `kind` puts another class in the place of the cell's own: tests/mutate_cells.py hands in wrong ones.
    """
    step, settings = oracles.oracle(case.name, case.layer), dict(case.settings)
    drawn, cell = arrays(case, T, start), case.cell(kind)
    listed = {name: array.tolist() for name, array in drawn.items()}
    drawn = {name: library(array) for name, array in drawn.items()}
    p, state, below = bound(cell, drawn, case.n), part(drawn, "state"), part(drawn, "below")
    lanes = [{name: values[lane] for name, values in part(listed, "state").items()} for lane in range(B)]
    for t in range(T):
        up, state = reference.step(cell, p, drawn["x"][t], {name: a[t] for name, a in below.items()}, state)
        for lane in range(B):
            lower = {name: values[t][lane] for name, values in part(listed, "below").items()}
            expected, lanes[lane] = step(listed, listed["x"][t][lane], lower, lanes[lane], **settings)
            close({name: a[lane] for name, a in up.items()}, expected, 1e-12, f"{case}, step {t}, up")
            close({name: a[lane] for name, a in state.items()}, lanes[lane], 1e-12, f"{case}, step {t}, state")
    assert next(iter(up)) == next(iter(expected)), "the output goes up first"


@every_cell
def test_every_cell_has_an_oracle(name):
    assert oracles.oracle(name, 0) and oracles.oracle(name, 1)
    assert name in COUNTS, f"the cell {name} has no parameter count in tests/test_cells.py"


@every_cell
def test_states_start_as_the_paper_says(name):
    assert cells.make(name).initial() == oracles.INITIAL.get(name, {})


def test_a_cell_without_oracle_fails_by_name():
    with pytest.raises(AssertionError, match="the cell brand-new has no oracle"):
        oracles.oracle("brand-new", 1)


def test_oracles_share_nothing_with_the_code():
    imports = [node for node in ast.walk(ast.parse(inspect.getsource(oracles))) if "Import" in type(node).__name__]
    assert [ast.unparse(node) for node in imports] == ["import math"]


@pytest.mark.parametrize("start", ["random", "initial"])
@pytest.mark.parametrize("library", [np.asarray, torch.tensor], ids=["numpy", "torch"])
@every_case
def test_a_step_equals_the_oracle(case, library, start):
    equals_oracle(case, start=start, library=library)


def test_wrong_equations_are_caught():
    """The LSTM mutated in every way that mutate_cells.py knows; that script does the same for all cells."""
    import mutate_cells  # which imports this file

    judged = mutate_cells.judge("lstm")
    assert len(judged) > 120
    assert [(mutation, line) for mutation, line, error in judged if error is None] == []


@pytest.mark.parametrize("array", [np.asarray, torch.tensor], ids=["numpy", "torch"])
def test_operators(array):
    numbers = [-800.0, -30.0, -1.0, -0.0, 0.5, 30.0, 700.0]
    logistic = [1 / (1 + math.exp(-a)) if a > -700 else 0.0 for a in numbers]
    expected = {
        "sigmoid": logistic,
        "tanh": [math.tanh(a) for a in numbers],
        "relu": [max(a, 0.0) for a in numbers],
        "exp": [math.exp(a) for a in numbers],
        "sqrt": [math.sqrt(abs(a)) for a in numbers],
        "log_sigmoid": [-math.log1p(math.exp(-a)) if a > -700 else a for a in numbers],
        "softplus": [math.log1p(math.exp(a)) if a < 700 else a for a in numbers],
    }
    for name, values in expected.items():
        given = array(np.asarray(numbers))
        result = OPERATORS[name](abs(given) if name == "sqrt" else given)
        np.testing.assert_allclose(np.asarray(result), values, rtol=1e-14, atol=1e-15, err_msg=name)
    a, b = array(np.asarray([1.0, 5.0])), array(np.asarray([3.0, 2.0]))
    assert OPERATORS["maximum"](a, b).tolist() == [3.0, 5.0]
    assert OPERATORS["where"](a >= b, a, b).tolist() == [3.0, 5.0]
    rows = [[1.0, 2.0, 6.0], [5.0, 5.0, 5.0]]
    expected = [[(number - 3) / math.sqrt(14 / 3 + 1e-5) for number in rows[0]], [0.0, 0.0, 0.0]]
    np.testing.assert_allclose(OPERATORS["normalise"](array(np.asarray(rows))), expected, rtol=0, atol=1e-14)


# Engines


@every_size
def test_unroll_equals_steps(case):
    T, drawn, cell = 4, arrays(case, 4), case.cell()
    p, state, ups = bound(cell, drawn, case.n), part(drawn, "state"), []
    for t in range(T):
        below = {name: array[t] for name, array in part(drawn, "below").items()}
        up, state = reference.step(cell, p, drawn["x"][t], below, state)
        ups.append(up)
    stepped = {f"up.{name}": np.stack([up[name] for up in ups]) for name in cell.ups}
    stepped |= {f"state.{name}": array for name, array in state.items()}
    close(unrolled(reference, cell, drawn, case.n), stepped, 1e-12, str(case))


def chunks_equal_whole(engine, case, library):
    drawn, cell = {name: library(array) for name, array in arrays(case, 6).items()}, case.cell()
    whole, pieces, state = unrolled(engine, cell, drawn, case.n), [], part(drawn, "state")
    for t in (0, 2, 4):
        piece = {name: array[t : t + 2] for name, array in drawn.items() if name == "x" or name.startswith("below.")}
        piece |= {f"state.{name}": array for name, array in state.items()}
        pieces.append(unrolled(engine, cell, drawn | piece, case.n))
        state = part(pieces[-1], "state")
    joined = {f"up.{name}": np.concatenate([piece[f"up.{name}"] for piece in pieces]) for name in part(whole, "up")}
    close(whole, joined | {f"state.{name}": array for name, array in state.items()}, 1e-12, str(case))


@pytest.mark.parametrize("library", [np.asarray, torch.tensor], ids=["numpy", "torch"])
@every_size
def test_chunks_equal_the_whole(case, library):
    chunks_equal_whole(reference, case, library)


@native_cases
def test_chunks_equal_the_whole_natively(case):
    chunks_equal_whole(native, case, torch.tensor)


def gradients(outputs, drawn):
    """The gradients of a fixed random mix of all outputs."""
    random = np.random.default_rng(5)
    total = sum((outputs[name] * torch.tensor(random.normal(size=outputs[name].shape))).sum() for name in outputs)
    leaves = {name: array for name, array in drawn.items() if array.requires_grad}
    return dict(zip(leaves, torch.autograd.grad(total, leaves.values(), materialize_grads=True), strict=True))


def detached(named):
    return {name: array.detach() for name, array in named.items()}


def test_native_knows_its_cells():
    assert {c.name for c in cases() if not native.refuses(c.cell(), torch.zeros(1))} == {"lstm", "gru", "rnn"}


@native_cases
def test_native_equals_reference(case):
    drawn, cell = tensors(arrays(case, 7), gradients=True), case.cell()
    mine, law = (unrolled(engine, cell, drawn, case.n) for engine in (native, reference))
    close(detached(mine), detached(law), 1e-10, str(case))
    close(gradients(mine, drawn), gradients(law, drawn), 1e-10, str(case))


@every_size
def test_gradients_are_finite_from_the_initial_state(case):
    drawn, cell = tensors(arrays(case, 3, "initial"), gradients=True), case.cell()
    outputs = {name: array for name, array in unrolled(reference, cell, drawn, case.n).items() if name[:2] == "up"}
    for name, gradient in gradients(outputs, drawn).items():
        assert gradient.isfinite().all(), name


@every_size
def test_gradcheck(case):
    drawn, cell = tensors(arrays(case, 2), gradients=True), case.cell()

    def run(*leaves):
        return tuple(unrolled(reference, cell, dict(zip(drawn, leaves, strict=True)), case.n).values())

    assert torch.autograd.gradcheck(run, tuple(drawn.values()))


# torch.nn, converted here and not by the code under test

TORCH = {"lstm": (torch.nn.LSTM, "ifgo"), "gru": (torch.nn.GRU, "rzn"), "rnn": (torch.nn.RNN, "h")}


def torch_module(case):
    options = {"nonlinearity": dict(case.settings)["activation"]} if case.name == "rnn" else {}
    return TORCH[case.name][0](case.m, case.n, dtype=torch.float64, **options)


def to_torch(case, drawn):
    """Our arrays as torch.nn lays them out: gates on top of each other, (out, in), the bias twice."""
    order = TORCH[case.name][1]
    second = [drawn[f"v.{gate}"] if f"v.{gate}" in drawn else 0 * drawn[f"b.{gate}"] for gate in order]
    return {
        "weight_ih_l0": torch.cat([drawn[f"W.{gate}"].T for gate in order]),
        "weight_hh_l0": torch.cat([drawn[f"U.{gate}"].T for gate in order]),
        "bias_ih_l0": torch.cat([drawn[f"b.{gate}"] for gate in order]),
        "bias_hh_l0": torch.cat(second),
    }


def from_torch(case, weights, bias=torch.add):
    """torch.nn's arrays as ours: the two biases merged, except where the reset gate of the GRU keeps them apart."""
    order, ours = TORCH[case.name][1], {}
    for i, gate in enumerate(order):
        W, U, b, second = (weights[f"{name}_l0"][i * case.n : (i + 1) * case.n] for name in TORCH_NAMES)
        ours |= {f"W.{gate}": W.T, f"U.{gate}": U.T, f"b.{gate}": bias(b, second)}
        if (case.name, gate) == ("gru", "n"):
            ours |= {"b.n": b, "v.n": second}
    return ours


TORCH_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def equals_module(case, module, drawn):
    """Values and gradients of torch.nn's module equal the reference engine with our arrays."""
    cell, order = case.cell(), case.cell().states
    start = [drawn[f"state.{name}"][None] for name in order]
    y, end = module(drawn["x"], tuple(start) if len(start) > 1 else start[0])
    end = end if isinstance(end, tuple) else (end,)
    theirs = {"up.h": y} | {f"state.{name}": array[0] for name, array in zip(order, end, strict=True)}
    ours = unrolled(reference, cell, drawn, case.n)
    close(detached(theirs), detached(ours), 1e-10, str(case))
    named = dict(module.named_parameters())
    inputs = {name: drawn[name] for name in ["x", *(f"state.{name}" for name in order)]}
    slopes = gradients(theirs, named | inputs)
    merged = from_torch(case, slopes, bias=lambda first, second: first)
    close(merged | {name: slopes[name] for name in inputs}, gradients(ours, drawn), 1e-10, str(case))
    both = from_torch(case, slopes, bias=lambda first, second: second)
    close(merged, both, 1e-10, "one bias or the other, the slope is the same")


@over([c for c in cases() if c.name in TORCH])
def test_our_weights_in_torch_nn(case):
    module, drawn = torch_module(case), tensors(arrays(case, 6), gradients=True)
    module.load_state_dict(detached(to_torch(case, drawn)))
    equals_module(case, module, drawn)


@over([c for c in cases() if c.name in TORCH])
def test_torch_nn_weights_in_ours(case):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = torch_module(case)
    converted = {name: array.numpy() for name, array in from_torch(case, detached(module.state_dict())).items()}
    drawn = arrays(case, 6)
    assert {name: array.shape for name, array in converted.items()} == {name: drawn[name].shape for name in converted}
    equals_module(case, module, tensors(drawn | converted, gradients=True))


# Sizes


def gate(m, n):
    return n * m + n * n + n


COUNTS = {  # by hand, from the papers; above the first layer
    "rnn": lambda m, n, **_: gate(m, n),
    "lstm": lambda m, n: 4 * gate(m, n),
    "lstm-1997": lambda m, n: 3 * gate(m, n),
    "gru": lambda m, n: 3 * gate(m, n) + n,
    "gru-cho": lambda m, n: 3 * gate(m, n),
    "peephole": lambda m, n: 4 * gate(m, n) + 3 * n,
    "cifg": lambda m, n, peepholes=0: 3 * gate(m, n) + 2 * n * peepholes,
    "nig": lambda m, n: 3 * gate(m, n) + 2 * n,
    "nfg": lambda m, n: 3 * gate(m, n) + 2 * n,
    "nog": lambda m, n: 3 * gate(m, n) + 2 * n,
    "niaf": lambda m, n: 4 * gate(m, n) + 3 * n,
    "noaf": lambda m, n: 4 * gate(m, n) + 3 * n,
    "np": lambda m, n: 4 * gate(m, n),
    "fgr": lambda m, n: 4 * gate(m, n) + 3 * n + 9 * n * n,
    "mut1": lambda m, n: (n * m + n) + gate(m, n) + (n * n + n) + (n * m if m != n else 0),
    "mut2": lambda m, n: 2 * gate(m, n) + (n * n + n) + (n * m if m != n else 0),
    "mut3": lambda m, n: 3 * gate(m, n),
    "depth-gated": lambda m, n: 4 * gate(m, n) + 3 * n + n * m + n + 2 * n,
    "grid": lambda m, n: 8 * gate(m, n),
    "mogrifier": lambda m, n, rounds=5, rank=32: (
        4 * gate(m, n) + rounds * rank * (m + n) + (rounds + 1) // 2 * m + rounds // 2 * n
    ),
    "slstm": lambda m, n, heads=4: 4 * n * m + 4 * n * n // heads + 4 * n,
    "clockwork": lambda m, n, modules=8: n * m + n + n * n * (modules + 1) // (2 * modules),
    "mlstm-krause": lambda m, n: 5 * n * m + 5 * n * n + 4 * n,
    "rhn": lambda m, n, depth=5: 2 * n * m + 2 * depth * (n * n + n),
    "indrnn": lambda m, n: n * m + 2 * n,
    "janet": lambda m, n: 2 * gate(m, n),
    "mgu": lambda m, n: 2 * gate(m, n),
    "ugrnn": lambda m, n: 2 * gate(m, n),
    "qrnn": lambda m, n: 6 * n * m + 3 * n,
    "mingru": lambda m, n: 2 * n * m + 2 * n,
    "minlstm": lambda m, n: 3 * n * m + 3 * n,
    "rg-lru": lambda m, n, blocks=4: 2 * n * n // blocks + 3 * n + (n * m if m != n else 0),
    "sru": lambda m, n, **_: 3 * n * m + 4 * n + (n * m if m != n else 0),
}
FIRST_COUNTS = {"depth-gated": COUNTS["peephole"]}


@pytest.mark.parametrize(("m", "n"), [(5, 8), (8, 8), (3, 16)])
@pytest.mark.parametrize(
    "extra",
    [{}, {"clockwork": {"modules": 4}, "slstm": {"heads": 2}, "mogrifier": {"rounds": 3}, "cifg": {"peepholes": 1}}],
)
@every_cell
def test_counts(name, m, n, extra):
    settings = extra.get(name, {})
    counts = Model(name, symbols=7, embed=m, hidden=n, layers=2, settings=settings).count()
    assert counts["layer 0"] == FIRST_COUNTS.get(name, COUNTS[name])(m, n, **settings)
    assert counts["layer 1"] == COUNTS[name](n, n, **settings)
    assert (counts["embedding"], counts["head"]) == (7 * m, 2 * n * 7 + 7)


def test_a_mask_hides_what_it_does_not_count():
    cell = cells.make("clockwork", {"modules": 4})
    assert mask_count(cell, "U.h", 8, 64) == 40 and mask_count(cell, "W.h", 8, 24) == 24


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("rnn", {}, "nm + n² + n"),
        ("lstm", {}, "4nm + 4n² + 4n"),
        ("gru", {}, "3nm + 3n² + 4n"),
        ("gru-cho", {}, "3nm + 3n² + 3n"),
        ("peephole", {}, "4nm + 4n² + 7n"),
        ("lstm-1997", {}, "3nm + 3n² + 3n"),
        ("cifg", {}, "3nm + 3n² + 3n"),
        ("cifg", {"peepholes": 1}, "3nm + 3n² + 5n"),
        ("nig", {}, "3nm + 3n² + 5n"),
        ("nfg", {}, "3nm + 3n² + 5n"),
        ("nog", {}, "3nm + 3n² + 5n"),
        ("niaf", {}, "4nm + 4n² + 7n"),
        ("noaf", {}, "4nm + 4n² + 7n"),
        ("np", {}, "4nm + 4n² + 4n"),
        ("fgr", {}, "4nm + 13n² + 7n"),
        ("mut1", {}, "2nm + 2n² + 3n"),
        ("mut2", {}, "2nm + 3n² + 3n"),
        ("mut3", {}, "3nm + 3n² + 3n"),
        ("depth-gated", {}, "5nm + 4n² + 10n"),
        ("grid", {}, "8nm + 8n² + 8n"),
        ("slstm", {}, "4nm + n² + 4n"),
        ("slstm", {"heads": 2}, "4nm + 2n² + 4n"),
        ("clockwork", {}, "nm + n² (masked) + n"),
        ("mogrifier", {"rounds": 2, "rank": 3}, "4nm + 4n² + 11n + 7m"),
    ],
)
def test_formula(name, settings, text):
    assert formula(cells.make(name, settings)) == text


@every_cell
def test_the_formula_gives_the_count(name):
    cell, value, m, n = cells.make(name), 0, 5, 16
    for term in formula(cell, projected=True).removesuffix(" (masked)").replace(" (masked)", "").split(" + "):
        factor, letters = re.fullmatch(r"([\d/]*)(nm|n²|n|m)", term).groups()
        value += Fraction(factor or 1) * {"nm": n * m, "n²": n * n, "n": n, "m": m}[letters]
    assert value == sum(math.prod(shape) for shape in parameters(cell, m, n).values())


# What the trace tells


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("rnn", [["h"]]),
        ("lstm", [["i", "f", "g", "o"]]),
        ("lstm-1997", [["i", "g", "o"]]),
        ("peephole", [["i", "f", "g", "o"]]),
        ("cifg", [["i", "g", "o"]]),
        ("nig", [["f", "g", "o"]]),
        ("nfg", [["i", "g", "o"]]),
        ("nog", [["i", "f", "g"]]),
        ("niaf", [["i", "f", "g", "o"]]),
        ("noaf", [["i", "f", "g", "o"]]),
        ("np", [["i", "f", "g", "o"]]),
        ("fgr", [["i", "i_i", "f_i", "o_i", "f", "i_f", "f_f", "o_f", "g", "o", "i_o", "f_o", "o_o"]]),
        ("mut1", [["r"], ["h"]]),
        ("mut2", [["z", "r"], ["h"]]),
        ("mut3", [["z", "r"], ["h"]]),
        ("gru", [["r", "z", "n"]]),
        ("gru-cho", [["r", "z"], ["n"]]),
        ("grid", [["i", "f", "g", "o"], ["di", "df", "dg", "do"]]),
        ("slstm", [["i", "f", "z", "o"]]),
        ("sru", []),
        ("mlstm-krause", [["m"], ["i", "f", "g", "o"]]),
        ("mgu", [["f"], ["g"]]),
        ("indrnn", []),
        ("qrnn", []),
        ("mingru", []),
        ("rg-lru", []),
    ],
)
def test_stages(name, stages):
    assert trace(cells.make(name)).stages == stages


def test_the_mogrifier_has_a_stage_for_each_product_of_a_round():
    t = trace(cells.make("mogrifier", {"rounds": 2}))
    inner = [["left1"], ["right1"], ["left2", "xi", "xf", "xg", "xo"], ["right2"]]
    assert t.stages == [*inner, ["i", "f", "g", "o"]]
    assert {"i", "f", "g", "o", "c", "h", "x"} <= set(t.named)


@pytest.mark.parametrize(
    ("name", "quantities"),
    [
        ("rnn", "h"),
        ("lstm", "i f g o c h"),
        ("gru", "r z n h"),
        ("peephole", "i f g o c h"),
        ("lstm-1997", "i g o c h"),
        ("cifg", "i f g o c h"),
        ("nig", "f g o c h"),
        ("nfg", "i g o c h"),
        ("nog", "i f g c h"),
        ("niaf", "i f g o c h"),
        ("noaf", "i f g o c h"),
        ("np", "i f g o c h"),
        ("fgr", "i_now f_now g o_now c h"),
        ("mut1", "z r n h"),
        ("mut2", "z r n h"),
        ("mut3", "z r n h"),
        ("depth-gated", "i f g d o c h"),
        ("grid", "i f g o c h di df dg do dc dh"),
        ("slstm", "i f z o c n h m_now"),
        ("clockwork", "due h t"),
        ("sru", "f r c h"),
        ("mlstm-krause", "m i f g o c h"),
        ("rhn", "a t h"),
        ("indrnn", "u h"),
        ("janet", "s g f i h"),
        ("mgu", "f g h"),
        ("ugrnn", "g c h"),
        ("mingru", "z n h"),
        ("minlstm", "f i n keep h"),
        ("rg-lru", "r i log_a a h"),
    ],
)
def test_the_names_of_the_locals_are_the_names_of_the_quantities(name, quantities):
    t = trace(cells.make(name))
    assert set(t.named) == set(quantities.split())
    assert {id(symbol) for symbol in [*t.up.values(), *t.state.values()]} <= {id(s) for s in t.named.values()}


@every_cell
def test_what_a_cell_declares_exists(name):
    """What a cell declares by name exists, so that no typing error passes for a declaration."""
    for layer in (0, 1):
        cell = cells.make(name).at(layer)
        known = {f"W.{gate}" for gate in [*trace(cell).gates, "raw"]} | {f"b.{gate}" for gate in trace(cell).gates}
        known |= {f"U.{own}" for own in trace(cell).matrices} | {f"v.{own}" for own in trace(cell).vectors}
        declared = {*cell.shapes(3, 16), *cell.masks(16), *cell.constants(16), *cell.init} - {"x.raw"}
        assert declared <= known
        assert {f"b.{gate}" for gate in cell.unbiased.split()} <= known
        assert {*cell.carried.split(), *cell.counter.split(), *cell.initial()} <= set(cell.states)
        assert len(set(cell.states)) == len(cell.states) and cell.ups


class Unused(Cell):
    """Declares a gate q that its step does not use."""

    gates = "i q"

    def step(self, x, U, h):
        h = tanh(x.i + h @ U.i)
        return h


class Undeclared(Cell):
    """Uses a gate that it does not declare."""

    gates = "i"

    def step(self, x, U, h):
        h = tanh(x.i + h @ U.i) * sigmoid(x.q)
        return h


@pytest.mark.parametrize("kind", [Unused, Undeclared])
def test_gates_are_what_the_step_uses(kind):
    with pytest.raises(AssertionError, match=r"gates .* but step uses"):
        trace(kind())


@every_cell
def test_every_cell_introduces_itself(name):
    kind = cells.classes()[name]
    assert kind.name == name and re.search(r"\d{4}", kind.paper)
    assert kind.__doc__ and not kind.__doc__.startswith(f"{kind.__name__}(")  # what dataclass puts there
    assert kind.__doc__.endswith(".")


# A cell is one file


class Minimal(Cell):
    """An elementwise memory with a leak: c = f c + (1 - f) tanh(W x + b), h = relu(c) + v c."""

    name, paper = "minimal", "nobody 2000"
    gates, state, up = "f g", "c", "h"
    leak: float = 0.5

    def step(self, x, U, v, c):
        f = sigmoid(x.f + c @ U.f)
        g = tanh(x.g)
        c = self.leak * f * c + (1 - f) * g
        h = relu(c) + v.peep * c
        return h, c


def test_a_cell_is_its_equations_and_nothing_else():
    cell, case = Minimal(leak=0.25), Case("minimal", (), 1, 2, 1, False)
    assert "minimal" not in cells.classes() and formula(cell) == "2nm + n² + 3n"
    assert trace(cell).stages == [["f"]] and set(trace(cell).named) == {"f", "g", "c", "h"}
    assert parameters(cell, 2, 1).keys() == {"W.f", "b.f", "W.g", "b.g", "U.f", "v.peep"}
    drawn = {"W.f": [[0.1], [0.2]], "b.f": [0.3], "W.g": [[-0.4], [0.5]], "b.g": [0.6], "U.f": [[0.7]], "v.peep": [0.8]}
    drawn |= {"x": [[[0.9, -1.0]], [[1.1, 1.2]]], "state.c": [[1.3]]}
    c, ups = 1.3, []
    for a, b in ((0.9, -1.0), (1.1, 1.2)):
        f = 1 / (1 + math.exp(-(0.1 * a + 0.2 * b + 0.3 + 0.7 * c)))
        c = 0.25 * f * c + (1 - f) * math.tanh(-0.4 * a + 0.5 * b + 0.6)
        ups.append([[max(c, 0) + 0.8 * c]])
    for library in (np.asarray, lambda values: torch.tensor(values, dtype=torch.float64)):
        result = unrolled(reference, cell, {name: library(values) for name, values in drawn.items()}, case.n)
        close(result, {"up.h": ups, "state.c": [[c]]}, 1e-12)
    assert native.refuses(cell, torch.zeros(1))


@pytest.mark.parametrize("path", sorted(Path(cells.__file__).parent.glob("*.py")), ids=lambda path: path.stem)
def test_cells_import_no_array_library(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        for name in names:
            assert name.split(".")[0] in sys.stdlib_module_names, f"{path.name} imports {name}"


# The stack around the cells


def stacks(layers=(1, 2, 3)):
    kinds = [(name, settings) for name in NAMES for settings in SETTINGS.get(name, [{}])]
    models = [
        Model(name, symbols=5, embed=3, hidden=4, layers=count, skips=skips, settings=settings)
        for name, settings in kinds
        for count in layers
        for skips in (True, False)
    ]
    return pytest.mark.parametrize("model", models, ids=lambda m: f"{m.cell}-{m.layers}-{m.skips}-{m.settings}")


def weights_and_ids(model, T=4):
    random = np.random.default_rng(2)
    return {name: nonzero(random, *shape) for name, shape in model.shapes().items()}, random.integers(0, 5, (T, B))


@stacks()
def test_a_sampling_step_equals_a_training_step(model):
    weights, ids = weights_and_ids(model)
    p, state, rows = model.bind(weights), model.initial_state(lambda: np.zeros((B, 4))), []
    for now in ids:
        logits, state = model.forward(p, now, state, reference.step)
        rows.append(logits)
    start = model.initial_state(lambda: torch.zeros(B, 4, dtype=torch.float64))
    engine = choose("auto", model.stack[0], torch.zeros(1))[1]
    for run in {reference.unroll, engine}:
        logits, after = model.forward(model.bind(tensors(weights)), torch.tensor(ids), start, run)
        assert logits.shape == (4, B, 5)
        close({"logits": logits}, {"logits": rows}, 1e-12)
        for mine, other in zip(after, state, strict=True):
            close(mine, other, 1e-12)


@stacks(layers=(3,))
def test_the_stack_equals_its_oracles(model):
    """Embedding, layers and what they hand up, skips and head, once more in plain Python; lane 0."""
    weights, ids = weights_and_ids(model)
    state = model.initial_state(lambda: np.zeros((B, 4)))
    lane = [{name: array[0].tolist() for name, array in layer.items()} for layer in state]
    p, listed = model.bind(weights), {name: array.tolist() for name, array in weights.items()}
    for now in ids:
        logits, state = model.forward(p, now, state, reference.step)
        x, up, top = listed["embedding"][now[0]], {}, []
        for layer in range(3):
            step, own = oracles.oracle(model.cell, layer), part(part(listed, "layers"), str(layer))
            up, lane[layer] = step(own, x, up, lane[layer], **model.settings)
            x = next(iter(up.values()))
            top = top + x if model.skips else x
        expected = oracles.add(oracles.times(top, listed["head.W"]), listed["head.b"])
        close({"logits": logits[0]}, {"logits": expected}, 1e-12)


@pytest.mark.parametrize("layers", range(1, 7))
@every_cell
def test_stacks_of_any_depth_learn(name, layers):
    """Without skips, so that what reaches the embedding came down through every layer."""
    model = Model(name, 5, embed=3, hidden=4, layers=layers, skips=False, settings=SETTINGS.get(name, [{}])[0])
    fresh = model.initial_weights(np.random.default_rng(6), np.full(5, 0.2))
    weights = tensors({key: array.astype(np.float64) for key, array in fresh.items()}, gradients=True)
    ids = torch.tensor([[0, 4], [1, 3], [2, 2], [3, 1], [4, 0]])  # (T, B)

    def loss(weights):
        start = model.initial_state(lambda: torch.zeros(B, 4, dtype=torch.float64))
        logits, _ = model.forward(model.bind(weights), ids[:-1], start, reference.unroll)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[1:].flatten())

    before = loss(weights)
    slopes = dict(zip(weights, torch.autograd.grad(before, weights.values()), strict=True))
    assert before.isfinite() and all(slope.isfinite().all() for slope in slopes.values())
    assert (slopes["embedding"] != 0).any()
    with torch.no_grad():
        assert loss({key: weights[key] - 0.01 * slopes[key] for key in weights}) < before


@pytest.mark.parametrize("name", [name for name in NAMES if trace(cells.make(name).at(1)).below])
def test_what_a_layer_hands_up_is_used_in_every_layer_above(name):
    model = Model(name, symbols=5, embed=3, hidden=4, layers=6, skips=False)
    weights, ids = weights_and_ids(model)

    def logits(deaf=None):
        handed = []

        def run(cell, p, x, below, state):
            handed.append(set(below))
            return reference.unroll(cell, p, x, {} if len(handed) - 1 == deaf else below, state)

        y, _ = model.forward(model.bind(weights), ids, model.initial_state(lambda: np.zeros((B, 4))), run)
        assert handed == [set(), *(set(cell.ups[1:]) for cell in model.stack[:-1])]
        return y

    assert (logits(deaf=0) == logits()).all()
    for layer in range(1, 6):
        assert (logits(deaf=layer) != logits()).all(), layer


# Choosing


def test_auto_takes_the_fastest_that_suits():
    tensor, array = torch.zeros(1), np.zeros(1)
    assert choose("auto", cells.make("lstm"), tensor) == ("native", native.unroll)
    for name in ("grid", "gru", "rnn", "mingru"):
        assert choose("auto", cells.make(name), tensor) == ("compiled", compiled.unroll)
        assert choose("auto", cells.make(name), tensor, lanes=1)[0] == ("scan" if name == "mingru" else "generic")
        few = {"grid": "generic", "mingru": "scan"}.get(name, "native")
        assert choose("auto", cells.make(name), tensor, lanes=3)[0] == few
        assert choose("auto", cells.make(name), tensor, lanes=1, scoring=True)[0] == "compiled"
    assert choose("auto", cells.make("gru"), tensor, before="generic") == ("generic", generic.unroll)
    assert choose("auto", cells.make("grid"), tensor, before="native")[0] == "compiled"
    assert choose("auto", cells.make("grid"), tensor, before="of another version")[0] == "compiled"
    on_gpu = SimpleNamespace(device=SimpleNamespace(type="cuda"))
    assert _fastest_first(cells.make("gru"), on_gpu, 64) == ["native", "scan", "generic", "reference"]
    assert choose("auto", cells.make("lstm"), array) == ("reference", reference.unroll)
    assert choose("reference", cells.make("lstm"), tensor) == ("reference", reference.unroll)


@pytest.mark.parametrize("can", [True, False])
def test_bfloat16_is_compiled_where_the_processor_has_it(can, monkeypatch):
    monkeypatch.setattr(compiled, "multiplies_in_bfloat16", lambda: can)
    tensor = torch.zeros(1)
    for name, other in (("mingru", "scan"), ("grid", "generic")):
        chosen = choose("auto", cells.make(name), tensor, precision="bfloat16")[0]
        assert chosen == ("compiled" if can else other)
        assert choose("auto", cells.make(name), tensor)[0] == "compiled"
    if not can:
        with refused("--engine compiled", "this processor", "bfloat16"):
            choose("compiled", cells.make("gru"), tensor, precision="bfloat16")


def refused(*words):
    """The one line of a UsageError holds all these words."""
    return pytest.raises(UsageError, match="".join(f"(?=.*{re.escape(word)})" for word in words))


def test_an_engine_says_why_it_refuses():
    with refused("--engine native", "no kernel for the cell grid", "lstm", "gru", "rnn"):
        choose("native", cells.make("grid"), torch.zeros(1))
    with refused("--engine native", "torch tensors only"):
        choose("native", cells.make("lstm"), np.zeros(1))
    with refused("--engine nativ", "did you mean 'native'?", "reference"):
        choose("nativ", cells.make("lstm"), torch.zeros(1))


def test_unknown_cells_and_settings_name_the_nearest():
    with refused("--cell lstmm", "did you mean 'lstm'?", "known: ", "gru-cho"):
        cells.make("lstmm")
    with refused("--cell-opt module", "did you mean 'modules'?", "clockwork"):
        cells.make("clockwork", {"module": 4})
    with refused("--cell-opt depth", "lstm has no settings"):
        cells.make("lstm", {"depth": 4})
    with refused("--cell-opt heads=many", "slstm", "int"):
        cells.make("slstm", {"heads": "many"})
    assert cells.make("slstm", {"heads": "2"}).settings() == {"heads": 2}


@pytest.mark.parametrize(
    ("name", "n", "settings", "word"),
    [
        ("clockwork", 10, {"modules": 4}, "modules=4"),
        ("clockwork", 4, {"modules": 0}, "modules=0"),
        ("slstm", 10, {"heads": 4}, "heads=4"),
        ("slstm", 10, {"heads": 0}, "heads=0"),
        ("mogrifier", 10, {"rounds": -1}, "rounds=-1"),
        ("mogrifier", 10, {"rank": 0}, "rank=0"),
        ("rnn", 10, {"activation": "sin"}, "activation=sin"),
        ("cifg", 10, {"peepholes": 2}, "peepholes=2"),
    ],
)
def test_settings_that_cannot_be(name, n, settings, word):
    with refused(f"--cell-opt {word}", name):
        Model(name, symbols=5, embed=3, hidden=n, layers=1, settings=settings)


# Counting


def peaks(cell, count=200, windows=3, length=100):
    """How far from 0 each state of `count` cells of one unit was in each window of time: {state: (windows, count)}.

    In each of them gates are wide open or shut, matrices are -1, 0 or 1, and the input is always the same.
    """
    random, t = np.random.default_rng(4), trace(cell)

    def pick(names, *values):
        return {name: random.choice(values, (count, 1, 1)) for name in names}  # a batch of matrices 1 x 1

    fixed = {name.split(".", 1)[1]: values(np.zeros((1, 1))) for name, values in cell.constants(1).items()}
    x, U = Names(**pick(t.gates, -50.0, 50.0), **pick(["raw"], -1.0, 1.0)), Names(**pick(t.matrices, -1.0, 0.0, 1.0))
    v, below = Names(**pick(t.vectors, -50.0, 1.0, 50.0) | fixed), Names(**pick(t.below, -1.0, 1.0))
    state = {name: np.full((count, 1, 1), cell.initial().get(name, 0.0)) for name in cell.states}
    found = {name: np.zeros((windows, count)) for name in cell.states}
    for step in range(windows * length):
        with np.errstate(over="ignore", invalid="ignore"):  # one may grow faster than a counter does
            state = advance(cell, x, U, v, below, state)[1]
        for name, peak in found.items():
            peak[step // length] = np.maximum(peak[step // length], abs(state[name][:, 0, 0]))
    return found


BOUNDED_BY_ANOTHER = {"slstm": {"c"}}  # only c / n is read, and it stays between -1 and 1


@pytest.mark.parametrize(
    ("name", "settings"), [(name, settings) for name in NAMES for settings in SETTINGS.get(name, [{}])], ids=str
)
def test_what_can_count_grows_and_nothing_else_does(name, settings):
    for cell in {cells.make(name, settings).at(layer) for layer in (0, 1)}:
        found = peaks(cell)
        if cell.counter:
            first, second, third = found[cell.counter]
            grows = second - first > 10
            assert grows.sum() > 3 and (np.isclose(third - second, second - first, rtol=1e-6) & grows).sum() > 3
        else:
            for state in set(cell.states) - set(cell.carried.split()) - BOUNDED_BY_ANOTHER.get(name, set()):
                first, _, third = found[state]
                assert (third <= first + 1).all(), state


# Clockwork


def test_clockwork_ticks():
    case = Case("clockwork", (("modules", 3),), 1, 3, 6, False)
    drawn, cell = arrays(case, 9, "initial"), case.cell()
    h = unrolled(reference, cell, drawn, 6)["up.h"]  # (T, B, n)
    h = np.concatenate([drawn["state.h"][None], h])
    for module, period in enumerate((1, 2, 4)):
        units = slice(2 * module, 2 * module + 2)
        for t in range(9):  # h[t] is before, h[t + 1] after time t
            assert (h[t + 1, :, units] == h[t, :, units]).all() == bool(t % period), (t, period)


def test_clockwork_reads_only_slower_modules():
    case = Case("clockwork", (("modules", 3),), 1, 3, 6, False)
    present = np.kron([[1, 0, 0], [1, 1, 0], [1, 1, 1]], np.ones((2, 2)))  # rows are sources: fast, .., slow
    drawn, cell = tensors(arrays(case, 6, "initial"), gradients=True), case.cell()
    np.testing.assert_array_equal(np.asarray(bound(cell, drawn, 6).U.h.detach()) != 0, present != 0)
    slope = gradients(unrolled(reference, cell, drawn, 6), drawn)["U.h"].numpy()
    assert (slope[present == 0] == 0).all() and (slope[present == 1] != 0).all()


def test_bind_lays_blocks_on_the_diagonal():
    case = Case("slstm", (("heads", 2),), 1, 3, 4, False)
    drawn, cell = arrays(case, 1), case.cell()
    for library in (np.asarray, torch.tensor):
        p = bound(cell, {name: library(array) for name, array in drawn.items()}, 4)
        matrix = np.asarray(p.U.i)
        np.testing.assert_array_equal(matrix[:2, :2], drawn["U.i"][0])
        np.testing.assert_array_equal(matrix[2:, 2:], drawn["U.i"][1])
        assert not matrix[:2, 2:].any() and not matrix[2:, :2].any()
        assert isinstance(p, Names)
