"""Any cell, compiled: the step's arithmetic and its products as one function that runs over time.

As in `generic` the trace of `step` is cut at its products and states. Here what lies between becomes code for the
processor at hand (`kernels.py`, by way of `machine`) that takes a block of lanes through all steps, forward and then
back; weight gradients are a product for each chunk of steps.
"""

import torch
from torch.autograd.function import once_differentiable

from .. import machine
from ..generic import prepared
from ..generic.layout import Layout


def refuses(cell, like) -> str:
    """Why this engine cannot run the cell on such arrays, in words; an empty string where it can."""
    if not isinstance(like, torch.Tensor) or like.device.type != "cpu":
        return "the compiled engine runs on torch tensors on a CPU only"
    return machine.trouble() and f"the compiled engine needs {machine.trouble()}"


def multiplies_in_bfloat16() -> bool:
    """Whether this processor multiplies pairs of bfloat16, as far as LLVM can tell; else all is done in float32."""
    from ..machine import processor

    return processor.in_pairs()


def unroll(cell, p, x, below, state):
    """As reference.unroll."""
    layout = _layout(cell, p)
    given = prepared(layout, p, x, below, state)
    results = _Unroll.apply(layout, torch.is_grad_enabled(), x.shape[:2], tuple(given), *given.values())
    ups, states = results[: len(cell.ups)], results[len(cell.ups) :]
    return dict(zip(cell.ups, ups, strict=True)), dict(zip(cell.states, states, strict=True))


_layouts = {}


def _layout(cell, p):
    """The layout of a layer, one for each cell and widths."""
    shapes = tuple((name, *a.shape) for family in (p.W, p.U) for name, a in vars(family).items())
    if (cell, shapes) not in _layouts:
        _layouts[cell, shapes] = Layout(cell, p)
    return _layouts[cell, shapes]


class _Unroll(torch.autograd.Function):
    """The engine as one node of autograd's graph; `names` says what the tensors are."""

    @staticmethod
    def forward(ctx, layout, keep, sizes, names, *tensors):
        from .unrolled import Forward  # by way of llvmlite, which need not be there

        done = Forward(layout, dict(zip(names, tensors, strict=True)), *sizes, keep)
        ctx.names, ctx.done = names, done
        ctx.save_for_backward(*tensors)
        done.given = None
        return done.results()

    @staticmethod
    @once_differentiable
    def backward(ctx, *slopes):
        from .unrolled import Backward

        ctx.done.given = dict(zip(ctx.names, ctx.saved_tensors, strict=True))
        wanted = {name for name, needed in zip(ctx.names, ctx.needs_input_grad[4:], strict=True) if needed}
        gradients = Backward(ctx.done, slopes, wanted).gradients
        return None, None, None, None, *(gradients.get(name) for name in ctx.names)
