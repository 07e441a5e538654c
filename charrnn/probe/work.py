"""The running of a probe: model after model, several at once where there are processors, a row for each."""

import json
import multiprocessing
import os
import signal
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, nullcontext
from pathlib import Path

from .. import run as files
from ..errors import CharrnnError, Interrupted
from .learn import KEY, measure
from .measures import result
from .protocols import protocol
from .settings import Job, Settings, jobs
from .verdict import Result

POLL = 0.25  # seconds between two looks at whether we are asked to stop


def run(name: str, settings: Settings, report, folder: Path | None = None, stop=lambda: None) -> Result:
    """Trains and tests every model of a probe and says what came of it.

    `report(event, **what)` is told of each model: begin, end. With a folder its rows.jsonl keeps the rows, and models
    whose row is there are not trained again. `stop()` gives the signal that asks to end; then Interrupted is raised.
    """
    chosen = protocol(name)
    settings = settings.complete(chosen)
    asked = jobs(chosen, settings)
    with closing(_locked(folder)) if folder else nullcontext():
        rows = _kept(folder) if folder else {}
        left = [job for job in asked if _key(job.record()) not in rows]

        def add(job, row):
            rows[_key(row)] = row
            if folder:
                files.add_row(folder / "rows.jsonl", row)
            done = len(asked) - sum(_key(each.record()) not in rows for each in asked)
            report("end", title=job.title, number=done, total=len(asked), row=row)

        report("begin", title=chosen.name, number=len(asked) - len(left) + 1, total=len(asked))
        try:
            _train(left, settings.jobs or _processors(), add, stop)
        except Interrupted as error:
            done = len(asked) - sum(_key(job.record()) not in rows for job in asked)
            kept = "all kept" if folder else "nothing is kept without --out"
            raise Interrupted(f"stopped with {done} of {len(asked)} models done, {kept}", error.signal) from None
    return result(chosen, settings, [rows[_key(job.record())] for job in asked])


def _locked(folder):
    with files.written(folder):
        folder.mkdir(parents=True, exist_ok=True)
        return files.lock(folder) or nullcontext()


def _kept(folder):
    """The rows of a folder by what they are of."""
    path = folder / "rows.jsonl"
    rows = {_key(row): row for row in files.read_rows(path)}
    files.mend_rows(path)
    return rows


def _key(record):
    return json.dumps([record.get(name) for name in KEY])


def _processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _train(left: list[Job], at_once: int, add, stop):
    """Trains models, here or in processes of their own."""

    def asked():
        if number := stop():
            raise Interrupted("", number)

    if min(at_once, len(left)) <= 1:
        for job in left:
            add(job, measure(job, asked))
        return
    try:
        with ProcessPoolExecutor(at_once, multiprocessing.get_context("spawn"), _deaf) as pool:
            waiting = {pool.submit(measure, job): job for job in left}
            try:
                while waiting:
                    done, _ = wait(waiting, POLL, FIRST_COMPLETED)
                    for future in done:
                        add(waiting.pop(future), future.result())
                    asked()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for child in multiprocessing.active_children():
                    child.terminate()
                raise
    except BrokenProcessPool:
        raise CharrnnError("a process ended that trained a model; memory may be short; try --jobs 1") from None


def _deaf():
    """Ctrl-C reaches the processes too, and only the first is to act on it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
