"""Engines unroll a cell over a sequence: `unroll(cell, p, x, below, state) -> up, state`.

`reference` is the law; `native` is torch.nn's kernels; `compiled` and `generic` run any cell fast, the one on a CPU, by
code made for it, the other by calls of torch. `p` is what `bind` makes of a layer's weights.
"""

from importlib import import_module

import numpy as np

from ..cells.base import Names, block_diagonal, constant
from ..errors import UsageError, nearest

NAMES = ("native", "compiled", "scan", "generic", "reference")
FEW = 4  # lanes; with fewer, code that takes a vector of them at a time is no faster than torch's


def choose(
    name: str, cell, like, lanes: int = FEW, precision: str = "float32", before: str | None = None, scoring=False
):
    """The engine asked for, or with "auto" the one that measurements found to be the fastest for this cell on arrays
    such as `like` and for so many lanes (`charrnn bench train`), or for `scoring` alone, without gradients; that of
    `before`, where it is there, goes first.

    Returns its name and its `unroll`; UsageError says in the engine's own words why it refuses.
    """
    if name not in ("auto", *NAMES):
        raise UsageError(f"--engine {name}: no such engine{nearest(name, NAMES)}; known: auto, {', '.join(NAMES)}")
    first = [before] if before in NAMES else []
    for candidate in [*first, *_fastest_first(cell, like, lanes, scoring)] if name == "auto" else [name]:
        engine = import_module(f".{candidate}", __name__)
        refusal = engine.refuses(cell, like)
        if not refusal and candidate == "compiled" and precision == "bfloat16" and not engine.multiplies_in_bfloat16():
            refusal = "this processor does not multiply in bfloat16; leave out --precision bfloat16"
        if not refusal:
            return candidate, engine.unroll
    raise UsageError(f"--engine {name}: {refusal}")


def _fastest_first(cell, like, lanes, scoring=False):
    """On a CPU torch's kernels go through oneDNN for the LSTM alone, and then only they are as fast as `compiled`;
    those of the GRU and the plain network are slower than `generic`, but where they need not learn, or from two or
    three lanes. There is no code for few lanes to learn from. cuDNN has all three."""
    on_cpu = getattr(getattr(like, "device", None), "type", "cpu") == "cpu"
    rest = [name for name in NAMES if name != "compiled"]
    if not on_cpu or 1 < lanes < FEW:
        return rest
    names = NAMES if scoring or lanes > 1 else rest
    if cell.name == "lstm":
        return names
    return ["compiled", *rest] if scoring else [*names[1:], "native"]


def quicker_in_bfloat16(name: str, cell) -> bool:
    """Whether mixed precision is known to make training a cell by an engine faster on this processor, where that
    multiplies so itself: oneDNN's LSTM is 1.15 (64 units) to 1.5 times (192 and more) as fast, what `scan` runs 1.2 to
    1.6 times, by `compiled` any cell 1.25 to 1.7 times, and by `generic` cells of 128 units are as fast, of 256 up to
    1.1 and of 512 1.2 to 1.3 times."""
    from .products import in_bfloat16

    known = name in ("compiled", "generic", "scan") or (name == "native" and cell.name == "lstm")
    return known and in_bfloat16()


def bind(cell, weights, n):
    """A layer's arrays as the equations see them: {"U.i": array, ..} -> p.W.i, p.b.i, p.U.i, p.v.i.

    Masks are applied, blocks are laid on the diagonal, constants are filled in; gradients flow through.
    """
    like = next(iter(weights.values()))
    families = {"W": {}, "b": {}, "U": {}, "v": {}}
    masks, index = cell.masks(n), np.arange(n)
    for name, array in weights.items():
        family, short = name.split(".", 1)
        if len(array.shape) == 3:
            array = block_diagonal(array)
        if name in masks:
            array = array * constant(like, masks[name](index[:, None], index[None, :]))
        families[family][short] = array
    for name, values in cell.constants(n).items():
        families["v"][name.split(".", 1)[1]] = constant(like, values(index))
    return Names(**{family: Names(**arrays) for family, arrays in families.items()})
