"""`charrnn eval`: what a model is worth on a text."""

import json
import math
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from . import WHOLE, Others, app, pipeable

ESCAPE = math.log(0x110000)  # nats to name any of Unicode's code points


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
    ensemble: Others = None,
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
    _check(part, texts, per, windows, unknown)
    from ..corpus import Reading
    from .members import load

    reading = Reading(False, encoding, errors)
    members, vocabulary = load(ckpt, ensemble or [])
    from .scoring import Scoring

    scoring, rows = Scoring(members, vocabulary, device, unknown, reading), []
    for text in scoring.own(part or "val") if not texts else scoring.named(texts):
        scored = scoring.score(text, windows)
        rows.append(scoring.summary(text, scored))
        if per:
            _print_each(per, text, scored, vocabulary)
        elif as_json:
            print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
    if not per and not as_json:
        _print_table(rows)
    _print_notes(rows)


def _check(part, texts, per, windows, unknown):
    """What can be known to be wrong before anything heavy is imported."""
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
    if several := rows[0].get("ensemble"):
        print(f"ensemble of {len(several)}: the probabilities of {', '.join(several)} averaged")


def _print_notes(rows):
    for row in rows:
        if row["unknown"]:
            print(
                f"note: {row['text']}: {row['unknown']:,} characters the model never saw, replaced; each costs "
                f"{ESCAPE / math.log(2):.2f} bits more, to say which it is",
                file=sys.stderr,
            )


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
