"""AdamW, plain or cautious, gradient clipping, and a schedule that is a pure function of progress."""

import math

import torch

FLOOR = 0.01  # the rate at the end, as a share of its peak
FEWEST = 1e-3  # the share of an array's weights that a cautious step counts as moving, at least


def schedule(progress: float, warmup: float) -> float:
    """The learning rate as a share of its peak, from the share of the run that is done: a linear rise, then a cosine
    down to FLOOR (Loshchilov & Hutter 2017)."""
    rise = min(1.0, progress / warmup + 1e-3) if warmup else 1.0
    return rise * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


class Optimizer:
    """AdamW (Loshchilov & Hutter 2019) over weights by name, decay on matrices only, with state by name.

    `members` are the same weights, apart, where they are those of several models: each clips its gradient for itself.
    A `cautious` one moves no weight against its gradient of the moment (Liang, Chen, Liu & Liu 2024, Cautious
    Optimizers).
    """

    def __init__(
        self,
        weights: dict[str, torch.Tensor],
        weight_decay: float,
        members: list[dict] | None = None,
        cautious: bool = False,
    ):
        self.weights, self.members, self.cautious = weights, members or [weights], cautious
        self.fused = next(iter(weights.values())).device.type in ("cpu", "cuda")
        groups = [
            {"params": [w for w in weights.values() if w.dim() > 1], "weight_decay": weight_decay},
            {"params": [w for w in weights.values() if w.dim() == 1], "weight_decay": 0.0},
        ]
        self.adam = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.99), fused=self.fused)

    def clip(self, norm: float) -> float:
        """Scales the gradients down to the norm (0: leaves them) and returns the greatest norm that one had."""
        norms = [torch.nn.utils.clip_grad_norm_(own.values(), norm or math.inf) for own in self.members]
        return float(torch.stack(norms).max())

    def step(self, lr: float) -> None:
        for group in self.adam.param_groups:
            group["lr"] = lr
        starts = self._decayed() if self.cautious else None
        self.adam.step()
        if self.cautious:
            _take_back(list(self.weights.values()), starts)

    def _decayed(self):
        """Where its decay alone would bring each weight."""
        kept = {w: 1 - group["lr"] * group["weight_decay"] for group in self.adam.param_groups for w in group["params"]}
        weights = self.weights.values()
        return torch._foreach_mul([w.detach() for w in weights], [kept[w] for w in weights])

    def clear(self) -> None:
        self.adam.zero_grad(set_to_none=True)

    def export(self) -> dict[str, torch.Tensor]:
        """The moments and step counts, by `exp_avg.layers.0.U.f` and so on; empty before the first step."""
        return {
            f"{kind}.{name}": value
            for name, weight in self.weights.items()
            for kind, value in self.adam.state.get(weight, {}).items()
        }

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        self.adam.state.clear()
        for key, value in state.items():
            kind, name = key.split(".", 1)
            weight = self.weights[name]
            device = "cpu" if kind == "step" and not self.fused else weight.device  # where torch wants it
            self.adam.state[weight][kind] = value.to(device).clone()


@torch.no_grad()
def _take_back(weights, starts):
    """Leaves at its start each number of the weights that momentum moved against the gradient, and moves the others of
    an array further by as much as they are fewer; all arrays at once, which spares a GPU its many small calls."""
    torch._foreach_sub_(weights, starts)  # the moves
    agreed = torch._foreach_mul(weights, [weight.grad for weight in weights])
    torch._foreach_sign_(agreed)
    torch._foreach_neg_(agreed)
    torch._foreach_clamp_min_(agreed, 0.0)  # 1 where a move goes down the slope
    shares = torch._foreach_norm(agreed, 1)
    torch._foreach_div_(shares, [float(weight.numel()) for weight in weights])
    torch._foreach_clamp_min_(shares, FEWEST)
    torch._foreach_div_(agreed, shares)
    torch._foreach_mul_(weights, agreed)
    torch._foreach_add_(weights, starts)
