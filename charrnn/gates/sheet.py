"""A text with its quantities, line by line: coloured on a terminal, else digits under the characters."""

import unicodedata

import numpy as np
from rich.cells import cell_len
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from . import MOSTLY

LEVELS = 32  # shades that are told apart
DARK_TO_BRIGHT = ((24, 24, 52), (36, 128, 140), (250, 230, 90))  # shut to open
BLUE_TO_RED = ((40, 90, 210), (228, 228, 228), (214, 50, 44))  # -1 over 0 to 1
ABOVE, BELOW = "0123456789", "0abcdefghi"  # tenths of values from 0 on, and of those below


class _Stdout(Console):
    """A console that leaves a reader who has gone to the command."""

    def on_broken_pipe(self):
        raise BrokenPipeError


class Sheet:
    """What is shown of a text: its symbols, and of each quantity one value for each of them."""

    def __init__(self, quantities, unit: int | None, units: int):
        self.tracks = [_Track(quantity, unit) for quantity in quantities]
        self.symbols, self.whose = [], f"mean of {units} units" if unit is None else f"unit {unit} of {units}"
        self.console = _Stdout(highlight=False)
        self.coloured = self.console.color_system is not None and not self.console.no_color
        self.margin = max(len(track.label) for track in self.tracks) + 2

    def add(self, symbols: list[str], layers: list[dict]) -> None:
        """More symbols (T), and each layer's values {name: (T, n)}."""
        self.symbols += map(visible, symbols)
        for track in self.tracks:
            track.add(layers[track.quantity.layer][track.quantity.name])

    def print(self) -> None:
        """Everything that was added, below its legend."""
        for track in self.tracks:
            track.settle()
        for line in self._legend():
            self.console.print(line)
        for start, end in lines(self.symbols, self.console.width - self.margin):
            self._print_line(start, end)
        self.console.print()

    def _print_line(self, start, end):
        if not self.coloured or len(self.tracks) > 1 or start == 0:
            self.console.print()
        symbols = self.symbols[start:end]
        if not self.coloured:
            print(" " * self.margin + "".join(symbols))
        for track in self.tracks:
            line = Text(track.label.ljust(self.margin))
            for symbol, value in zip(symbols, track.values[start:end], strict=True):
                if self.coloured:
                    line.append(symbol, track.shade(value))
                else:
                    line.append(track.digit(value) * cell_len(symbol))
            self.console.print(line, no_wrap=True, crop=False, overflow="ignore")

    def _legend(self):
        yield f"{self.whose}; before each line stand layer and quantity"
        if self.coloured:
            signed = sorted({track.signed for track in self.tracks})
            ramps = [(f"{'-1' if s else ' 0'} ", *_ramp(BLUE_TO_RED if s else DARK_TO_BRIGHT), " 1  ") for s in signed]
            yield Text.assemble(*(part for ramp in ramps for part in ramp))
        else:
            yield "in tenths: 0 for 0 to .1, 9 for .9 to 1; a to i for -.1 to -1; ? is no number"
        own = [f"{track.label} by {track.scale:.3g}" for track in self.tracks if not track.quantity.bounded]
        if own:
            yield f"divided by their largest magnitude: {', '.join(own)}"


class _Track:
    """One quantity of one layer along the text."""

    def __init__(self, quantity, unit):
        self.quantity, self.unit, self.parts = quantity, unit, []
        self.label = f"{quantity.layer} {quantity.name}"

    def add(self, values):
        if self.unit is None:
            self.parts.append(values.mean(1))
        else:
            self.parts.append(values[:, self.unit] if self.unit < values.shape[1] else np.full(len(values), np.nan))

    def settle(self):
        """Makes of what was added the values (N,), between -1 and 1."""
        values = np.concatenate(self.parts).astype(float)
        size = np.abs(values[np.isfinite(values)])
        self.scale = 1.0 if self.quantity.bounded else size.max(initial=0.0) or 1.0
        self.values = values / self.scale
        self.signed = self.quantity.low < 0
        self.shades = _shades(BLUE_TO_RED if self.signed else DARK_TO_BRIGHT)

    def shade(self, value):
        if not np.isfinite(value):
            return ""
        share = (value + 1) / 2 if self.signed else value
        return self.shades[int(np.clip(share * LEVELS, 0, LEVELS - 1))]

    def digit(self, value):
        if not np.isfinite(value):
            return "?"
        return (ABOVE if value >= 0 else BELOW)[min(int(abs(value) * 10), 9)]


def visible(symbol: str) -> str:
    """A symbol as it takes at least one column and moves nothing: a line break as a sign, a lone accent on a circle."""
    return "".join(map(_visible, symbol)) or "·"  # the first bytes of a character whose last is yet to come


def _visible(character):
    if character in "\n\t":
        return {"\n": "⏎", "\t": "⇥"}[character]
    if ord(character) < 0x20:
        return chr(0x2400 + ord(character))
    if not character.isprintable():
        return "␣" if unicodedata.category(character) == "Zs" else "▯"
    return character if cell_len(character) else f"◌{character}"


def lines(symbols: list[str], room: int):
    """Where lines begin and end: after a line break, or where the next symbol would no longer fit the room."""
    start = used = 0
    for place, symbol in enumerate(symbols):
        if place > start and (used + cell_len(symbol) > room or symbols[place - 1].endswith("⏎")):
            yield start, place
            start, used = place, 0
        used += cell_len(symbol)
    yield start, len(symbols)


def _shades(anchors):
    """Styles from the first colour over the second to the third, with letters that can be read on them."""
    styles = []
    for level in range(LEVELS):
        place = 2 * level / (LEVELS - 1)
        red, green, blue = (np.interp(place, (0, 1, 2), channel) for channel in zip(*anchors, strict=True))
        ink = 0 if 0.299 * red + 0.587 * green + 0.114 * blue > 120 else 255
        styles.append(Style(color=Color.from_rgb(ink, ink, ink), bgcolor=Color.from_rgb(red, green, blue)))
    return styles


def _ramp(anchors):
    return [(" ", shade) for shade in _shades(anchors)[:: LEVELS // 16]]


def table(rows: list[dict]) -> None:
    """How often each quantity is nearly shut or open, and how many units are nearly always so."""
    shown = Table("layer", "quantity", "range", box=None, padding=(0, 2, 0, 0))
    for name in ("mean", "largest", "< .1", "> .9", "units <", "units >"):
        shown.add_column(name, justify="right")
    for row in rows:
        shares = ["-" if row[name] is None else f"{row[name]:.1%}" for name in ("shut", "open")]
        always = [_always(row[name]) for name in ("units_shut", "units_open")]
        numbers = [f"{row[name]:.3f}" for name in ("mean", "largest")]
        shown.add_row(str(row["layer"]), row["quantity"], _range(*row["range"]), *numbers, *shares, *always)
    console = _Stdout(highlight=False)
    console.print(shown)
    console.print("\nby magnitude: < .1 is nearly shut, > .9 nearly open, as a share of all units and")
    console.print(f"characters; then the units that are so at {MOSTLY:.0%} of the characters or more")


def _always(shares):
    return "-" if shares is None else str(sum(share >= MOSTLY for share in shares))


def _range(low, high):
    if low is None or high is None:
        return "any" if low is None else f"from {low:g}"
    return f"{low:g} to {high:g}"
