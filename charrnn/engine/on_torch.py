"""The operators of a step on torch tensors."""

import torch
import torch.nn.functional as F

from ..cells import base
from .products import affine

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
    block_diagonal=lambda blocks: torch.block_diag(*blocks),
    constant=lambda like, values: torch.as_tensor(values).to(like.device, like.dtype),
).items():
    base.OPERATORS[_name].register(torch.Tensor, _function)
