"""Matrix products on a CPU by way of oneDNN, which is faster than torch's own choice there, most of all on processors
that are not Intel's."""

import torch
from torch.autograd.function import once_differentiable

# torch's fused linear layer, which torch.compile uses: oneDNN on plain tensors; not in every build
_LINEAR = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


def product(a, b):
    """a (M, K) @ b (K, N) in the precision of a, which is contiguous; b or its transpose is too."""
    b = b.to(a.dtype)
    if _LINEAR is None or a.dtype == torch.float64 or a.device.type != "cpu" or b.shape[1] == 1:
        return torch.mm(a, b)
    return _LINEAR(a, b.t(), None, "none", [], "")


def precision(like):
    """The kind of number that products are computed in: that of `like`, or autocast's."""
    kind = like.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else like.dtype


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
