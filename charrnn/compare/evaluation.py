"""How fast a model scores: `python -m charrnn.compare.evaluation CKPT` prints characters per second.

A process of its own that reads as `charrnn eval` does, from end to end, on the device that the model was trained on.
"""

import sys
import time
from pathlib import Path

from .. import checkpoint
from ..config import complete
from ..model import Model
from ..stream import draws

PIECE = 2000  # characters read at a time; which they are makes no difference to the speed
SECONDS = 0.5


def speed(path: Path) -> float:
    """Characters scored per second, by one lane."""
    import torch

    from ..engine import choose, on_numpy, on_torch  # noqa: F401  (both teach the operators their arrays)
    from ..ensemble import Ensemble
    from ..evaluate import score

    tensors, record = checkpoint.load(checkpoint.find(path))
    model, config = Model.from_record(record["model"]), complete(record["config"])
    if config["threads"]:
        torch.set_num_threads(config["threads"])
    device = config["device"]
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    weights = {k: torch.from_numpy(array).to(device) for k, array in checkpoint.weights(tensors).items()}
    _, run = choose(config["engine"], model.stack[-1], next(iter(weights.values())), lanes=1, scoring=True)
    if config["members"] > 1:
        model = Ensemble([model] * config["members"])
    ids = draws(0, "evaluation").integers(model.symbols, size=PIECE + 1)
    score(model, weights, ids[: PIECE // 4], run)
    count, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < SECONDS:
        score(model, weights, ids, run)
        count += PIECE
    return count / spent


if __name__ == "__main__":
    print(speed(Path(sys.argv[1])))
