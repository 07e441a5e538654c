"""Any cell, compiled: the step's arithmetic and its products as one function that runs over time.

As in `generic` the trace of `step` is cut at its products and states. Here what lies between becomes code for the
processor at hand (`kernels.py`, by way of `machine`) that takes a block of lanes through all steps, forward and then
back; weight gradients are a product for each chunk of steps.
"""

import torch

from .. import machine
from ..generic import by_passes
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
    from .unrolled import Backward, Forward  # by way of llvmlite, which need not be there

    return by_passes(Forward, Backward, _layout(cell, p), p, x, below, state)


_layouts = {}


def _layout(cell, p):
    """The layout of a layer, one for each cell and widths."""
    shapes = tuple((name, *a.shape) for family in (p.W, p.U) for name, a in vars(family).items())
    if (cell, shapes) not in _layouts:
        _layouts[cell, shapes] = Layout(cell, p)
    return _layouts[cell, shapes]
