"""The scan against the reference, for the cells that are linear in their state."""

import numpy as np
import pytest
import torch
from test_cells import NAMES, arrays, cases, chunks_equal_whole, close, detached, gradients, over, tensors, unrolled

from charrnn import cells
from charrnn.cells.base import Cell, sigmoid, tanh
from charrnn.cells.trace import trace
from charrnn.engine import choose, reference, scan

LINEAR = ("mingru", "minlstm", "qrnn", "rg-lru")
scan_cases = over(cases(LINEAR))


def test_it_knows_which_cells_are_linear():
    assert {name for name in NAMES if trace(cells.make(name)).linear is not None} == set(LINEAR)


@pytest.mark.parametrize("T", [1, 9])
@scan_cases
def test_it_equals_the_reference(case, T):
    drawn, cell = tensors(arrays(case, T), gradients=True), case.cell()
    mine, law = (unrolled(engine, cell, drawn, case.n) for engine in (scan, reference))
    close(detached(mine), detached(law), 1e-10, str(case))
    close(gradients(mine, drawn), gradients(law, drawn), 1e-10, str(case))


@scan_cases
def test_chunks_equal_the_whole(case):
    chunks_equal_whole(scan, case, torch.tensor)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("T", [1, 2, 3, 8, 13])
def test_both_ways_solve_the_recurrence(T, backwards):
    random = np.random.default_rng(T)
    a, h = random.uniform(-1, 1, (T - 1, 2, 3)), random.uniform(-1, 1, (T, 2, 3))
    expected = h.copy()
    for t in range(T - 2, -1, -1) if backwards else range(T - 1):
        now, past = (t, t + 1) if backwards else (t + 1, t)
        expected[now] = a[t] * expected[past] + expected[now]
    for way in (scan.in_turn, scan.by_doubling):
        np.testing.assert_allclose(way(torch.tensor(a), torch.tensor(h), backwards), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("way", [scan.in_turn, scan.by_doubling])
def test_the_gradient_of_a_scan(way, monkeypatch):
    monkeypatch.setattr(scan, "_way", lambda device: way)
    random = np.random.default_rng(6)
    drawn = [torch.tensor(random.normal(size=shape)).requires_grad_() for shape in ((5, 2, 3), (5, 2, 3), (2, 3))]
    before = [d.detach().clone() for d in drawn]
    assert torch.autograd.gradcheck(scan.scan, drawn)
    assert all(torch.equal(a, b) for a, b in zip(drawn, before, strict=True))  # it works in place on its own


class Leaky(Cell):
    """Linear in every way that a step can be written: differences, quotients, factors on either side, two states."""

    gates, state, up = "a b", "h c", "y h"

    def step(self, x, v, h, c):
        h = (v.k * h - x.a) / (1 + sigmoid(x.b)) - h * 0.5
        c = x.b - (-c) * sigmoid(x.a) + tanh(h)
        return tanh(c) * h, h, c


class Bent(Cell):
    """Not linear: the gate sees the state."""

    gates, state = "a", "h"

    def step(self, x, v, h):
        h = sigmoid(v.k * h) * h + x.a
        return h


def test_whatever_a_person_writes():
    random, cell = np.random.default_rng(3), Leaky()
    shapes = {"W.a": (3, 4), "b.a": (4,), "W.b": (3, 4), "b.b": (4,), "v.k": (4,)}
    shapes |= {"x": (6, 2, 3), "state.h": (2, 4), "state.c": (2, 4)}
    drawn = {name: torch.tensor(random.normal(size=shape)).requires_grad_() for name, shape in shapes.items()}
    mine, law = (unrolled(engine, cell, drawn, 4) for engine in (scan, reference))
    close(detached(mine), detached(law), 1e-12)
    close(gradients(mine, drawn), gradients(law, drawn), 1e-12)


def test_it_says_why_it_refuses():
    for cell in (Bent(), cells.make("sru"), cells.make("lstm")):
        assert "not linear in its state" in scan.refuses(cell, torch.zeros(1))
    assert "torch tensors" in scan.refuses(cells.make("mingru"), np.zeros(1))
    assert choose("auto", cells.make("mingru"), torch.zeros(1), lanes=1) == ("scan", scan.unroll)
