"""Noise: what training adds to a model so that it does not learn its text by heart, and evaluation leaves out.

One Noise is that of one step. All of it is a function of the seed and the step, so that a run resumes to the bit.
"""

import numpy as np
import torch

from .config import Config
from .model import Model, Quiet
from .stream import draws


class Noise(Quiet):
    """The noise of step number `step` for `lanes` lanes, as Model.forward wants it."""

    def __init__(self, config: Config, model: Model, lanes: int, device: torch.device, step: int):
        self.config, self.model, self.lanes, self.device, self.step = config, model, lanes, device, step
        self.outputs = self._outputs()

    def output(self, layer, y):
        """Locked dropout (Gal & Ghahramani 2016) on what a layer gives: one mask (B, n) per lane for all T."""
        return y * self.outputs[layer] if self.config.dropout else y

    def _outputs(self):
        """The masks of all layers: (L, B, n)."""
        p = self.config.dropout
        if not p:
            return None
        random = draws(self.config.seed, "dropout", self.step)
        kept = random.random((self.model.layers, self.lanes, self.model.hidden), dtype=np.float32) >= p
        return torch.from_numpy(kept).to(self.device) / (1 - p)
