"""Widths that make cells comparable: as many parameters as another, of the widths that a cell can have."""

from collections.abc import Callable

from ..errors import UsageError
from ..model import Model

REACH = 256  # widths that are tried one after the other until the cell can have one
CLOSE = 0.01  # a share of the parameters; within it they count as matched


def size(model: Model) -> int:
    """The number of trained parameters of one member."""
    return sum(model.count().values())


def matched(model: Callable[[int], Model], target: float) -> Model:
    """Of the models `model(width)` the one with the number of parameters nearest to `target`.

    A width that the cell cannot have raises UsageError, and so does this where it can have none.
    """
    low = _nearest(model, 1, 1)
    if size(low) >= target:
        return low
    high = _nearest(model, 2 * low.hidden, 1)
    while size(high) < target:
        low, high = high, _nearest(model, 2 * high.hidden, 1)
    while between := _between(model, low.hidden, high.hidden):
        low, high = (between, high) if size(between) < target else (low, between)
    return min(low, high, key=lambda each: abs(size(each) - target))


def _between(model, low, high):
    """The model of a width near the middle of two, or None where the cell has none between them."""
    for start, step, end in ((middle := (low + high) // 2, 1, high), (middle, -1, low)):
        for width in range(start, end, step):
            if width > low and (found := _made(model, width)):
                return found
    return None


def _nearest(model, width, step):
    """The model of the first width from this one on that the cell can have."""
    for tried in range(width, width + step * REACH, step):
        if found := _made(model, tried):
            return found
    return model(width)  # raises what the cell says against it


def _made(model, width):
    try:
        return model(width)
    except UsageError:
        return None
