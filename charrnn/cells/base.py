"""What a cell is: its equations over named arrays, and the closed list of operators that they may use.

No array library is imported here. `engine/` teaches each operator what to do with the arrays of one library, and
`cells/trace.py` what to do with symbols, so that one `step` trains, samples and explains itself.
"""

import inspect
from dataclasses import dataclass, fields
from functools import lru_cache, singledispatch
from types import SimpleNamespace

OPERATORS = {}
EPSILON = 1e-5  # of normalise: what has no variance becomes 0


class Names(SimpleNamespace):
    """Arrays by name, as the equations write them: Names(i=a).i is a."""


def operator(declaration):
    """A function of arrays, empty until an array library registers how it is computed on its own arrays."""

    def missing(array, *others):
        raise TypeError(f"{declaration.__name__} is not defined for {type(array).__name__}")

    missing.__name__, missing.__doc__ = declaration.__name__, declaration.__doc__
    OPERATORS[declaration.__name__] = singledispatch(missing)
    return OPERATORS[declaration.__name__]


# A step is written with + - * / @ % == >= and these, elementwise:
@operator
def sigmoid(a):
    """The logistic function 1 / (1 + exp(-a))."""


@operator
def tanh(a):
    """The hyperbolic tangent."""


@operator
def relu(a):
    """The greater of a and 0."""


@operator
def exp(a):
    """The exponential function."""


@operator
def sqrt(a):
    """The square root."""


@operator
def log_sigmoid(a):
    """log(1 / (1 + exp(-a))), exact also where the logistic function underflows."""


@operator
def softplus(a):
    """log(1 + exp(a))."""


@operator
def maximum(a, b):
    """The greater of a and b."""


@operator
def where(condition, a, b):
    """a where the condition holds, else b."""


# What the stack around the cells needs besides:
@operator
def take(table, ids):
    """The rows of a table: table (V, D), ids (...) -> (..., D)."""


@operator
def affine(a, W, b):
    """a @ W + b for a (..., k), W (k, n), b (n,)."""


@operator
def join(a, *others):
    """Arrays side by side along their last axis."""


@operator
def stack(a, *others):
    """Arrays on top of each other along a new first axis."""


@operator
def normalise(a):
    """a with mean 0 and variance 1 along its last axis: (a - mean) / sqrt(variance + EPSILON)."""


@operator
def attend(query, new, memory):
    """What each query (.., B, n) finds in the rows of `memory` and in its own, `new` (.., B, n): their mean, weighed
    by the softmax of query times row over sqrt(n). Of a sequence (T, B, n), every query sees the N rows before it."""


@operator
def remember(memory, new):
    """The memory (B, N, n + 1) once `new` has come: the last N rows, each with a 1 behind it; before the beginning
    rows are 0, and without a 1 nothing finds them."""


@operator
def block_diagonal(blocks):
    """Blocks (k, a, b) on the diagonal of a matrix (k a, k b) of zeros."""


@operator
def constant(like, values):
    """A numpy array of constants as an array of the same library, kind of number and device as `like`."""


class Cell:
    """A recurrent cell: `step` and what its names mean. Settings are dataclass fields of the subclass.

    step(x, U, v, below, *state) names only what it uses and returns what goes up (unless that is a state), then
    the new state:
      x.g       W_g x_t + b_g for each name in `gates` (no b_g for those in `unbiased`), made for all time steps at once
      x.raw     the input itself, n wide (projected without bias where the widths differ), or as `shapes` declares
      U.name    a matrix, n x n unless `shapes` declares another; h @ U.i is the product with the state
      v.name    a vector of length n, trained, or fixed where `constants` gives it
      below.c   what the layer below hands up beside its output; 0 under the first layer
    """

    name = paper = gates = ""
    state = "h"  # what is carried from step to step, all n wide
    up = ""  # what the layer above sees, the output first; the first state unless said otherwise
    unbiased = ""  # gates whose input projection has no bias
    carried = ""  # states that no regulariser may touch: clocks, normalisers
    counter = ""  # the state that can grow without bound and so count (Weiss, Goldberg & Yahav 2018); a prediction
    init = {}  # "b.f": 1.0 starts at a constant, "v.u": (0.0, 1.0) uniform; the rest starts as model.py says

    def __init_subclass__(cls):
        dataclass(frozen=True)(cls)

    def step(self, x, *state):
        raise TypeError(f"{type(self).__name__} has no step")

    def at(self, layer):
        """The cell as it stands in layer 0, 1, ..: itself, unless the first layer differs."""
        return self

    def shapes(self, m, n):
        """Shapes that differ, by full name: "U.q": (n, r), "v.q": (m,), "x.raw": (m,). Three sizes
        (k, a, b) are k blocks on the diagonal; "W.g" may have blocks too."""
        return {}

    def masks(self, n):
        """Matrices of which a part is absent: "U.h": lambda row, column: true where it is present."""
        return {}

    def constants(self, n):
        """Vectors that are not trained: "v.period": lambda index: value."""
        return {}

    def initial(self):
        """States that do not start at zero, by name."""
        return {}

    def check(self, n):
        """Raises UsageError where a setting, or the width n, is one that this cell cannot have."""

    def settings(self):
        """This cell's own settings as plain data."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def equations(self):
        """The cell whose step names the quantities: itself, unless it is wrapped around another."""
        return self

    @property
    def states(self):
        return self.state.split()

    @property
    def ups(self):
        return self.up.split() or self.states[:1]


@lru_cache
def _wants(cls):
    return [name for name in inspect.signature(cls.step).parameters if name in ("x", "U", "v", "below")]


def advance(cell, x, U, v, below, state):
    """One step on arrays of any kind: Names x, U, v, below and {state: array} -> {up: array}, {state: array}."""
    given = {"x": x, "U": U, "v": v, "below": below}
    result = cell.step(*(given[name] for name in _wants(type(cell))), *(state[name] for name in cell.states))
    names = [name for name in cell.ups if name not in cell.states] + cell.states
    new = dict(zip(names, result if isinstance(result, tuple) else (result,), strict=True))
    return {name: new[name] for name in cell.ups}, {name: new[name] for name in cell.states}
