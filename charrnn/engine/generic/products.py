"""Matrix products on a CPU by way of oneDNN, which is faster than torch's own choice there, most of all on processors
that are not Intel's."""

import torch

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
