"""`charrnn bench train`: a step of training beside the peers' way, and how it grows, and what precision costs."""

from contextlib import ExitStack
from dataclasses import asdict, replace
from itertools import product

from . import SIZES, Settings, work
from .rows import compared, machine, row
from .timing import Spread, faster, interleave
from .worker import Worker

DOUBLED = ("hidden", "length", "batch")


def rows(cells: list[str], sizes: list[str], settings: Settings, say):
    """For each cell and size a row for our step and one for each way in which the peers take the same step.

    Beside them, in the same rounds, runs the best product that torch reaches: the machine's peak.
    """
    with _start("best product", "best product", settings, True) as peak:
        cases = [(cell, name) for name, cell in product(sizes, cells)]
        yield from compared(cases, lambda cell, name: _steps(cell, name, peak, settings, say), say)


def _start(title, way, settings, ours, **job):
    return Worker(title, "train", settings.threads, ours, way, **job)


def _case(cell, name, settings):
    return {"cell": cell, "size": name, **asdict(SIZES[name]), "precision": settings.precision}


def _ours(cell, size, settings, title="charrnn"):
    job = {"cell": cell, "size": asdict(size), "engine": settings.engine, "precision": settings.precision}
    return _start(title, "charrnn", settings, True, **job, keep=True)


def _peers(cell, size, settings):
    """The ways of those who have no engine of ours; for cells that torch.nn lacks, a loop over our own equations."""
    job = {"size": asdict(size), "precision": settings.precision}
    if cell not in work.KINDS:
        return [_start("autograd loop", "charrnn", settings, False, **job, cell=cell, engine="reference", keep=False)]
    kind = work.KINDS[cell]
    ways = {f"nn.{kind}": "module", f"loop of nn.{kind}Cell": "loop"}
    return [_start(title, way, settings, False, **job, kind=kind) for title, way in ways.items()]


def _steps(cell, name, peak, settings, say):
    size = SIZES[name]
    with ExitStack() as ends:
        contenders = [ends.enter_context(each) for each in (_ours(cell, size, settings), *_peers(cell, size, settings))]
        for each in (*contenders, peak):
            each.ready()
        say(f"train {cell} {name}: {', '.join(each.title for each in contenders)}")
        *series, best = interleave([*contenders, peak], settings.limit)
    flops, reached = work.step_flops(work.model(cell, size), size), best.speed().median
    for contender, own in zip(contenders, series, strict=True):
        yield row(
            "train", _case(cell, name, settings), contender, own, None if own is series[0] else series[0],
            characters_per_second=asdict(own.speed()), flops=flops,
            peak_share=flops / own.seconds().median / reached, peak_flops=reached, peak_by=peak.facts["by"],
        )  # fmt: skip


def scaling(cells: list[str], sizes: list[str], settings: Settings, say):
    """For each cell and size: how the time of our step grows as hidden size, length and batch double, each by itself,
    beside how its arithmetic grows."""
    cases = [(cell, name) for name, cell in product(sizes, cells)]
    yield from compared(cases, lambda cell, name: _doubled(cell, name, settings, say), say)


def _doubled(cell, name, settings, say):
    base = SIZES[name]
    sizes = [base, *(replace(base, **{what: 2 * getattr(base, what)}) for what in DOUBLED)]
    with ExitStack() as ends:
        contenders = [ends.enter_context(_ours(cell, size, settings)) for size in sizes]
        for each in contenders:
            each.ready()
        say(f"scaling {cell} {name}: {', '.join(f'{what} twice' for what in DOUBLED)}")
        series = interleave(contenders, settings.limit)
    flops = [work.step_flops(work.model(cell, size), size) for size in sizes]
    for k, what in enumerate((None, *DOUBLED)):
        case = {"cell": cell, "size": name, **asdict(sizes[k]), "precision": settings.precision, "doubled": what}
        time, arithmetic = (asdict(_longer(series[0], series[k])), flops[k] / flops[0]) if k else (None, None)
        yield row("scaling", case, contenders[k], series[k], None, time_ratio=time, flops_ratio=arithmetic)


def _longer(base, doubled):
    """How many times as long a step takes; `faster` compares characters, of which a longer step may have more."""
    spread, more = faster(base, doubled), doubled.units / base.units
    return Spread(*(more * value for value in asdict(spread).values()))


def loss(cells: list[str], sizes: list[str], steps: int, settings: Settings, say):
    """For each cell and size: the loss after so many steps, in float32 by our engine and by the reference, and in
    bfloat16, each on its own."""
    cases = [(cell, name) for name, cell in product(sizes, cells)]
    yield from compared(cases, lambda cell, name: _losses(cell, name, steps, settings, say), say)


def _losses(cell, name, steps, settings, say):
    base = None
    ways = [(settings.engine, "float32"), ("reference", "float32"), (settings.engine, "bfloat16")]
    for engine, precision in ways:
        if base and (engine, precision) == (base["engine"], "float32"):
            continue  # the reference is what ran already
        say(f"loss {cell} {name}: {steps} steps, engine {engine}, {precision}")
        job = {"cell": cell, "size": asdict(SIZES[name]), "engine": engine, "precision": precision, "steps": steps}
        with _start("charrnn", "loss", settings, True, **job) as one:
            facts = one.ready()
        base = base or facts
        yield {
            "bench": "loss", **_case(cell, name, replace(settings, precision=precision)), "steps": steps,
            "way": one.title, "engine": facts["engine"], "nats": facts["nats"],
            "difference": facts["nats"] - base["nats"], "skipped": facts["skipped"], "machine": machine(facts),
        }  # fmt: skip
