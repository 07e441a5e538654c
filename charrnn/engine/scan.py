"""Cells that are linear in their state: all of a sequence at once, but for one multiplication and one sum per step.

The trace tells, for each state, what it is multiplied by and what is added (`cells.trace.Trace.linear`); both are
computed for all time steps together, and so is everything that reads the states. On a GPU the scan itself takes a
number of steps that grows with the logarithm of the length only.
"""

import torch
from torch.autograd.function import once_differentiable

from ..cells.trace import trace
from .generic.pointwise import evaluate
from .products import affine
from .reference import raw_input


def refuses(cell, like) -> str:
    """Why this engine cannot run the cell on such arrays, in words; an empty string where it can."""
    if not isinstance(like, torch.Tensor):
        return "a scan runs on torch tensors only"
    if trace(cell).linear is None:
        return f"the cell {cell.name} is not linear in its state, unit by unit"
    return ""


def unroll(cell, p, x, below, state):
    """As reference.unroll."""
    T, t = len(x), trace(cell)
    named = {f"x.{gate}": affine(x, W, getattr(p.b, gate, W.new_zeros(W.shape[1]))) for gate, W in vars(p.W).items()}
    named |= {"x.raw": raw_input(p, x)} if t.raw else {}
    named |= {f"v.{name}": value for name, value in vars(p.v).items()}
    named |= {f"below.{name}": below.get(name, x.new_zeros(())) for name in t.below}
    values = {leaf: named[leaf.arguments[0]] for leaf in t.leaves if leaf.arguments[0] in named}
    after = {}
    for name, leaf, kept, added in t.linear:
        start = state[name]
        b = _whole(evaluate(added, values), start, T)
        after[name] = b if kept is None else scan(_whole(evaluate(kept, values), start, T), b, start)
        values[leaf] = torch.cat([start[None], after[name][:-1]])  # the state that each step begins with
    ups = {name: _whole(evaluate(symbol, values), start, T) for name, symbol in t.up.items()}
    return ups, {name: after[name][-1] for name in cell.states}


def _whole(value, like, steps):
    """A value at all steps and lanes, (T, B, n), whatever it was made of."""
    value = value if isinstance(value, torch.Tensor) else like.new_tensor(value)
    return value.expand(steps, *like.shape)


def scan(a, b, start):
    """h_t = a_t h_(t-1) + b_t from h_0 = start: a, b (T, B, n), start (B, n) -> (T, B, n)."""
    return _Scan.apply(a.contiguous(), b.contiguous(), start)


class _Scan(torch.autograd.Function):
    """The scan; its gradient is a scan of its own, backwards."""

    @staticmethod
    def forward(ctx, a, b, start):
        h = _run(a, b, start)
        ctx.save_for_backward(a, h, start)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx, slope):
        a, h, start = ctx.saved_tensors
        later = torch.cat([a[1:], torch.zeros_like(a[:1])])
        slope = _run(later.flip(0), slope.flip(0), torch.zeros_like(start)).flip(0)
        before = torch.cat([start[None], h[:-1]])
        return slope * before, slope, slope[0] * a[0]


def _run(a, b, start):
    return step_by_step(a, b, start) if a.device.type == "cpu" else by_doubling(a, b, start)


def step_by_step(a, b, start):
    """One call per step, which a CPU does best."""
    h = torch.empty_like(b)
    for a_t, b_t, h_t in zip(a.unbind(0), b.unbind(0), h.unbind(0), strict=True):
        start = torch.addcmul(b_t, a_t, start, out=h_t)
    return h


def by_doubling(a, b, start):
    """Stretches of 1, 2, 4, .. steps become one (Hillis & Steele 1986): log2(T) calls on all of the sequence."""
    a, b = a.clone(), torch.cat([torch.addcmul(b[:1], a[:1], start), b[1:]])
    reach = 1
    while reach < len(a):
        b[reach:] += a[reach:] * b[:-reach].clone()
        a[reach:] *= a[:-reach].clone()
        reach *= 2
    return b
