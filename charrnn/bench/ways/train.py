"""Training steps: ours, torch.nn's as its users write them, and the product that tells what the machine can do."""

from functools import partial
from itertools import count, product
from operator import itemgetter
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

from ...config import Config
from ...engine.allocator import keep_buffers
from ...errors import Diverged
from ...train import Trainer
from .. import Size, work
from ..timing import timed
from . import nets

RATE, CLIP = 2e-3, 1.0
ENDLESS = 10**9  # steps of a run that never evaluates and hardly lowers its rate
SIDES = (1024, 2048)  # of the matrices in which the best product is looked for
LAST = 4  # a loss is the mean over the last quarter of the steps


def _trainer(cell, size, engine, precision):
    """Our training, ready for Trainer.update. There is no corpus because nothing is evaluated."""
    model = work.model(cell, size)
    config = Config(
        cell=cell, hidden=size.hidden, layers=size.layers, embed=work.EMBED, skips=False, dropout=0.0,
        batch_size=size.batch, seq_len=size.length, lr=RATE, warmup=0.0, clip=CLIP, steps=ENDLESS, seed=work.SEED,
        engine=engine, precision=precision,
    )  # fmt: skip
    quiet = {"say": lambda *_, **__: None, "stop": lambda: None, "preview": None}
    trainer = Trainer(config, model, None, work.stream(size), "cpu", **quiet)
    trainer.folder = SimpleNamespace(log=lambda *_: None)  # where a step that was skipped is told
    trainer.begin(work.weights(model))
    return trainer


def charrnn(cell: str, size: dict, engine: str, precision: str, keep: bool):
    """The step of `charrnn train`; a peer who loops over the same equations does not `keep` buffers as it does."""
    if keep:
        keep_buffers()
    trainer = _trainer(cell, Size(**size), engine, precision)
    return _facts(trainer.stream) | {"engine": trainer.engine}, trainer.update


def _facts(stream):
    return {"units": stream.lanes * stream.length, "threads": torch.get_num_threads()}


def module(kind: str, size: dict, precision: str):
    """The step of one who trains nn.LSTM, nn.GRU or nn.RNN."""
    return _peer(nets.Module, kind, Size(**size), precision)


def loop(kind: str, size: dict, precision: str):
    """The step of one who trains a loop over nn.LSTMCell, nn.GRUCell or nn.RNNCell."""
    return _peer(nets.Loop, kind, Size(**size), precision)


def _peer(net, kind, size, precision):
    torch.manual_seed(work.SEED)
    net, stream, numbers, state = net(kind, size), work.stream(size), count(), None
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE)

    def once():
        nonlocal state
        x, y, _ = stream.batch(next(numbers))
        x, y = torch.from_numpy(x.astype(np.int64)), torch.from_numpy(y.astype(np.int64))  # (T, B)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits, after = net(x, state)
        loss = F.cross_entropy(logits.float().flatten(0, 1), y.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), CLIP)
        optimizer.step()
        state = nets.detached(after)
        loss.item()

    return _facts(stream), once


def best_product():
    """The fastest large float32 product that torch reaches here, by its own library or by oneDNN; units are flops."""
    linear = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
    libraries = {"torch.mm": torch.mm}
    if linear:
        libraries["oneDNN"] = lambda a, b: linear(a, b, None, "none", [], "")
    tried = []
    for side, (name, multiply) in product(SIDES, libraries.items()):
        once = partial(multiply, torch.rand(side, side), torch.rand(side, side))
        tried.append((2 * side**3 / min(timed(once) for _ in range(2)), side, name, once))
    _, side, name, once = max(tried, key=itemgetter(0))
    return {"units": 2 * side**3, "threads": torch.get_num_threads(), "by": f"{name}, {side} x {side}"}, once


def loss(cell: str, size: dict, engine: str, precision: str, steps: int):
    """What a training of so many steps comes down to: its facts are the result, and there is nothing to repeat."""
    keep_buffers()
    trainer = _trainer(cell, Size(**size), engine, precision)
    first = steps - -(-steps // LAST)
    for step in range(steps):
        if step == first:
            trainer.counters.loss_sum, trainer.counters.loss_count = 0.0, 0
        trainer.update()
    counters = trainer.counters
    if not counters.loss_count:
        raise Diverged(f"{cell}: no loss of the last quarter of {steps} steps is finite")
    facts = {"nats": counters.loss_sum / counters.loss_count, "skipped": counters.skipped}
    return _facts(trainer.stream) | {"engine": trainer.engine} | facts, trainer.update


WAYS = {"charrnn": charrnn, "module": module, "loop": loop, "best product": best_product, "loss": loss}
