"""Several models as one: each reads on with a state of its own, and what they expect is averaged."""

from itertools import accumulate

import torch

from .engine import choose
from .model import apart


def run(cell, p, x, below, state):
    """Unrolls with the engine that suits the cell; the members of an ensemble may have different ones."""
    _, unroll = choose("auto", cell, x, x.shape[1], scoring=not torch.is_grad_enabled())
    return unroll(cell, p, x, below, state)


class Ensemble:
    """Models of the same symbols as one that evaluate and adapt can read with, on torch tensors.

    Their logits are averaged, so that the probability of a symbol goes by the geometric mean of what the members give
    it (a logarithmic opinion pool, Heskes 1998). The state is that of all their layers.
    """

    def __init__(self, members: list):
        self.members, self.symbols = members, members[0].symbols
        self.hidden = max(member.hidden for member in members)  # the widest
        self.layers = sum(member.layers for member in members)

    def bind(self, weights: dict) -> list:
        """As Model.bind, of weights that were `joined`."""
        return [member.bind(own) for member, own in zip(self.members, apart(weights, len(self.members)), strict=True)]

    def initial_state(self, zeros) -> list[dict]:
        """As Model.initial_state; zeros() is as wide as the widest layer."""
        return [
            layer
            for member in self.members
            for layer in member.initial_state(lambda width=member.hidden: zeros()[:, :width])
        ]

    def forward(self, p: list, ids, state: list[dict], run):
        """As Model.forward."""
        expected, after = [], []
        for member, bound, before in zip(self.members, p, self.states(state), strict=True):
            logits, own = member.forward(bound, ids, before, run)
            expected.append(logits)  # (T, B, V)
            after += own
        return torch.stack(expected).mean(0), after

    def states(self, state: list[dict]) -> list[list[dict]]:
        """The state of each member."""
        ends = list(accumulate(member.carried for member in self.members))
        return [state[start:end] for start, end in zip([0, *ends], ends, strict=False)]
