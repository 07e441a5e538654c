"""`charrnn plan`: what train would choose for a text; and the choosing, which train does in the same way."""

import itertools
import json
import math
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from ..config import Config, flag
from ..errors import UsageError
from . import PRINTED, app, cache, pipeable
from .learn import _check_new, options

WIDE = 512  # units of the model that a GPU is measured with, which takes hardly less time for fewer,
NOISE = {"dropout": 0.1, "weight_drop": 0.1, "state_reset": 0.02}  # and for which noise is a third of a step


@app.command(rich_help_panel="Models")
@options("eval_every", "save_every", "sample_length", "patience", plans=True)
@pipeable
def plan(
    corpus: Annotated[list[str] | None, typer.Argument(help="A text, as for train.", show_default=False)] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    typed: dict,
):
    """Show what train would choose for a text, and why.

    [bold]charrnn plan corpus.txt --time 5m[/]

    What is typed is taken as it is. Only with --time this machine is measured, for two seconds.
    """
    if not corpus:
        raise UsageError("CORPUS: name a text, for instance: charrnn plan pydocs --time 5m")
    config = Config(**typed)
    _check_new(corpus, config, None, False)
    from ..corpus import Reading, known, open_corpus
    from ..progress import Reporter

    report = Reporter()
    paths, val = known.find(corpus, Path("data"), cache()), known.find(config.val, Path("data"), cache(), name="--val")
    reading = Reading(config.bytes, config.encoding, config.errors)
    text = open_corpus(paths, val, cache(), reading, config.min_count, config.val_fraction)
    for note in text.notes:
        report.note(note)
    config, choices = planned(typed, text)
    if as_json:
        facts = {"characters": len(text.part("train")), "symbols": len(text.vocabulary)}
        return print(json.dumps(facts | {"choices": list(map(asdict, choices)), "config": config.record()}))
    _print_plan(choices)


def _print_plan(choices):
    """The choices on stdout, folded where it is a terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PRINTED
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    for row in told(choices):
        table.add_row(*row)
    console.print(table)


def planned(typed: dict, corpus) -> tuple[Config, list]:
    """The settings of a run on this corpus, and of them the choices that nobody typed."""
    import torch

    from ..engine import choose, quicker_in_bfloat16
    from ..engine.allocator import keep_buffers
    from ..plan import GPU_LANES, Means
    from ..plan import plan as choices_for
    from .session import _device, _model, _threads

    config, symbols = Config(**typed), len(corpus.vocabulary)
    device, cell = _device(config.device), _model(config, symbols).stack[-1]
    engine, _ = choose(config.engine, cell, torch.zeros(0, device=device))
    on_gpu = device.startswith("cuda")
    quicker = device == "cpu" and quicker_in_bfloat16(engine, cell)
    lanes = GPU_LANES if on_gpu else Config.batch_size
    means = Means(len(corpus.part("train")), symbols, bfloat16=quicker, lanes=lanes)
    if config.time:
        keep_buffers()
        _threads(config.threads)
        usual = {"precision": "bfloat16" if quicker else "float32", "batch_size": lanes}
        config = Config(**usual | ({"hidden": WIDE} if on_gpu else {}) | typed)
        model = _model(config, symbols)
        config = replace(config, **NOISE) if on_gpu else config
        means = replace(means, multiplications=multiplications(config, model, device))
    choices = choices_for(typed, means)
    return Config(**typed | {choice.name: choice.value for choice in choices}), choices


def told(choices: list) -> list[tuple[str, str]]:
    """The choices and their reasons as rows of two columns; those of one reason in one row."""
    grouped = itertools.groupby(choices, lambda choice: choice.reason)
    rows = [f"{', '.join(map(_option, group))}: {reason}" for reason, group in grouped]
    return [("" if number else "plan", row) for number, row in enumerate(rows)]


def _option(choice):
    """A choice as it would be typed."""
    return flag(choice.name) if choice.value is True else f"{flag(choice.name)} {choice.value}"


def multiplications(config: Config, model, device: str, spent: float = 2.0) -> float:
    """How many a second training makes here (plan.work says of what), from the quickest step of about two seconds."""
    import numpy as np

    from .. import train
    from ..plan import work
    from ..stream import Stream, draws

    random = draws(config.seed, "probe")
    ids = random.integers(model.symbols, size=2 * config.batch_size * config.seq_len)
    stream = Stream(ids, config.batch_size, config.seq_len, config.seed)
    quiet = {"say": lambda *_, **__: None, "stop": lambda: None, "preview": None}
    single = replace(config, time=None, epochs=None, steps=1, members=1)
    trainer = train.Trainer(single, model, None, stream, device, **quiet)
    trainer.begin(model.initial_weights(random, np.full(model.symbols, 1 / model.symbols)))
    until, quickest = time.monotonic() + spent, math.inf
    while time.monotonic() < until:
        quickest = min(quickest, train.step_seconds(trainer))
    return work(model) * config.batch_size * config.seq_len / quickest
