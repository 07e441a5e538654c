"""Dynamic evaluation: what a text costs a model that goes on learning from it while it is scored.

Krause, Kahembwe, Murray & Renals 2018, Dynamic Evaluation of Neural Sequence Models (the RMS rule with a global
prior). The text is read in short segments; each is scored first and then learned from, so that no symbol is scored
by weights that have seen it. Nothing is drawn at random: a score is a function of weights, texts and settings.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F

from .evaluate import Score, zeros

EPSILON = 3e-4  # less than a usual gradient; keeps weights whose gradient is nearly always 0 from leaping
FITTED = 20_000  # symbols at the end of the training part that settings are fitted on; of a short one its last fifth
MEASURED = 512  # segments of the rest whose gradients tell how large they usually are,
PLACES = 16  # read at so many places, each from a fresh state on


@dataclass(frozen=True)
class Settings:
    """How a model adapts: after each `segment` symbols every weight moves by about `rate`, or less, and goes back the
    share `decay` of its way from where training had left it."""

    rate: float = 5e-4
    decay: float = 1e-4
    segment: int = 32


GRID = {  # what a fit may find
    "rate": (2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2),
    "decay": (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
    "segment": (16, 32, 64),
}


class Adaptive:
    """A model that learns from what it reads. The `weights` (torch, by name) stay as they are; of the training part
    `train` (N,), N >= 3, the end is what settings are fitted on, the rest what gradients are measured on."""

    def __init__(self, model, weights: dict[str, torch.Tensor], run, train: np.ndarray):
        self.model, self.weights, self.run = model, weights, run
        cut = len(train) - max(2, min(FITTED, len(train) // 5))
        self.train, self.tail, self._measured = train[:cut], train[cut:], {}

    def score(self, ids: np.ndarray, settings: Settings) -> Score:
        """The cost of each symbol of `ids` (N,) but the first, beginning with the trained weights and a fresh state."""
        usual, weights = self._usual(settings.segment), self._own()
        mean = sum(float(u.sum()) for u in usual) / sum(u.numel() for u in usual)
        steps = [settings.rate / (u + EPSILON) for u in usual]
        pulls = [(settings.decay * u / mean).clamp(max=1) for u in usual]
        nats, right = [], []
        for cost, hit, slopes in self._read(weights, ids, settings.segment):
            nats.append(cost)
            right.append(hit)
            with torch.no_grad():  # both parts of a move start from where the weight was
                for weight, trained, pull, slope, step in zip(
                    weights.values(), self.weights.values(), pulls, slopes, steps, strict=True
                ):
                    weight.lerp_(trained, pull).addcmul_(slope, step, value=-1)
        return Score(np.concatenate(nats, dtype=np.float64), np.concatenate(right))

    def fit(self, told=lambda settings, nats: None) -> Settings:
        """The settings of the GRID under which the end of the training part costs least: from the usual ones one step
        at a time, as long as one costs less; `told` hears what each costs."""
        costs = {}

        def cost(settings):
            if settings not in costs:
                nats = self.score(self.tail, settings).summary()["nats"]
                costs[settings] = nats if math.isfinite(nats) else math.inf
                told(settings, costs[settings])
            return costs[settings]

        best, before = Settings(), None
        while best != before:
            before = best
            for name in GRID:
                best = _walked(best, name, cost)
        return best

    def _usual(self, segment):
        """How large the gradient of each weight usually is: the root of its mean square over segments of the training
        part, a tensor per weight."""
        if segment not in self._measured:
            last = len(self.train) - 1
            length = min(MEASURED // PLACES * segment, last)
            weights, count = self._own(), 0
            squares = [torch.zeros_like(weight) for weight in self.weights.values()]
            for start in np.linspace(0, last - length, min(PLACES, last // length)).astype(int):
                for _, _, slopes in self._read(weights, self.train[start : start + length + 1], segment):
                    count += 1
                    for square, slope in zip(squares, slopes, strict=True):
                        square.addcmul_(slope, slope)
            self._measured[segment] = [(square / count).sqrt() for square in squares]
        return self._measured[segment]

    def _own(self):
        """The trained weights as a copy that may be changed."""
        return {name: weight.clone().requires_grad_() for name, weight in self.weights.items()}

    def _read(self, weights, ids, segment):
        """Reads a text segment by segment, each with the weights as they are by then; yields what its symbols cost and
        whether the likeliest came, (T,) in numpy, and the gradient of their mean cost, a tensor per weight."""
        leaves = list(weights.values())
        like = leaves[0].detach()
        state = self.model.initial_state(zeros(like, 1, self.model.hidden))
        for begin in range(0, len(ids) - 1, segment):
            block = torch.from_numpy(np.asarray(ids[begin : begin + segment + 1], np.int64)).to(like.device)
            x, y = block[:-1, None], block[1:]  # (T, 1), (T,)
            logits, after = self.model.forward(self.model.bind(weights), x, state, self.run)
            logits = logits[:, 0]  # (T, V)
            nats = F.cross_entropy(logits, y, reduction="none")
            slopes = torch.autograd.grad(nats.mean(), leaves)
            state = [{name: array.detach() for name, array in own.items()} for own in after]
            yield nats.detach().cpu().numpy(), (logits.argmax(-1) == y).cpu().numpy(), slopes


def _walked(best, name, cost):
    """The settings after one of them went down, then up its row of the GRID as long as that cost less; down also where
    it cost the same, so that no number at all (inf) is left behind."""
    row = GRID[name]
    for step in (-1, 1):
        while 0 <= (place := row.index(getattr(best, name)) + step) < len(row):
            other = replace(best, **{name: row[place]})
            if (cost(other), step) >= (cost(best), 0):
                break
            best = other
    return best
