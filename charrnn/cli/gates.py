"""`charrnn gates`: what the gates of a model do while it reads a text."""

import json
import math
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import DataError, UsageError, nearest
from . import WHOLE, app, cache, pipeable, text_of
from .opening import CellOption, opened

PIECE = 256  # symbols read between looks at what they did


@app.command(rich_help_panel="Models")
@pipeable
def gates(
    ckpt: Annotated[Path, typer.Argument(help="A checkpoint, or a run's folder.", show_default=False)],
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="A text, - for standard input.", show_default=False)
    ] = None,
    typed: Annotated[str | None, typer.Option("--text", "-t", help="The text itself.")] = None,
    layer: Annotated[list[int] | None, typer.Option(help="This layer, from 0; may be repeated.", **WHOLE)] = None,
    member: Annotated[int, typer.Option(help="Of models trained side by side this one, from 0.", **WHOLE)] = 0,
    gate: Annotated[list[str] | None, typer.Option(help="This quantity of the equations; may be repeated.")] = None,
    unit: Annotated[
        str, typer.Option(help="A unit, from 0; mean for the mean of all; with --json also all, one by one.")
    ] = "mean",
    summary: Annotated[bool, typer.Option("--summary", help="Print the table alone.")] = False,
    unknown: Annotated[str, typer.Option(help="Characters that the model never saw: error or replace.")] = "error",
    encoding: Annotated[str, typer.Option(help="Encoding of the text.")] = "utf-8",
    errors: Annotated[str, typer.Option(help="Bytes that are no text: strict or replace.")] = "strict",
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per character and layer; with --summary per quantity.")
    ] = False,
    cell: CellOption = None,
):
    """Show what every quantity that a cell's equations name does while a text is read, above all its gates.

    0 lets nothing through, 1 everything. The table counts how often each is nearly shut (below .1) or open (above .9).

    [bold]charrnn gates checkpoints/pydocs-lstm-1 --text "The end." --layer 1[/]
    """
    if (text is None) == (typed is None):
        raise UsageError("TEXT: name a text, - for standard input, or give it with --text; one of them")
    if typed == "":
        raise UsageError("--text '': must be a text of one character or more")
    if summary and unit != "mean":
        raise UsageError(f"--unit {unit}: has no effect on --summary, which counts all units; leave one of them out")
    if unknown not in ("error", "replace"):
        raise UsageError(f"--unknown {unknown}: must be error or replace")
    from ..corpus import Reading

    reading = Reading(False, encoding, errors)
    watching = _Watching(ckpt, cell, member, layer or [], gate or [], _unit(unit, as_json))
    title, pieces = watching.typed(typed, unknown) if text is None else watching.named(text, reading, unknown)
    sheet = None if as_json or summary else watching.sheet()
    for place, shown, layers in watching.read(title, pieces):
        if sheet:
            sheet.add(shown, layers)
        elif not summary:
            watching.print_each(place, shown, layers)
    if sheet:
        sheet.print()
    if summary or not as_json:
        watching.print_summary(as_json)
    for note in watching.notes:
        print(f"note: {note}", file=sys.stderr)


def _unit(text, several):
    """The number of a unit, or None for the mean, or "all"."""
    if text == "mean" or (text == "all" and several):
        return None if text == "mean" else "all"
    if not text.isdecimal():
        raise UsageError(
            f"--unit {text}: must be a unit's number, or mean, or with --json all{nearest(text, ['mean'])}"
        )
    return int(text)


class _Watching:
    """A model that reads, and what of it is to be told."""

    def __init__(self, ckpt, cell, member, layers, names, unit):
        from .. import checkpoint
        from ..gates import Tally, Watch, quantities
        from ..model import Model
        from ..vocab import Vocabulary

        tensors, record = opened(ckpt, cell)
        self.model, self.vocabulary = Model.from_record(record["model"]), Vocabulary(record["vocabulary"])
        self.unit, self.notes, members = unit, [], checkpoint.members(tensors, record)
        if not 0 <= member < len(members):
            raise UsageError(f"--member {member}: must be from 0 to {len(members) - 1}")
        if len(members) > 1:
            self.notes.append(f"{ckpt}: what is shown is member {member} of {len(members)}, counted from 0")
        self.watch = Watch(self.model, members[member])
        if isinstance(unit, int) and unit >= self.model.hidden:
            raise UsageError(f"--unit {unit}: must be from 0 to {self.model.hidden - 1}, or mean")
        self.chosen = _chosen(quantities(self.model), layers, names, self.model)
        self.tallies = [Tally(quantity) for quantity in self.chosen]

    def typed(self, text, unknown):
        from .texts import encoded

        text = text_of(text)
        return "--text", encoded(
            [text.encode() if self.vocabulary.of_bytes else text], self.vocabulary, unknown, "--text"
        )

    def named(self, text, reading, unknown):
        from ..corpus import known
        from .texts import blocks, encoded

        try:
            paths = known.find([text], Path("data"), cache(), name="TEXT")
        except UsageError as error:
            raise UsageError(f"{error}; a text itself is given with --text") from None
        if len(paths) > 1:
            raise UsageError(f"TEXT {text}: the folder holds {len(paths)} files; name one")
        title = "standard input" if text == "-" else str(paths[0])
        return title, encoded(blocks(paths[0], self.vocabulary, reading, self.notes), self.vocabulary, unknown, title)

    def read(self, title, pieces):
        """Reads the text; yields, piece by piece, the place of its first symbol, the symbols as text, and the values
        of each layer {name: (T, n)}."""
        place, replaced, decode = 0, 0, self.vocabulary.decoder()
        for ids, block, absent in pieces:
            replaced += len(absent)
            for start in range(0, len(ids), PIECE):
                part = ids[start : start + PIECE]
                of_bytes = self.vocabulary.of_bytes
                shown = [decode([i]) for i in part] if of_bytes else list(block[start : start + PIECE])
                layers = self.watch.read(part)
                for tally in self.tallies:
                    tally.add(layers[tally.quantity.layer][tally.quantity.name])
                yield place, shown, layers
                place += len(part)
        if not place:
            raise DataError(f"{title}: is empty; there is nothing to read")
        if replaced:
            self.notes.append(f"{title}: {replaced:,} characters the model never saw, replaced")

    def sheet(self):
        from ..gates.sheet import Sheet

        return Sheet(self.chosen, self.unit, self.model.hidden)

    def print_each(self, place, shown, layers):
        """JSON lines: of each symbol and layer the values, those of all units as a list."""
        for t, symbol in enumerate(shown):
            for layer in dict.fromkeys(quantity.layer for quantity in self.chosen):
                names = [quantity.name for quantity in self.chosen if quantity.layer == layer]
                values = {name: self._told(layers[layer][name][t]) for name in names}
                row = {"index": place + t, "symbol": symbol, "layer": layer, "values": values}
                print(json.dumps(row, ensure_ascii=False))

    def _told(self, values):
        if self.unit == "all":
            return [_number(value) for value in values]
        if self.unit is None:
            return _number(values.mean())
        return _number(values[self.unit]) if self.unit < len(values) else None

    def print_summary(self, as_json):
        if as_json:
            for tally in self.tallies:
                print(json.dumps(tally.summary()))
            return
        from ..gates.sheet import table

        table([tally.summary() for tally in self.tallies])


def _number(value):
    """A value with the digits that a float32 has, as JSON can say it."""
    return float(f"{value:.7g}") if math.isfinite(value) else None


def _chosen(quantities, layers, names, model):
    """The quantities asked for, all of them where nothing was."""
    for layer in layers:
        if not 0 <= layer < model.layers:
            raise UsageError(f"--layer {layer}: must be from 0 to {model.layers - 1}")
    there = [q for q in quantities if not layers or q.layer in layers]
    for name in names:
        known = list(dict.fromkeys(q.name for q in there))
        if name not in known:
            raise UsageError(
                f"--gate {name}: no such quantity{nearest(name, known)}; {model.cell} has {', '.join(known)}"
            )
    return [q for q in there if not names or q.name in names]
