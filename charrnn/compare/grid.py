"""What was asked of a comparison: cells, axes, seeds, rates, sizes; and the points of its grid, in order."""

from dataclasses import asdict, dataclass, field
from itertools import product

from ..cells import make, parted
from ..config import LENGTHS, Config, flag, quantity, seconds, typed
from ..errors import UsageError, nearest
from ..progress import short

MATCHES = ("params", "hidden", "time")
FIXED = {  # settings that are no axis, and what is an axis instead
    "cell": "--cells", "cell_opt": "--cells NAME:setting=value", "seed": "--seeds", "time": "--time-each",
}  # fmt: skip


@dataclass(frozen=True)
class Point:
    """A point of the grid, all but its seed and its rate: a cell as typed, varied settings, a size of the text."""

    cell: str
    varied: dict
    size: int | None

    @property
    def label(self) -> str:
        varied = [f"{name.replace('_', '-')} {_told(value)}" for name, value in self.varied.items()]
        return ", ".join([self.cell, *varied, *([short(self.size)] if self.size else [])])


@dataclass(frozen=True)
class Asked:
    """A comparison as it was asked for, in plain data; raises UsageError for what cannot be meant."""

    cells: list[str]
    match: str = "params"
    params: int | None = None  # that all are matched to; the first cell's own without it
    seeds: int = 3
    lrs: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    vary: dict[str, list] = field(default_factory=dict)
    ablate: dict[str, list] = field(default_factory=dict)  # changed alone, one value after the other
    settings: dict = field(default_factory=dict)  # fields of Config that hold for every run
    jobs: int = 1  # runs made at once

    def __post_init__(self):
        if self.match not in MATCHES:
            allowed = ", ".join(MATCHES)
            raise UsageError(f"--match {self.match}: must be one of {allowed}{nearest(self.match, MATCHES)}")
        for name in ("seeds", "jobs"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} {getattr(self, name)}: must be at least 1")
        if self.params and self.match != "params":
            raise UsageError(f"--params {self.params}: has no effect with --match {self.match}; leave one of them out")
        if self.match == "time" and "time" not in self.settings:
            raise UsageError("--match time: gives every run the same time; say which with --time-each")
        changed = {name: option for option in ("ablate", "vary") for name in getattr(self, option)}
        if self.match == "params" and "hidden" in changed:
            option = f"--{changed['hidden']} hidden"
            raise UsageError(f"{option}: --match params chooses the widths; add --match hidden")
        if self.lrs and ("lr" in self.settings or "lr" in changed):
            raise UsageError(f"--lrs: chooses the rates; leave out --lr and --{changed.get('lr', 'vary')} lr")
        if self.sizes and (self.settings.get("min_count", 1) > 1 or "min_count" in changed):
            raise UsageError("--sizes: texts of several sizes fold other characters away; leave out --min-count")
        self._check_ablations()
        for option, values in (("--lrs", self.lrs), ("--sizes", self.sizes)):
            if len(set(values)) < len(values):
                raise UsageError(f"{option} {','.join(map(str, values))}: names one of them twice")
        for option in ("vary", "ablate"):
            for name, values in getattr(self, option).items():
                if any(values.count(value) > 1 for value in values):
                    told = ",".join(map(_told, values))
                    raise UsageError(f"--{option} {name}={told}: names one of them twice")
        for point in self.points():
            for lr in self.lrs:
                self.config(point, lr=lr)
            config = self.config(point)
            cell = make(config.cell, config.cell_settings(), option="--cells")
            if self.match != "params":
                cell.check(config.hidden)

    def _check_ablations(self):
        """What is changed alone is no axis, and is not what all others have already."""
        for name, values in self.ablate.items():
            if name in self.vary:
                raise UsageError(f"--ablate {name}: is an axis already (--vary); leave one of them out")
            if (value := getattr(Config(**self.settings), name)) in values:
                raise UsageError(f"--ablate {name}={_told(value)}: is what all others have; name another value")

    def points(self) -> list[Point]:
        """The points of the grid, the cells varying fastest: seed by seed they are run in this order."""
        sizes, axes = self.sizes or [None], [[(name, v) for v in values] for name, values in self.vary.items()]
        alone = [{}, *({name: value} for name, values in self.ablate.items() for value in values)]
        varied = [dict(v) | other for v in product(*axes) for other in alone]
        return [Point(cell, v, size) for size in sizes for v in varied for cell in self.cells]

    def config(self, point: Point, **more) -> Config:
        """The settings of a point's runs."""
        name, settings = parted(point.cell)
        own = {"cell": name, "cell_opt": [f"{key}={value}" for key, value in settings.items()]}
        lengths = dict.fromkeys(LENGTHS) if point.varied.keys() & set(LENGTHS) else {}
        return Config(**(self.settings | lengths | own | point.varied | more))

    def record(self) -> dict:
        return asdict(self)


def rates(text: str | None) -> list[float]:
    """The learning rates of `--lrs a,b,c`, the smallest first."""
    return sorted(typed("lr", part, "--lrs") for part in _parts("--lrs", text)) if text else []


def sizes(text: str | None) -> list[int]:
    """The sizes of `--sizes 62k,1M`, the smallest first."""
    return sorted(quantity(part, "--sizes") for part in _parts("--sizes", text)) if text else []


def axes(given: list[str], option: str = "--vary") -> dict[str, list]:
    """The values of `--vary name=a,b`, or `--ablate name=a`, by setting."""
    found = {}
    for text in given:
        name, equals, values = text.partition("=")
        if not equals:
            raise UsageError(f"{option} {text}: must be name=value,value,..")
        key = name.strip().removeprefix("--").replace("-", "_")
        if key in FIXED:
            raise UsageError(f"{option} {name}: is no axis of its own; use {FIXED[key]}")
        found_before = found.setdefault(key, [])
        found_before += [typed(key, part, option) for part in _parts(option, values)]
    return found


def each_time(text: str | None) -> dict:
    """The setting that `--time-each` makes."""
    if text:
        seconds(text, "--time-each")
    return {"time": text} if text else {}


def only_one_length(settings: dict) -> None:
    """UsageError where `--time-each`, `--steps` and `--epochs` are not alone."""
    given = [{"time": "--time-each"}.get(name, flag(name)) for name in LENGTHS if name in settings]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)}: give one of --steps, --epochs, --time-each")


def _parts(option, text):
    parts = [part.strip() for part in text.split(",")]
    if "" in parts:
        raise UsageError(f"{option} {text}: must be values with commas between")
    return parts


def _told(value):
    if isinstance(value, bool):
        return "on" if value else "off"
    return " ".join(value) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)
