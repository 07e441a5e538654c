"""The plan of a run: what is chosen for a text and a length of training where nothing was typed, and why.

A pure function of what was typed, of the text's size and, in a run by time, of the machine's speed. So without a time
the same command gives the same numbers everywhere, but for precision and lanes, which are the processor's or GPU's.
"""

import math
from dataclasses import dataclass, replace

from .cells.own import bare
from .config import PLANNED, Config, seconds
from .errors import UsageError
from .model import Model

STEPS, EPOCHS = 5000, 60  # of a run whose length was not given: so many steps, at most so many epochs
WIDTHS = (128, 192, 256, 320, 384, 448, 512, 640, 768, 896, 1024)  # units of a layer to choose from
MEMBERS = 4  # models side by side, at most
OFTEN = 5.0  # times that each of them should read the text; read less often, one model alone is as good
READ = 5  # characters that a run should read for each weight that they meet: with fewer, smaller models learn more
LEARNED = 1200  # times N^(2/3): so many weights for N characters; with more, a text is only learned by heart sooner
WHOLE = 24  # steps that an epoch should have at least; lanes are halved for it
FEWEST = 8  # lanes
GPU_LANES = 128  # a step with so many takes a GPU hardly longer than one with 32
DROPOUT = ((6, 0.0), (17, 0.1), (40, 0.2), (80, 0.3), (150, 0.4), (math.inf, 0.5))  # up to so much exposure
WEIGHT_DROP = ((6, 0.0), (18, 0.1), (80, 0.2), (math.inf, 0.3))  # the same for recurrent matrices, times the members
STATE_RESET = ((6, 0.0), (math.inf, 0.02))
TEMPERATURE = ((2, 1.0), (12, 1.1), (25, 1.15), (math.inf, 1.2))  # of the softmax, again by exposure, times the members
RATE, WIDTH = 4e-3, 256  # the peak rate of this width; it falls with the root of the width
LANES_RATE = 1 / 3  # power of the lanes, beyond the usual number, with which it rises; in theory at most the root


@dataclass(frozen=True)
class Choice:
    """One setting that was not typed: its value, and why it is that."""

    name: str
    value: object
    reason: str


@dataclass(frozen=True)
class Means:
    """What there is to learn from, and with: `characters` of the training part and `symbols`; of the machine, how many
    `multiplications` of training it makes a second (None where the run is not by time) and whether `bfloat16` is faster
    on it. A multiplication is a weight that meets a character."""

    characters: int
    symbols: int
    multiplications: float | None = None
    bfloat16: bool = False
    lanes: int = Config.batch_size


def plan(typed: dict, means: Means) -> list[Choice]:
    """A choice for each setting of PLANNED that was not typed, in an order in which each depends on those before."""
    choices, config = [], Config(**{"hidden": None} | typed)  # None: not chosen yet
    for name, choose in _CHOOSERS.items():
        if name not in typed:
            value, reason = choose(config, means)
            choices.append(Choice(name, value, reason))
            config = replace(config, **{name: value})
    return choices


def reads(config: Config, means: Means) -> float:
    """How many characters each member of a run of these settings will read."""
    step = config.batch_size * config.seq_len
    if config.steps:
        return config.steps * step
    if config.epochs:
        return config.epochs * means.characters
    if config.time:
        return seconds(config.time) * means.multiplications / work(_model(config, means)) / config.members
    return min(STEPS * step, EPOCHS * means.characters)


def work(model: Model) -> int:
    """The multiplications that a character costs on its way through a model: all weights but the embedding, of which
    it takes a row."""
    count = model.count()
    return sum(count.values()) - count["embedding"]


def _model(config, means):
    own = {
        name: getattr(config, name) for name in ("embed", "hidden", "layers", "skips", "residual", "norm", "attention")
    }
    return Model(bare(config.cell), means.symbols, settings=config.cell_settings(), **own)


def _precision(config, means):
    if means.bfloat16:
        return "bfloat16", "this processor multiplies so, and trains faster for it"
    return "float32", "bfloat16 is not known to make training faster here"


def _seq_len(config, means):
    return Config.seq_len, "as a rule; the state is carried on, so longer is not needed to remember"


def _batch_size(config, means):
    """Lanes, halved until an epoch has enough steps."""
    lanes, text = means.lanes, f"a pass over {_many(means.characters)}"
    while lanes > FEWEST and means.characters < WHOLE * lanes * config.seq_len:
        lanes //= 2
    if lanes < means.lanes:
        return lanes, f"fewer than {means.lanes}, so that {text} has more steps"
    usual = "as a rule" if lanes == Config.batch_size else "as many take a GPU hardly more time than few"
    return lanes, f"{usual}; {text} has enough steps"


def _layers(config, means):
    return Config.layers, "as a rule: two of a width learn more than one of as many weights"


def _members(config, means):
    """As many as the time allows to read the text often enough, each of the weights that suit its share of the time, or
    of WIDTH units: several that are narrow know no more than one."""
    if not config.time:
        return 1, "only where a time is given is it known what more would cost"
    least = next((cost for width, cost in _costs(config, means) if width >= WIDTH), 1)
    for count in range(MEMBERS, 1, -1):
        share = seconds(config.time) * means.multiplications / count
        weights = max(least, min((share / READ) ** 0.5, _most(means)))
        if config.hidden:
            weights = work(_model(config, means))
        if share / weights / means.characters >= OFTEN:
            return count, f"time for each to read the text {OFTEN:g} times; as a rule several err less than one"
    return 1, f"of two each would read the text less than {OFTEN:g} times"


def _hidden(config, means):
    """The greatest width at which the run reads enough for what it has to learn, and the text is large enough."""
    fitting, reason = None, "the smallest that is planned"
    for width, cost in _costs(config, means):
        if fitting and reads(replace(config, hidden=width), means) < READ * cost:
            return fitting, f"{_many(reads(replace(config, hidden=fitting), means))} to be read teach no more units"
        if fitting and cost > _most(means):
            return fitting, f"with more units {_many(means.characters)} would be learned by heart"
        fitting, reason = width, "the greatest that is planned"
    return fitting or Config.hidden, reason


def _costs(config, means):
    """The widths that are planned, of those that the cell can have, and what a character costs each."""
    for width in WIDTHS:
        try:
            yield width, work(_model(replace(config, hidden=width), means))
        except UsageError:  # a width that the cell cannot have
            continue


def _most(means):
    """The weights that a text can teach more than to know it by heart."""
    return LEARNED * means.characters ** (2 / 3)


def _dropout(config, means):
    return _by_exposure(DROPOUT, config, means)


def _weight_drop(config, means):
    if not _model(config, means).recurrent:
        return 0.0, "the cell has no recurrent matrix to drop from"
    return _by_exposure(WEIGHT_DROP, config, means, config.members)  # what each learns by heart averages out


def _state_reset(config, means):
    return _by_exposure(STATE_RESET, config, means)


def _softmax_temperature(config, means):
    return _by_exposure(TEMPERATURE, config, means, config.members)  # together they are less sure


def _by_exposure(rates, config, means, forgiven=1):
    """A value by how much is learned by heart: how often a text is read, times the root of the layers' weights for each
    of its characters; each of the bounds is `forgiven` times as high."""
    layers = sum(size for part, size in _model(config, means).count().items() if part.startswith("layer"))
    epochs, weights = reads(config, means) / means.characters, layers / means.characters
    rate = next(rate for most, rate in rates if epochs * weights**0.5 <= forgiven * most)
    return rate, f"each character is read {epochs:.2f} times, and there are {weights:.2f} weights for each"


def _cautious(config, means):
    return True, "as a rule: what momentum moves against the gradient costs more than it gives"


def _lr(config, means):
    lanes = max(1.0, config.batch_size / Config.batch_size)
    rate = RATE * min(1.0, (WIDTH / config.hidden) ** 0.5) * lanes**LANES_RATE
    return float(f"{rate:.2g}"), f"for {config.hidden} units" + f" and {config.batch_size} lanes" * (lanes > 1)


def _many(characters):
    return f"{characters:,.0f} characters"


_CHOOSERS = {
    "precision": _precision, "seq_len": _seq_len, "batch_size": _batch_size, "layers": _layers, "members": _members,
    "hidden": _hidden, "dropout": _dropout, "weight_drop": _weight_drop, "state_reset": _state_reset,
    "softmax_temperature": _softmax_temperature, "cautious": _cautious, "lr": _lr,
}  # fmt: skip
assert _CHOOSERS.keys() == set(PLANNED)
