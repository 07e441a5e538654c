"""What the parts say of each claim: findings by the rule of the probes, and a verdict on all of them together.

Every finding is of a prediction that is written here, and so stated before anything is run.
"""

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ..compare.data import scores, slopes
from ..compare.outcome import MARGIN
from ..compare.plan import Plan
from ..compare.work import jobs, read_rows
from ..probe.verdict import INCONCLUSIVE, Finding, Prediction, judge, together
from ..progress import short

EARLY = {  # why --quick cannot decide, by protocol
    "P2": "so little training, at one learning rate for all, tells who learns faster at first and not who is the more "
    "accurate in the end; without --quick it is decided",
    "P5": "gradients after so little training are not those of a model that has learned; without --quick it is decided",
}
LONG_GAPS = "A plain RNN does not bridge long gaps; GRU and LSTM do"
SPEEDS = {"train": "training", "evaluate": "scoring", "generate": "drawing"}


@dataclass(frozen=True)
class Claim:
    """A claim, the names of the parts that it is judged by, and what was found; `open` says why that cannot decide it
    whatever it is."""

    title: str
    protocol: str  # of the experiments
    parts: list[str]
    findings: list[Finding]
    notes: list[str] = field(default_factory=list)
    open: str = ""

    @property
    def verdict(self) -> str:
        return INCONCLUSIVE if self.open else together(self.findings)

    def record(self) -> dict:
        """All of it as plain data."""
        whole = together(self.findings)
        decides = next((each for each in self.findings if each.verdict == whole), None)
        effect, interval = (decides.effect, decides.interval) if decides else (None, None)
        return asdict(self) | {"verdict": self.verdict, "effect": effect, "interval": interval}


def judged(folder: Path, answers: dict[str, list], quick: bool) -> list[Claim]:
    """Every claim in order; one whose part has no answer has no findings and so is inconclusive, and so are those that
    take more training where that was quick."""
    claims = _claims(folder, answers)
    return [replace(claim, open=EARLY.get(claim.protocol, "")) for claim in claims] if quick else claims


def _claims(folder, answers):
    names = ("width", "params", "data", "variants")
    width, params, data, variants = (_Runs(folder / name) if name in answers else None for name in names)
    return [
        _less(width, "width", "parameters", "A GRU has fewer parameters than an LSTM of the same width"),
        _less(width, "width", "memory", "A GRU uses less memory than an LSTM of the same width"),
        _faster(width, "width", "A GRU is faster than an LSTM of the same width"),
        _less(params, "params", "memory", "A GRU uses less memory than an LSTM of as many parameters"),
        _faster(params, "params", "A GRU is faster than an LSTM of as many parameters"),
        _more_data(data),
        _as_good(data, "data", ["gru"], "A GRU is as good as an LSTM on text", "P2"),
        _as_good(variants, "variants", None, "The variants of the LSTM are all about the same", "P2"),
        _probed(answers, "recall", LONG_GAPS, "P3", lambda told: "forget_bias" not in told),
        _fading(answers),
        _probed(answers, "recall", "The bias of the forget gate matters", "P3", lambda told: "forget_bias" in told),
        _probed(answers, "count", "An LSTM counts, a GRU does not", "P6", lambda told: True),
    ]  # fmt: skip


class _Runs:
    """The finished runs of a comparison."""

    def __init__(self, folder):
        self.plan, rows = Plan.load(folder), read_rows(folder)
        self.scores = scores(self.plan, rows)
        self.largest = max((entry.size or 0 for entry in self.plan.entries), default=0)
        self.rows = [
            rows[job.name] for job in jobs(self.plan, rows)
            if job.purpose == "result" and rows.get(job.name, {}).get("status") == "done"
            and (job.entry.size or 0) == self.largest
        ]  # fmt: skip

    def of(self, name):
        """What the rows of the largest text have under a name, by cell and seed."""
        found = {entry.cell: {} for entry in self.plan.entries}
        for row in self.rows:
            if row.get(name) is not None:
                found[row["cell"]][row["seed"]] = row[name]
        return found

    def times(self, name, cell="gru", other="lstm"):
        """How many times as large it is as with another cell, by seed."""
        found = self.of(name)
        return {s: v / found[other][s] for s, v in found[cell].items() if found[other].get(s)}

    def engines(self):
        """A note where the cells ran on several engines."""
        by_cell = {row["cell"]: row["engine"] for row in self.rows}
        if len(set(by_cell.values())) < 2:
            return []
        told = ", ".join(f"{cell} on {engine}" for cell, engine in by_cell.items())
        return [f"the engines differ ({told}): speed and memory compare implementations as much as cells"]


def _less(runs, part, name, title):
    if runs is None:
        return Claim(title, "P1", [part], [])
    foretold, measure = Prediction("gru", high=1.0), f"{name}, as a multiple of the lstm's,"
    finding = judge(foretold, measure, {"gru": runs.times(name)}, math.inf, ratios=True)
    return Claim(title, "P1", [part], [finding], runs.engines() if name == "memory" else [])


def _faster(runs, part, title):
    if runs is None:
        return Claim(title, "P1", [part], [])
    findings = [
        judge(
            Prediction("gru", low=1.0), f"speed of {word}, as a multiple of the lstm's,",
            {"gru": runs.times(f"{name}_per_second")}, math.inf, ratios=True,
        )
        for name, word in SPEEDS.items()
    ]  # fmt: skip
    return Claim(title, "P1", [part], findings, runs.engines())


def _more_data(runs):
    title = "An LSTM is more accurate than a GRU on larger data"
    if runs is None:
        return Claim(title, "P2", ["data"], [])
    largest, grows = short(runs.largest), slopes(runs.scores["gru"], runs.scores["lstm"])
    findings = [
        judge(Prediction("gru", low=0.0, over="lstm"), f"bits at {largest} characters", runs.of("bits"), math.inf),
        judge(Prediction("the gap", low=0.0), "bits it grows by as the text doubles,", {"the gap": grows}, math.inf),
    ]  # fmt: skip
    return Claim(title, "P2", ["data"], findings, ["the gap is what the GRU has more bits than the LSTM"])


def _as_good(runs, part, cells, title, protocol):
    if runs is None:
        return Claim(title, protocol, [part], [])
    found = runs.of("bits")
    foretold = [Prediction(cell, -MARGIN, MARGIN, over="lstm") for cell in cells or found if cell != "lstm"]
    return Claim(title, protocol, [part], [judge(each, "bits", found, math.inf) for each in foretold])


def _probed(answers, part, title, protocol, wanted):
    """A claim that a probe has judged already, by those of its findings whose prediction is `wanted`."""
    (answer,) = answers.get(part, [{"findings": [], "notes": []}])
    findings = [Finding(**each) for each in answer["findings"] if wanted(each["prediction"])]
    return Claim(title, protocol, [part], findings, answer["notes"])


def _fading(answers):
    title = "Gradients fade sooner in a plain RNN than in GRU and LSTM"
    names = sorted(name for name in answers if name.startswith("gradient"))
    found = {"rnn": {}, "gru": {}, "lstm": {}}
    for seed, name in enumerate(names):
        last = max(one["step"] for one in answers[name])
        for one in answers[name]:
            if one["step"] == last and one["half_life"] is not None:
                found[one["cell"]][seed] = one["half_life"]
    measure = "half-life of the gradient in characters, after training,"
    findings = [judge(Prediction(cell, low=0.0, over="rnn"), measure, found, math.inf) for cell in ("gru", "lstm")]
    return Claim(title, "P5", names or ["gradient"], findings if names else [])
