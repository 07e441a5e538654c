"""What a person sees of a run, on stderr: a live bar on a terminal, else one plain line per report."""

import time
from contextlib import nullcontext

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

COUNTS = ("", "k", "M", "G", "T")


def short(number: float) -> str:
    """A number in four characters or so: 950, 12.3k, 4.70M."""
    for unit in COUNTS:
        if abs(number) < 999.5 or unit == COUNTS[-1]:
            return f"{number:.3g}{unit}" if unit else f"{number:.0f}"
        number /= 1000
    raise AssertionError


def duration(seconds: float) -> str:
    """Seconds as 4.2s, 3:05 or 2:10:00."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Stderr(Console):
    """A console that goes quiet when its reader has gone; a run does not end for that."""

    def on_broken_pipe(self):
        self.quiet = True


class Reporter:
    """Tells what a run says. `quiet` leaves warnings alone; `samples` shows the samples drawn on the way."""

    def __init__(self, quiet: bool = False, samples: bool = False):
        self.console = _Stderr(stderr=True, highlight=False, soft_wrap=True)
        self.quiet, self.samples = quiet, samples
        self.loss = self.validation = self.speed = ""
        self.bar = None
        if self.console.is_terminal and not quiet:
            told = [TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[facts]}")]
            columns = told[0], BarColumn(bar_width=None), told[1]
            self.bar = Progress(*columns, console=self.console, transient=True, refresh_per_second=4)
            self.task = self.bar.add_task("starting", total=1.0, facts="")

    def live(self):
        """The context in which the bar is seen."""
        return self.bar or nullcontext()

    def note(self, text: str) -> None:
        """Something that a person should know though all goes on."""
        self.console.print(f"note: {text}", markup=False)

    def table(self, rows: list[tuple[str, str]]) -> None:
        """Names and values in two columns: the screen before the run, and the one after it."""
        if self.quiet:
            return
        table = Table(show_header=False, box=None, padding=(0, 1, 0, 0))
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name, value in rows:
            table.add_row(name, value)
        self.console.print(table, soft_wrap=False)

    def say(self, event: str, **what) -> None:
        """One thing that the training told; see Trainer.say."""
        if event in ("skip", "rollback"):
            self._warn(event, what)
        elif not self.quiet:
            getattr(self, f"_{event}", lambda what: None)(what)

    def _warn(self, event, what):
        if event == "skip":
            self.note(f"step {what['step']:,}: loss {what['loss']}, gradient norm {what['grad_norm']}: update skipped")
        else:
            self.note(f"went back from step {what['at']:,} to {what['step']:,}, rate times {what['rate_scale']:g}")

    def _step(self, what):
        if not self.bar:
            return
        done = what["progress"]
        left = f" {duration(what['elapsed'] * (1 - done) / done)} left" if done > 0.01 else ""
        facts = f"{self.loss}{self.validation}{self.speed}{left}"
        self.bar.update(self.task, completed=done, description=f"step {what['step']:,}", facts=facts)

    def _train(self, what):
        self.loss, self.speed = f"loss {what['bits']:.2f} ", f" {short(what['chars_per_second'])}/s"

    def _eval(self, what):
        self.validation = f"val {what['bits']:.2f} bits"
        self.console.print(
            f"step {what['step']:>7,}  val {what['nats']:.4f} nats {what['bits']:.4f} bits/char  "
            f"perplexity {what['perplexity']:.3f}  {duration(what['elapsed'])}{'  best' if what['best'] else ''}",
            markup=False,
        )

    def _sample(self, what):
        if self.samples:
            self.console.print(what["text"] + "\n", style="dim", markup=False)

    def score(self, step: int, result: dict, yardsticks: dict[str, float]) -> None:
        """A result between its yardsticks."""
        self.table(
            [
                ("result", f"{result['nats']:.4f} nats = {result['bits']:.4f} bits per character"),
                (
                    "",
                    f"perplexity {result['perplexity']:.3f}, accuracy {result['accuracy']:.1%}, of step {step:,}",
                ),
                ("yardsticks", in_bits(yardsticks)),
            ]
        )


class GridReporter(Reporter):
    """Tells how a grid of runs stands, of which one or several are at work."""

    def __init__(self, quiet: bool = False):
        super().__init__(quiet)
        self.begun = self.first = None  # when, and after how many runs, this session began
        self.ended, self.at_work = 0, {}  # in this session; the share that is done of each

    def _begin(self, what):
        if self.begun is None:
            self.begun, self.first = time.monotonic(), what["number"] - 1
        self.total = what["total"]
        self._watch({"title": what["title"], "done": 0.0, "bits": None})

    def _watch(self, what):
        self.at_work[what["title"]] = what["done"]
        if not self.bar:
            return
        spent, here = time.monotonic() - self.begun, self.ended + sum(self.at_work.values())
        left = f"{duration(spent / here * (self.total - self.first) - spent)} left" if here > 0.05 else ""
        if len(self.at_work) == 1:
            told = f"run {self.first + self.ended + 1} of {self.total}: {what['title']}"
            score = f"val {what['bits']:.2f} bits " if what["bits"] is not None else ""
        else:
            told = f"{self.first + self.ended} of {self.total} runs done, {len(self.at_work)} at work"
            score = ""
        self.bar.update(self.task, completed=(self.first + here) / self.total, facts=f"{score}{left}", description=told)

    def _end(self, what):
        del self.at_work[what["title"]]
        self.ended += 1
        row = what["row"]
        if row["status"] == "done":
            told = f"{row['nats']:.4f} nats {row['bits']:.4f} bits/char  perplexity {row['perplexity']:.3f}"
        else:
            told = f"{row['status']}: {row['message']}"
        place = f"{what['number']} of {what['total']}"
        self.console.print(f"run {place}  {what['title']}  {told}  {duration(row['seconds'])}", markup=False)


class ProbeReporter(Reporter):
    """Tells how the models of a probe stand, one after the other."""

    def _begin(self, what):
        self.begun, self.first = time.monotonic(), what["number"] - 1
        if self.bar:
            self.bar.update(self.task, completed=self.first / what["total"], description=what["title"], facts="")

    def _end(self, what):
        row, number, total = what["row"], what["number"], what["total"]
        told = f"{row['accuracy']:.1%} right" if row["status"] == "done" else row["status"]
        updates = f"{row['made']:,} updates{', solved' if row['solved'] else ''}"
        place = f"{number} of {total}"
        self.console.print(f"{place}  {what['title']}  {told}  {updates}  {duration(row['seconds'])}", markup=False)
        if self.bar and number > self.first:
            left = (time.monotonic() - self.begun) / (number - self.first) * (total - number)
            self.bar.update(self.task, completed=number / total, facts=f"{place}, {duration(left)} left")


class PartsReporter(Reporter):
    """Tells how a set of experiments stands, one part after the other; `done` is the share of the whole."""

    def __init__(self, quiet: bool = False):
        super().__init__(quiet)
        self.begun = self.first = None  # when, and at which share, this session began

    def _begin(self, what):
        if self.begun is None:
            self.begun, self.first = time.monotonic(), what["done"]
        self.title = f"part {what['number']} of {what['total']}: {what['title']}"
        self._watch(what)

    def _watch(self, what):
        if not self.bar:
            return
        done, spent = what["done"], time.monotonic() - self.begun
        here = done - self.first
        left = f"{duration(spent / here * (1 - done))} left" if here > 0.01 else ""
        self.bar.update(self.task, completed=done, description=self.title, facts=left)

    def _end(self, what):
        told = "failed" if what["message"] else "done"
        place = f"part {what['number']} of {what['total']}"
        self.console.print(f"{place}  {what['title']}  {told}  {duration(what['seconds'])}", markup=False)


def in_bits(yardsticks: dict[str, float]) -> str:
    """The yardsticks in a line, bits per character."""
    return ", ".join(f"{name} {bits:.2f}" for name, bits in yardsticks.items()) + " bits"
