"""What the rows of a comparison say: means and spreads over seeds, and paired intervals against the first entry."""

import math
import statistics

import numpy as np

from ..run import BLOCK
from ..seeds import CONFIDENCE, equivalence, t_interval
from ..stream import draws
from .plan import Entry, Plan
from .work import jobs

MARGIN = 0.01  # bits per character within which two models count as equally good
FEWEST = 10  # blocks that can stand for a text
RESAMPLED = 9999
NATS = math.log(2)  # in a bit
COSTS = ("memory", "train_per_second", "evaluate_per_second", "generate_per_second", "elapsed")


def summary(plan: Plan, rows: dict[str, dict]) -> list[dict]:
    """A line for each entry: its runs together, and how they differ from those of the first entry of its size."""
    found = {entry.label: [] for entry in plan.entries}
    for job in jobs(plan, rows):
        if job.purpose == "result" and job.name in rows:
            found[job.entry.label].append(rows[job.name])
    lines = []
    for entry in plan.entries:
        first = next(other for other in plan.entries if other.size == entry.size)
        line = _line(entry, found[entry.label])
        line["against"] = None if entry is first else against(found[entry.label], found[first.label], first.label)
        lines.append(line)
    return lines


def _line(entry: Entry, rows):
    """The runs of an entry together."""
    done = [row for row in rows if row["status"] == "done"]
    bits = [row["bits"] for row in done]
    mean = statistics.fmean(bits) if bits else None
    states = {name: sum(row["status"] == name for row in rows) for name in ("done", "diverged", "failed")}
    engines = sorted({row["engine"] for row in done})
    return {
        "label": entry.label, "cell": entry.config["cell"], "varied": entry.varied, "size": entry.size,
        "hidden": entry.config["hidden"], "parameters": entry.parameters, "off": entry.off,
        "lr": rows[0]["lr"] if rows else None, **states,
        "nats": mean * NATS if bits else None, "bits": mean, "spread": _spread(bits),
        "perplexity": math.exp(min(mean * NATS, 700)) if bits else None, "accuracy": _mean(done, "accuracy"),
        "engine": ", ".join(engines) or None,
        **{name: _median(done, name) for name in COSTS},
        "seconds": _median(rows, "seconds"),
    }  # fmt: skip


def _spread(values):
    """The standard deviation over seeds, or None for one seed alone."""
    return statistics.stdev(values) if len(values) > 1 else None


def _mean(rows, name):
    return statistics.fmean(row[name] for row in rows) if rows else None


def _median(rows, name):
    known = [row[name] for row in rows if row.get(name) is not None]  # an older row does not have all
    return statistics.median(known) if known else None


def against(rows: list[dict], first: list[dict], reference: str) -> dict:
    """How runs differ from those of a reference, in bits per character, seed by seed: the mean, a t interval over the
    seeds (where there are two or more), and a bootstrap interval over blocks of the text.

    The verdict is by the seeds: worse or better where their interval lies on one side of 0, else equal where two
    one-sided tests at 5 % put the mean within MARGIN, else open. `equal_p` is the p-value of those tests.
    """
    known = {row["seed"]: row for row in first if row["status"] == "done"}
    pairs = [(row, known[row["seed"]]) for row in rows if row["status"] == "done" and row["seed"] in known]
    differences = [one["bits"] - other["bits"] for one, other in pairs]
    seeds, equal = t_interval(differences, CONFIDENCE), equivalence(differences, MARGIN)
    return {
        "reference": reference, "pairs": len(pairs), "difference": statistics.fmean(differences) if pairs else None,
        "over_seeds": seeds, "over_text": text_interval(pairs), "margin": MARGIN,
        "equal_p": equal, "verdict": _verdict(seeds, equal),
    }  # fmt: skip


def _verdict(ends, equal):
    if ends is None:
        return None
    if ends[0] > 0 or ends[1] < 0:
        return "worse" if ends[0] > 0 else "better"
    return "equal" if equal < 1 - CONFIDENCE else "open"


def text_interval(pairs: list[tuple[dict, dict]]) -> list[float] | None:
    """The interval of the mean difference in bits when blocks of the text are drawn anew, with replacement.

    It tells what another text of the same kind might have said of these very models; None where the runs did not
    score the same text, or one of few blocks.
    """
    texts = {(row["corpus"], row["characters"]) for pair in pairs for row in pair}
    if len(texts) != 1 or len(pairs[0][0]["blocks"]) < FEWEST:
        return None
    from scipy.stats import bootstrap

    nats = np.mean([np.subtract(one["blocks"], other["blocks"]) for one, other in pairs], axis=0)  # (blocks,)
    characters = pairs[0][0]["characters"]
    sizes = np.minimum(BLOCK, characters - BLOCK * np.arange(len(nats)))  # the last may be shorter
    drawn = bootstrap(
        (nats, sizes), lambda nats, sizes, axis: nats.sum(axis) / sizes.sum(axis) / NATS, paired=True,
        n_resamples=RESAMPLED, batch=500, confidence_level=CONFIDENCE, method="percentile", rng=draws(0, "bootstrap"),
    ).confidence_interval  # fmt: skip
    return [float(drawn.low), float(drawn.high)]
