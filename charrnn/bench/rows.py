"""What the benchmark says: one plain dict per way of doing a thing, the same whether it is printed or kept as JSON."""

import functools
import os
import platform
from dataclasses import asdict

from .. import __version__
from ..errors import UsageError
from .timing import Series, faster


def row(bench: str, case: dict, contender, series: Series, ours: Series | None, **more) -> dict:
    """What one contender's samples tell; `ours` are those of charrnn in the same rounds, None where it is itself.

    README.md says what each name means.
    """
    return {
        "bench": bench, **case, "way": contender.title, "engine": contender.facts.get("engine"),
        "seconds": asdict(series.seconds()),
        "ratio": None if ours is None else asdict(faster(ours, series)),
        "samples": len(series.samples), "kept": len(series.used) if series.load != "loaded" else 0,
        "load": series.load, **more, "machine": machine(contender.facts),
    }  # fmt: skip


def machine(facts: dict) -> dict:
    """Where a row comes from, with the versions and threads of the process that did the work, where it told them."""
    here = {"processor": _processor(), "processors": os.cpu_count(), "threads": facts.get("threads")}
    return here | {"system": platform.platform(), "python": platform.python_version(), "charrnn": __version__} | (
        facts.get("versions", {})
    )  # fmt: skip


@functools.cache
def _processor():
    """What the processor is called; Linux says it in a file of its own."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            named = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        named = []
    return named[0] if named else platform.processor() or platform.machine()


def compared(cases: list, compare, say):
    """The rows that `compare` makes of each case; a case that is refused is told and left out, and if all are refused,
    the last refusal is raised."""
    refusal, made = None, 0
    for case in cases:
        try:
            for each in compare(*case):
                made += 1
                yield each
        except UsageError as error:
            refusal = error
            if len(cases) > 1:
                say(f"note: {' '.join(map(str, case))} left out: {error}")
    if refusal and not made:
        raise refusal
