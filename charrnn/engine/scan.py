"""Cells that are linear in their state: all of a sequence at once, but for one multiplication and one sum per step.

The trace tells, for each state, what it is multiplied by and what is added (`cells.trace.Trace.linear`); both are
computed for all time steps together, and so is everything that reads the states. On a GPU the scan itself takes a
number of steps that grows with the logarithm of the length only.
"""

import torch
from torch.autograd.function import once_differentiable

from ..cells.trace import Symbol, function, trace
from . import on_torch  # noqa: F401  (teaches the operators torch's tensors)
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
    named |= {f"U.{name}": value for name, value in vars(p.U).items()}
    named |= {f"below.{name}": below.get(name, x.new_zeros(())) for name in t.below}
    values = {leaf: named[leaf.arguments[0]] for leaf in t.leaves if leaf.arguments[0] in named}
    for symbol in t.steps:
        if symbol.operator == "@" and symbol.arguments[0] in values:
            a, U = (values[argument] for argument in symbol.arguments)
            values[symbol] = affine(a, U, U.new_zeros(U.shape[1]))
    after = {}
    for name, leaf, kept, added in t.linear:
        start = state[name]
        b = _whole(_evaluate(added, values), start, T)
        after[name] = b if kept is None else scan(_whole(_evaluate(kept, values), start, T), b, start)
        values[leaf] = torch.cat([start[None], after[name][:-1]])  # the state that each step begins with
    ups = {name: _whole(_evaluate(symbol, values), start, T) for name, symbol in t.up.items()}
    return ups, {name: after[name][-1] for name in cell.states}


def _evaluate(symbol, values: dict):
    """The value of a symbol, as autograd sees it, from those in `values`; what it is made of is added to them."""
    if not isinstance(symbol, Symbol):
        return symbol
    if symbol not in values:
        own = _Tanh.apply if symbol.operator == "tanh" else function(symbol.operator)
        values[symbol] = own(*(_evaluate(a, values) for a in symbol.arguments))
    return values[symbol]


class _Tanh(torch.autograd.Function):
    """The hyperbolic tangent by way of the logistic function, which torch computes several times as fast."""

    @staticmethod
    def forward(ctx, a):
        y = torch.sigmoid(2 * a).mul_(2).sub_(1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, slope):
        (y,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(slope, y)


def _whole(value, like, steps):
    """A value at all steps and lanes, (T, B, n), whatever it was made of."""
    value = value if isinstance(value, torch.Tensor) else like.new_tensor(value)
    return value.expand(steps, *like.shape)


def scan(a, b, start):
    """h_t = a_t h_(t-1) + b_t from h_0 = start: a, b (T, B, n), start (B, n) -> (T, B, n)."""
    return _Scan.apply(a, b, start)


class _Scan(torch.autograd.Function):
    """The scan; the slopes follow the same recurrence, from the end."""

    @staticmethod
    def forward(ctx, a, b, start):
        h = b.clone(memory_format=torch.contiguous_format)
        h[0].addcmul_(a[0], start)
        h = _way(h.device)(a[1:], h)
        ctx.save_for_backward(a, h, start)
        return h

    @staticmethod
    @once_differentiable
    def backward(ctx, slope):
        a, h, start = ctx.saved_tensors
        slope = slope.clone(memory_format=torch.contiguous_format)
        slope = _way(h.device)(a[1:], slope, backwards=True)
        return slope * torch.cat([start[None], h[:-1]]), slope, slope[0] * a[0]


def _way(device):
    """On a CPU one step after the other is the fastest; elsewhere a call costs more than what it computes."""
    return in_turn if device.type == "cpu" else by_doubling


def in_turn(a, h, backwards=False):
    """h[t + 1] += a[t] * h[t] for one t after the other, or backwards h[t] += a[t] * h[t + 1], in the place of h."""
    rows, factors = h.unbind(), a.unbind()
    if backwards:
        rows, factors = rows[::-1], factors[::-1]
    for factor, past, now in zip(factors, rows, rows[1:], strict=False):
        now.addcmul_(factor, past)
    return h


def by_doubling(a, h, backwards=False):
    """As in_turn, in as many rounds as T has binary digits, each over all t: after a round a row holds the work of
    twice as many steps, and its factor the product of theirs (Hillis & Steele 1986)."""
    if backwards:
        return by_doubling(a.flip(0), h.flip(0)).flip(0)
    reach, a = 1, torch.cat([torch.zeros_like(h[:1]), a])
    while reach < len(h):
        h = torch.cat([h[:reach], torch.addcmul(h[reach:], a[reach:], h[:-reach])])
        a = torch.cat([a[:reach], a[reach:] * a[:-reach]])
        reach *= 2
    return h
