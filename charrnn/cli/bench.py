"""`charrnn bench`: how fast everything is on this machine, ours and the peers' way of doing it in turns."""

import json
import sys
from typing import Annotated

import typer

from ..cells import classes, make
from ..errors import UsageError, nearest
from . import NUMBER, WHOLE, app, pipeable

bench = typer.Typer(
    help="Measure how fast this machine trains, samples, encodes and starts, beside the peers' way of doing it.",
    rich_markup_mode="rich",
    invoke_without_command=True,
)
app.add_typer(bench, name="bench", rich_help_panel="Measure")

Cells = Annotated[str, typer.Option(help="Cells, with commas between, or all.")]
Sizes = Annotated[
    str, typer.Option(help="A (2 x 128), B (2 x 256), C (3 x 512), tiny (says nothing), with commas between.")
]
Seconds = Annotated[float, typer.Option(help="Time for each comparison, once all is ready.", **NUMBER)]
Rounds = Annotated[
    int | None, typer.Option(help="End a comparison after so many rounds instead.", show_default=False, **WHOLE)
]
Threads = Annotated[int, typer.Option(help="Threads of every process; 0 for each library's own choice.", **WHOLE)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per row.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr but errors.")]
CELLS, SIZES, SECONDS = "lstm,gru,rnn", "A,B,C", 20.0
READY = 5  # seconds or so until the processes of a comparison are


@bench.callback()
def _start(ctx: typer.Context):
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())


@bench.command()
@pipeable
def train(
    cells: Cells = CELLS,
    sizes: Sizes = SIZES,
    engine: Annotated[str, typer.Option(help="The engine of our step: auto, or one by name.")] = "auto",
    precision: Annotated[str, typer.Option(help="Arithmetic, ours and the peers': float32 or bfloat16.")] = "float32",
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Also: our step as hidden size, length and batch double.")
    ] = False,
    loss: Annotated[
        int,
        typer.Option(help="Also: the loss after so many steps by our engine, the reference and in bfloat16.", **WHOLE),
    ] = 0,
    seconds: Seconds = SECONDS,
    rounds: Rounds = None,
    threads: Threads = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
):
    """A step of training: forward, backward, clipping, AdamW.

    [bold]charrnn bench train --cells lstm --sizes A,B[/]
    """
    chosen, named = _chosen(cells, sizes)
    _one_of("--precision", precision, ("float32", "bfloat16"))
    if loss < 0:
        raise UsageError(f"--loss {loss}: must be a number of steps, or 0 for none")
    settings, say = _settings(seconds, rounds, threads, engine=engine, precision=precision), _say(quiet)
    from ..bench import train as room
    from ..engine import NAMES

    _one_of("--engine", engine, ("auto", *NAMES))
    _plan(say, len(chosen) * len(named) * (1 + scaling), settings)
    _print(room.rows(chosen, named, settings, say), as_json)
    if scaling:
        _print(room.scaling(chosen, named, settings, say), as_json)
    if loss:
        _print(room.loss(chosen, named, loss, settings, say), as_json)


@bench.command()
@pipeable
def sample(
    cells: Cells = CELLS,
    sizes: Sizes = SIZES,
    streams: Annotated[str, typer.Option(help="Texts drawn at once, with commas between.")] = "1,64",
    int8: Annotated[bool, typer.Option("--int8", help="Our weights rounded to 8 bits.")] = False,
    seconds: Seconds = SECONDS,
    rounds: Rounds = None,
    threads: Threads = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
):
    """Characters drawn from a model."""
    chosen, named = _chosen(cells, sizes)
    counts = [_count("--streams", part) for part in streams.split(",")]
    settings, say = _settings(seconds, rounds, threads), _say(quiet)
    from ..bench import sample as room

    _plan(say, len(chosen) * len(named) * len(counts), settings)
    _print(room.rows(chosen, named, counts, settings, say, int8), as_json)


@bench.command()
@pipeable
def encode(
    characters: Annotated[int, typer.Option(help="Length of the texts.", **WHOLE)] = 20_000_000,
    seconds: Seconds = SECONDS,
    rounds: Rounds = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
):
    """From the bytes of a text to ids, in ASCII and in many scripts."""
    if characters < 1000:
        raise UsageError(f"--characters {characters}: must be at least 1000")
    settings, say = _settings(seconds, rounds, 0), _say(quiet)
    from ..bench import encode as room

    _plan(say, 2, settings)
    _print(room.rows(characters, settings, say), as_json)


@bench.command()
@pipeable
def start(
    seconds: Seconds = SECONDS,
    rounds: Rounds = None,
    threads: Threads = 0,
    as_json: AsJson = False,
    quiet: Quiet = False,
):
    """Commands in fresh processes, from nothing to their end, when everything is warm."""
    settings, say = _settings(seconds, rounds, threads), _say(quiet)
    from ..bench import start as room

    _plan(say, 1, settings)
    _print(room.rows(settings, say), as_json)


# ---- what was typed


def _chosen(cells, sizes):
    """The names of cells and sizes, each checked, and each cell at each size."""
    from ..bench import SIZES

    names = list(classes()) if cells == "all" else cells.split(",")
    made = [make(name, option="--cells") for name in names]
    sizes = sizes.split(",")
    for name in sizes:
        _one_of("--sizes", name, SIZES)
        for cell in made:
            cell.check(SIZES[name].hidden)
    return names, sizes


def _one_of(option, value, known):
    if value not in known:
        raise UsageError(f"{option} {value}: no such one{nearest(value, known)}; known: {', '.join(known)}")


def _count(option, text):
    if not text.isascii() or not text.isdigit() or not int(text):
        raise UsageError(f"{option} {text}: must be a whole number of at least 1, or several with commas between")
    return int(text)


def _settings(seconds, rounds, threads, **more):
    from ..bench import Settings
    from ..bench.timing import Limit

    if not 0 < seconds < float("inf"):
        raise UsageError(f"--seconds {seconds}: must be a number greater than 0")
    if rounds is not None and rounds < 1:
        raise UsageError(f"--rounds {rounds}: must be at least 1")
    if rounds is not None and seconds != SECONDS:
        raise UsageError(f"--rounds {rounds}: has no effect beside --seconds; give one of them")
    if threads < 0:
        raise UsageError(f"--threads {threads}: must be at least 0")
    return Settings(Limit(rounds=rounds) if rounds else Limit(seconds=seconds), threads, **more)


def _say(quiet):
    return (lambda text: None) if quiet else lambda text: print(text, file=sys.stderr, flush=True)


def _plan(say, number, settings):
    """How long it will take, where that is known, and whether now is the time for it."""
    from ..bench import timing

    share = timing.used_by_others() or 0.0
    if share > timing.FOREIGN:
        say(f"note: others use {share:.0%} of this machine now; what they disturb is dropped, a quiet hour is better")
    limit, several = settings.limit, "s" * (number > 1)
    if limit.rounds < float("inf"):
        return say(f"{number} comparison{several} of {limit.rounds} rounds")
    from ..progress import duration

    whole = duration(number * (limit.seconds + READY))
    say(f"{number} comparison{several} of {limit.seconds:g} s, about {whole} in all")


# ---- what is printed


def _print(rows, as_json):
    """The rows as they come: JSON, or a table under headings."""
    table = _Table()
    for row in rows:
        if as_json:
            print(json.dumps(row, ensure_ascii=False), flush=True)
        else:
            table.add(row)
    if not as_json:
        table.end()


class _Table:
    """Prints rows one by one, with a heading where another case begins, and explains at the end what needs it."""

    WIDTHS = (-21, 7, 19, 6, 16, 6)  # below 0: to the left

    def __init__(self):
        self.heading, self.loads = None, set()

    def add(self, row: dict) -> None:
        """Prints a row."""
        head, title, cells = getattr(self, f"_{row['bench']}")(row)
        if self.heading is None:
            print(_machine(row["machine"]))
            self._line("", *head)
        if title != self.heading:
            print(title, flush=True) if title else None
        self.heading = title
        self._line(*cells)

    def end(self) -> None:
        """Prints what the marks mean that were used."""
        if "loaded" in self.loads:
            print("!  every sample was taken while others used the machine: do not trust the row")
        if "unknown" in self.loads:
            print("?  whether others used the machine meanwhile, this system does not tell")

    def _line(self, *cells):
        shown = (f"{text:<{-n}}" if n < 0 else f"{text:>{n}}" for text, n in zip(cells, self.WIDTHS, strict=True))
        print(" ".join(shown).rstrip(), flush=True)

    def _kept(self, row):
        """How many of its samples a row keeps, marked where they are not to be trusted."""
        self.loads.add(row["load"])
        mark = {"clean": " ", "loaded": "!", "unknown": "?"}[row["load"]]
        return f"{row['kept']}/{row['samples']}{mark}"

    def _train(self, row):
        title = f"{row['cell']} {row['size']}: {row['layers']} x {row['hidden']}, batch {row['batch']}, length "
        title += f"{row['length']}, {row['precision']}; peak {row['peak_flops'] / 1e9:.0f} GFLOP/s"
        way = f"{row['way']}, {row['engine']}" if row["engine"] and row["ratio"] is None else row["way"]
        cells = (
            f"  {way}", _speed(row), _time(row["seconds"]), f"{row['peak_share']:.0%}", _span(row["ratio"]),
            self._kept(row),
        )  # fmt: skip
        return ("chars/s", "time of a step", "peak", "times as fast", "kept"), title, cells

    def _sample(self, row):
        several = "s" * (row["streams"] > 1)
        title = f"{row['cell']} {row['size']}: {row['layers']} x {row['hidden']}, {row['streams']} stream{several}; "
        title += f"{row['weight_bytes'] / 1e6:.3g} MB of weights at {row['bandwidth'] / 1e9:.3g} GB/s"
        cells = (
            f"  {row['way']}", _speed(row), _time(row["seconds"]), f"{row['bandwidth_share']:.0%}",
            _span(row["ratio"]), self._kept(row),
        )  # fmt: skip
        return ("chars/s", "time of a step", "b/w", "times as fast", "kept"), title, cells

    def _encode(self, row):
        from ..progress import short

        times = row["memory"] / row["ids_bytes"] if row["memory"] is not None else None
        memory = "-" if times is None else f"{times:.1f}x" if times < 100 else f"{short(times)}x"
        cells = (
            f"  {row['way']}", _speed(row), _time(row["seconds"]), memory, _span(row["ratio"]), self._kept(row),
        )  # fmt: skip
        title = f"{row['script']}: {row['symbols']} symbols"
        return ("chars/s", "time of a pass", "memory", "times as fast", "kept"), title, cells

    def _start(self, row):
        cells = (f"  {row['way']}", "", _time(row["seconds"]), "", "", self._kept(row))
        return ("", "time", "", "", "kept"), "", cells

    def _scaling(self, row):
        title = f"{row['cell']} {row['size']}"
        if not row["doubled"]:
            title += f": {row['layers']} x {row['hidden']}, batch {row['batch']}, length {row['length']}"
            self.base = title
        way, time, work = "  as it is", None, ""
        if row["doubled"]:
            way, time, work = f"  {row['doubled']} twice", row["time_ratio"], f"{row['flops_ratio']:.2f}"
        cells = (way, "", _time(row["seconds"]), work, _span(time), self._kept(row))
        return ("", "time of a step", "work", "times as long", "kept"), self.base, cells

    def _loss(self, row):
        title = f"{row['cell']} {row['size']}: {row['steps']} steps"
        way, nats = f"  {row['engine']}, {row['precision']}", f"{row['nats']:.4f} nats"
        cells = (way, "", nats, "", f"{row['difference']:+.5f}", "")
        return ("", "loss", "", "difference", ""), title, cells


def _machine(facts):
    """Where the figures come from, in a line or two."""
    libraries = ", ".join(f"{name} {facts[name]}" for name in ("charrnn", "torch", "numpy") if name in facts)
    threads = f", {facts['threads']} thread{'s' * (facts['threads'] > 1)}" if facts["threads"] else ""
    return f"{facts['processor']}, {facts['processors']} processors{threads}; {libraries}"


def _speed(row):
    from ..progress import short

    return short(row["characters_per_second"]["median"])


def _time(spread):
    """A time with its quartiles, in the unit that suits it."""
    unit, scale = next(((u, k) for u, k in (("s", 1), ("ms", 1e3)) if spread["median"] * k >= 1), ("us", 1e6))
    median, low, high = (_digits(value * scale) for value in spread.values())
    return f"{median} {unit} ({low}-{high})"


def _span(spread):
    """A ratio with its quartiles; nothing where there is none."""
    return "{} ({}-{})".format(*map(_digits, spread.values())) if spread else ""


def _digits(value):
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
