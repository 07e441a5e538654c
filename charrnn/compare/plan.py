"""The plan of a comparison: its texts, and for each point of the grid the width, the parameters and the settings.

`plan.json` in the comparison's folder is all that is needed to go on with it.
"""

import json
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from ..config import Config
from ..corpus import BLOCK, MINIMUM_TRAIN, Corpus, Reading, open_corpus
from ..errors import CheckpointError, DataError, UsageError
from ..model import Model
from ..progress import short
from ..run import written
from .grid import Asked
from .match import CLOSE, matched, size

FORMAT = "charrnn comparison 1"
TEXTS = ("bytes", "encoding", "errors", "min_count", "val", "val_fraction")  # settings that decide what a corpus is
BOM = "\ufeff"  # the mark that is dropped from the start of a text, unless there are two


@dataclass(frozen=True)
class Entry:
    """A line of the comparison's table: all runs that differ in nothing but their seed, or their rate."""

    label: str
    cell: str  # as typed, with its own settings
    varied: dict
    size: int | None  # of the training text, where there are several
    parameters: int
    off: float | None  # by what share they miss what they were to match; None where nothing was to be matched
    texts: list[str]  # of the training part (a relative one lies in the comparison's folder)
    corpus: str  # the digest of the texts
    config: dict  # fields of Config; seed and rate are the run's own

    def missed(self) -> bool:
        return self.off is not None and abs(self.off) > CLOSE

    def text_settings(self) -> dict:
        return {name: self.config[name] for name in TEXTS}


@dataclass(frozen=True)
class Plan:
    """A comparison ready to be run."""

    asked: dict
    title: str
    corpus: str  # the digest of the whole text
    target: dict[str, int]  # parameters to be matched, by the size of the text ("None" where there is but one)
    yardsticks: dict[str, float]  # of the whole text
    characters: dict[str, int]  # in the parts of the whole text
    entries: list[Entry]

    @property
    def seeds(self) -> range:
        return range(1, self.asked["seeds"] + 1)

    def save(self, folder: Path) -> None:
        """Writes plan.json, beside and renamed: there is a whole one or none."""
        path, beside = folder / "plan.json", folder / "plan.json.part"
        with written(path):
            beside.write_text(json.dumps({"format": FORMAT} | asdict(self), indent=1), encoding="utf-8")
            os.replace(beside, path)

    @classmethod
    def load(cls, folder: Path) -> "Plan":
        """The plan in a folder; CheckpointError where there is none, or one that cannot be read."""
        path = folder / "plan.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content.pop("format") != FORMAT:
                raise CheckpointError(f"{path}: is not a plan of charrnn's format {FORMAT!r}")
            asked = {"ablate": {}, "jobs": 1} | content["asked"]  # which plans from before they came do not have
            return cls(**content | {"asked": asked, "entries": [Entry(**entry) for entry in content["entries"]]})
        except FileNotFoundError:
            raise CheckpointError(f"{folder}: holds no comparison (there is no plan.json in it)") from None
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{path}: is damaged ({type(error).__name__}: {error})") from None


class Texts:
    """The corpora that the points of a grid are about, each opened once."""

    def __init__(self, paths: list[Path], cache: Path):
        self.paths, self.cache, self.opened, self.notes = paths, cache, {}, []

    def open(self, config: dict, paths: list[Path] | None = None) -> Corpus:
        """The corpus that a run of these settings reads."""
        paths = self.paths if paths is None else paths
        key = repr([paths, *(config[name] for name in TEXTS)])
        if key not in self.opened:
            reading, val = Reading(config["bytes"], config["encoding"], config["errors"]), map(Path, config["val"])
            self.opened[key] = open_corpus(
                paths, list(val), self.cache, reading, config["min_count"], config["val_fraction"]
            )
            self.notes += [note for note in self.opened[key].notes if note not in self.notes]
        return self.opened[key]


def make(asked: Asked, title: str, texts: Texts, yardsticks) -> Plan:
    """The plan of what was asked; `yardsticks(corpus)` tells what a corpus costs under models that learn little.

    Nothing is written but the cache: texts of several sizes are made by `cut`.
    """
    points, entries, target = asked.points(), [], {}
    for point in points:
        config = asked.config(point)
        corpus = texts.open(config.record())
        symbols = len(corpus.vocabulary) if point.size is None else _symbols(corpus, point.size)

        def model(width, config=config, symbols=symbols):
            return _model(replace(config, hidden=width), symbols)

        first = str(point.size) not in target
        if first:
            target[str(point.size)] = asked.params or config.members * size(model(config.hidden))
        goal = target[str(point.size)]
        matching = asked.match == "params"
        searched = matching and not (first and not asked.params)
        made = matched(model, goal / config.members) if searched else model(config.hidden)
        count = config.members * size(made)
        entry = Entry(
            point.label, point.cell, point.varied, point.size, count, count / goal - 1 if matching else None,
            [str(path) for path in texts.paths], corpus.digest, replace(config, hidden=made.hidden).record(),
        )  # fmt: skip
        entries.append(entry)
    whole = texts.open(asked.config(points[0]).record())
    lengths = {name: end - start for name, (start, end) in whole.parts.items()}
    return Plan(asked.record(), title, whole.digest, target, yardsticks(whole), lengths, entries)


def _model(config, symbols):
    """The model that a run of these settings trains: every field of Model that is one of Config too is its own."""
    own = {f.name: getattr(config, f.name) for f in fields(Model) if hasattr(config, f.name)}
    return Model(symbols=symbols, settings=config.cell_settings(), **own)


def _symbols(corpus, size):
    """How many symbols a text has that is cut to this size."""
    start, end = _bounds(corpus, size)
    parts = corpus.ids[start:end], corpus.ids[slice(*corpus.parts["val"])]
    return 256 if corpus.vocabulary.of_bytes else len(np.union1d(*(np.unique(part) for part in parts)))


def _bounds(corpus, size):
    """Where in a corpus the training text of this size lies: it ends where the training part does."""
    start, end = corpus.parts["train"]
    if not MINIMUM_TRAIN <= size <= end - start:
        raise UsageError(
            f"--sizes {short(size)}: must be from {MINIMUM_TRAIN} to {end - start:,}, the length of the training part"
        )
    return end - size, end


def cut(plan: Plan, texts: Texts, folder: Path) -> Plan:
    """Writes a comparison's texts of several sizes into its folder and gives the plan that reads them."""
    entries = []
    for entry in plan.entries:
        if entry.size is None:
            entries.append(entry)
            continue
        corpus = texts.open(entry.config)
        start, end = _bounds(corpus, entry.size)
        where = f"texts/{corpus.digest[:8]}"
        train, val = f"{where}-last-{entry.size}.txt", f"{where}-val.txt"
        _write(folder / train, corpus, start, end)
        _write(folder / val, corpus, *corpus.parts["val"])
        read = dict(encoding="utf-8", errors="strict", val=[val], val_fraction=None)
        entry = replace(entry, texts=[train], config=entry.config | read)
        made = texts.open(resolved(entry, folder).config, [folder / train])
        assert made.parts["train"] == (0, entry.size), "a text that is not what was cut"
        entries.append(replace(entry, corpus=made.digest))
    return replace(plan, entries=entries)


def _write(path, corpus, start, end):
    """A stretch of a corpus as a text that reads back as the same symbols."""
    if path.exists():
        return
    beside = path.with_suffix(".part")
    with written(path):
        path.parent.mkdir(exist_ok=True)
        with open(beside, "wb") as file:
            if not corpus.vocabulary.of_bytes and corpus.vocabulary.decode(corpus.ids[start : start + 1]) == BOM:
                file.write(BOM.encode())
            for begin in range(start, end, BLOCK):
                file.write(corpus.vocabulary.raw(corpus.ids[begin : min(begin + BLOCK, end)]))
        os.replace(beside, path)


def resolved(entry: Entry, folder: Path) -> Entry:
    """An entry whose texts are found from anywhere."""
    if entry.size is None:
        return entry
    texts, val = ([str(folder / path) for path in paths] for paths in (entry.texts, entry.config["val"]))
    return replace(entry, texts=texts, config=entry.config | {"val": val})


def unchanged(plan: Plan, folder: Path, cache: Path) -> None:
    """Raises DataError where a text of the plan is not what it was."""
    texts = Texts([], cache)
    for entry in (resolved(entry, folder) for entry in plan.entries):
        if texts.open(entry.config, [Path(path) for path in entry.texts]).digest != entry.corpus:
            raise DataError(f"{entry.texts[0]}: is not the text that the comparison began with; it has changed since")


def settings_of(entry: Entry, seed: int, lr: float) -> Config:
    """The settings of one run."""
    return Config(**entry.config | {"seed": seed, "lr": lr})
