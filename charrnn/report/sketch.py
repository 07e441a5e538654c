"""Pictures in text, for a terminal: points of several series, each with a letter of its own."""

import math
import string

from ..progress import short

LETTERS = string.ascii_lowercase + string.ascii_uppercase
ROWS = 16
ANOTHER = "*"  # where several series share a place


def sketch(
    series: list[tuple[str, list[float], list[float]]], x_title: str, y_title: str, width: int = 80, log: str = ""
) -> str:
    """Series (label, x, y) as lines of text at most `width` wide: a frame, its ends, and what each letter means.

    `log` names the axes, "x", "y" or "xy", that are logarithmic; what is not above 0 has no place on them.
    """
    series = [(label, *_scaled(x, y, log)) for label, x, y in series]
    xs, ys = ([v for each in series for v in each[place]] for place in (1, 2))
    if not xs:
        return "nothing to show yet"
    left, right, bottom, top = *_ends(xs), *_ends(ys)
    told = [f"{10**value:.0e}" if "y" in log else f"{value:.2f}" for value in (bottom, top)]
    margin = max(map(len, told)) + 1
    columns = max(10, width - margin - 2)
    field = [[" "] * columns for _ in range(ROWS)]
    for letter, (_, x, y) in zip(LETTERS * (len(series) // len(LETTERS) + 1), series, strict=False):
        for row, column in _places(x, y, (left, right, bottom, top), columns):
            field[row][column] = letter if field[row][column] in (" ", letter) else ANOTHER
    lines = [f"{y_title}"]
    for row, cells in enumerate(field):
        value = {0: told[1], ROWS - 1: told[0]}.get(row, "")
        lines.append(f"{value:>{margin}}|{''.join(cells).rstrip()}")
    lines.append(" " * margin + "+" + "-" * columns)
    first, last = (short(10**value if "x" in log else value) for value in (left, right))
    lines.append(" " * (margin + 1) + first + f"{x_title:^{columns - len(first) - len(last)}}" + last)
    keys = zip(LETTERS * (len(series) // len(LETTERS) + 1), series, strict=False)
    return "\n".join(lines + [f"{letter} {label}" for letter, (label, _, _) in keys])


def _scaled(x, y, log):
    """The points that have a place, each coordinate as its axis has it."""
    points = [(a, b) for a, b in zip(x, y, strict=True) if (a > 0 or "x" not in log) and (b > 0 or "y" not in log)]
    scales = [math.log10 if axis in log else float for axis in "xy"]
    return [[scale(point[k]) for point in points] for k, scale in enumerate(scales)]


def _ends(values):
    """The range of some values, never empty."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - abs(low) / 10 - 1e-9, high + abs(high) / 10 + 1e-9)


def _places(x, y, ends, columns):
    """Where points and the lines between them lie: rows from the top, columns from the left."""
    left, right, bottom, top = ends
    points = [
        ((top - b) / (top - bottom) * (ROWS - 1), (a - left) / (right - left) * (columns - 1))
        for a, b in zip(x, y, strict=True)
    ]
    for before, after in zip(points, [*points[1:], *points[-1:]], strict=True):
        steps = max(1, math.ceil(abs(after[1] - before[1])))
        for k in range(steps):
            row, column = (a + (b - a) * k / steps for a, b in zip(before, after, strict=True))
            yield round(row), round(column)
    if points:
        yield round(points[-1][0]), round(points[-1][1])
