"""The running of a probe: model after model, several at once where there are processors, a row for each."""

import json
import multiprocessing
import signal
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, nullcontext
from pathlib import Path

from .. import run as files
from ..errors import CharrnnError, Interrupted
from .learn import KEY, measure
from .measures import result
from .protocols import Protocol, protocol
from .settings import Job, Settings, jobs
from .verdict import Result

POLL = 0.25  # seconds between two looks at whether we are asked to stop


def run(name: str, settings: Settings, report, folder: Path | None = None, stop=lambda: None) -> Result:
    """Trains and tests the models of a probe and says what came of it.

    `report(event, **what)` is told of each model: begin, end. With a folder its rows.jsonl keeps the rows, and models
    whose row is there are not trained again. `stop()` gives the signal that asks to end; then Interrupted is raised.
    """
    chosen = protocol(name)
    settings = settings.complete(chosen)
    with closing(_locked(folder)) if folder else nullcontext():
        grid = Grid(chosen, settings, _kept(folder) if folder else {})

        def add(job, row):
            grid.rows[_key(row)] = row
            if folder:
                files.add_row(folder / "rows.jsonl", row)
            report("end", title=job.title, number=grid.total - grid.left, total=grid.total, row=row)

        report("begin", title=chosen.name, number=grid.total - grid.left + 1, total=grid.total)
        try:
            while due := grid.due():
                _train(due, settings.jobs, add, stop)
        except Interrupted as error:
            kept = "all kept" if folder else "nothing is kept without --out"
            made = f"{grid.total - grid.left} of {grid.total} models"
            raise Interrupted(f"stopped with {made} done, {kept}", error.signal) from None
    return result(chosen, settings, [row for each in grid.rates for job in each if (row := grid.row(job))])


class Grid:
    """The models of a probe, rate by rate; where one has solved its task, other rates have nothing left to find."""

    def __init__(self, chosen: Protocol, settings: Settings, rows: dict[str, dict]):
        self.rates, self.rows = [jobs(chosen, settings, lr) for lr in settings.lrs], rows
        self.stops, self.total = chosen.stops, sum(map(len, self.rates))

    def row(self, job: Job) -> dict | None:
        return self.rows.get(_key(job.record()))

    def due(self) -> list[Job]:
        """The models to be trained next: those of one rate, of which none is needed to know the others."""
        return next(filter(None, map(self._open, range(len(self.rates)))), [])

    @property
    def left(self) -> int:
        """How many are to be trained as far as is known."""
        return sum(len(self._open(rate)) for rate in range(len(self.rates)))

    def _open(self, rate):
        earlier = list(zip(*self.rates[:rate], strict=True)) if rate else [()] * len(self.rates[0])
        return [
            job for job, before in zip(self.rates[rate], earlier, strict=True)
            if not self.row(job) and not (self.stops and any((self.row(other) or {}).get("solved") for other in before))
        ]  # fmt: skip


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
