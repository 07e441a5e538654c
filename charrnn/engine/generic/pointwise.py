"""The arithmetic between the cuts of a step, as calls into buffers made once."""

from itertools import product, repeat

import numpy as np
import torch

from ...cells import base
from ...cells.trace import Symbol
from .. import on_torch  # noqa: F401  (teaches the operators torch's tensors)

_INTO = {  # the place of the result stands last; it may be that of the first argument
    "+": lambda a, b, out: torch.add(a, b, out=out),
    "-": lambda a, b, out: torch.sub(a, b, out=out),
    "*": lambda a, b, out: torch.mul(a, b, out=out),
    "/": lambda a, b, out: torch.div(a, b, out=out),
    "%": lambda a, b, out: torch.remainder(a, b, out=out),
    "==": lambda a, b, out: torch.eq(a, b, out=out),
    ">=": lambda a, b, out: torch.ge(a, b, out=out),
    "sigmoid": lambda a, out: torch.sigmoid(a, out=out),
    "tanh": lambda a, out: torch.sigmoid(torch.mul(a, 2, out=out), out=out).mul_(2).sub_(1),
    "exp": lambda a, out: torch.exp(a, out=out),
    "sqrt": lambda a, out: torch.sqrt(a, out=out),
    "relu": lambda a, out: torch.clamp_min(a, 0, out=out),
    "maximum": lambda a, b, out: torch.maximum(a, b, out=out),
    "where": lambda condition, a, b, out: torch.where(condition, a, b, out=out),
    "copy": lambda a, out: out.copy_(a),
    "multiply-add": lambda a, b, c, out: torch.addcmul(a, b, c, out=out),
    "blend": lambda a, b, share, out: torch.lerp(a, b, share, out=out),
    "sigmoid slope": lambda slope, y, out: torch.ops.aten.sigmoid_backward.grad_input(slope, y, grad_input=out),
    "tanh slope": lambda slope, y, out: torch.ops.aten.tanh_backward.grad_input(slope, y, grad_input=out),
}
SMALL = 1 << 15  # numbers; torch computes fewer with one thread, and then numpy's tanh takes a third of its time


class Calls:
    """Calls that are repeated at every step: what they read and write is an array, or a sequence of one per step."""

    def __init__(self, like: torch.Tensor, uses: dict):
        self.like, self.uses = like, uses
        self.functions, self.operands = [], []
        self.places, self.free = {}, set()  # where symbols are; those of them whose place may be written over

    def add(self, function, *operands):
        """One more call."""
        self.functions.append(function)
        self.operands.append(operands)

    def apply(self, name, *operands):
        """One more call, of an operation by name; the place of its result stands last."""
        if name == "tanh" and self._is_small(operands[-1]):
            return self.add(np.tanh, *map(_in_numpy, operands))
        if name == "%" and _are_powers_of_two(operands[1]):
            return self._remainder(*operands)
        self.add(_INTO.get(name) or (lambda *values: values[-1].copy_(base.OPERATORS[name](*values[:-1]))), *operands)

    def run(self, steps: int):
        """All steps in order."""
        over_time = [
            zip(*(o if isinstance(o, list | tuple) else repeat(o, steps) for o in operands), strict=True)
            for operands in self.operands
        ]
        for step in zip(*over_time, strict=True):
            for function, values in zip(self.functions, step, strict=True):
                function(*values)

    def _remainder(self, a, b, out):
        """a % b where b are powers of two, by which division is exact, in a third of the time of torch.remainder."""
        whole = self.like.new_empty(_one(out).shape)
        self.add(_INTO["/"], a, b, whole)
        self.add(torch.floor_, whole)
        self.add(lambda a, whole, b, out: torch.addcmul(a, whole, b, value=-1, out=out), a, whole, b, out)

    def _is_small(self, place):
        like = self.like
        numpys = like.device.type == "cpu" and like.dtype in (torch.float32, torch.float64)
        return numpys and _one(place).numel() < SMALL

    def compute(self, symbol, out=None):
        """The place of a symbol's value, with the calls that put it there; `out` where that is decided."""
        if not isinstance(symbol, Symbol):
            return self.like.new_tensor(symbol)
        if symbol not in self.places:
            name, arguments = _fused(symbol, self.uses)
            places = [self.compute(a) for a in arguments]
            self.places[symbol] = out if out is not None else self._scratch(symbol, name, arguments, places)
            self.apply(name, *places, self.places[symbol])
        return self.places[symbol]

    def _scratch(self, symbol, name, arguments, places):
        """A place for a value: that of the first argument, if nothing else reads it, or a new one."""
        self.free.add(symbol)
        first = arguments[0]
        boolean = name in ("==", ">=")
        shape = np.broadcast_shapes(*(_one(place).shape for place in places))
        mine = first in self.free and self.uses[first] == 1 and not boolean
        if mine and places[0].shape == shape and places[0].dtype == self.like.dtype:
            return places[0]
        return self.like.new_empty(shape, dtype=torch.bool if boolean else self.like.dtype)


def _in_numpy(place):
    """The same place as numpy sees it."""
    return place.numpy() if isinstance(place, torch.Tensor) else [tensor.numpy() for tensor in place]


def _are_powers_of_two(place):
    """Whether a place is the same at all steps and holds 1, 2, 4, .. alone."""
    return isinstance(place, torch.Tensor) and bool(((place.frexp().mantissa == 0.5) & (place >= 1)).all())


def _one(place):
    """The place at one of the steps."""
    return place if isinstance(place, torch.Tensor) else place[0]


def _fused(symbol, uses):
    """An operation and its arguments; what one call does at once is one operation: a + b * c, (1 - z) * a + z * b."""
    products = [a for a in symbol.arguments if _is(a, "*") and uses[a] == 1] if symbol.operator == "+" else []
    if len(products) == 2:
        for one, other in (products, products[::-1]):
            for (kept, a), (share, b) in product(_orders(one), _orders(other)):
                if _is_rest(kept, share) and isinstance(a, Symbol) and isinstance(b, Symbol):
                    return "blend", (a, b, share)
    for one in products[::-1]:
        first, second = symbol.arguments
        other = first if one is second else second
        if all(isinstance(a, Symbol) for a in (*one.arguments, other)):
            return "multiply-add", (other, *one.arguments)
    return symbol.operator, symbol.arguments


def _orders(symbol):
    return symbol.arguments, symbol.arguments[::-1]


def _is_rest(kept, share):
    """Whether `kept` is written as 1 - share."""
    if not _is(kept, "-") or isinstance(kept.arguments[0], Symbol):
        return False
    return kept.arguments[0] == 1 and kept.arguments[1] is share


def _is(a, name):
    return isinstance(a, Symbol) and a.operator == name
