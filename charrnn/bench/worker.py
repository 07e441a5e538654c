"""A process that takes turns: it is told its job, gets ready, and repeats its work as often as it is asked to.

Both ends speak lines of JSON over the process's standard input and output: a job {"way": name, ..} is answered with
facts, a number of repetitions with {"seconds", "own"}, a person's mistake with {"kind", "error"}.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

from .. import errors
from ..errors import CharrnnError
from .timing import Turn


def environment(threads: int, ours: bool) -> dict[str, str]:
    """The variables of a process: ours as `charrnn` sets them for itself, or the peers', who set nothing.

    The number of threads, where it is given, is told to every library that has some.
    """
    variables = dict(os.environ)
    if not ours:
        variables.pop("GOMP_SPINCOUNT", None)
    if threads:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        variables |= dict.fromkeys(names, str(threads))
    return variables


def fresh(code: str, *arguments: str) -> list[str]:
    """The command line of a fresh Python that finds the same modules as this one and runs this code."""
    start = f"import os, sys; sys.path[:] = sys.argv.pop(1).split(os.pathsep); {code}"
    return [sys.executable, "-P", "-c", start, os.pathsep.join(sys.path), *arguments]


class Worker:
    """One way of doing the work, named `way` in `room` (a module of bench.ways), in a process of its own.

    It starts at once; `ready` waits for it. A context manager: at its end the process ends too.
    """

    def __init__(self, title: str, room: str, threads: int, ours: bool, way: str, **job):
        self.title, self.facts = title, None
        code = f"from charrnn.bench.ways.{room} import WAYS; from charrnn.bench.worker import serve; serve(WAYS)"
        self._complaints = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            fresh(code), env=environment(threads, ours), text=True, encoding="utf-8",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints,
        )  # fmt: skip
        self._say({"way": way} | job)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        with contextlib.suppress(OSError):  # what it was told last may never have reached it
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()
        self._complaints.close()

    def ready(self) -> dict:
        """What the process says of itself once it can begin: `units` of one repetition, threads, versions, .."""
        if self.facts is None:
            self.facts = self._hear()
        return self.facts

    @property
    def units(self) -> float:
        return self.ready()["units"]

    def turn(self, repetitions: int) -> Turn:
        self.ready()
        self._say(repetitions)
        return Turn(**self._hear())

    def _say(self, what):
        try:
            print(json.dumps(what), file=self._process.stdin, flush=True)
        except OSError:
            raise self._death() from None

    def _hear(self):
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise self._death()
        answer = json.loads(line)
        if "error" in answer:
            raise getattr(errors, answer["kind"])(answer["error"])
        return answer

    def _death(self):
        """The one line for a process that ended before its time."""
        status = self._process.wait()
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        self._complaints.seek(0)
        last = self._complaints.read().decode("utf-8", "replace").strip().splitlines()[-1:]
        return CharrnnError(f"{self.title}: the process that was timed {how}{''.join(f' ({line})' for line in last)}")


def serve(ways: dict) -> None:
    """The other end: gets ready for the job that comes in, by one of the ways, and takes its turns.

    A way is a function of the rest of the job that returns its facts and a function that does the work once.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not come between the answers

    def answer(what):
        print(json.dumps(what), file=answers, flush=True)

    job = json.loads(sys.stdin.readline())
    try:
        facts, once = ways[job.pop("way")](**job)
    except CharrnnError as error:
        return answer({"kind": type(error).__name__, "error": str(error)})
    libraries = ("torch", "numpy", "tokenizers")
    answer(facts | {"versions": {name: sys.modules[name].__version__ for name in libraries if name in sys.modules}})
    for line in sys.stdin:
        own, start = time.process_time(), time.perf_counter()
        for _ in range(int(line)):
            once()
        seconds = time.perf_counter() - start
        answer({"seconds": seconds, "own": time.process_time() - own})
