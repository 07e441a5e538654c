"""Models as the peers build them from torch.nn: embedding, recurrent layers, linear head."""

import torch
from torch import nn

from .. import Size
from ..work import EMBED, SYMBOLS


class Module(nn.Module):
    """nn.LSTM, nn.GRU or nn.RNN over whole sequences: ids (T, B), state -> logits (T, B, V), state."""

    def __init__(self, kind: str, size: Size):
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, EMBED)
        self.rnn = getattr(nn, kind)(EMBED, size.hidden, size.layers)
        self.head = nn.Linear(size.hidden, SYMBOLS)

    def forward(self, ids, state):
        y, state = self.rnn(self.embedding(ids), state)
        return self.head(y), state


class Loop(nn.Module):
    """The same, by a loop over nn.LSTMCell, nn.GRUCell or nn.RNNCell: what one writes who wants to see each step."""

    def __init__(self, kind: str, size: Size):
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, EMBED)
        widths = [EMBED] + [size.hidden] * (size.layers - 1)
        self.cells = nn.ModuleList(getattr(nn, f"{kind}Cell")(m, size.hidden) for m in widths)
        self.head = nn.Linear(size.hidden, SYMBOLS)

    def forward(self, ids, state):
        state, tops = list(state or [None] * len(self.cells)), []
        for x in self.embedding(ids):  # (B, D)
            for layer, cell in enumerate(self.cells):
                state[layer] = cell(x, state[layer])
                x = state[layer][0] if isinstance(state[layer], tuple) else state[layer]
            tops.append(x)
        return self.head(torch.stack(tops)), state


def detached(state):
    """A state of any structure, cut off from what it came from, in float32 also where autocast made it coarser."""
    if isinstance(state, torch.Tensor):
        return state.detach().float()
    return type(state)(map(detached, state))
