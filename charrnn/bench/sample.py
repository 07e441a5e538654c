"""`charrnn bench sample`: characters drawn by us beside the peers' way, for one stream and for many at once."""

from contextlib import ExitStack
from dataclasses import asdict
from itertools import product

from . import SIZES, Settings, work
from .rows import compared, row
from .timing import interleave
from .worker import Worker


def rows(cells: list[str], sizes: list[str], streams: list[int], settings: Settings, say, int8: bool = False):
    """For each cell, size and number of streams a row for our sampler and one for each way of the peers.

    Beside them, in the same rounds, as many bytes are read as the model's matrices have; with `int8` those of ours are
    rounded to 8 bits, and so many are read.
    """
    cases = [(cell, name, count) for name, cell, count in product(sizes, cells, streams)]
    yield from compared(cases, lambda *case: _steps(*case, settings, say, int8), say)


def _peers(cell):
    """Titles and jobs of those who have no sampler of ours."""
    if cell in work.KINDS:
        return {f"nn.{work.KINDS[cell]}": {"way": "module", "kind": work.KINDS[cell]}}
    return {"loop on torch": {"way": "loop", "cell": cell}}


def _steps(cell, name, streams, settings, say, int8):
    size = SIZES[name]
    model = work.model(cell, size)
    needed = work.weight_bytes(model) // (4 if int8 else 1)
    with ExitStack() as ends:

        def start(title, ours, **job):
            return ends.enter_context(Worker(title, "sample", settings.threads, ours, **job))

        job = {"size": asdict(size), "streams": streams}
        contenders = [start("charrnn --int8" if int8 else "charrnn", True, way="charrnn", cell=cell, int8=int8, **job)]
        contenders += [start(title, False, **own, **job) for title, own in _peers(cell).items()]
        reading = start("reading", True, way="reading", size=needed)
        for each in (*contenders, reading):
            each.ready()
        say(f"sample {cell} {name}, streams {streams}: {', '.join(each.title for each in contenders)}")
        *series, read = interleave([*contenders, reading], settings.limit)
    case = {"cell": cell, "size": name, "layers": size.layers, "hidden": size.hidden, "streams": streams}
    bandwidth = read.speed().median
    for contender, own in zip(contenders, series, strict=True):
        yield row(
            "sample", case, contender, own, None if own is series[0] else series[0],
            characters_per_second=asdict(own.speed()), weight_bytes=needed, bandwidth=bandwidth,
            bandwidth_share=needed / bandwidth / own.seconds().median,
        )  # fmt: skip
