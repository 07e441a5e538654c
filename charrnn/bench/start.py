"""`charrnn bench start`: how long commands take from nothing to their end, in fresh processes, everything warm."""

import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from ..errors import CharrnnError
from . import Settings, work
from .rows import row
from .timing import Turn, interleave, timed
from .worker import environment, fresh

CORPUS = 100_000  # characters of the text that the small model is trained on
MAIN = "from charrnn.__main__ import main; main()"


class Command:
    """A command that takes turns; each time it is a new process."""

    units, facts = 1, {}

    def __init__(self, title: str, line: list[str], folder: Path, threads: int):
        self.title, self.line, self.folder = title, line, folder
        self.environment = environment(threads, ours=True) | {"CHARRNN_CACHE": str(folder / "cache")}

    def turn(self, repetitions: int) -> Turn:
        before = os.times()
        seconds = timed(lambda: [self.run() for _ in range(repetitions)])
        after = os.times()
        return Turn(seconds, sum(after[2:4]) - sum(before[2:4]))  # of processes that have ended

    def run(self) -> None:
        """Runs it once; CharrnnError with its last line where it fails."""
        done = subprocess.run(
            self.line, cwd=self.folder, env=self.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        if done.returncode:
            last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise CharrnnError(f"{self.title}: ended with status {done.returncode}{''.join(f' ({x})' for x in last)}")


def rows(settings: Settings, say):
    """A row for each command, and for what it is to be compared with: a bare Python, and the import of torch."""
    with TemporaryDirectory(prefix="charrnn-bench-") as name:
        folder = Path(name)
        say("start: training a small model")
        _trained(folder, settings)
        lines = {
            "python": fresh("pass"),
            "charrnn --help": fresh(MAIN, "--help"),
            "charrnn sample -n 1": fresh(MAIN, "sample", "run", "-n", "1"),
            "import torch": fresh("import torch"),
        }
        commands = [Command(title, line, folder, settings.threads) for title, line in lines.items()]
        say(f"start: {', '.join(lines)}")
        series = interleave(commands, settings.limit)
    for command, own in zip(commands, series, strict=True):
        yield row("start", {}, command, own, None)


def _trained(folder, settings):
    """A model of the usual size, as a run in the folder."""
    (folder / "corpus.txt").write_text(work.prose("ascii", CORPUS), encoding="utf-8")
    options = ("--steps", "1", "--sample-length", "0", "--out", "run", "-q")
    Command("charrnn train", fresh(MAIN, "train", "corpus.txt", *options), folder, settings.threads).run()
