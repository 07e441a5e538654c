"""`charrnn probe gradient`: how far back the gradient of one prediction reaches."""

import json
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated

import typer

from ..config import Config, flag
from ..errors import DataError, Diverged, UsageError
from . import WHOLE, pipeable
from .learn import options
from .opening import CellOption
from .probe import probes
from .results import OutOption, OverwriteOption, has_statistics, leave, may_leave, number, print_sketch, print_table

SETTINGS = ("hidden", "layers", "embed", "dropout", "seq_len", "batch_size", "lr", "device", "engine")
EARLY = 100  # steps after which gradients are looked at for the second time


@probes.command("gradient")
@options(*(f.name for f in fields(Config) if f.name not in SETTINGS))
@pipeable
def gradient(
    text: Annotated[
        str | None,
        typer.Argument(help="A text, - for standard input; none: the run's own validation part.", show_default=False),
    ] = None,
    *,
    checkpoint: Annotated[
        list[Path] | None, typer.Option("--checkpoint", "-c", help="A checkpoint, or a run's folder; may be repeated.")
    ] = None,
    cells: Annotated[str | None, typer.Option(help="Or cells, a,b: each is trained on TEXT and looked at.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of that training. [default: 1000]", **WHOLE)] = None,
    lags: Annotated[int, typer.Option(help="Characters back that are looked at.", **WHOLE)] = 128,
    windows: Annotated[int, typer.Option(help="Predictions drawn from the text.", **WHOLE)] = 256,
    seed: Annotated[int, typer.Option(help="Seed of that draw, and of the training.", **WHOLE)] = 1,
    out: OutOption = None,
    overwrite: OverwriteOption = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per model and step.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Warnings and errors only on stderr.")] = False,
    cell: CellOption = None,
    typed: dict,
):
    """The gradient of one prediction's cost by the embeddings of the characters before it, by their lag.

    [bold]charrnn probe gradient pydocs --cells rnn,gru,lstm[/]

    With --cells it is looked at before training, after 100 steps, and at the end; at equal widths.
    """
    _check(text, checkpoint, cells, steps, lags, windows, seed, typed, cell)
    may_leave(out, "gradient", overwrite)
    has_statistics("probe gradient")
    found, view = [], SimpleNamespace(lags=lags, windows=windows, seed=seed)
    kept = None if cells else _kept(text, checkpoint, view, typed, cell)
    for one in kept or _trained(text, cells, steps or 1000, view, typed, quiet):
        found.append(one)
        if as_json:
            print(json.dumps(one, ensure_ascii=False), flush=True)
    if not found:
        raise Diverged("no model is left to look at")
    if not as_json:
        _print(found)
    leave(out, "gradient", [row for one in found for row in _flat(one)], lambda path: _draw(found, path))


def _check(text, checkpoint, cells, steps, lags, windows, seed, typed, cell):
    """What can be known to be wrong before anything heavy is imported."""
    if bool(checkpoint) == bool(cells):
        raise UsageError("--checkpoint and --cells: give one of them, models that are there or cells to be trained")
    for option, value, least in (("--lags", lags, 2), ("--windows", windows, 1), ("--seed", seed, 0)):
        if value < least:
            raise UsageError(f"{option} {value}: must be at least {least}")
    if checkpoint:
        idle = [flag(name) for name in typed if name not in ("device", "engine")] + ["--steps"] * (steps is not None)
        if idle:
            raise UsageError(f"{idle[0]}: is for models that are trained (--cells); leave it out")
        return
    if text is None:
        raise UsageError("TEXT: name a text to train on, for instance: charrnn probe gradient pydocs --cells rnn,lstm")
    if cell is not None:
        raise UsageError(f"--cell {cell}: is for checkpoints; with --cells name it there")
    from ..cells import admit, make

    for config in _configs(cells, steps or 1000, seed, typed):
        make(admit(config.cell, "--cells"), config.cell_settings(), option="--cells").check(config.hidden)


def _configs(cells, steps, seed, typed):
    """The settings of each cell's training."""
    from ..cells import listed, parted

    for name in listed(cells):
        plain, own = parted(name)
        opts = [f"{key}={value}" for key, value in own.items()]
        yield Config(**typed, cell=plain, cell_opt=opts, steps=steps, seed=seed, sample_length=0)


def _kept(text, checkpoints, view, typed, cell):
    """What is found of models that are there."""
    from ..corpus import Reading
    from ..engine import choose
    from .members import load

    for path in checkpoints:
        members, vocabulary = load(path, [], cell)
        from .scoring import Scoring

        scoring = Scoring(members, vocabulary, typed.get("device", "auto"), "error", Reading())
        engine, run = choose(typed.get("engine", "auto"), scoring.model.stack[-1], scoring.weights["embedding"])
        (read,) = scoring.named([text]) if text else scoring.own("val")
        found = _looked(scoring.model, scoring.weights, read.ids, read.title, view, run)
        step = members[0].record["training"]["step"]
        yield {"label": str(path), "cell": scoring.model.cell, "step": step, "engine": engine} | found


def _trained(text, cells, steps, view, typed, quiet):
    """What is found of each cell while it is trained; one that diverges is told and left."""
    from ..engine.allocator import keep_buffers
    from ..probe.gradient import trained
    from ..progress import Reporter
    from . import session

    keep_buffers()
    for config in _configs(cells, steps, view.seed, typed):
        report, stop = Reporter(quiet), session.Stop()
        asked = session.new_session([text], config.record(), None)
        corpus = session._corpus(asked, report)
        trainer = session._trainer(asked, corpus, report, stop)
        trainer.folder = SimpleNamespace(log=lambda *_: None)
        part = corpus.part("val")

        def look(trainer=trainer, part=part):
            return _looked(trainer.model, trainer.weights, part, f"val part of {text}", view, trainer.run)

        name = " ".join([config.cell, *config.cell_opt])
        try:
            with report.live():
                for step, found in trained(trainer, steps, EARLY, look):
                    yield {"label": f"{name}, step {step:,}", "cell": name, "step": step,
                           "engine": trainer.engine} | found  # fmt: skip
        except Diverged as error:
            print(f"note: {name}: {error}", file=sys.stderr)


def _looked(model, weights, ids, title, view, run):
    """The gradients of one model as plain data."""
    from ..probe.gradient import measure, needed, places

    if len(ids) < needed(view.lags):
        raise DataError(f"{title}: has {len(ids):,} characters; --lags {view.lags} needs {needed(view.lags):,}")
    where = places(len(ids), view.lags, view.windows, view.seed)
    return {"text": title} | measure(model, weights, ids, where, view.lags, run).summary()


def _flat(one):
    """A row for each lag, as --out keeps them."""
    common = {name: value for name, value in one.items() if name not in ("ratio", "lags")}
    return [common | {"lag": lag, "ratio": ratio} for lag, ratio in enumerate(one["ratio"])]


def _print(found):
    last = len(found[0]["ratio"]) - 1
    shown = sorted({1, max(1, last // 16), max(1, last // 4), last})
    cells = [
        [one["label"], *(f"{one['ratio'][lag]:.1e}" for lag in shown), number(one["half_life"], ".3g"),
         "-" if one["low"] is None or one["high"] is None else f"{one['low']:.3g} to {one['high']:.3g}"]
        for one in found
    ]  # fmt: skip
    print_table("gradient", [*(f"lag {lag}" for lag in shown), "half-life", "95 %"], cells)
    print()
    print_sketch(
        [(one["label"], list(range(last + 1)), one["ratio"]) for one in found], "lag, in characters",
        "gradient, relative to lag 0", "y",
    )  # fmt: skip


def _draw(found, path):
    from ..report.probes import draw_gradient

    draw_gradient(found, path)
