"""The operators of a step on numpy arrays."""

import numpy as np

from ..cells import base


def sigmoid(a):
    """The logistic function, by way of tanh because that cannot overflow."""
    return 0.5 * np.tanh(0.5 * a) + 0.5


def softplus(a):
    """log(1 + exp(a)) without overflow."""
    return np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a)))


def normalise(a):
    """(a - mean) / sqrt(variance + EPSILON) along the last axis."""
    a = a - a.mean(-1, keepdims=True)
    return a / np.sqrt((a * a).mean(-1, keepdims=True) + base.EPSILON)


def attend(query, new, memory):
    """As in base, one query after the other."""
    if query.ndim == 3:
        found = []
        for q, row in zip(query, new, strict=True):
            found.append(attend(q, row, memory))
            memory = remember(memory, row)
        return np.stack(found)
    past, there = memory[..., :-1], memory[..., -1]  # (B, N, n), (B, N)
    scores = np.where(there > 0, (past @ query[..., None])[..., 0], -np.inf)
    scores = np.concatenate([scores, (query * new).sum(-1, keepdims=True)], -1) / query.shape[-1] ** 0.5  # (B, N + 1)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return (weights[:, None, :-1] @ past)[:, 0] + weights[:, -1:] * new


def remember(memory, new):
    """As in base."""
    rows = new if new.ndim == 3 else new[None]  # (T, B, n)
    rows = np.concatenate([rows, np.ones_like(rows[..., :1])], -1).swapaxes(0, 1)
    return np.concatenate([memory, rows], 1)[:, -memory.shape[1] :]


def block_diagonal(blocks):
    """Blocks (k, a, b) -> a matrix (k a, k b)."""
    k, a, b = blocks.shape
    matrix = np.zeros((k * a, k * b), blocks.dtype)
    for i, block in enumerate(blocks):
        matrix[i * a : (i + 1) * a, i * b : (i + 1) * b] = block
    return matrix


for _name, _function in dict(
    sigmoid=sigmoid,
    tanh=np.tanh,
    relu=lambda a: np.maximum(a, 0),
    exp=np.exp,
    sqrt=np.sqrt,
    log_sigmoid=lambda a: -softplus(-a),
    softplus=softplus,
    maximum=np.maximum,
    where=np.where,
    take=lambda table, ids: table[ids],
    affine=lambda a, W, b: a @ W + b,
    join=lambda *arrays: np.concatenate(arrays, axis=-1),
    stack=lambda *arrays: np.stack(arrays),
    normalise=normalise,
    attend=attend,
    remember=remember,
    block_diagonal=block_diagonal,
    constant=lambda like, values: np.asarray(values, like.dtype),
).items():
    base.OPERATORS[_name].register(np.ndarray, _function)
