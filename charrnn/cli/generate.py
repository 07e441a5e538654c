"""`charrnn sample`: text drawn from a model, as it is drawn."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import UsageError
from . import NUMBER, WHOLE, Others, app, pipeable, text_of
from .opening import CellOption

Length = Annotated[int, typer.Option("--length", "-n", help="Characters to draw; -1 goes on without end.", **WHOLE)]
Temperature = Annotated[
    str, typer.Option("--temperature", "-t", help="0 takes the likeliest; several (.5,.8) stand side by side.")
]
Int8 = Annotated[bool, typer.Option("--int8", help="Round the weights to 8 bits: faster, and nearly as good.")]


@app.command(rich_help_panel="Models")
@pipeable
def sample(
    ckpt: Annotated[Path, typer.Argument(help="A checkpoint, or a run's folder.", show_default=False)],
    prompt_from: Annotated[
        str | None, typer.Argument(metavar="[-]", help="- reads the prompt from standard input.", show_default=False)
    ] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="What the text begins with.")] = None,
    prompt_file: Annotated[Path | None, typer.Option(help="The same, from a file.")] = None,
    length: Length = 500,
    temperature: Temperature = "0.8",
    top_k: Annotated[int, typer.Option(help="Draw from so many likeliest only; 0 for all.", **WHOLE)] = 0,
    top_p: Annotated[
        float, typer.Option(help="Draw from the likeliest that together have this probability.", **NUMBER)
    ] = 1.0,
    min_p: Annotated[
        float, typer.Option(help="Draw from those at least this share as likely as the likeliest.", **NUMBER)
    ] = 0.0,
    ensemble: Others = None,
    int8: Int8 = False,
    seed: Annotated[int, typer.Option(help="Seed of the draws: the same one, the same text.", **WHOLE)] = 1,
    count: Annotated[int, typer.Option(help="Texts to draw, side by side in one batch.", **WHOLE)] = 1,
    stop: Annotated[
        list[str] | None, typer.Option(help="End after this text; may be repeated.", show_default=False)
    ] = None,
    unknown: Annotated[
        str, typer.Option(help="A prompt's character that the model never saw: error, skip or replace.")
    ] = "error",
    no_echo: Annotated[bool, typer.Option("--no-echo", help="Do not print the prompt.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per text and line.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write to this new file instead.")] = None,
    cell: CellOption = None,
):
    """Draw text from a trained model.

    [bold]charrnn sample checkpoints/pydocs-lstm-1 --prompt "The " -n 300[/]
    """
    temperatures = _temperatures(temperature)
    _check(length, top_k, top_p, min_p, count, unknown, seed, temperatures, as_json)
    if stop and "" in stop:
        raise UsageError("--stop '': must be a text to end after")
    from ..sample import Picking
    from .members import load

    text = _prompt(prompt, prompt_file, prompt_from)
    members, vocabulary = load(ckpt, ensemble or [], cell, int8)
    drawing = _Drawing(members, vocabulary, text, length, stop or [], seed, count, unknown, not no_echo)
    sink = _sink(out)
    pickings = [Picking(t, top_k, top_p, min_p) for t in temperatures]
    if as_json:
        for picking in pickings:
            for row in drawing.rows(picking):
                print(json.dumps(row, ensure_ascii=False), file=sink)
    elif count == 1 and len(pickings) == 1:
        drawing.stream(pickings[0], sink)
    else:
        _aside(drawing, pickings, count, sink, table=out is None and sys.stdout.isatty())
    if out:
        sink.close()


def _temperatures(text):
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--temperature {text}: must be a number, or several with commas between") from None
    if not all(0 <= value < float("inf") for value in values):
        raise UsageError(f"--temperature {text}: must be 0 or greater")
    return values


def _check(length, top_k, top_p, min_p, count, unknown, seed, temperatures, as_json):
    if length < -1:
        raise UsageError(f"--length {length}: must be 0 or more, or -1 for a text without end")
    if length == -1 and (count > 1 or len(temperatures) > 1 or as_json):
        raise UsageError("--length -1: a text without end goes alone, not with --count, --json or several temperatures")
    for name, value, least in (("--top-k", top_k, 0), ("--count", count, 1), ("--seed", seed, 0)):
        if value < least:
            raise UsageError(f"{name} {value}: must be at least {least}")
    if not 0 < top_p <= 1:
        raise UsageError(f"--top-p {top_p}: must be over 0 and at most 1")
    if not 0 <= min_p <= 1:
        raise UsageError(f"--min-p {min_p}: must be from 0 to 1")
    if unknown not in ("error", "skip", "replace"):
        raise UsageError(f"--unknown {unknown}: must be error, skip or replace")


def _prompt(prompt, prompt_file, prompt_from):
    """The prompt from wherever it was given; UTF-8, kept as it is to the last newline."""
    if sum(given is not None for given in (prompt, prompt_file, prompt_from)) > 1:
        raise UsageError("--prompt, --prompt-file, -: give the prompt once")
    if prompt_from not in (None, "-"):
        raise UsageError(f"{prompt_from}: a prompt is given with --prompt, --prompt-file or - for standard input")
    if prompt is not None:
        return text_of(prompt)
    try:
        raw = sys.stdin.buffer.read() if prompt_from else prompt_file.read_bytes() if prompt_file else b""
        return raw.decode("utf-8")
    except OSError as error:
        raise UsageError(f"--prompt-file {prompt_file}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        place = f"{prompt_file or 'standard input'}: byte offset {error.start}"
        raise UsageError(f"{place} is not UTF-8 ({error.reason}); a prompt must be") from None


def _sink(out):
    if out is None:
        return sys.stdout
    try:
        return open(out, "x", encoding="utf-8", newline="\n")
    except FileExistsError:
        raise UsageError(f"--out {out}: already exists and is not overwritten") from None
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be written ({error.strerror})") from None


class _Drawing:
    """Texts to be drawn from one model, or from several as one."""

    def __init__(self, members, vocabulary, prompt, length, stops, seed, count, unknown, echo):
        from ..sample import Sampler, opening

        self.vocabulary, self.seed, self.count = vocabulary, seed, count
        self.sampler = Sampler([(member.model, member.weights) for member in members])
        ids = self.vocabulary.encode(prompt, unknown, "the prompt")
        self.echo = self.vocabulary.decode(ids) if echo else ""
        self.prompt = ids if len(ids) else opening(self.vocabulary, seed)
        self.length, self.stops = None if length == -1 else length, [text_of(s) for s in stops]

    def _draw(self, picking):
        from ..sample import Text, generate

        texts = [Text(self.vocabulary, self.length, self.stops) for _ in range(self.count)]
        drawn = generate(self.sampler, self.prompt, picking, self.seed, range(self.count), self.vocabulary.unknown)
        return texts, drawn

    def stream(self, picking, sink):
        """One text, written as it is drawn; ends with a line break for the terminal's sake."""
        (text,), drawn = self._draw(picking)
        sink.write(self.echo)
        last, live = self.echo[-1:], sink.isatty()
        for ids in drawn if not text.done else ():
            new = text.add(ids[0])
            last = new[-1:] or last
            sink.write(new)
            if live:
                sink.flush()
            if text.done:
                break
        if last != "\n":
            sink.write("\n")
        sink.flush()

    def rows(self, picking):
        """All texts, each as plain data."""
        texts, drawn = self._draw(picking)
        parts = [[] for _ in texts]
        while not all(text.done for text in texts):
            for part, text, symbol in zip(parts, texts, next(drawn), strict=True):
                part.append(text.add(symbol))
        for index, part in enumerate(parts):
            yield {
                "temperature": picking.temperature, "index": index, "seed": self.seed,
                "prompt": self.echo, "text": "".join(part),
            }  # fmt: skip


def _aside(drawing, pickings, count, sink, table):
    """Several texts: a column per temperature on a terminal, else one after the other under a heading."""
    rows = [list(drawing.rows(picking)) for picking in pickings]
    if table and len(pickings) > 1:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        shown = Table(*(f"temperature {picking.temperature:g}" for picking in pickings), expand=True)
        for row in zip(*rows, strict=True):
            shown.add_row(*(Text(cell["prompt"] + cell["text"]) for cell in row), end_section=True)
        return Console().print(shown)
    for index in range(count):
        for column, picking in zip(rows, pickings, strict=True):
            cell = column[index]
            print(f"==> temperature {picking.temperature:g}, text {index + 1} of {count} <==", file=sink)
            print(cell["prompt"] + cell["text"] + "\n", file=sink)
