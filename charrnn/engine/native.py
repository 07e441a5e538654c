"""torch.nn's own kernels (oneDNN on a CPU, cuDNN on CUDA) for the three cells that they know, with our weights.

torch keeps a gate's matrices as (n, m) and adds two biases; ours are (m, n) as in h @ U.i, with one bias. So the
matrices of all gates are laid side by side, transposed, and the second bias is zero, but for v.n of the GRU.
"""

import torch

from ..cells import gru, lstm, rnn


def refuses(cell, like) -> str:
    """Why torch.nn cannot run this cell, in words; an empty string where it can."""
    if type(cell) not in _KERNELS:
        known = ", ".join(kind.name for kind in _KERNELS)
        return f"torch.nn has no kernel for the cell {cell.name}, only for {known}"
    if not isinstance(like, torch.Tensor):
        return "torch.nn runs on torch tensors only"
    return ""


def unroll(cell, p, x, below, state):
    """As reference.unroll."""
    W, U, b, v = (vars(family) for family in (p.W, p.U, p.b, p.v))
    gates = cell.gates.split()
    second = [v.get(gate, torch.zeros_like(b[gate])) for gate in gates]
    rows = [W[gate].t() for gate in gates] + [U[gate].t() for gate in gates] + [b[gate] for gate in gates] + second
    flat = torch.cat([row.reshape(-1) for row in rows])  # one piece of memory, laid out as cuDNN wants it
    sizes = [sum(row.numel() for row in rows[i : i + len(gates)]) for i in range(0, len(rows), len(gates))]
    W, U, b, second = flat.split(sizes)
    n, m = b.numel() // len(gates), x.shape[-1]
    weights = [W.view(-1, m), U.view(-1, n), b, second]  # (G n, m), (G n, n), (G n,), (G n,)
    training = torch.is_grad_enabled() and x.is_cuda  # cuDNN keeps what the backward pass needs only if told
    carried = tuple(state[name].unsqueeze(0) for name in cell.states)  # (1, B, n) each
    y, *carried = _KERNELS[type(cell)](cell)(
        x, carried if len(carried) > 1 else carried[0], weights, True, 1, 0.0, training, False, False
    )
    return {cell.ups[0]: y}, {name: value.squeeze(0) for name, value in zip(cell.states, carried, strict=True)}


_KERNELS = {
    lstm.LSTM: lambda cell: torch._VF.lstm,
    gru.GRU: lambda cell: torch._VF.gru,
    rnn.RNN: lambda cell: torch._VF.rnn_tanh if cell.activation == "tanh" else torch._VF.rnn_relu,
}
