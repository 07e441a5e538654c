"""A step watched: what `reference.step` computes, and beside it every quantity that the equations name.

The names are those of the locals of `step`; the values are its trace run again on numpy arrays.
"""

from functools import lru_cache

from ..cells.trace import evaluate, ordered, trace
from . import on_numpy  # noqa: F401  (teaches the operators numpy's arrays)
from .reference import project


@lru_cache
def quantities(cell) -> list[str]:
    """The names in a step that stand for something that changes from one time to the next, as the equations go."""
    named = trace(cell).named
    moving = [name for name, symbol in named.items() if any(_moves(leaf) for leaf in ordered([symbol]))]
    return sorted(moving, key=lambda name: named[name].serial)


def _moves(symbol):
    return symbol.operator == "leaf" and not symbol.arguments[0].startswith(("U.", "v."))


@lru_cache
def _symbols(cell):
    t = trace(cell)
    return ordered([*t.up.values(), *t.state.values(), *t.named.values()])


def step(cell, p, x, below, state):
    """One time step: x (B, m), below and state {name: (B, n)} -> up {name: (B, n)}, state, and the named quantities
    {name: (B, n)}, or as wide as the equations make them."""
    t = trace(cell)
    given = {"x": project(cell, p, x), "U": vars(p.U), "v": vars(p.v), "below": dict.fromkeys(t.below, 0.0) | below}

    def leaf(full):
        family, _, name = full.rpartition(".")
        return given[family][name] if family else state[name]

    values = evaluate(_symbols(cell), leaf)
    named = {name: values[t.named[name]] for name in quantities(cell)}
    up, state = ({name: values[symbol] for name, symbol in part.items()} for part in (t.up, t.state))
    return up, state, named
