"""Matrix products on a CPU by way of oneDNN, which is faster than torch's own choice there, most of all on processors
that are not Intel's."""

import torch
from torch.autograd.function import once_differentiable

# torch's fused linear layer, which torch.compile uses: oneDNN on plain tensors; not in every build
_LINEAR = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


SMALL = 20_000_000  # multiplications of a product, where oneDNN loses more by laying out a matrix anew than it saves
COARSE = 4_000_000  # multiplications of a product from which on it gains by autocast: then up to 1.9 times as fast
NARROW = 16  # columns; for 2 or more, but fewer than these, torch's product is much slower than that of the transposes


def product(a, b):
    """a (M, K) @ b (K, N) in the precision of a, which is contiguous; b or its transpose is too."""
    b = b.to(a.dtype)
    if _narrow(a, b.shape[1]):
        return torch.mm(b.t().contiguous(), a.t()).t()
    return torch.mm(a, b) if _by_torch(a, b.shape[1]) else _LINEAR(a, b.t(), None, "none", [], "")


def setting(a, columns, kind):
    """As `product` for every b of so many columns, into a place of a kind of numbers: a function of a, b and it."""
    if _is_plain(a, columns, kind):
        return lambda a, b, out: torch.mm(a, b, out=out)
    return lambda a, b, out: out.copy_(product(a, b))


def adding(a, columns, kind):
    """As `setting`, but added to what is there."""
    if _is_plain(a, columns, kind):
        return lambda a, b, out: out.addmm_(a, b)
    return lambda a, b, out: out.add_(product(a, b))


def _is_plain(a, columns, kind):
    return a.dtype == kind and _by_torch(a, columns) and not _narrow(a, columns)


def _narrow(a, columns):
    return a.device.type == "cpu" and 1 < columns < NARROW


def _by_torch(a, columns):
    if _LINEAR is None or a.dtype == torch.float64 or a.device.type != "cpu":
        return True
    return columns == 1 or a.numel() * columns < SMALL


def in_bfloat16() -> bool:
    """Whether this processor multiplies in bfloat16 itself, as far as torch can tell."""
    can = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(can.get("avx512_bf16") or can.get("amx_bf16"))


class Precision:
    """The kind of number that products are computed in on arrays such as `like`: theirs or, where autocast is on as
    this is made, its own; on a CPU only if the product is large enough to gain by it."""

    def __init__(self, like):
        device = like.device.type
        self.usual, self.least = like.dtype, COARSE if device == "cpu" else 0
        self.coarse = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else like.dtype

    def of(self, multiplications: int) -> torch.dtype:
        """That of a product of so many multiplications."""
        return self.usual if multiplications < self.least else self.coarse


def affine(a, W, b):
    """a @ W + b for a (..., k)."""
    mixed = torch.is_autocast_enabled(a.device.type)  # then torch's own product goes through oneDNN
    return a @ W + b if mixed else _Product.apply(a.reshape(-1, a.shape[-1]), W).view(*a.shape[:-1], -1) + b


class _Product(torch.autograd.Function):
    """a (M, K) @ W (K, N) with both gradients by way of `product`."""

    @staticmethod
    def forward(ctx, a, W):
        ctx.save_for_backward(a, W)
        return product(a.contiguous(), W)

    @staticmethod
    @once_differentiable
    def backward(ctx, slope):
        a, W = ctx.saved_tensors
        return product(slope.contiguous(), W.t()), product(slope.t().contiguous(), a).t()
