"""Matrix products on a CPU by way of oneDNN, which is faster than torch's own choice there, most of all on processors
that are not Intel's."""

import torch

# torch's fused linear layer, which torch.compile uses: oneDNN on plain tensors; not in every build
_LINEAR = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None


def product(a, b):
    """a (M, K) @ b (K, N), where a is contiguous and b is, or is the transpose of something that is."""
    if _LINEAR is None or a.dtype != torch.float32 or a.device.type != "cpu" or b.shape[1] == 1:
        return torch.mm(a, b)
    return _LINEAR(a, b.t(), None, "none", [], "")
