"""What `charrnn eval` works with: a model, or an ensemble, ready to score, and the texts that it is told to."""

import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import checkpoint
from ..adapt import EPSILON, Adaptive, Settings
from ..corpus import MINIMUM_TRAIN, Reading, known, open_corpus
from ..engine import choose, on_numpy, on_torch  # noqa: F401  (both teach the operators their arrays)
from ..ensemble import Ensemble, run
from ..errors import DataError, Diverged, UsageError
from ..evaluate import score, windows
from ..model import joined
from ..vocab import Vocabulary
from . import cache
from .members import Member
from .score import ESCAPE
from .session import _device
from .texts import blocks, encoded


@dataclass(frozen=True)
class Text:
    """A text to score: its ids, and where in it which characters were replaced."""

    title: str
    ids: object
    unseen: dict[int, str]


class Scoring:
    """Models ready to score, as one; the first of the `members` is the one whose own corpus is meant."""

    def __init__(self, members: list[Member], vocabulary: Vocabulary, device: str, unknown: str, reading: Reading):
        import torch

        self.members, self.vocabulary, self.unknown, self.reading = members, vocabulary, unknown, reading
        self.record, self._opened, place = members[0].record, None, _device(device)
        weights = [
            {name: torch.from_numpy(array).to(place) for name, array in member.weights.items()} for member in members
        ]
        if len(members) > 1:
            self.model, self.weights = Ensemble([m.model for m in members]), joined(weights)
            self.alone = self.run = self.adapting = run
        else:
            self.model, self.weights = members[0].model, weights[0]
            like = self.model.stack[-1], self.weights["embedding"]
            (_, self.alone), (_, self.run) = choose("auto", *like, lanes=1, scoring=True), choose("auto", *like)
            _, self.adapting = choose("auto", *like, lanes=1)

    # ---- texts

    def own(self, part: str):
        """A part of the run's own corpus."""
        corpus = self._corpus("name a text")
        if part not in corpus.parts:
            raise UsageError(f"--part {part}: the corpus has {', '.join(corpus.parts)}")
        for path, record in {member.path: member.record for member in self.members}.items():
            if record["corpus"]["digest"] != self.record["corpus"]["digest"]:
                print(f"note: {path}: was trained on another corpus, which may hold this text", file=sys.stderr)
        yield Text(f"{part} part of {', '.join(self.record['corpus']['names'])}", corpus.part(part), {})

    def named(self, texts: list[str]):
        """Each text that was named."""
        for text in texts:
            for path in known.find([text], Path("data"), cache(), name="TEXT"):
                yield self._read("standard input" if text == "-" else str(path), path)

    def training(self, named: str | None):
        """The symbols (N,) of the training part of the run's own corpus, or of a text named in its place."""
        import numpy as np

        if named is None:
            return self._corpus("name a text for it to learn from with --train-text").part("train")
        paths = known.find([named], Path("data"), cache(), name="--train-text")
        texts = [self._read(f"--train-text {path}", path) for path in paths]
        if unseen := sum(len(text.unseen) for text in texts):
            print(f"note: --train-text {named}: {unseen:,} characters the model never saw, replaced", file=sys.stderr)
        ids = np.concatenate([text.ids for text in texts])
        if len(ids) < MINIMUM_TRAIN:
            raise DataError(f"--train-text {named}: has {len(ids)} characters; at least {MINIMUM_TRAIN} are needed")
        return ids

    def _corpus(self, advice):
        """The run's own corpus, found again and checked to be the same."""
        if self._opened:
            return self._opened
        config, paths = self.record["config"], self._last(advice)["paths"]
        if not all(Path(p).exists() for p in paths["train"] + paths["val"]):
            raise UsageError(f"{self.members[0].path}: its corpus is not where it was ({paths['train'][0]}); {advice}")
        self._opened = open_corpus(
            [Path(p) for p in paths["train"]], [Path(p) for p in paths["val"]], cache(),
            Reading(config["bytes"], config["encoding"], config["errors"]), config["min_count"],
            config["val_fraction"], (self.vocabulary, self.record["corpus"]["digest"]),
        )  # fmt: skip
        return self._opened

    def _last(self, advice):
        """The record of the run's last.pt: where texts lie is told there only, so that best.pt can be shared."""
        ckpt = self.members[0].path
        last = checkpoint.find(ckpt).with_name("last.pt")
        if not last.exists():
            raise UsageError(f"{ckpt}: there is no last.pt beside it to tell where its corpus lies; {advice}")
        return checkpoint.load(last)[1]

    def _read(self, title, path):
        import numpy as np

        parts, unseen, length, notes = [np.empty(0, np.uint8)], {}, 0, []
        whole = blocks(path, self.vocabulary, self.reading, notes)
        for ids, text, absent in encoded(whole, self.vocabulary, self.unknown, title):
            parts.append(ids)
            unseen |= {length + int(i): text[i] for i in absent}
            length += len(ids)
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
        if length < 2:
            raise DataError(f"{title}: has {length} characters; at least 2 are needed to predict one from another")
        return Text(title, np.concatenate(parts), unseen)

    # ---- scores

    def score(self, text: Text, length: int = 0):
        """The text's score; with a length the state is reset after every so many symbols."""
        if not length:
            return score(self.model, self.weights, text.ids, self.alone)
        if len(text.ids) <= length:
            raise UsageError(f"--windows {length}: {text.title} has only {len(text.ids):,} characters")
        return windows(self.model, self.weights, text.ids, self.run, length)

    def summary(self, text: Text, scored) -> dict:
        """What a text costs, as plain data."""
        replaced = self._replaced(text, scored)
        told = {"text": text.title, "characters": len(scored.nats)} | self.costs(text, scored)
        paths = list(dict.fromkeys(str(member.path) for member in self.members))
        several = {"ensemble": paths} if len(paths) > 1 else {}
        return told | {"unknown": len(replaced)} | several

    def costs(self, text: Text, scored) -> dict:
        """The figures of a score; a replaced character costs its name besides."""
        n, replaced = len(scored.nats), self._replaced(text, scored)
        nats = scored.nats.sum() + len(replaced) * ESCAPE
        result = scored.summary() | {"nats": nats / n, "bits": nats / n / math.log(2)}
        result["perplexity"] = math.exp(min(nats / n, 700))
        size = self._bytes(text.ids[1 : n + 1], replaced)
        return result | {"bits_per_byte": nats / math.log(2) / size if size else None}

    @staticmethod
    def _replaced(text, scored):
        """The characters that the model never saw, of those that were scored."""
        return [character for place, character in text.unseen.items() if 0 < place <= len(scored.nats)]

    def _bytes(self, ids, replaced):
        """How many bytes of UTF-8 the symbols stand for; None where the vocabulary has folded characters away."""
        import numpy as np

        counts = np.bincount(ids, minlength=len(self.vocabulary))
        place = self.vocabulary.replacement
        counts[place] -= len(replaced)
        if self.vocabulary.unknown is not None and counts[place]:
            return None
        sizes = [1 if self.vocabulary.of_bytes else len(symbol.encode()) for symbol in self.vocabulary.symbols]
        return int((counts * sizes).sum()) + sum(len(character.encode()) for character in replaced)


class Dynamic:
    """The same models, adapting to each text while it is scored. Where no settings are typed they are fitted, and
    `tell(settings, nats)` hears of each that was tried."""

    def __init__(self, scoring: Scoring, typed: dict, train_text: str | None, tell):
        self.scoring = scoring
        self.adaptive = Adaptive(scoring.model, scoring.weights, scoring.adapting, scoring.training(train_text))
        self.settings = Settings(**typed) if typed else self.adaptive.fit(tell)
        self.fitted = 0 if typed else len(self.adaptive.tail)

    def summary(self, text: Text) -> dict:
        """What a text costs so, as plain data, and how the model adapted."""
        scored, rate = self.adaptive.score(text.ids, self.settings), self.settings.rate
        if not math.isfinite(scored.nats.sum()):
            raise Diverged(f"--dynamic-rate {rate:g}: the model left the finite numbers; take a lower one")
        facts = asdict(self.settings) | {"epsilon": EPSILON, "fitted_on": self.fitted}
        return self.scoring.costs(text, scored) | facts
