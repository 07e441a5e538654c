"""The page: each claim with its effect, interval and verdict, the commands that were run, and pictures beside it."""

from pathlib import Path

from ..compare.data import worth
from ..compare.outcome import summary
from ..compare.plan import Plan
from ..compare.work import read_rows
from ..report.picture import draw_data, draw_parameters
from ..run import written
from .judge import Claim
from .parts import Part


def effect(record: dict) -> str:
    """The effect of a claim or finding in a few characters, with its interval where it has one."""
    if record["effect"] is None:
        return "-"
    return f"{record['effect']:.3g}" + (" ({:.3g} to {:.3g})".format(*record["interval"]) if record["interval"] else "")


def write(folder: Path, head: list[str], claims: list[Claim], parts: list[Part], failed: dict[str, str]) -> Path:
    """Writes claims.md and what pictures there are; returns the page's path."""
    pictures, path = draw(folder), folder / "claims.md"
    records = [claim.record() for claim in claims]
    commands = {part.name: part.command for part in parts}
    lines = ["# What is claimed of recurrent networks, and what was found", "", *head, ""]
    lines += ["| claim | experiment | effect (95 %) | verdict |", "|---|---|---|---|"]
    for record in records:
        where = f"{record['protocol']}: {', '.join(record['parts'])}"
        lines.append(f"| {record['title']} | {where} | {effect(record)} | {record['verdict']} |")
    for record in records:
        lines += ["", f"## {record['title']}: {record['verdict']}", ""]
        lines += ["| foretold | found (95 %) | seeds | verdict | because |", "|---|---|---|---|---|"]
        for one in record["findings"]:
            cells = one["prediction"], effect(one), one["seeds"], one["verdict"], one["reason"]
            lines.append(f"| {' | '.join(map(str, cells))} |")
        notes = [record["open"], *record["notes"]] if record["open"] else record["notes"]
        lines += ["", *(f"Note: {note}." for note in notes)]
    lines += ["", "## What was run", "", "```sh", *(commands[part.name] for part in parts), "```"]
    lines += [f"{name}: failed, {message}" for name, message in failed.items()]
    lines += ["", "## Pictures", "", *(f"![{name}]({name})" for name in pictures), ""]
    with written(path):
        path.write_text("\n".join(lines), encoding="utf-8", newline="\n")
    return path


def draw(folder: Path) -> list[str]:
    """Draws the comparisons; names these pictures and those that the probes have drawn, relative to the folder."""
    for name, chosen in (("data", "data"), ("variants", "parameters")):
        if (folder / name / "plan.json").exists():
            plan, rows = Plan.load(folder / name), read_rows(folder / name)
            lines = [line for line in summary(plan, rows) if line["bits"] is not None]
            for kind in ("png", "svg") if lines else ():
                path = folder / name / f"{chosen}.{kind}"
                if chosen == "parameters":
                    draw_parameters(lines, path)
                else:
                    draw_data(_series(lines), worth(plan, rows), path)
    return sorted(str(path.relative_to(folder).as_posix()) for path in folder.glob("*/*.png"))


def _series(lines):
    """Lines of several sizes by what they have in common."""
    series = {}
    for line in lines:
        series.setdefault(line["label"].rsplit(", ", 1)[0], []).append(line)
    return series
