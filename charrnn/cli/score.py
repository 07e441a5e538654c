"""`charrnn eval`: what a model is worth on a text."""

import json
import math
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from . import NUMBER, WHOLE, Others, app, pipeable
from .opening import CellOption

ESCAPE = math.log(0x110000)  # nats to name any of Unicode's code points
PANEL = "Dynamic evaluation"
Adapts = Annotated[
    bool,
    typer.Option(
        "--dynamic",
        help="Score again with a model that adapts to the text: each segment is scored, then learned from. Its "
        "settings are fitted on the end of the training part.",
        rich_help_panel=PANEL,
    ),
]
Rate = Annotated[
    float | None,
    typer.Option(help="How far a weight moves per segment. With a setting typed none is fitted.", **NUMBER,
                 rich_help_panel=PANEL),
]  # fmt: skip
Decay = Annotated[
    float | None,
    typer.Option(help="The share of its way from the trained weight that it goes back.", **NUMBER,
                 rich_help_panel=PANEL),
]  # fmt: skip
Segment = Annotated[int | None, typer.Option(help="Characters in a segment.", **WHOLE, rich_help_panel=PANEL)]
TrainText = Annotated[
    str | None,
    typer.Option(help="A text in place of the training part, where that is not at hand.", rich_help_panel=PANEL),
]


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
    int8: Annotated[bool, typer.Option("--int8", help="Round the weights to 8 bits, as sample --int8 does.")] = False,
    unknown: Annotated[
        str, typer.Option(help="Characters that the model never saw: error, or replace with their cost counted.")
    ] = "error",
    encoding: Annotated[str, typer.Option(help="Encoding of the texts.")] = "utf-8",
    errors: Annotated[str, typer.Option(help="Bytes that are no text: strict or replace.")] = "strict",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per text.")] = False,
    dynamic: Adapts = False,
    dynamic_rate: Rate = None,
    dynamic_decay: Decay = None,
    dynamic_segment: Segment = None,
    train_text: TrainText = None,
    cell: CellOption = None,
):
    """Score texts: nats and bits per character, bits per byte, perplexity, accuracy.

    Each text is read once, in order, the state carried from its start; its first character is not predicted.
    """
    _check(part, texts, per, windows, unknown)
    typed = {"rate": dynamic_rate, "decay": dynamic_decay, "segment": dynamic_segment}
    settings = {name: value for name, value in typed.items() if value is not None}
    _check_dynamic(dynamic, settings, train_text, per, windows)
    if int8 and dynamic:
        raise UsageError("--int8 and --dynamic: give one of them; weights that move do not stay rounded")
    from ..corpus import Reading
    from .members import load

    reading = Reading(False, encoding, errors)
    members, vocabulary = load(ckpt, ensemble or [], cell, int8)
    from .scoring import Dynamic, Scoring

    scoring, adapting, rows = Scoring(members, vocabulary, device, unknown, reading), None, []
    for text in scoring.own(part or "val") if not texts else scoring.named(texts):
        scored = scoring.score(text, windows)
        rows.append(scoring.summary(text, scored) | ({"int8": True} if int8 else {}))
        if dynamic:
            adapting = adapting or Dynamic(scoring, settings, train_text, _tell)
            rows[-1]["dynamic"] = adapting.summary(text)
        if per:
            _print_each(per, text, scored, vocabulary)
        elif as_json:
            print(json.dumps(rows[-1], ensure_ascii=False), flush=True)
    if not per and not as_json:
        _print_tables(rows)
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


def _check_dynamic(dynamic, settings, train_text, per, windows):
    for name, value in settings.items():
        if not dynamic:
            raise UsageError(f"--dynamic-{name} {value:g}: has no effect without --dynamic")
    if train_text is not None and not dynamic:
        raise UsageError(f"--train-text {train_text}: has no effect without --dynamic")
    for name, value in (("--windows", windows), ("--per", per)) if dynamic else ():
        if value:
            raise UsageError(f"--dynamic and {name} {value}: give one of them; a model adapts to a text as a whole")
    rate, decay, segment = (settings.get(name, usual) for name, usual in (("rate", 0), ("decay", 0), ("segment", 1)))
    if not 0 <= rate < math.inf:
        raise UsageError(f"--dynamic-rate {rate:g}: must be a number from 0 on")
    if not 0 <= decay <= 1:
        raise UsageError(f"--dynamic-decay {decay:g}: must be from 0 to 1")
    if segment < 1:
        raise UsageError(f"--dynamic-segment {segment}: must be at least 1")


FIGURES = ("nats", "bits", "bits/byte", "perplexity", "accuracy")


def _print_tables(rows):
    """The static scores, and in a table of their own the dynamic ones, which are no scores of the same kind."""
    _print_table("", rows, rows)
    if dynamic := [row["dynamic"] for row in rows if "dynamic" in row]:
        print()
        _print_table("dynamic ", rows, dynamic)
        fitted = dynamic[0]["fitted_on"]
        where = f"fitted on the last {fitted:,} characters of the training part" if fitted else "as typed"
        print(f"dynamic: {_described(dynamic[0])},\n         {where}")
    if several := rows[0].get("ensemble"):
        print(f"ensemble of {len(several)}: the logits of {', '.join(several)} averaged")
    if "int8" in rows[0]:
        print("weights rounded to 8 bits")


def _described(settings):
    return f"rate {settings['rate']:g}, decay {settings['decay']:g}, segments of {settings['segment']}"


def _tell(settings, nats):
    """One of the settings tried, and what the end of the training part costs under it."""
    print(f"fitting: {_described(vars(settings))}: {nats:.4f} nats", file=sys.stderr)


def _print_table(kind, rows, scores):
    from rich.console import Console
    from rich.table import Table

    table = Table("text", box=None, padding=(0, 2, 0, 0))
    for name in ("characters", *(kind + name for name in FIGURES)):
        table.add_column(name, justify="right")
    for row, score in zip(rows, scores, strict=True):
        table.add_row(
            row["text"], f"{row['characters']:,}", f"{score['nats']:.4f}", f"{score['bits']:.4f}",
            f"{score['bits_per_byte']:.4f}" if score["bits_per_byte"] else "-",
            f"{score['perplexity']:.3f}", f"{score['accuracy']:.2%}",
        )  # fmt: skip
    console = Console()
    if not console.is_terminal:
        console.width = 200
    console.print(table)


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
