"""Scores: what every symbol of a text costs under a model, its state carried along, nothing else touched."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from .run import BLOCK

WARM_UP = 512  # symbols that a lane reads before it is scored, so that it knows its context
LANES = 16  # lanes of the quick evaluation during training
CHUNK = 1 << 22  # numbers held at once, or so: logits, gates and states


@dataclass(frozen=True)
class Score:
    """What the symbols of a text cost, each but the first: `nats` and whether the likeliest one came, both (N - 1,)."""

    nats: np.ndarray
    right: np.ndarray

    def summary(self) -> dict[str, float]:
        """Nats and bits per character, perplexity, accuracy."""
        nats = float(self.nats.mean()) if len(self.nats) else 0.0
        return {
            "nats": nats,
            "bits": nats / math.log(2),
            "perplexity": math.exp(min(nats, 700.0)),
            "accuracy": float(self.right.mean()) if len(self.right) else 0.0,
        }

    def blocks(self) -> list[float]:
        """The cost in nats of each BLOCK symbols, to a ten-thousandth; the last block may be shorter."""
        return np.add.reduceat(self.nats, range(0, len(self.nats), BLOCK)).round(4).tolist()


def width(model) -> int:
    """About how many numbers one symbol of one lane takes while it is scored."""
    return model.symbols + 4 * model.hidden * model.layers


def zeros(like: torch.Tensor, lanes: int, width: int):
    """Makes the arrays (B, n) that a state starts from."""
    return lambda: torch.zeros(lanes, width, dtype=like.dtype, device=like.device)


@torch.no_grad()
def score(model, weights, ids, run, lanes: int = 1, between=lambda: None) -> Score:
    """The cost of each symbol of `ids` (N,) but the first, with a state of its own that starts fresh.

    One lane reads the text from end to end, as a number that is quoted must be made. More lanes are faster and read
    WARM_UP symbols ahead of their part. `between` is called now and then and may raise to give up.
    """
    lanes = max(1, min(lanes, (len(ids) - 1) // (4 * WARM_UP)))
    part = -(-(len(ids) - 1) // lanes)  # targets of one lane; the last lane may have fewer
    ahead = WARM_UP if lanes > 1 else 0
    like = next(iter(weights.values()))
    p, state = model.bind(weights), model.initial_state(zeros(like, lanes, model.hidden))
    starts = np.arange(lanes) * part  # (B,)
    nats, right = np.empty((lanes, part)), np.empty((lanes, part), bool)
    chunk = max(1, CHUNK // (width(model) * lanes))
    bounds = sorted({*range(-ahead, part, chunk), 0, part})
    for begin, end in zip(bounds, bounds[1:], strict=False):
        between()
        read = np.stack([_around(ids, s + begin, s + end + 1) for s in starts], axis=1)  # (T + 1, B)
        x, y = read[:-1], read[1:]
        logits, after = model.forward(p, torch.from_numpy(x).to(like.device), state, run)
        state = after if end != 0 else _first_fresh(after, model.initial_state(zeros(like, lanes, model.hidden)))
        if begin < 0:
            continue
        nats[:, begin:end], right[:, begin:end] = _cost(logits, torch.from_numpy(y).to(like.device))
    return Score(nats.ravel()[: len(ids) - 1], right.ravel()[: len(ids) - 1])


def _around(ids, start, end):
    """The symbols from one place to another, int64; 0 for those before the text or behind it, which nobody scores."""
    symbols = np.zeros(end - start, np.int64)
    first, last = np.clip((start, end), 0, len(ids))
    symbols[first - start : last - start] = ids[first:last]
    return symbols


def _cost(logits, y):
    """Logits (T, B, V) and the symbols that came (T, B) -> nats and whether the likeliest came, (B, T) in numpy."""
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    nats = F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape)
    return nats.T.cpu().numpy(), (logits.argmax(-1) == y).T.cpu().numpy()


def _first_fresh(state, fresh):
    """The state after the warm-up: the first lane has nothing to read ahead of, so it starts fresh."""
    for layer, new in zip(state, fresh, strict=True):
        for name, array in layer.items():
            array[0] = new[name][0]
    return state


@torch.no_grad()
def windows(model, weights, ids, run, length: int, between=lambda: None) -> Score:
    """As `score`, but with the state reset every `length` symbols, for parity with models of a fixed context."""
    like = next(iter(weights.values()))
    p, count = model.bind(weights), (len(ids) - 1) // length
    nats, right = np.empty((count, length)), np.empty((count, length), bool)
    side = max(1, CHUNK // (width(model) * length))  # windows scored side by side
    for begin in range(0, count, side):
        between()
        end = min(count, begin + side)
        block = np.asarray(ids[begin * length : end * length + 1], np.int64)
        x = torch.from_numpy(block[:-1].reshape(end - begin, length).T.copy()).to(like.device)  # (T, B)
        y = torch.from_numpy(block[1:].reshape(end - begin, length).T.copy()).to(like.device)
        logits, _ = model.forward(p, x, model.initial_state(zeros(like, end - begin, model.hidden)), run)
        nats[begin:end], right[begin:end] = _cost(logits, y)
    return Score(nats.ravel(), right.ravel())
