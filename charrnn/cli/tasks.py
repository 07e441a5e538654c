"""`charrnn probe recall` and its like: small models trained on small tasks, and verdicts on what was foretold."""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..errors import CharrnnError, Interrupted, UsageError
from ..probe.protocols import PROTOCOLS
from . import WHOLE, at_once, pipeable
from .probe import probes
from .results import has_statistics, number, print_table, write_csv

CELLS = "As a,b or a:setting=value; forget_bias=0 or =log-uniform is one, of cells with a forget gate f."
COLUMNS = 8  # of shares, in a table
OUT = "A folder for rows and pictures; rows that are there are not computed again."


def _register(protocol):
    """The command of one probe."""
    gaps = f"{protocol.unit.capitalize()}, a,b,c; {_usual(protocol.gaps, protocol.quick_gaps)}."
    lrs = f"Learning rates to choose from for each model; {_usual(protocol.lrs, protocol.quick_lrs)}."
    many = f"Updates at most; {_usual([protocol.updates], [protocol.quick_updates])}."

    def command(
        cells: Annotated[str, typer.Option(help=CELLS)] = "rnn,gru,lstm",
        seeds: Annotated[int, typer.Option(help="Models of each, with seeds 1, 2, ..", **WHOLE)] = 3,
        quick: Annotated[bool, typer.Option("--quick", help="A minute or so instead of many.")] = False,
        gaps: Annotated[str | None, typer.Option(help=gaps)] = None,
        lrs: Annotated[str | None, typer.Option(help=lrs)] = None,
        updates: Annotated[int | None, typer.Option(help=many, **WHOLE)] = None,
        hidden: Annotated[int, typer.Option(help="Units.", **WHOLE)] = 48,
        attention: Annotated[int, typer.Option(help="Past outputs that one attention head sees.", **WHOLE)] = 0,
        jobs: Annotated[int, typer.Option(help="Models trained at once; 0 for one per processor.", **WHOLE)] = 0,
        out: Annotated[Path | None, typer.Option(help=OUT, show_default=False)] = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Warnings and errors only on stderr.")] = False,
    ):
        from ..cells import listed
        from ..probe.settings import Settings

        settings = Settings(
            tuple(listed(cells)), seeds, quick, _numbers("--gaps", gaps, int), _numbers("--lrs", lrs, float), hidden,
            updates, attention, at_once(jobs),
        )  # fmt: skip
        _probe(protocol, settings, out, as_json, quiet)

    command.__doc__ = f"{protocol.title}\n\n[bold]charrnn probe {protocol.name} --cells rnn,gru,lstm --quick[/]"
    probes.command(protocol.name)(pipeable(command))


def _usual(whole, quick):
    """What holds where nothing is given, in words."""
    whole, quick = (",".join(f"{value:g}" for value in values) for values in (whole, quick))
    return f"as a rule {whole}" + f", with --quick {quick}" * (quick != whole)


def _numbers(option, text, kind):
    """Numbers as typed, with commas between."""
    try:
        return tuple(kind(part) for part in text.split(",")) if text else ()
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise UsageError(f"{option} {text}: must be {what} with commas between") from None


for _protocol in PROTOCOLS.values():
    _register(_protocol)


def _probe(protocol, settings, out, as_json, quiet):
    """Runs a probe and tells what came of it."""
    settings.complete(protocol)  # what cannot be meant is told before anything is imported
    has_statistics(f"probe {protocol.name}")
    if out:
        _can_draw(out)
    from ..probe.work import run
    from ..progress import ProbeReporter
    from .session import Stop

    report, stop = ProbeReporter(quiet), Stop()
    with stop, report.live():
        try:
            result = run(protocol.name, settings, report.say, out, stop.signal)
        except Interrupted as error:
            again = f"; go on with: {shlex.join(['charrnn', *sys.argv[1:]])}" if out else ""
            raise Interrupted(f"{error}{again}", error.signal) from None
    if out:
        _leave(out, protocol, settings.complete(protocol), result)
    for note in result.notes:
        report.note(note)
    if as_json:
        return print(json.dumps(result.record(), ensure_ascii=False))
    _print(protocol, result)


def _can_draw(out):
    """Raises what keeps `_leave` from its work, before anything is computed."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; take another name")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise CharrnnError("--out: needs matplotlib for pictures; install it with: pip install matplotlib") from None


# ---- what is left and printed


def _leave(out, protocol, settings, result):
    """The rows of this probe as CSV, a line for each part, the result as JSON, and a picture; rows.jsonl is there."""
    from ..report.answers import draw_answers, draw_heat
    from ..run import written

    write_csv(out / f"{protocol.name}.csv", [line for row in result.rows for line in _lines(row)])
    path = out / f"{protocol.name}.json"
    with written(path):
        path.write_text(json.dumps(result.record(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    for kind in ("png", "svg"):
        path = out / f"{protocol.name}.{kind}"
        if protocol.one_gap:
            draw_answers(result.table, max(settings.gaps), path)
        else:
            draw_heat(result.table, settings.gaps, protocol.unit, path)


def _lines(row):
    """A row as lines of a table: one for each number that tells answers apart, or one alone."""
    whole = {name: value for name, value in row.items() if name != "parts"}
    lines = [
        whole | {"part": name, "value": value, "right": right, "asked": asked}
        for name, parts in (row["parts"] or {}).items() for value, (right, asked) in parts.items()
    ]  # fmt: skip
    return lines or [whole | dict.fromkeys(("part", "value", "right", "asked"))]


def _print(protocol, result):
    """A table of the cells, another of what was foretold, and the verdict."""
    print(f"{result.question}\n{result.baseline}\n")
    parts = next(iter(result.table[0]["parts"]), None) if protocol.one_gap else None
    shares = [(line["parts"].get(parts, {}) if parts else line["accuracy"]) for line in result.table]
    columns = _some(sorted(set().union(*shares)))
    cells = [
        [line["cell"], *_measured(protocol, line), *(number(own.get(column), ".0%") for column in columns)]
        for line, own in zip(result.table, shares, strict=True)
    ]
    print_table("", [protocol.sign, "95 %", *map(str, columns)], cells)
    told = f"{parts} from" if parts else protocol.unit
    print(f"\n{result.measure}; 95 %: its interval over seeds\nright, by {told} {', '.join(map(str, columns))}")
    print(f"\nforetold, after {result.source}:")
    for finding in result.findings:
        print(f"  {finding.prediction}: {finding.verdict}; {finding.reason}")
    print(f"verdict: {result.verdict}")


def _measured(protocol, line):
    """The measure of a cell and its interval."""
    form, ends = (".2f" if protocol.scorer == "far" else ".0f"), line["interval"]
    return number(line["measure"], form), " to ".join(format(end, form) for end in ends) if ends else "-"


def _some(values):
    """Of many numbers some, from the first to the last."""
    return (
        values
        if len(values) <= COLUMNS
        else [values[len(values) * k // COLUMNS] for k in range(1, COLUMNS)] + values[-1:]
    )
