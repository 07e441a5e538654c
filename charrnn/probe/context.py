"""How far back a model looks: what characters cost when only the last k before them are known (P8).

A window of k symbols is read from a fresh state and its last prediction is scored; the reading of the whole text from
its start, the state carried, is what all windows are compared with.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ..evaluate import CHUNK, score, width, zeros
from ..seeds import CONFIDENCE
from ..stream import draws

LONGEST = 512  # symbols of the longest window, as a rule
LANES = 256  # windows read side by side
MARGIN = 0.01  # bits per character within which a window counts as good as all that came before
RESAMPLED = 2000
NATS = math.log(2)  # in a bit


@dataclass(frozen=True)
class Context:
    """What the symbols at P places of a text cost, in nats: `full` (P,) with all before them known, `known` (P,) by
    the number k of symbols that were known."""

    places: np.ndarray
    full: np.ndarray
    known: dict[int, np.ndarray]

    def rows(self) -> list[dict]:
        """A row for each k: its cost, and how many bits more it is than the full one, with a bootstrap interval over
        the places of 95 %."""
        return [_row(k, nats, self.full) for k, nats in self.known.items()]


def _row(k, nats, full):
    more, mean = (nats - full) / NATS, float(nats.mean())
    low, high = interval(more)
    cost = {"nats": mean, "bits": mean / NATS, "perplexity": math.exp(min(mean, 700.0))}
    return {"known": k} | cost | {"more": float(more.mean()), "low": low, "high": high}


def interval(values: np.ndarray) -> tuple[float, float] | tuple[None, None]:
    """The interval of the mean of values (P,) when they are drawn anew, with replacement; None of a single one."""
    if len(values) < 2:
        return None, None
    from scipy.stats import bootstrap

    drawn = bootstrap(
        (values,), np.mean, n_resamples=RESAMPLED, batch=200, confidence_level=CONFIDENCE, method="percentile",
        rng=draws(0, "bootstrap"),
    ).confidence_interval  # fmt: skip
    return float(drawn.low), float(drawn.high)


def effective(rows: list[dict], name: str = "more") -> int | None:
    """The effective context: the least k within MARGIN of the full state by "more", or by an end of its interval;
    None where none is."""
    return next((row["known"] for row in rows if row[name] is not None and row[name] <= MARGIN), None)


def lengths(longest: int, symbols: int) -> list[int]:
    """The windows 1, 2, 4, .. up to the longest, as far as a text of so many symbols has as many again to score."""
    return [1 << power for power in range(longest.bit_length()) if 2 << power <= max(symbols, 2)]


def places(symbols: int, longest: int, wanted: int, seed: int) -> np.ndarray:
    """At most so many places (P,) of a text, in order, drawn among all that have `longest` symbols before them."""
    there = np.arange(longest, symbols)
    return there if len(there) <= wanted else np.sort(draws(seed, "places").choice(there, wanted, replace=False))


def measure(model, weights, ids, run, longest: int, wanted: int, seed: int, tell=lambda k: None) -> Context:
    """What the symbols of `ids` (N,) at the places drawn cost, under every window; `tell(k)` hears of each.

    The same places are scored under all windows, so that differences are paired.
    """
    known = lengths(longest, len(ids))
    where = places(len(ids), known[-1], wanted, seed)
    tell(None)
    full = score(model, weights, ids, run).nats[where - 1]
    costs = {}
    for k in known:
        tell(k)
        costs[k] = last(model, weights, ids, where, k, run)
    return Context(where, full, costs)


@torch.no_grad()
def last(model, weights, ids, where: np.ndarray, k: int, run) -> np.ndarray:
    """The nats (P,) of the symbols at these places when the k before each are all that is known."""
    p, like, costs = model.bind(weights), next(iter(weights.values())), []
    for begin in range(0, len(where), LANES):
        some = where[begin : begin + LANES]
        read = np.stack([ids[place - k : place + 1] for place in some], axis=1).astype(np.int64)  # (k + 1, B)
        read = torch.from_numpy(read).to(like.device)
        state = model.initial_state(zeros(like, len(some), model.hidden))
        for piece in read[:-1].split(max(1, CHUNK // (width(model) * len(some)))):
            logits, state = model.forward(p, piece, state, run)
        costs.append(F.cross_entropy(logits[-1].float(), read[-1], reduction="none").double().cpu().numpy())
    return np.concatenate(costs)
