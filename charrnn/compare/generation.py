"""How fast a model draws: `python -m charrnn.compare.generation CKPT` prints characters per second.

A process of its own, on a CPU and without torch, as `charrnn sample` is.
"""

import sys
import time
from pathlib import Path

from .. import checkpoint
from ..model import Model
from ..sample import Picking, Sampler, generate, opening
from ..vocab import Vocabulary

AHEAD = 50  # characters before the clock starts, once code has been made for it
SECONDS = 0.5


def speed(path: Path) -> float:
    """Characters drawn per second, one by one at temperature 0.8."""
    tensors, record = checkpoint.load(checkpoint.find(path))
    vocabulary = Vocabulary(record["vocabulary"])
    model = Model.from_record(record["model"])
    reader = Sampler([(model, weights) for weights in checkpoint.members(tensors, record)])
    drawn = generate(reader, opening(vocabulary, 1), Picking(), 1, range(1), vocabulary.unknown)
    for _ in range(reader.patience(1) + AHEAD):
        next(drawn)
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < SECONDS:
        next(drawn)
        count += 1
    return count / spent


if __name__ == "__main__":
    print(speed(Path(sys.argv[1])))
