"""The reference engine: a loop over `step`. Every other engine must equal it, values and gradients.

It runs on any arrays that `step` runs on: torch tensors (autograd gives the gradients) and numpy arrays.
"""

from ..cells.base import Names, advance, stack
from ..cells.trace import trace


def refuses(cell, like) -> str:
    """Why this engine cannot run the cell on such arrays: never."""
    return ""


def project(cell, p, x):
    """What `step` sees as x, made from the input x (..., m): {gate: W x + b (..., n)}, and the raw input."""
    t = trace(cell)
    projected = {}
    for gate in t.gates:
        y = x @ getattr(p.W, gate)
        projected[gate] = y + getattr(p.b, gate) if gate not in cell.unbiased.split() else y
    if t.raw:
        projected["raw"] = raw_input(p, x)
    return projected


def raw_input(p, x):
    """What `step` sees as x.raw: the input itself (..., m), projected where the cell's width is another."""
    return x @ p.W.raw if hasattr(p.W, "raw") else x


def step(cell, p, x, below, state):
    """One time step: x (B, m), below and state {name: (B, n)} -> up {name: (B, n)}, state."""
    below = {name: below.get(name, 0.0) for name in trace(cell).below}
    return advance(cell, Names(**project(cell, p, x)), p.U, p.v, Names(**below), state)


def unroll(cell, p, x, below, state):
    """All time steps: x (T, B, m), below {name: (T, B, n)}, state {name: (B, n)} -> up {name: (T, B, n)}, state."""
    below = {name: below[name] if name in below else [0.0] * len(x) for name in trace(cell).below}
    projected, rows = project(cell, p, x), []
    for t in range(len(x)):
        x_t = Names(**{gate: values[t] for gate, values in projected.items()})
        below_t = Names(**{name: values[t] for name, values in below.items()})
        up, state = advance(cell, x_t, p.U, p.v, below_t, state)
        rows.append(up)
    return {name: stack(*(row[name] for row in rows)) for name in cell.ups}, state
