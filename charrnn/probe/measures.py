"""From rows to a result: the measure of each cell and seed, a table, and the verdict."""

import math
import statistics

from ..seeds import t_interval
from ..tasks import KINDS
from ..tasks.lines import Copy
from .protocols import FAR, RIGHT, Protocol
from .settings import Settings
from .verdict import Result, judge


def reached(rows: list[dict]) -> float:
    """The longest gap with 90 % right, 0 where that is none; a diverged model has bridged nothing."""
    return max((row["gap"] for row in rows if row["status"] == "done" and row["accuracy"] >= RIGHT), default=0)


def counted(rows: list[dict]) -> float | None:
    """The number up to which each is right from its first b to its end; None for a diverged model."""
    if rows[0]["status"] != "done":
        return None
    number = 0
    for n, (right, asked) in sorted((int(n), part) for n, part in rows[0]["parts"]["n"].items()):
        if right < asked:
            break
        number = n
    return number


def far(rows: list[dict]) -> float | None:
    """The share right of brackets FAR and more characters from their partner; None for a diverged model."""
    if rows[0]["status"] != "done":
        return None
    parts = [part for distance, part in rows[0]["parts"]["distance"].items() if int(distance) >= FAR]
    return sum(right for right, _ in parts) / max(1, sum(asked for _, asked in parts))


SCORERS = {"reached": reached, "counted": counted, "far": far}


def result(protocol: Protocol, settings: Settings, rows: list[dict]) -> Result:
    """What the rows of a probe say together."""
    chosen = {cell: {} for cell in settings.cells}
    for row in rows:
        chosen[row["cell"]].setdefault(row["seed"], {}).setdefault(row["gap"], []).append(row)
    found, kept = {}, {}
    for cell, seeds in chosen.items():
        best = {seed: [_best(tried) for _, tried in sorted(gaps.items())] for seed, gaps in seeds.items()}
        values = {seed: SCORERS[protocol.scorer](own) for seed, own in best.items()}
        found[cell] = {seed: value for seed, value in values.items() if value is not None}
        kept[cell] = [row for own in best.values() for row in own]
    foretold = protocol.foretold(max(settings.gaps), settings.attention)
    of = [each for each in foretold if {each.cell, each.over or each.cell} <= found.keys()]
    return Result(
        protocol.name, protocol.question, protocol.measure,
        "; ".join(each.told(protocol.sign) for each in foretold), protocol.source,
        baseline(protocol, settings.gaps), rows,
        [_line(cell, kept[cell], found[cell]) for cell in settings.cells],
        [judge(each, protocol.sign, found, protocol.most(settings.gaps)) for each in of],
        list(_notes(protocol, settings, kept, found, of)),
    )  # fmt: skip


def _best(tried):
    """Of the rates tried the row whose held-out lines cost least."""
    return min(tried, key=lambda row: (row["held"] is None, row["held"] or 0, row["lr"]))


def baseline(protocol: Protocol, gaps: tuple[int, ...]) -> str:
    """Chance, or what the best model costs that keeps nothing in mind."""
    answers = KINDS[protocol.task].answers
    if protocol.task == "count":
        return "a model that does not count is right for one number at most"
    if protocol.task != "copy":
        return f"chance {1 / answers:.1%}, one of {answers}"
    costs = ", ".join(f"{memoryless(gap):.4f} at T = {gap}" for gap in gaps)
    return f"chance {1 / answers:.1%} of the ten; without memory 10 ln 8 / (T + 20) nats a character: {costs}"


def memoryless(gap: int) -> float:
    """The nats per character of copying by a model that knows when, but not what."""
    return Copy.items * math.log(KINDS["copy"].answers) / (gap + 2 * Copy.items)


def _line(cell, rows, values):
    """The models of a cell together."""
    done = [row for row in rows if row["status"] == "done"]
    values = list(values.values())
    by_gap = {}
    for row in done:
        by_gap.setdefault(row["gap"], []).append(row)
    return {
        "cell": cell, "measure": statistics.fmean(values) if values else None, "interval": t_interval(values),
        "values": values, "models": len(rows), "diverged": len(rows) - len(done),
        "accuracy": {gap: statistics.fmean(row["accuracy"] for row in own) for gap, own in sorted(by_gap.items())},
        "nats": {gap: statistics.fmean(row["nats"] for row in own) for gap, own in sorted(by_gap.items())},
        "parts": _together(done), "parameters": rows[0]["parameters"], "engine": rows[0]["engine"],
    }  # fmt: skip


def _together(rows):
    """The share right by what tells answers apart, over all models; of numbers that of whole lines."""
    sums = {}
    for row in rows:
        for name, parts in row["parts"].items():
            for value, (right, asked) in parts.items():
                if name == "n":
                    right, asked = int(right == asked), 1
                here = sums.setdefault(name, {}).setdefault(int(value), [0, 0])
                here[0], here[1] = here[0] + right, here[1] + asked
    return {name: {v: right / asked for v, (right, asked) in sorted(own.items())} for name, own in sums.items()}


def _notes(protocol, settings, kept, found, judged):
    """What is to be said beside the table."""
    if settings.seeds == 1:
        yield "one seed gives no interval; ask for --seeds 3 or more"
    diverged = {cell: sum(row["status"] != "done" for row in rows) for cell, rows in kept.items()}
    for cell, number in diverged.items():
        if number:
            yield f"{cell}: {number} of {len(kept[cell])} models diverged"
    silent = [
        cell for cell in settings.cells if cell not in {name for each in judged for name in (each.cell, each.over)}
    ]
    if silent:
        yield f"nothing was foretold of {', '.join(silent)}"
    top = protocol.most(settings.gaps)
    full = [cell for cell, values in found.items() if values and min(values.values()) >= top]
    if full and protocol.scorer != "far":
        yield f"{', '.join(full)}: could be more than {top:g}, beyond which nothing was tried"
