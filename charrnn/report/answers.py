"""Pictures of what small models answered: a heat map of cells and gaps, and curves by what tells answers apart."""

from pathlib import Path

from .picture import _axes, _legend, style

NAMES = {"n": "n", "distance": "characters from bracket to bracket", "depth": "brackets open"}


def draw_heat(table: list[dict], gaps: tuple[int, ...], unit: str, path: Path) -> None:
    """The share right, mean over seeds, of each cell at each gap; dark is little, in grey as in colour."""
    with _axes(path, 2 * len(table)) as axes:
        shares = [[line["accuracy"].get(gap, float("nan")) for gap in gaps] for line in table]
        shown = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(gaps)), [f"{gap}" for gap in gaps])
        axes.set_yticks(range(len(table)), [line["cell"] for line in table])
        axes.set_xlabel(unit)
        axes.grid(False)
        for row, values in enumerate(shares):
            for column, share in enumerate(values):
                if share == share:
                    axes.text(
                        column, row, f"{share:.0%}", ha="center", va="center", color="wk"[share > 0.5], fontsize=9
                    )
        axes.figure.colorbar(shown, ax=axes, label="share right, mean over seeds")


def draw_answers(table: list[dict], gap: int, path: Path) -> None:
    """The share right of each cell, over all its models, by the first number that tells answers apart; where that is
    what is counted, a line at the `gap` up to which was trained."""
    name = next(iter(table[0]["parts"]))
    with _axes(path, len(table) + 2) as axes:
        if name == "n":
            axes.axvline(gap, color="#666666", linewidth=0.8, label=f"trained up to {gap}")
        for number, line in enumerate(table):
            parts = line["parts"].get(name, {})
            marks = max(1, len(parts) // 10)
            axes.plot(list(parts), list(parts.values()), label=line["cell"], markevery=marks, **style(number))
        if name != "n":
            axes.set_xscale("log", base=2)
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel(NAMES[name])
        axes.set_ylabel("share right")
        _legend(axes, len(table) + (name == "n"))
