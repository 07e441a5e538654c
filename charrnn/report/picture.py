"""Pictures for print and screen, PNG or SVG, the same bytes for the same numbers.

A series is told by its colour (Okabe & Ito 2008, safe for the colour-blind), by its line and by its marker, so that
it is told in grey too.
"""

from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..errors import CharrnnError
from .runs import AXES, Curve

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", "*")
SIZE = (7.0, 4.3)  # inches
DOTS = 150  # per inch, in a PNG
INSIDE = 5  # names in a legend that may lie on the picture
CROWD = 8  # curves up to which each has its band and its training
MARKED = 10  # markers on a curve, about
TOGETHER = 1.5  # values no further apart than so many times are one place on the axis
FEW = 8  # ticks that each have a number
CLOCK = (10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 86_400)  # seconds between two ticks
SMOOTH = 100  # points of a fitted curve
APART = 0.045  # of the height, between two names beside each other


def style(number: int) -> dict:
    """How series 0, 1, .. is drawn: colour and line come together anew 28 times, line and marker 36 times, all three
    252 times."""
    return {
        "color": COLOURS[number % len(COLOURS)], "linestyle": LINES[number % len(LINES)],
        "marker": MARKERS[number % len(MARKERS)], "markersize": 5, "linewidth": 1.6,
    }  # fmt: skip


@contextmanager
def _axes(path, entries):
    """Axes to draw on, saved at the end; taller where the legend has more than its share of `entries`."""
    try:
        import matplotlib
    except ImportError:
        raise CharrnnError("plot: needs matplotlib for pictures; install it with: pip install matplotlib") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    plain = {
        "svg.hashsalt": "charrnn", "svg.fonttype": "none", "font.size": 10, "axes.grid": True, "grid.color": "#dddddd",
        "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True, "figure.dpi": DOTS,
        "legend.edgecolor": "#dddddd",
    }  # fmt: skip
    with matplotlib.rc_context(plain):
        figure, axes = pyplot.subplots(figsize=(SIZE[0], max(SIZE[1], 0.21 * entries)), layout="constrained")
        try:
            yield axes
            kind = path.suffix.lower()[1:]
            figure.savefig(path, format=kind, metadata={"Date": None} if kind == "svg" else {"Software": None})
        except OSError as error:
            raise CharrnnError(f"{path}: cannot be written ({error.strerror})") from None
        finally:
            pyplot.close(figure)


def draw_curves(curves: list[Curve], axis: str, path: Path) -> None:
    """Learning curves: validation with markers; where they are no crowd, training thin beside it and a band from the
    lowest run to the highest."""
    alone = len(curves) <= CROWD
    with _axes(path, len(curves) + 2) as axes:
        for number, curve in enumerate(curves):
            look, band = style(number), curve.validation
            name = curve.label + (f" ({curve.runs} seeds)" if curve.runs > 1 else "")
            axes.plot(band.x, band.mean, label=name, markevery=max(1, len(band.x) // MARKED), **look)
            if alone and curve.runs > 1:
                axes.fill_between(band.x, band.low, band.high, color=look["color"], alpha=0.2, linewidth=0)
            if alone:
                axes.plot(curve.training.x, curve.training.mean, color=look["color"], linewidth=0.6, alpha=0.6)
        if alone:
            axes.plot([], [], color="#666666", linewidth=0.6, label="thin: training, under dropout")
        _scale(axes, axis)
        axes.set_ylabel("bits per character")
        axes.set_ylim(*_worth_seeing(curves, alone))
        _legend(axes, len(curves) + alone)


def _worth_seeing(curves, training):
    """From below the best, that of training where it is drawn, to what all have reached after the first tenth of the
    way: the start is no news."""
    seen = [c.validation for c in curves if len(c.validation.x)]
    if not seen:
        return None, None
    low, high = min(band.low.min() for band in seen), max(band.high[min(len(band.x) - 1, 1)] for band in seen)
    low = min([low, *(c.training.mean.min() for c in curves if training and len(c.training.x))])
    return low - 0.05 * (high - low) - 0.02, high + 0.1 * (high - low) + 0.02


def _scale(axes, axis):
    """The x axis of learning curves, its numbers as people write them."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    from ..progress import duration, short

    if axis != "seconds":
        axes.set_xlabel(AXES[axis])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
        return
    axes.set_xlabel("time")
    low, high = axes.get_xlim()
    enough = next((step for step in CLOCK if (high - low) / step <= FEW), None)
    if enough:
        axes.xaxis.set_major_locator(MultipleLocator(enough))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: duration(value) if value else "0"))


def _legend(axes, entries):
    """Inside while it is small, else beside."""
    if entries <= INSIDE:
        axes.legend(fontsize=9)
    else:
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))


def draw_parameters(points: list[dict], path: Path) -> None:
    """Bits against parameters: a point with its spread for each line of a comparison, its name beside it."""
    cells = list(dict.fromkeys(point["cell"] for point in points))
    with _axes(path, len(points)) as axes:
        for point in points:
            _point(axes, cells.index(point["cell"]), [point], "parameters", label=None)
        _finish_scatter(axes, "parameters", [point["parameters"] for point in points])
        _names(axes, points)


def draw_data(series: dict[str, list[dict]], fits: list[dict], path: Path) -> None:
    """Bits against the size of the training text: a line with its spreads for each cell, or where `fits` has the curve
    E + A size^-a through its points (as compare.data.worth), that curve and its floor E in the legend."""
    fitted = {line["label"]: line for line in fits if line["floor"] is not None}
    with _axes(path, len(series) + 1) as axes:
        for number, (label, points) in enumerate(series.items()):
            if (fit := fitted.get(label)) is None:
                _point(axes, number, points, "size", label=label)
                continue
            name = f"{label}: {fit['floor']:.2f} + {fit['scale']:.3g} size^-{fit['exponent']:.2f}"
            _point(axes, number, points, "size", label=name, linestyle="none")
            sizes = np.geomspace(min(fit["sizes"]), max(fit["sizes"]), SMOOTH)
            bits = fit["floor"] + fit["scale"] * sizes ** -fit["exponent"]
            axes.plot(sizes, bits, **style(number) | {"marker": ""})
        _finish_scatter(axes, "training characters", [p["size"] for points in series.values() for p in points])
        _legend(axes, len(series))


def _point(axes, number, points, name, label, **look):
    """One series of points, with the spread over seeds where there is one."""
    spread = [point["spread"] or 0.0 for point in points] if any(point["spread"] for point in points) else None
    places, bits = ([point[key] for point in points] for key in (name, "bits"))
    axes.errorbar(places, bits, spread, label=label, capsize=3, **style(number) | look)


def _finish_scatter(axes, title, values):
    from matplotlib.ticker import FuncFormatter, NullLocator

    from ..progress import short

    axes.set_xscale("log")
    ticks = sorted(set(values))
    if ticks[-1] <= TOGETHER * ticks[0]:
        ticks = [(ticks[0] * ticks[-1]) ** 0.5]
        axes.set_xlim(ticks[0] / TOGETHER, ticks[0] * TOGETHER)
    if len(ticks) <= FEW:
        axes.set_xticks(ticks)
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    axes.set_xlabel(title)
    axes.set_ylabel("bits per character")


def _names(axes, points):
    """The names at the right side, in the order of their points and never on top of each other."""
    low, high = axes.get_ylim()
    ordered = sorted(points, key=lambda point: point["bits"])
    heights = [(point["bits"] - low) / (high - low) for point in ordered]
    placed = _spread_out(heights, min(APART, 1.0 / len(points)))
    for point, height in zip(ordered, placed, strict=True):
        axes.annotate(
            point["label"], (point["parameters"], point["bits"]), (1.02, height), textcoords="axes fraction",
            fontsize=8, va="center", annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.5},
        )  # fmt: skip


def _spread_out(heights, gap):
    """Heights in rising order moved apart so that none is nearer to the next than `gap`, within 0 to 1."""
    placed = np.array(heights)
    for k in range(1, len(placed)):
        placed[k] = max(placed[k], placed[k - 1] + gap)
    if placed[-1] > 1:
        placed[-1] = 1.0
        for k in range(len(placed) - 2, -1, -1):
            placed[k] = min(placed[k], placed[k + 1] - gap)
    return placed
