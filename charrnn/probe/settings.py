"""What was asked of a probe: cells with their settings, seeds, gaps, rates; and the models that it takes."""

from dataclasses import asdict, dataclass, replace
from math import isfinite

from ..cells import admit, make, parted
from ..cells.trace import parameters
from ..errors import UsageError
from ..tasks import KINDS
from .protocols import Protocol

LONG = "log-uniform"  # a forget bias for memories of all lengths, after Tallec & Ollivier 2018 (chrono initialisation)


@dataclass(frozen=True)
class Settings:
    """What holds for all models of a probe; what is left empty is the probe's own."""

    cells: tuple[str, ...] = ("rnn", "gru", "lstm")
    seeds: int = 3
    quick: bool = False
    gaps: tuple[int, ...] = ()
    lrs: tuple[float, ...] = ()
    hidden: int = 48
    updates: int | None = None
    attention: int = 0
    jobs: int = 1  # models trained at once

    def __post_init__(self):
        for name, least in (("seeds", 1), ("hidden", 1), ("updates", 1), ("attention", 0), ("jobs", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"--{name} {value}: must be at least {least}")
        for lr in self.lrs:
            if not 0 < lr < float("inf"):
                raise UsageError(f"--lrs {lr:g}: must be a number greater than 0")
        for option, values in (("--gaps", self.gaps), ("--lrs", self.lrs)):
            if len(set(values)) < len(values):
                raise UsageError(f"{option} {','.join(map(str, values))}: names one of them twice")
        for label in self.cells:
            contender(label).check(self.hidden)

    def complete(self, protocol: Protocol) -> "Settings":
        """With the probe's own numbers where none were given; UsageError where a gap does not suit its task."""
        own = (protocol.quick_gaps, protocol.quick_lrs, protocol.quick_updates)
        gaps, lrs, updates = own if self.quick else (protocol.gaps, protocol.lrs, protocol.updates)
        whole = replace(
            self, gaps=tuple(sorted(self.gaps or gaps)), lrs=self.lrs or lrs,
            updates=self.updates or updates,
        )  # fmt: skip
        if protocol.one_gap and len(whole.gaps) > 1:
            raise UsageError(f"--gaps {','.join(map(str, whole.gaps))}: {protocol.name} takes one")
        for gap in whole.gaps:
            KINDS[protocol.task].check(gap, "--gaps")
            if gap < protocol.least:
                what = protocol.measure.split(", ")[1]
                raise UsageError(f"--gaps {gap}: must be at least {protocol.least}, to measure {what}")
        return whole


@dataclass(frozen=True)
class Contender:
    """A cell as typed: `lstm`, `clockwork:modules=4`, `lstm:forget_bias=0`."""

    cell: str
    settings: dict
    forget_bias: str | None

    def check(self, hidden: int) -> None:
        """Raises UsageError where there is no such cell, or not with these settings or so wide."""
        cell = make(self.cell, self.settings, option="--cells")
        cell.check(hidden)
        if self.forget_bias is None:
            return
        if "b.f" not in parameters(cell, hidden, hidden):
            raise UsageError(f"--cells {self.cell}:forget_bias={self.forget_bias}: {self.cell} has no forget gate f")
        if self.forget_bias != LONG and not _is_number(self.forget_bias):
            raise UsageError(f"--cells {self.cell}:forget_bias={self.forget_bias}: must be a number or {LONG}")


def contender(label: str) -> Contender:
    """A cell as typed, its own settings and where its forget gate starts; a file that it names is admitted."""
    cell, settings = parted(label)
    forget_bias = settings.pop("forget_bias", None)
    return Contender(admit(cell, "--cells"), settings, forget_bias)


def _is_number(text):
    try:
        return isfinite(float(text))
    except ValueError:
        return False


@dataclass(frozen=True)
class Job:
    """One model to be trained and tested: all that its row depends on."""

    probe: str
    cell: str
    gap: int
    seed: int
    lr: float
    hidden: int
    updates: int
    attention: int

    @property
    def title(self) -> str:
        """The model as a person is told of it."""
        return f"{self.cell}, {self.gap}, seed {self.seed}, rate {self.lr:g}"

    def record(self) -> dict:
        return asdict(self)


def jobs(protocol: Protocol, settings: Settings, lr: float) -> list[Job]:
    """The models of a probe at one rate, in the order in which they are trained: the cells varying fastest."""
    s = settings
    return [
        Job(protocol.name, cell, gap, seed, lr, s.hidden, s.updates, s.attention)
        for seed in range(1, s.seeds + 1) for gap in s.gaps for cell in s.cells
    ]  # fmt: skip
