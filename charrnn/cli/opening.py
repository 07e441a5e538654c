"""Checkpoints opened; one whose cell is a person's own asks for its file, since no checkpoint says where that is."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..cells import own
from ..config import complete
from ..errors import CheckpointError, UsageError

CellOption = Annotated[
    str | None,
    typer.Option("--cell", help="PATH.py:CLASS, for a model whose cell is one of your own.", show_default=False),
]


def opened(path: Path, cell: str | None, idle: bool = False) -> tuple[dict, dict]:
    """The tensors and the record of a checkpoint, or of the best one in a folder; `cell` is what --cell named.

    CheckpointError where it needs a cell that was not named, or that does not fit; UsageError where one was named that
    it does not need, unless that may be so (`idle`).
    """
    from .. import checkpoint

    path = checkpoint.find(path)
    tensors, record = checkpoint.load(path)
    name = record["model"]["cell"]
    if not own.in_file(name):
        if cell is not None and not idle:
            raise UsageError(f"--cell {cell}: {path} has the cell {name}, which needs no file; leave it out")
        return tensors, record
    if cell is None:
        raise CheckpointError(f"{path}: {own.needed(name)}")
    if cell.rpartition(":")[2] != name.rpartition(":")[2]:
        raise CheckpointError(f"--cell {cell}: {path} {own.needed(name)}")
    own.admit(cell, known_as=name)
    if own.origin(name)["sha256"] != (record.get("cell_file") or {}).get("sha256"):
        changed = f"{cell}: is not the file that {path} was trained with; its equations now are used"
        print(f"note: {changed}", file=sys.stderr)
    _fits(path, tensors, record, cell)
    return tensors, record


def _fits(path, tensors, record, cell):
    """Raises CheckpointError where the weights, or the states of a run to go on with, are not those of the cell."""
    import numpy as np

    from .. import checkpoint
    from ..model import Model, joined

    try:
        model = tried(Model.from_record(record["model"]))
    except UsageError as error:
        raise CheckpointError(f"{path}: does not fit {cell} as it is now; {error}") from None
    count = complete(record["config"])["members"]
    here = joined([model.shapes()] * count)
    there = {name: array.shape for name, array in checkpoint.weights(tensors).items()}
    if record.get("kind") == "last":
        fresh = count * model.initial_state(lambda: np.zeros((1, model.hidden)))
        here |= {f"state.{layer}.{name}": () for layer, states in enumerate(fresh) for name in states}
        there |= {name: () for name in tensors if name.startswith("state.")}
    for name in sorted(here | there):
        if here.get(name) != there.get(name):
            raise CheckpointError(
                f"{path}: does not fit {cell} as it is now: {name} {_shaped(there.get(name))} in the checkpoint "
                f"and {_shaped(here.get(name))} in the cell"
            )


def _shaped(shape):
    return "is absent" if shape is None else f"is {shape}" if shape else "is there"


def tried(model):
    """The model, after a step of it on zeros where its cell is a person's own; UsageError says what does not fit."""
    if not own.in_file(model.cell):
        return model
    import numpy as np

    from ..engine import on_numpy, reference  # noqa: F401  (the first teaches the operators numpy's arrays)

    def run(cell, p, x, below, state):
        up, after = reference.step(cell, p, x, below, state)
        for name, array in (up | after).items():
            if array.shape != (2, model.hidden):
                raise UsageError(
                    f"--cell {model.cell}: {name} is {array.shape} after a step of two lanes, not {(2, model.hidden)}"
                )
        return up, after

    for cell, m in zip(model.stack, model.widths(), strict=True):
        own.declared(cell, m, model.hidden)
    p = model.bind({name: np.zeros(shape, np.float32) for name, shape in model.shapes().items()})
    with np.errstate(all="ignore"):
        model.forward(p, np.zeros(2, int), model.initial_state(lambda: np.zeros((2, model.hidden), np.float32)), run)
    return model
