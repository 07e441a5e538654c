"""Sampling steps: ours, torch.nn's as its users write them, and the reading of memory that no way can undercut."""

import numpy as np

from ...model import rounded
from ...sample import Picking, Sampler, generate
from .. import Size, work
from ..timing import timed

TEMPERATURE = 0.8
WIDTH = 1024  # columns of the matrix by which memory is read


def charrnn(cell: str, size: dict, streams: int, int8: bool = False):
    """The step of `charrnn sample`."""
    model = work.model(cell, Size(**size))
    weights = work.weights(model)
    sampler = Sampler([(model, rounded(weights) if int8 else weights)])
    drawn = generate(sampler, np.array([0]), Picking(TEMPERATURE), work.SEED, range(streams))
    for _ in range(sampler.patience(streams) + 1):  # until code is made
        next(drawn)
    return {"units": streams}, lambda: next(drawn)


def module(kind: str, size: dict, streams: int):
    """What users of nn.LSTM, nn.GRU and nn.RNN do: a call of the module, a softmax and a draw per character."""
    import torch

    from . import nets

    torch.manual_seed(work.SEED)
    net = nets.Module(kind, Size(**size)).eval()
    return _drawn(lambda ids, state: net(ids, state), torch.zeros(1, streams, dtype=torch.long), None)


def loop(cell: str, size: dict, streams: int):
    """The same by one who has written the cell's equations in torch."""
    import torch

    from ...engine import on_torch, reference  # noqa: F401  (teaches the operators torch's tensors)

    torch.manual_seed(work.SEED)
    model = work.model(cell, Size(**size))
    p = model.bind({name: torch.from_numpy(array) for name, array in work.weights(model).items()})
    start = model.initial_state(lambda: torch.zeros(streams, model.hidden))
    step = lambda ids, state: model.forward(p, ids, state, reference.step)  # noqa: E731
    return _drawn(step, torch.zeros(streams, dtype=torch.long), start)


def _drawn(step, ids, state):
    """Draws with torch, from these first ids on; `step` gives logits with one row per stream."""
    import torch

    @torch.inference_mode()
    def once():
        nonlocal ids, state
        logits, state = step(ids, state)
        p = torch.softmax(logits.reshape(ids.numel(), -1) / TEMPERATURE, -1)  # (B, V)
        ids = torch.multinomial(p, 1).view(ids.shape)
        ids.tolist()  # the characters are wanted, not the tensor

    return {"units": ids.numel(), "threads": torch.get_num_threads()}, once


def reading(size: int):
    """The fastest way to read so many bytes of weights: by a product with a vector, or by one of them with themselves.

    Units are bytes. Weights that fit into a cache are read from it, as they are in sampling.
    """
    numbers = np.ones(max(WIDTH, size // 4 // WIDTH * WIDTH), np.float32)
    matrix, vector = numbers.reshape(-1, WIDTH), np.ones(WIDTH, np.float32)
    out = np.empty(len(matrix), np.float32)
    tried = [lambda: np.dot(matrix, vector, out=out), lambda: np.dot(numbers, numbers)]
    once = min(tried, key=lambda way: min(timed(way) for _ in range(20)))
    return {"units": numbers.nbytes}, once


WAYS = {"charrnn": charrnn, "module": module, "loop": loop, "reading": reading}
