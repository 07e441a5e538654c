"""`charrnn claims`: the set of experiments that answers, one by one, what is claimed of recurrent networks."""

import json
import shlex
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from .. import __version__
from ..errors import Interrupted, UsageError
from . import app, cache, pipeable
from .results import has_pictures, has_statistics


@app.command(rich_help_panel="Experiments")
@pipeable
def claims(
    corpus: Annotated[str, typer.Option(help="The text; a file, or a name that charrnn corpora tells.")] = "pydocs",
    quick: Annotated[bool, typer.Option("--quick", help="About ten minutes on two cores, instead of an hour.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Its folder; checkpoints/claims-CORPUS as a rule.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Warnings and errors only on stderr.")] = False,
):
    """Put what is said of RNN, LSTM and GRU to the test, claim by claim, and print a page of verdicts.

    [bold]charrnn claims --quick[/]

    Every experiment is a command of its own, which the page names. Ctrl-C saves; the same command goes on.
    """
    if corpus == "-":
        raise UsageError("--corpus -: is read by many processes; name a file")
    has_statistics("claims")
    has_pictures("claims")
    from ..claims import judge, page
    from ..claims.parts import parts
    from ..progress import PartsReporter

    out = out or Path("checkpoints") / f"claims-{Path(corpus).stem}{'-quick' * quick}"
    report, (paths, length) = PartsReporter(quiet), _opened(corpus)
    made = parts(quick, [corpus], length, str(out))
    asked = {"quick": quick, "corpus": paths, "length": length, "commands": [part.command for part in made]}
    answers, failed = _run(out, corpus, made, asked, report)
    found = judge.judged(out, answers, quick)
    head = [
        f"{corpus}, {length:,} characters to train on; charrnn {__version__}"
        + ("; quick: small models, little training, one learning rate for all" if quick else "") + ".",
        "A prediction is supported where the interval of 95 % over seeds lies within it, not supported where it lies "
        "outside, else inconclusive.",
    ]  # fmt: skip
    path = page.write(out, head, found, made, failed)
    records = [claim.record() for claim in found]
    _keep(out / "result.json", records)
    if as_json:
        return print(json.dumps({"page": str(path), "quick": quick, "claims": records}, ensure_ascii=False))
    _print(records, path)


def _opened(corpus):
    """The files of the corpus and the length of its training part."""
    from ..corpus import known, open_corpus

    paths = known.find([corpus], Path("data"), cache(), name="--corpus")
    start, end = open_corpus(paths, [], cache()).parts["train"]
    return [str(path) for path in paths], end - start


def _run(out, corpus, made, asked, report):
    """The answers of the parts, and what those said that failed."""
    from ..claims.work import Work
    from .session import Stop

    stop, failed = Stop(), {}

    def say(event, **what):
        if event == "end" and what["message"]:
            failed[what["title"]] = what["message"]
            report.note(f"{what['title']}: {what['message']}")
        report.say(event, **what)

    with closing(Work(out, made, asked, say, stop.signal)) as work, stop, report.live():
        try:
            return work.run(), failed
        except Interrupted as error:
            again = ["charrnn", "claims", "--corpus", corpus, *["--quick"] * asked["quick"], "--out", str(out)]
            raise Interrupted(f"{error}; go on with: {shlex.join(again)}", error.signal) from None


def _keep(path, records):
    from ..run import written

    with written(path):
        path.write_text(json.dumps(records, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _print(records, path):
    """Each claim with its verdict, and below it what was foretold and found."""
    from shutil import get_terminal_size
    from textwrap import fill

    from ..claims.page import effect

    columns = get_terminal_size().columns
    for record in records:
        print(fill(f"{record['title']}: {record['verdict']}", columns, subsequent_indent="  "))
        told = [f"{one['prediction']}; found {effect(one)}: {one['verdict']}" for one in record["findings"]]
        for line in [*told, *([f"but {record['open']}"] if record["open"] else [])]:
            print(fill(line, columns, initial_indent="  ", subsequent_indent="    "))
    print(path)
