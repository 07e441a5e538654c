"""`charrnn eval`: what a model is worth on a text."""

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..errors import DataError, UsageError
from . import WHOLE, app, cache, pipeable


@app.command("eval", rich_help_panel="Models")
@pipeable
def evaluate(
    ckpt: Annotated[Path, typer.Argument(help="A checkpoint, or a run's folder.", show_default=False)],
    texts: Annotated[
        list[str] | None,
        typer.Argument(help="Texts to score, - for standard input; none: the run's own validation part."),
    ] = None,
    part: Annotated[str | None, typer.Option(help="With no text: val, test or train of the run's corpus.")] = None,
    per: Annotated[str | None, typer.Option(help="One JSON line per line or char instead of a summary.")] = None,
    windows: Annotated[int, typer.Option(help="Reset the state every so many characters; 0 for never.", **WHOLE)] = 0,
    unknown: Annotated[
        str, typer.Option(help="Characters that the model never saw: error, or replace with their cost counted.")
    ] = "error",
    encoding: Annotated[str, typer.Option(help="Encoding of the texts.")] = "utf-8",
    errors: Annotated[str, typer.Option(help="Bytes that are no text: strict or replace.")] = "strict",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per text.")] = False,
):
    """Score texts: nats and bits per character, bits per byte, perplexity, accuracy.

    Each text is read once, in order, the state carried from its start; its first character is not predicted.
    """
    if per not in (None, "line", "char"):
        raise UsageError(f"--per {per}: must be line or char")
    if unknown not in ("error", "replace"):
        raise UsageError(f"--unknown {unknown}: must be error or replace")
    if windows < 0 or windows == 1:
        raise UsageError(f"--windows {windows}: must be 2 or more, or 0 for none")
    if windows and per:
        raise UsageError("--windows and --per: give one of them")
    if part and texts:
        raise UsageError(f"--part {part}: is for a run's own corpus; leave it out where texts are named")
    from ..corpus import Reading

    scoring = _Scoring(ckpt, device, windows, unknown, Reading(False, encoding, errors))
    rows = []
    for text in scoring.own(part or "val") if not texts else scoring.named(texts):
        scored = scoring.score(text)
        rows.append(scoring.summary(text, scored))
        if per:
            _print_each(per, text, scored, scoring.vocabulary)
        elif as_json:
            print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
    if not per and not as_json:
        _print_table(rows)
    for row in rows:
        if row["unknown"]:
            print(
                f"note: {row['text']}: {row['unknown']:,} characters the model never saw, replaced; each costs "
                f"{ESCAPE / math.log(2):.2f} bits more, to say which it is",
                file=sys.stderr,
            )


ESCAPE = math.log(0x110000)  # nats to name any of Unicode's code points


@dataclass(frozen=True)
class _Text:
    """A text to score: its ids, and where in it which characters were replaced."""

    title: str
    ids: object
    unseen: dict[int, str]


class _Scoring:
    """A model ready to score."""

    def __init__(self, ckpt, device, windows, unknown, reading):
        from .. import checkpoint
        from ..model import Model
        from ..vocab import Vocabulary
        from .session import _device

        tensors, self.record = checkpoint.load(checkpoint.find(ckpt))
        import torch

        from ..engine import choose, on_numpy, on_torch  # noqa: F401

        self.vocabulary, self.reading = Vocabulary(self.record["vocabulary"]), reading
        self.windows, self.unknown, self.ckpt = windows, unknown, ckpt
        self.model = Model.from_record(self.record["model"])
        place = _device(device)
        weights = checkpoint.weights(tensors)
        self.weights = {name: torch.from_numpy(array).to(place) for name, array in weights.items()}
        _, self.run = choose("auto", self.model.stack[-1], self.weights["embedding"])

    def own(self, part):
        """The part of the run's own corpus, found again and checked to be the same."""
        from ..corpus import Reading, open_corpus

        config = self.record["config"]
        where = self._last()
        if not all(Path(p).exists() for p in where["paths"]["train"] + where["paths"]["val"]):
            raise UsageError(f"{self.ckpt}: its corpus is not where it was ({where['paths']['train'][0]}); name a text")
        corpus = open_corpus(
            [Path(p) for p in where["paths"]["train"]], [Path(p) for p in where["paths"]["val"]], cache(),
            Reading(config["bytes"], config["encoding"], config["errors"]), config["min_count"],
            config["val_fraction"], (self.vocabulary, self.record["corpus"]["digest"]),
        )  # fmt: skip
        if part not in corpus.parts:
            raise UsageError(f"--part {part}: the corpus has {', '.join(corpus.parts)}")
        yield _Text(f"{part} part of {', '.join(self.record['corpus']['names'])}", corpus.part(part), {})

    def _last(self):
        """The record of the run's last.pt: where texts lie is told there only, so that best.pt can be shared."""
        from .. import checkpoint

        last = checkpoint.find(self.ckpt).with_name("last.pt")
        if not last.exists():
            raise UsageError(f"{self.ckpt}: there is no last.pt beside it to tell where its corpus lies; name a text")
        return checkpoint.load(last)[1]

    def named(self, texts):
        """Each text that was named."""
        from ..corpus import known

        for text in texts:
            for path in known.find([text], Path("data"), cache(), name="TEXT"):
                yield self._read("standard input" if text == "-" else str(path), path)

    def _read(self, title, path):
        import numpy as np

        from .texts import encoded, opened

        blocks, unseen, length, notes = [np.empty(0, np.uint8)], {}, 0, []
        whole = opened(path, self.vocabulary, self.reading, notes)
        for ids, text, absent in encoded(whole, self.vocabulary, self.unknown, title):
            blocks.append(ids)
            unseen |= {length + int(i): text[i] for i in absent}
            length += len(ids)
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
        if length < 2:
            raise DataError(f"{title}: has {length} characters; at least 2 are needed to predict one from another")
        return _Text(title, np.concatenate(blocks), unseen)

    def score(self, text):
        from ..evaluate import score, windows

        if not self.windows:
            return score(self.model, self.weights, text.ids, self.run)
        if len(text.ids) <= self.windows:
            raise UsageError(f"--windows {self.windows}: {text.title} has only {len(text.ids):,} characters")
        return windows(self.model, self.weights, text.ids, self.run, self.windows)

    def summary(self, text, scored):
        n = len(scored.nats)
        replaced = [character for place, character in text.unseen.items() if 0 < place <= n]
        nats = scored.nats.sum() + len(replaced) * ESCAPE
        result = scored.summary() | {"nats": nats / n, "bits": nats / n / math.log(2)}
        result["perplexity"] = math.exp(min(nats / n, 700))
        size = self._bytes(text.ids[1 : n + 1], replaced)
        result["bits_per_byte"] = nats / math.log(2) / size if size else None
        return {"text": text.title, "characters": n} | result | {"unknown": len(replaced)}

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


def _print_table(rows):
    from rich.console import Console
    from rich.table import Table

    table = Table("text", box=None, padding=(0, 2, 0, 0))
    names = ("characters", "nats", "bits", "bits/byte", "perplexity", "accuracy")
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row["text"], f"{row['characters']:,}", f"{row['nats']:.4f}", f"{row['bits']:.4f}",
            f"{row['bits_per_byte']:.4f}" if row["bits_per_byte"] else "-",
            f"{row['perplexity']:.3f}", f"{row['accuracy']:.2%}",
        )  # fmt: skip
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(table)


def _print_each(per, text, scored, vocabulary):
    """JSON lines: what each character, or each line with its line break, cost. The first character has no cost."""
    decode = vocabulary.decoder()
    line, content, nats, n = 1, "", 0.0, 0
    for i, symbol in enumerate(text.ids):
        final = i + 1 == len(text.ids)
        shown = text.unseen.get(i) or decode([symbol], final)
        cost = float(scored.nats[i - 1]) + ESCAPE * (i in text.unseen) if i else None
        if per == "char":
            print(json.dumps({"text": text.title, "index": i, "symbol": shown, "nats": cost}, ensure_ascii=False))
            continue
        content, nats, n = content + shown, nats + (cost or 0.0), n + (i > 0)
        if shown.endswith("\n") or final:
            bits = nats / n / math.log(2) if n else None
            row = {
                "text": text.title,
                "line": line,
                "content": content.removesuffix("\n"),
                "characters": n,
                "nats": nats,
            }
            print(json.dumps(row | {"bits_per_character": bits}, ensure_ascii=False))
            line, content, nats, n = line + 1, "", 0.0, 0
