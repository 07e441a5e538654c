"""Any cell, fast, without a backward pass written for it: recurrent products, and pointwise arithmetic between them.

Forward, a step is one product per bundle of left sides and a few calls into buffers made once; only the rows (what the
products give) and the states are kept. Backward, the arithmetic between the cuts (`cut.py`) is pointwise: each number
of a node depends on one number of each row and state that it reads. So once rows and states are known it no longer
depends on time, and its slopes, which the chain rule finds in symbols (`slopes.py`), are computed for a block of many
steps at once; what remains to be done step by step is one product per bundle and one multiplication per slope. Weight
gradients are one product per block.

All arrays inside are feature-major, (T, n, B): a part of the rows is contiguous, and products are at their fastest.
"""

import torch
from torch.autograd.function import once_differentiable

from ...cells.trace import evaluate, ordered
from ..reference import raw_input
from .backward import Backward
from .forward import Forward
from .layout import Layout, X


def refuses(cell, like) -> str:
    """Why this engine cannot run the cell on such arrays, in words; an empty string where it can."""
    if not isinstance(like, torch.Tensor):
        return "the generic engine runs on torch tensors only"
    return ""


def unroll(cell, p, x, below, state):
    """As reference.unroll."""
    return by_passes(Forward, Backward, Layout(cell, p), p, x, below, state)


def by_passes(forward, backward, layout, p, x, below, state):
    """As `unroll`, by two passes of one's own, which are made as these here are."""
    given, cell = _prepared(layout, p, x, below, state), layout.cell
    passes, keep = (forward, backward), torch.is_grad_enabled()
    results = _Unroll.apply(passes, layout, keep, x.shape[:2], tuple(given), *given.values())
    ups, states = results[: len(cell.ups)], results[len(cell.ups) :]
    return dict(zip(cell.ups, ups, strict=True)), dict(zip(cell.states, states, strict=True))


def _prepared(layout, p, x, below, state) -> dict:
    """What a layer of such a layout computes with, by name: its weights as `layout` has them, states and inputs."""
    cell = layout.cell
    given = layout.matrices(p) | {name: state[name] for name in cell.states}
    if any(X in bundle.spans for bundle in layout.bundles):
        given["x"] = x
    for name in layout.cut.named:
        family, _, own = name.partition(".")
        if family == "v":
            given[name] = getattr(p.v, own)
        elif family == "below":
            given[name] = below[own] if own in below else torch.zeros_like(state[cell.states[0]][0])
        elif family == "x":
            given[name] = raw_input(p, x).to(state[cell.states[0]].dtype)  # also where it is projected in another
        elif family == "fixed":
            given[name] = _fixed(layout.cut.fixed[name], p)
    return given


def _fixed(symbol, p):
    """What vectors alone decide, (n,)."""
    return evaluate(ordered([symbol]), lambda name: getattr(p.v, name[2:]))[symbol]


class _Unroll(torch.autograd.Function):
    """The engine as one node of autograd's graph; `names` says what the tensors are."""

    @staticmethod
    def forward(ctx, passes, layout, keep, sizes, names, *tensors):
        forward, ctx.backward_pass = passes
        done = forward(layout, dict(zip(names, tensors, strict=True)), *sizes, keep)
        ctx.names, ctx.done = names, done
        ctx.save_for_backward(*tensors)
        done.given = None  # autograd keeps them, and notices where they were changed meanwhile
        return done.results()  # which it must not hold: they will hold `ctx`, and nothing would ever be freed

    @staticmethod
    @once_differentiable
    def backward(ctx, *slopes):
        ctx.done.given = dict(zip(ctx.names, ctx.saved_tensors, strict=True))
        wanted = {name for name, needed in zip(ctx.names, ctx.needs_input_grad[5:], strict=True) if needed}
        gradients = ctx.backward_pass(ctx.done, slopes, wanted).gradients
        return None, None, None, None, None, *(gradients.get(name) for name in ctx.names)
