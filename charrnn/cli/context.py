"""`charrnn probe context`: how many of the last characters a model needs."""

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from . import WHOLE, pipeable
from .opening import CellOption
from .probe import probes
from .results import OutOption, OverwriteOption, has_statistics, leave, may_leave, number, print_sketch, print_table


@probes.command("context")
@pipeable
def context(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TEXT]...", help="Texts, - for standard input; none: the run's own validation part.",
            show_default=False,
        ),
    ] = None,
    *,
    checkpoint: Annotated[Path, typer.Option("--checkpoint", "-c", help="A checkpoint, or a run's folder.")],
    longest: Annotated[int, typer.Option(help="Known characters: 1, 2, 4, .. up to so many.", **WHOLE)] = 512,
    positions: Annotated[int, typer.Option(help="Places drawn from the text to be predicted.", **WHOLE)] = 2048,
    seed: Annotated[int, typer.Option(help="Seed of that draw.", **WHOLE)] = 1,
    unknown: Annotated[str, typer.Option(help="Characters that the model never saw: error or replace.")] = "error",
    encoding: Annotated[str, typer.Option(help="Encoding of the texts.")] = "utf-8",
    errors: Annotated[str, typer.Option(help="Bytes that are no text: strict or replace.")] = "strict",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per text.")] = False,
    cell: CellOption = None,
):  # fmt: skip
    """What characters cost when only the last k before them are known, against all of the text before them.

    The effective context is the least k within .01 bits. [bold]charrnn probe context -c checkpoints/pydocs-lstm-1[/]
    """
    for option, value in (("--longest", longest), ("--positions", positions)):
        if value < 1:
            raise UsageError(f"{option} {value}: must be at least 1")
    if seed < 0:
        raise UsageError(f"--seed {seed}: must be at least 0")
    if unknown not in ("error", "replace"):
        raise UsageError(f"--unknown {unknown}: must be error or replace")
    may_leave(out, "context", overwrite)
    has_statistics("probe context")
    from ..corpus import Reading
    from .members import load

    members, vocabulary = load(checkpoint, [], cell)
    from ..probe import context as probing
    from .scoring import Scoring

    scoring, found = Scoring(members, vocabulary, device, unknown, Reading(False, encoding, errors)), []
    for text in scoring.named(texts) if texts else scoring.own("val"):
        with _status(text.title) as tell:
            measured = probing.measure(
                scoring.model, scoring.weights, text.ids, scoring.run, longest, positions, seed, tell
            )
        found.append(_answer(text, measured, seed))
        _tell(found[-1], longest, as_json)
    if not as_json:
        _print_chart(found)
    leave(out, "context", [row for one in found for row in _flat(one)], lambda path: _draw(found, path))


@contextmanager
def _status(title):
    """On a terminal, what is being read now."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda k: None
        return
    with console.status("") as status:
        yield lambda k: status.update(f"{title}: {'all' if k is None else f'the last {k}'} known")


def _answer(text, measured, seed):
    """What --json prints of a text."""
    from ..probe.context import MARGIN, NATS, effective

    rows, nats = measured.rows(), float(measured.full.mean())
    full = {"nats": nats, "bits": nats / NATS, "perplexity": 2.0 ** min(nats / NATS, 1000)}
    names = {"effective": "more", "effective_low": "low", "effective_high": "high"}
    return {
        "text": text.title, "characters": len(text.ids), "positions": len(measured.places), "seed": seed, "full": full,
        "rows": rows, "margin": MARGIN, **{key: effective(rows, name) for key, name in names.items()},
    }  # fmt: skip


def _flat(one):
    """The rows that --out keeps of a text; the one with nothing in `known` is the full state."""
    common = {name: one[name] for name in ("text", "positions")}
    return [common | row for row in [*one["rows"], {"known": None} | one["full"]]]


def _tell(one, longest, as_json):
    if (reached := one["rows"][-1]["known"]) * 2 <= longest:
        told = f"has {one['characters']:,} characters, so that the longest window is {reached}"
        print(f"note: {one['text']}: {told}", file=sys.stderr)
    if as_json:
        print(json.dumps(one, ensure_ascii=False), flush=True)
        return
    print(f"{one['text']}: {one['positions']:,} of {one['characters']:,} characters predicted")
    cells = [
        [f"{row['known']}", f"{row['nats']:.4f}", f"{row['bits']:.4f}", f"{row['perplexity']:.3f}",
         f"{row['more']:+.4f}", "-" if row["low"] is None else f"{row['low']:+.4f} to {row['high']:+.4f}"]
        for row in one["rows"]
    ]  # fmt: skip
    full = one["full"]
    cells.append(["all", f"{full['nats']:.4f}", f"{full['bits']:.4f}", f"{full['perplexity']:.3f}", "", ""])
    print_table("known", ["nats", "bits", "perplexity", "bits more", "95 %"], cells)
    print(f"effective context: {_effective(one)}\n")


def _effective(one):
    """The effective context in words."""
    least = one["effective"] or f"more than {one['rows'][-1]['known']}"
    told = f"{least} characters, within {one['margin']:g} bits of all"
    if one["rows"][0]["low"] is None or one["effective"] is None:
        return told
    return f"{told} (95 %: {one['effective_low']} to {number(one['effective_high'], 'd')})"


def _print_chart(found):
    series = [(one["text"], [r["known"] for r in one["rows"]], [r["bits"] for r in one["rows"]]) for one in found]
    print_sketch(series, "characters known", "bits per character", "x")


def _draw(found, path):
    from ..report.probes import draw_context

    draw_context(found, path)
