"""The models that a command reads with: those of one checkpoint, or with --ensemble of several of the same symbols."""

from dataclasses import dataclass
from pathlib import Path

from .. import checkpoint
from ..errors import CheckpointError
from ..model import Model, rounded
from ..vocab import Vocabulary, name_of
from .opening import opened

NAMED = 3  # symbols that an error names


@dataclass(frozen=True)
class Member:
    """A model, its weights (numpy, by name; their symbols in the order of the first member's) and its record."""

    path: Path
    model: Model
    weights: dict
    record: dict


def load(ckpt: Path, others: list[Path], cell: str | None, int8: bool = False) -> tuple[list[Member], Vocabulary]:
    """All models of these checkpoints, and the vocabulary of the first, which is that of all; `cell` is what --cell
    named, for those of them that need it. With `int8` their weights are rounded."""
    loaded, vocabulary = [], None
    for path in [ckpt, *others]:
        tensors, record = opened(path, cell, idle=bool(others))
        own, model = Vocabulary(record["vocabulary"]), Model.from_record(record["model"])
        vocabulary = vocabulary or own
        for weights in checkpoint.members(tensors, record):
            if own != vocabulary:
                weights = _reordered(weights, own, vocabulary, f"--ensemble {path}")
            loaded.append(Member(path, model, rounded(weights) if int8 else weights, record))
    return loaded, vocabulary


def _reordered(weights, own, first, what):
    """The weights with the rows of their symbols in the order of another vocabulary."""
    import numpy as np

    if own.of_bytes != first.of_bytes:
        kinds = ("bytes", "characters") if own.of_bytes else ("characters", "bytes")
        raise CheckpointError(f"{what}: its symbols are {kinds[0]}, those of the first checkpoint {kinds[1]}")
    place = {symbol: i for i, symbol in enumerate(own.symbols)}
    lacks = [symbol for symbol in first.symbols if symbol not in place]
    has = [symbol for symbol in own.symbols if symbol not in set(first.symbols)]
    if lacks or has:
        differences = [f"{verb} {_listed(names)}" for verb, names in (("lacks", lacks), ("adds", has)) if names]
        raise CheckpointError(f"{what}: its vocabulary {' and '.join(differences)}; an ensemble shares all symbols")
    order = [place[symbol] for symbol in first.symbols]
    axes = {"embedding": 0, "head.W": 1, "head.b": 0}
    return weights | {name: np.take(weights[name], order, axis) for name, axis in axes.items()}


def _listed(symbols):
    shown = ", ".join(name_of(symbol) for symbol in symbols[:NAMED])
    return shown + (f" and {len(symbols) - NAMED:,} more" if len(symbols) > NAMED else "")
