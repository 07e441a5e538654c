"""Pictures of what probes found: the cost of knowing little, and gradients by lag."""

from pathlib import Path

from .picture import LINES, _axes, _legend, style


def draw_context(found: list[dict], path: Path) -> None:
    """Bits per character against the number of characters known, with intervals; each text's full state as a line."""
    with _axes(path, 2 * len(found)) as axes:
        for number, text in enumerate(found):
            look, rows = style(number), text["rows"]
            full, known = text["full"]["bits"], [row["known"] for row in rows]
            axes.plot(known, [row["bits"] for row in rows], label=text["text"], **look)
            if rows[0]["low"] is not None:
                ends = ([full + row[name] for row in rows] for name in ("low", "high"))
                axes.fill_between(known, *ends, color=look["color"], alpha=0.2, linewidth=0)
            axes.axhline(full, color=look["color"], linewidth=0.8, label=f"{text['text']}: all known")
        _doubling(axes, max(row["known"] for text in found for row in text["rows"]))
        axes.set_xlabel("characters known")
        axes.set_ylabel("bits per character")
        _legend(axes, 2 * len(found))


def _doubling(axes, longest):
    """A logarithmic axis with each power of two as it is written."""
    axes.set_xscale("log", base=2)
    ticks = [1 << power for power in range(longest.bit_length())]
    axes.set_xticks(ticks, [f"{tick}" for tick in ticks])


def _look(found, cells, one):
    """A colour and marker for each cell, and a line for each time that it was looked at."""
    times = [other["label"] for other in reversed(found) if other["cell"] == one["cell"]]
    return style(cells.index(one["cell"])) | {"linestyle": LINES[times.index(one["label"]) % len(LINES)]}


def draw_gradient(found: list[dict], path: Path) -> None:
    """The gradient by the embeddings, relative to that of the last one, against the lag; zero is not drawn. The last
    look at a cell has the whole line."""
    with _axes(path, len(found) + 1) as axes:
        cells = list(dict.fromkeys(one["cell"] for one in found))
        for one in found:
            ratio = [value or None for value in one["ratio"]]
            marks = max(1, len(ratio) // 8)
            axes.plot(range(len(ratio)), ratio, label=one["label"], markevery=marks, **_look(found, cells, one))
        axes.set_yscale("log")
        axes.set_xlabel("lag, in characters")
        axes.set_ylabel("gradient, relative to lag 0")
        _legend(axes, len(found))
