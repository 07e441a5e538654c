"""Learning curves: the metrics of any runs, those that differ only in their seed together as a band."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import checkpoint
from ..errors import CheckpointError
from ..stream import Stream

AXES = {"steps": "steps", "characters": "characters seen", "seconds": "seconds"}


@dataclass(frozen=True)
class Band:
    """A curve of one run or of several: at each x their mean, the lowest and the highest."""

    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Curve:
    """The bits per character of runs that differ only in their seed: `training` is under dropout."""

    label: str
    runs: int
    training: Band
    validation: Band


@dataclass(frozen=True)
class History:
    """What the folder of one run tells."""

    settings: dict
    corpus: str
    training: dict[str, np.ndarray]  # "bits" and each of AXES
    validation: dict[str, np.ndarray]


def read(folder: Path) -> History:
    """The history of a run; CheckpointError where the folder is none of a run."""
    _, record = checkpoint.load(checkpoint.find(folder))
    path = folder / "metrics.jsonl"
    try:
        lines = path.read_bytes().splitlines(keepends=True)
        rows = [json.loads(line) for line in lines if line.endswith(b"\n")]
        start, end = record["corpus"]["parts"]["train"]
        config = record["config"]
        stream, _ = Stream.fit(np.broadcast_to(np.uint8(0), end - start), config["batch_size"], config["seq_len"], 1)
        each = stream.lanes * stream.length
        training, validation = (_series(rows, event, each) for event in ("train", "eval"))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: is damaged ({type(error).__name__}: {error})") from None
    return History(config, record["corpus"]["digest"], training, validation)


def _series(rows, event, each):
    """The rows of one event as arrays; what a rollback undid is left out, and what is no number."""
    by_step = {row["step"]: row for row in rows if row["event"] == event and _finite(row["bits"])}
    kept = [by_step[step] for step in sorted(by_step)]
    steps = np.array([row["step"] for row in kept], float)
    return {
        "steps": steps, "characters": steps * each, "seconds": np.array([row["elapsed"] for row in kept], float),
        "bits": np.array([row["bits"] for row in kept], float),
    }  # fmt: skip


def _finite(value):
    return isinstance(value, float) and math.isfinite(value)


def curves(folders: dict[Path, str | None], axis: str) -> list[Curve]:
    """The curves of runs against an axis of AXES; a label where one is given, else made of what differs."""
    groups = {}
    for folder, label in folders.items():
        history = read(folder)
        same = {name: value for name, value in history.settings.items() if name != "seed"}
        groups.setdefault(label or json.dumps([same, history.corpus]), []).append((label, history))
    labels = [members[0][0] for members in groups.values()]
    if None in labels:
        made = told([members[0][1] for members in groups.values()])
        labels = [label or other for label, other in zip(labels, made, strict=True)]
    return [
        Curve(
            label, len(members), _band([h.training for _, h in members], axis),
            _band([h.validation for _, h in members], axis),
        )
        for label, members in zip(labels, groups.values(), strict=True)
    ]  # fmt: skip


def told(histories: list[History]) -> list[str]:
    """A label for each: its cell, and the first settings that tell all of them apart."""
    names = [name for name in histories[0].settings if name not in ("cell", "seed")]
    labels = [history.settings["cell"] for history in histories]
    for name in names:
        values = [history.settings[name] for history in histories]
        longer = [f"{label}, {name.replace('_', '-')} {_plain(v)}" for label, v in zip(labels, values, strict=True)]
        if len(set(longer)) > len(set(labels)):
            labels = longer
    if len(set(labels)) < len(labels):
        labels = [f"{label}, corpus {history.corpus[:8]}" for label, history in zip(labels, histories, strict=True)]
    return labels


def _plain(value):
    return f"{value:g}" if isinstance(value, float) else " ".join(value) if isinstance(value, list) else str(value)


def _band(series, axis):
    """Several series as a band over the stretch that all of them have."""
    series = [each for each in series if len(each["bits"])]
    if not series:
        return Band(*(np.empty(0) for _ in range(4)))
    start, end = max(each[axis][0] for each in series), min(each[axis][-1] for each in series)
    every = np.unique(np.concatenate([each[axis] for each in series]))
    x = every[(every >= start) & (every <= end)]
    values = np.stack([np.interp(x, each[axis], each["bits"]) for each in series])  # (runs, x)
    return Band(x, values.mean(0), values.min(0), values.max(0))
