"""How far back gradients reach: the loss of one prediction, differentiated by the embeddings of what came before (P5).

|dl/de(T-k)| / |dl/de(T)| for lags k, where e are the embeddings and l is the cost of the last prediction alone. One
backward pass gives all lags, by whatever engine runs the cell.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ..evaluate import zeros
from ..model import Quiet
from ..seeds import CONFIDENCE
from ..stream import draws

LANES = 64  # windows read side by side
AHEAD = 64  # symbols read before a window, so that its state is one that the model has while it reads
RESAMPLED = 400
LEAST = 1e-30  # below it float32 soon has no more numbers


class _Watched(Quiet):
    """Keeps the embeddings and begins the graph of autograd with them."""

    def input(self, x):
        self.embeddings = x.detach().requires_grad_()
        return self.embeddings


@dataclass(frozen=True)
class Reach:
    """Gradients by lag: `ratios` (W, K + 1) of W windows; lag 0 is the last symbol read, where the ratio is 1."""

    ratios: np.ndarray

    @property
    def median(self) -> np.ndarray:
        """The median over the windows, by lag (K + 1,)."""
        return np.median(self.ratios, axis=0)

    def summary(self) -> dict:
        """The median by lag, and its half-life with a bootstrap interval over the windows of 95 %."""
        low, high = self._interval()
        half, share = half_life(self.median)
        return {
            "windows": len(self.ratios), "lags": self.ratios.shape[1] - 1, "ratio": self.median.tolist(),
            "half_life": half, "low": low, "high": high, "r_squared": share,
        }  # fmt: skip

    def _interval(self):
        if len(self.ratios) < 2:
            return None, None
        from scipy.stats import bootstrap

        drawn = bootstrap(
            (np.arange(len(self.ratios)),), lambda some: _slope(np.median(self.ratios[some], axis=0))[0],
            n_resamples=RESAMPLED, vectorized=False, confidence_level=CONFIDENCE, method="percentile",
            rng=draws(0, "bootstrap"),
        ).confidence_interval  # fmt: skip
        return _halved(drawn.low), _halved(drawn.high)


def half_life(ratio: np.ndarray) -> tuple[float | None, float | None]:
    """After how many lags the gradients (K + 1,) are halved, by a straight line through log2 of lags 1 to K; and the
    share of the scatter that the line explains. None where they do not fall, or where too few are above 0."""
    slope, share = _slope(ratio)
    return _halved(slope), share


def _slope(ratio):
    """The line through log2 of the ratios against their lags: slope, and R squared."""
    lags = np.arange(len(ratio))
    some = (lags > 0) & (ratio > LEAST)
    if some.sum() < 2:
        return 0.0, None
    logs = np.log2(ratio[some])
    slope, start = np.polyfit(lags[some], logs, 1)
    left, scatter = np.sum((logs - start - slope * lags[some]) ** 2), np.sum((logs - logs.mean()) ** 2)
    return float(slope), float(1 - left / scatter) if scatter else None


def _halved(slope):
    return float(-1 / slope) if slope < 0 else None


def needed(lags: int) -> int:
    """The symbols that a text must have at least."""
    return AHEAD + lags + 2


def places(symbols: int, lags: int, wanted: int, seed: int) -> np.ndarray:
    """At most so many places (W,) of a text whose symbol is to be predicted, in order, drawn among all that have
    enough before them."""
    there = np.arange(needed(lags) - 1, symbols)
    return there if len(there) <= wanted else np.sort(draws(seed, "places").choice(there, wanted, replace=False))


def measure(model, weights, ids, where: np.ndarray, lags: int, run) -> Reach:
    """The gradients of the cost of the symbols of `ids` (N,) at these places, one by one, by lags 0 to `lags`."""
    weights = {name: array.detach() for name, array in weights.items()}
    p, like, ratios = model.bind(weights), next(iter(weights.values())), []
    for begin in range(0, len(where), LANES):
        some = where[begin : begin + LANES]
        read = np.stack([ids[place - lags - 1 - AHEAD : place + 1] for place in some], axis=1)  # (A + K + 2, B)
        read = torch.from_numpy(read.astype(np.int64)).to(like.device)
        with torch.no_grad():
            _, state = model.forward(p, read[:AHEAD], model.initial_state(zeros(like, len(some), model.hidden)), run)
        norms = _norms(model, p, read[AHEAD:-1], read[-1], state, run)
        ratios.append((norms / norms[-1]).flip(0).T.numpy())
    ratios = np.concatenate(ratios)
    return Reach(ratios[np.isfinite(ratios).all(1)])


def _norms(model, p, x, y, state, run):
    """|dl/de| at each step, (T, B), of the costs of y (B,) after x (T, B); lanes do not see each other, so the
    gradient of their sum is that of each."""
    watched = _Watched()
    logits, _ = model.forward(p, x, state, run, watched)
    loss = F.cross_entropy(logits[-1], y, reduction="sum")
    (slope,) = torch.autograd.grad(loss, watched.embeddings)  # (T, B, D)
    return slope.cpu().double().norm(dim=-1)  # squares of small numbers would be 0 in float32


def trained(trainer, steps: int, early: int, look):
    """Trains for so many steps and yields (step, look()) at the start, after `early` steps, and at the end."""
    for step in sorted({0, min(early, steps), steps}):
        while trainer.counters.step < step:
            trainer.update()
        yield step, look()
