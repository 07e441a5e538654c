"""Noise: what training adds to a model so that it does not learn its text by heart, and evaluation leaves out.

All of it is a function of the seed and the step, so that a run resumes to the bit. Of what is dropped or kept, the
mean over all draws is what evaluation computes with.
"""

import numpy as np
import torch

from .config import Config
from .model import Model, Quiet
from .stream import draws


class Noise(Quiet):
    """The noise of step number `step` for `lanes` lanes of one member, as Model.forward asks for it.

    Dropout is locked (Gal & Ghahramani 2016): one mask per lane for all T. The same draws decide what goes up and what
    the softmax sees, so that at equal rates a layer's units are dropped for both or for neither.
    """

    def __init__(self, config: Config, model: Model, lanes: int, device: torch.device, step: int, member: int = 0):
        self.config, self.model, self.lanes, self.device = config, model, lanes, device
        self.step, self.member = step, member
        self.up = config.dropout
        self.seen = self.up if config.dropout_output is None else config.dropout_output
        rates, shape = {self.up, self.seen} - {0.0}, (model.layers, lanes, model.hidden)
        drawn = self._drawn("dropout", shape) if rates else None
        self.masks = {rate: self._mask(drawn, rate) for rate in rates}  # (L, B, n) each

    def weights(self, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The weights to compute with: of each matrix that a state passes through a part is absent, the same for all
        lanes and all T (DropConnect of Wan et al. 2013 as in Merity, Keskar & Socher 2018)."""
        p, weights = self.config.weight_drop, dict(weights)
        for name in [name for name in weights if name in self.model.recurrent] if p else ():
            weights[name] = weights[name] * self._mask(self._drawn(f"weight-drop {name}", weights[name].shape), p)
        return weights

    def state(self, state: list[dict], fresh: list[dict]) -> list[dict]:
        """The states to go on from: those of some lanes as if a text began here, which every text that is sampled or
        scored does once."""
        p = self.config.state_reset
        lost = self._random("state-reset").random(self.lanes, np.float32) < p  # (B,)
        if not lost.any():
            return state
        return [
            {name: self._where(lost, new[name], array) for name, array in own.items()}
            for own, new in zip(state, fresh, strict=True)
        ]

    def input(self, x):
        p = self.config.dropout_input
        return x * self._mask(self._drawn("dropout-input", x.shape[1:]), p) if p else x

    def zoneout(self, layer, x):
        rate, shape, noise = self.model.zoneout, (len(x), self.lanes, self.model.hidden), {}  # (T, B, n)
        for name in self.model.stack[layer].regularised if rate else ():
            stays = self._drawn(f"zoneout {layer} {name}", shape) < rate
            noise[f"zoneout_{name}"] = stays + -rate  # its mean is 0
        return noise

    def output(self, layer, y):
        up = self._dropped(self.up, layer, y)
        return up, up if self.seen == self.up else self._dropped(self.seen, layer, y)

    def _dropped(self, rate, layer, y):
        return y * self.masks[rate][layer] if rate else y

    def _where(self, lanes, one, other):
        """Arrays (B, ..): of these lanes the one, of the rest the other."""
        return torch.where(torch.from_numpy(lanes).to(self.device).view(-1, *[1] * (one.dim() - 1)), one, other)

    def _random(self, name):
        """The generator of what is drawn for one purpose."""
        name = f"{self.member} {name}" if self.member else name
        return draws(self.config.seed, name, self.step)

    def _drawn(self, name, shape):
        """Numbers from 0 to below 1 for one purpose; a GPU draws its own, for it would wait long for a processor's."""
        random, shape = self._random(name), tuple(shape)
        if self.device.type == "cpu":
            return torch.from_numpy(random.random(shape, np.float32))
        own = torch.Generator(self.device).manual_seed(int(random.integers(1 << 62)))
        return torch.rand(shape, generator=own, device=self.device)

    @staticmethod
    def _mask(drawn, rate):
        """0 where the drawn numbers are below the rate; the others are so much greater that the mean is 1."""
        return (drawn >= rate) / (1 - rate)
