"""The benchmark: our way and the peers', in processes that take turns, so that a ratio can be trusted.

`timing` says who runs when and which samples count, `worker` is a process that takes turns, `work` is what is done and
how much arithmetic it is, `ways` who does it; `train`, `sample`, `encode` and `start` make rows of it.
"""

from dataclasses import dataclass

from .timing import Limit


@dataclass(frozen=True)
class Size:
    """How large a model is, and how many lanes and characters a step of its training has."""

    layers: int
    hidden: int
    batch: int
    length: int


SIZES = {
    "A": Size(2, 128, 50, 50),
    "B": Size(2, 256, 64, 128),
    "C": Size(3, 512, 64, 128),
    "tiny": Size(1, 16, 4, 8),  # for trying a command; its figures say nothing
}


@dataclass(frozen=True)
class Settings:
    """What holds for all rows of a benchmark; `threads` 0 leaves the libraries their own choice."""

    limit: Limit
    threads: int = 0
    engine: str = "auto"
    precision: str = "float32"
