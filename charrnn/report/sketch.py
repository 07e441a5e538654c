"""Pictures in text, for a terminal: points of several series, each with a letter of its own."""

import math
import string

from ..progress import short

LETTERS = string.ascii_lowercase + string.ascii_uppercase
ROWS = 16
ANOTHER = "*"  # where several series share a place


def sketch(series: list[tuple[str, list[float], list[float]]], x_title: str, y_title: str, width: int = 80) -> str:
    """Series (label, x, y) as lines of text at most `width` wide: a frame, its ends, and what each letter means."""
    xs, ys = ([v for each in series for v in each[place]] for place in (1, 2))
    if not xs:
        return "nothing to show yet"
    left, right, bottom, top = *_ends(xs), *_ends(ys)
    margin = max(len(f"{value:.2f}") for value in (bottom, top)) + 1
    columns = max(10, width - margin - 2)
    field = [[" "] * columns for _ in range(ROWS)]
    for letter, (_, x, y) in zip(LETTERS * (len(series) // len(LETTERS) + 1), series, strict=False):
        for row, column in _places(x, y, (left, right, bottom, top), columns):
            field[row][column] = letter if field[row][column] in (" ", letter) else ANOTHER
    lines = [f"{y_title}"]
    for row, cells in enumerate(field):
        value = f"{top if row == 0 else bottom:.2f}" if row in (0, ROWS - 1) else ""
        lines.append(f"{value:>{margin}}|{''.join(cells).rstrip()}")
    lines.append(" " * margin + "+" + "-" * columns)
    first, last = short(left), short(right)
    lines.append(" " * (margin + 1) + first + f"{x_title:^{columns - len(first) - len(last)}}" + last)
    keys = zip(LETTERS * (len(series) // len(LETTERS) + 1), series, strict=False)
    return "\n".join(lines + [f"{letter} {label}" for letter, (label, _, _) in keys])


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
    for before, after in zip(points, [*points[1:], points[-1]], strict=True):
        steps = max(1, math.ceil(abs(after[1] - before[1])))
        for k in range(steps):
            row, column = (a + (b - a) * k / steps for a, b in zip(before, after, strict=True))
            yield round(row), round(column)
    yield round(points[-1][0]), round(points[-1][1])
