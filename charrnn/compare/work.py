"""The running of a comparison: runs as processes of their own, one or several at a time, a row for each, to be gone on
with at any time.

`rows.jsonl` in the comparison's folder has one row per finished run (`ROW` says what is in it); the last one of a name
counts. A run without a row was never begun or was interrupted: its own folder tells which.
"""

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from .. import run
from ..config import seconds, to_toml
from ..errors import CharrnnError, CheckpointError, DataError, Diverged, Interrupted
from .grid import parted
from .plan import Entry, Plan, resolved, settings_of

TUNING = 0  # the seed of the runs that choose a rate, kept out of those that are compared
POLL = 0.25  # seconds between two looks at a process
SPEEDS = {"evaluate_per_second": "charrnn.compare.evaluation", "generate_per_second": "charrnn.compare.generation"}
ROW = {
    "run": "its name, and that of its folder in runs/",
    "label": "the line of the table that it belongs to",
    "purpose": "result, or rate for a run that helps to choose the learning rate",
    "cell": "the cell", "cell_opt": "its own settings", "varied": "what --vary gave it", "size": "of the text, or null",
    "hidden": "units in a layer", "parameters": "trained numbers", "seed": "its seed", "lr": "its peak rate",
    "status": "done, diverged or failed", "message": "why, where it is not done",
    "nats": "the validation part under the best weights, read once from end to end", "bits": "the same in bits",
    "perplexity": "the same", "accuracy": "the same", "characters": "scored in all",
    "blocks": "nats of each 1,000 characters",
    "steps": "trained", "best_step": "of the best weights", "skipped": "updates whose loss was not finite",
    "rollbacks": "to an earlier state", "elapsed": "seconds of training with its evaluations",
    "seconds": "from the start of the process to its end", "resumed": "whether the run was interrupted before",
    "at_once": "runs made at once, this one among them",
    "memory": "bytes held at most over those held before the model was made", "engine": "what unrolled the cell",
    "train_per_second": "characters, the median of the rows of its metrics (in a very short run the mean)",
    "evaluate_per_second": "characters scored by it from end to end, in a process of its own",
    "generate_per_second": "characters drawn from it one by one, in a process of its own",
    "corpus": "digest of the texts", "notes": "what training said",
}  # fmt: skip


@dataclass(frozen=True)
class Job:
    """One run to be made."""

    entry: Entry
    number: int  # of the entry, so that no two folders have one name
    seed: int
    lr: float
    purpose: str

    @property
    def name(self) -> str:
        plain = "".join(c if c.isalnum() or c in ".-" else "-" for c in self.entry.label.replace(", ", "-"))[:60]
        rate = f"-lr{self.lr:g}" if self.purpose == "rate" else ""
        return f"{self.number:02}-{plain.strip('-.')}{rate}-seed{self.seed}"

    @property
    def title(self) -> str:
        """The run as a person is told of it."""
        return f"{self.entry.label}, {f'rate {self.lr:g}' if self.purpose == 'rate' else f'seed {self.seed}'}"


def total(plan: Plan) -> int:
    """How many runs a comparison has."""
    return len(plan.entries) * (plan.asked["seeds"] + len(plan.asked["lrs"]))


def jobs(plan: Plan, rows: dict[str, dict]) -> list[Job]:
    """The runs that can be told by now, in order: rate after rate, then seed after seed, each of every entry.

    Those with the seeds are told once every run that helps to choose a rate has its row.
    """
    numbered, lrs = list(enumerate(plan.entries, 1)), plan.asked["lrs"]
    first = [Job(entry, number, TUNING, lr, "rate") for lr in lrs for number, entry in numbered]
    if any(job.name not in rows for job in first):
        return first
    chosen = {number: rate(entry, number, lrs, rows) for number, entry in numbered}
    return first + [Job(entry, number, s, chosen[number], "result") for s in plan.seeds for number, entry in numbered]


def rate(entry: Entry, number: int, lrs: list[float], rows: dict[str, dict]) -> float:
    """The rate with the best score; where none came through, the smallest."""
    if not lrs:
        return entry.config["lr"]
    scores = {lr: rows[Job(entry, number, TUNING, lr, "rate").name]["bits"] for lr in lrs}
    return min(lrs, key=lambda lr: (scores[lr] is None, scores[lr] or 0, lr))


def read_rows(folder: Path) -> dict[str, dict]:
    """The rows of a comparison by the names of their runs."""
    path = folder / "rows.jsonl"
    try:
        return {row["run"]: row for row in run.read_rows(path)}
    except KeyError as error:
        raise CheckpointError(f"{path}: is damaged ({type(error).__name__}: {error})") from None


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    status: int
    out: str
    err: str
    seconds: float


def launch(module: str, arguments: list[str], stop, watch=lambda: None) -> Ended:
    """Runs a module of this Python as a process to its end; see `launching`."""
    process = launching(module, arguments, stop, watch)
    while True:
        try:
            next(process)
        except StopIteration as ended:
            return ended.value


def launching(
    module: str, arguments: list[str], stop, watch=lambda: None, poll: float = POLL, world: dict | None = None
):
    """Runs a module of this Python as a process in a group of its own, so that Ctrl-C reaches us alone; `world` is what
    its environment has beside ours.

    A generator: it yields every `poll` seconds and returns how the process ended; closed before, it ends the process.

    When stop() gives a signal it is handed on, once; `watch` is called now and then.
    """
    begun, told = time.monotonic(), False
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments], env=os.environ | (world or {}), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", errors="replace", start_new_session=True,
    ) as process:  # fmt: skip
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    out, err = process.communicate(timeout=poll)
                    return Ended(process.returncode, out, err, time.monotonic() - begun)
                watch()
                if stop() and not told:
                    told = True
                    process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
                yield
        except BaseException:  # whatever it is, no process stays behind
            process.terminate()
            raise


def gpus(visible: str | None, count: int) -> list[str]:
    """The `count` CUDA devices that torch sees as CUDA_VISIBLE_DEVICES, which has the value `visible`, names them."""
    return (visible.split(",") if visible else [str(number) for number in range(count)])[:count]


class Work:
    """A comparison at work in its folder. `say(event, **what)` is told of each run: begin, watch, end.

    Runs made at once are dealt out to the `gpus`, where there are several.
    """

    def __init__(self, folder: Path, plan: Plan, say, stop, gpus: list[str] = ()):
        self.folder, self.plan, self.say, self.stop, self.gpus = folder, plan, say, stop, gpus
        self.at_once = plan.asked["jobs"]
        self._lock = run.lock(folder)
        self.rows = read_rows(folder)

    def run(self) -> dict[str, dict]:
        """Makes every run that has no row yet, or one that failed; returns all rows.

        Raises Interrupted when asked to stop, once the runs at work have saved.
        """
        run.mend_rows(self.folder / "rows.jsonl")
        begun, at_work, stopped, places = set(), {}, None, {}
        try:
            while at_work or not stopped:
                for job in [] if stopped else self._next(begun, self.at_once - len(at_work)):
                    begun.add(job.name)
                    taken = {places[name] for name in at_work}
                    places[job.name] = min(place for place in range(self.at_once) if place not in taken)
                    at_work[job.name] = self._made(job, places[job.name])
                    number = len(self.rows.keys() | at_work.keys())
                    self.say("begin", title=job.title, number=number, total=total(self.plan))
                if not at_work:
                    return self.rows
                for name in list(at_work):
                    stopped = self._look(name, at_work) or stopped
        finally:
            for making in at_work.values():
                making.close()
        raise Interrupted(f"stopped with {len(self.rows)} of {total(self.plan)} runs done, all saved", stopped)

    def close(self) -> None:
        if self._lock:
            self._lock.close()

    def _next(self, begun, most):
        """The runs to begin now: without a row, or with one that failed in an earlier session."""
        done = {name for name, row in self.rows.items() if row["status"] != "failed"}
        return [job for job in jobs(self.plan, self.rows) if job.name not in done | begun][:most]

    def _look(self, name, at_work):
        """Goes on with a run at work; keeps its row when it has ended. The signal by which it was stopped, if so."""
        try:
            next(at_work[name])
        except Interrupted as error:
            del at_work[name]
            return error.signal
        except StopIteration as ended:
            title, row = ended.value
            run.add_row(self.folder / "rows.jsonl", row)
            del at_work[name]
            self.rows[name] = row
            number = len(self.rows.keys() - at_work.keys())
            self.say("end", title=title, number=number, total=total(self.plan), row=row)
        return None

    def _made(self, job, place):
        """A run made, as a generator that returns its title and its row; of those made at once it has this place."""
        dealt = self.at_once > 1 and len(self.gpus) > 1  # then each sees one GPU alone
        world = {"CUDA_VISIBLE_DEVICES": self.gpus[place % len(self.gpus)]} if dealt else {}
        return job.title, (yield from self._row(job, world))

    def _row(self, job, world):
        """Trains; a generator that returns what came of it as a row."""
        entry, folder = resolved(job.entry, self.folder), self.folder / "runs" / job.name
        config = settings_of(entry, job.seed, job.lr)
        resumed = (folder / "last.pt").exists()
        if resumed:
            arguments = ["train", "--resume", str(folder)]
        else:
            settings = folder / "config.toml"
            with run.written(settings):
                folder.mkdir(parents=True, exist_ok=True)
                settings.write_text(to_toml(config), encoding="utf-8")
            arguments = ["train", *entry.texts, "--config", str(settings), "--out", str(folder), "--overwrite"]
        watch = lambda: self._watch(job, folder, config)  # noqa: E731
        ended = yield from self._process("charrnn", [*arguments, "--json", "-q"], world, watch)
        row = dict.fromkeys(ROW) | self._known(job, config, ended, resumed)
        if ended.status:
            return row | _troubled(ended, folder)
        if (answer := json.loads(ended.out))["corpus"] != entry.corpus:
            raise DataError(f"{entry.texts[0]}: is not the text that the comparison began with; it has changed since")
        row |= _finished(answer, folder)
        for name, module in SPEEDS.items():  # each printed by a process that does this one thing with the model
            ended = yield from self._process(module, [answer["best"]], world)
            row[name] = None if ended.status else float(ended.out)
        return row

    def _process(self, module, arguments, world, watch=lambda: None):
        """A process that ran to its end; where we were asked to stop, Interrupted."""
        ended = None
        if not self.stop():
            ended = yield from launching(module, arguments, self.stop, watch, POLL / self.at_once, world)
        if self.stop() and (ended is None or ended.status):
            raise Interrupted("", self.stop())
        return ended

    def _watch(self, job, folder, config):
        """Tells how far a run at work has come."""
        rows = [row for row in metrics(folder) if row["event"] != "final"]
        done = 0.0
        if rows and config.time:
            since = time.time() - (folder / "metrics.jsonl").stat().st_mtime  # they are written now and then
            done = (rows[-1]["elapsed"] + max(0.0, since)) / seconds(config.time)
        elif rows and config.steps:
            done = rows[-1]["step"] / config.steps
        scores = [row["bits"] for row in rows if row["event"] == "eval"]
        self.say("watch", title=job.title, done=min(done, 1.0), bits=scores[-1] if scores else None)

    def _known(self, job, config, ended, resumed):
        """What a row says whatever came of the run."""
        entry = job.entry
        return {
            "run": job.name, "label": entry.label, "purpose": job.purpose, "cell": config.cell,
            "cell_opt": parted(entry.cell)[1], "varied": entry.varied, "size": entry.size, "hidden": config.hidden,
            "parameters": entry.parameters, "seed": job.seed, "lr": job.lr, "status": "done",
            "seconds": round(ended.seconds, 3), "resumed": resumed, "at_once": self.at_once, "corpus": entry.corpus,
            "notes": [line.removeprefix("note: ") for line in ended.err.splitlines() if line.startswith("note: ")],
        }  # fmt: skip


def _finished(answer, folder):
    """What a row says of a run that came to its end."""
    rows, memory = metrics(folder), answer["memory"]
    final = next(row for row in reversed(rows) if row["event"] == "final")
    speeds = [row["chars_per_second"] for row in rows if row["event"] == "train"]
    return answer["result"] | {
        "characters": final["characters"], "blocks": final["blocks"],
        **{name: answer[name] for name in ("steps", "best_step", "skipped", "rollbacks", "engine", "parameters")},
        "elapsed": round(answer["elapsed"], 3), "memory": max(0, memory["peak"] - memory["before"]) if memory else None,
        "train_per_second": statistics.median(speeds[1:]) if speeds[1:] else answer["chars_per_second"],
    }  # fmt: skip


def _troubled(ended, folder):
    """What a row says of a run that did not come to its end."""
    rows = metrics(folder)
    said = [line.removeprefix("error: ") for line in ended.err.splitlines() if line.startswith("error: ")]
    last = ended.err.strip().splitlines()[-1:]
    if ended.status < 0:
        last = [f"ended by signal {-ended.status}; where memory is short the system does so"]
    return {
        "status": "diverged" if ended.status == Diverged.status else "failed",
        "message": (said or last or [f"ended with status {ended.status}"])[-1],
        "elapsed": rows[-1].get("elapsed") if rows else None,
        "steps": max((row["step"] for row in rows), default=None),
    }


def metrics(folder: Path) -> list[dict]:
    """The rows of a run's metrics so far."""
    path = folder / "metrics.jsonl"
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith(b"\n")]
    except (OSError, ValueError) as error:
        raise CharrnnError(f"{path}: cannot be read ({error})") from None
