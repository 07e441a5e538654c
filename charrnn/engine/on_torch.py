"""The operators of a step on torch tensors."""

import torch
import torch.nn.functional as F

from ..cells import base
from .products import affine

BLOCK = 256  # queries that look back together: what their scores take does not grow with the text


def attend(query, new, memory):
    """As in base, in blocks of the sequence."""
    if query.dim() == 2:
        return attend(query[None], new[None], memory)[0]
    rows, N = _with(memory, new), memory.shape[1]  # (B, N + T, n + 1)
    found = []
    for start in range(0, len(query), BLOCK):
        q = query[start : start + BLOCK].transpose(0, 1)  # (B, t, n)
        seen = rows[:, start : start + q.shape[1] + N]  # (B, N + t, n + 1)
        ahead = torch.arange(seen.shape[1], device=q.device) - torch.arange(q.shape[1], device=q.device)[:, None]
        hidden = (ahead < 0) | (ahead > N) | (seen[:, None, :, -1] == 0)  # (B, t, N + t)
        scores = (q @ seen[..., :-1].transpose(1, 2) / q.shape[-1] ** 0.5).masked_fill(hidden, -torch.inf)
        found.append(scores.softmax(-1) @ seen[..., :-1])
    return torch.cat(found, 1).transpose(0, 1)


def remember(memory, new):
    """As in base."""
    return _with(memory, new if new.dim() == 3 else new[None])[:, -memory.shape[1] :]


def _with(memory, new):
    """The memory and behind it the rows of new (T, B, n): (B, N + T, n + 1)."""
    return torch.cat([memory, F.pad(new, (0, 1), value=1.0).transpose(0, 1)], 1)


for _name, _function in dict(
    sigmoid=torch.sigmoid,
    tanh=torch.tanh,
    relu=torch.relu,
    exp=torch.exp,
    sqrt=torch.sqrt,
    log_sigmoid=F.logsigmoid,
    softplus=F.softplus,
    maximum=torch.maximum,
    where=torch.where,
    take=lambda table, ids: F.embedding(ids, table),
    affine=affine,
    join=lambda *arrays: torch.cat(arrays, dim=-1),
    stack=lambda *arrays: torch.stack(arrays),
    normalise=lambda a: F.layer_norm(a, a.shape[-1:], eps=base.EPSILON),
    attend=attend,
    remember=remember,
    block_diagonal=lambda blocks: torch.block_diag(*blocks),
    constant=lambda like, values: torch.as_tensor(values).to(like.device, like.dtype),
).items():
    base.OPERATORS[_name].register(torch.Tensor, _function)
