"""The settings of a training run, each written once: default, help, and whether a resumed run may change it.

The command line's options are made from these fields, the checkpoint stores them as plain data, `--config FILE` fills
them and `--print-config` prints them.
"""

import math
import re
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path

from .errors import UsageError, nearest


def setting(default, help, group, *, free=False):
    """A field of Config; `free` says that a run may go on with another value."""
    metadata = {"help": help, "group": group, "free": free}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


PLANNED = (  # what train chooses where it was not typed
    "precision", "seq_len", "batch_size", "layers", "members", "hidden", "dropout", "weight_drop", "state_reset",
    "softmax_temperature", "cautious", "lr",
)  # fmt: skip
LENGTHS = ("steps", "epochs", "time")  # of a run; one of them is given
NOISES = ("dropout", "dropout_input", "dropout_output", "weight_drop", "zoneout", "state_reset")  # rates
MODEL, NOISE, TEXT, TRAINING = "Model", "Against overfitting", "Text", "Training"
MACHINE, RUN = "Machine", "Run"


@dataclass(frozen=True)
class Config:
    """What a run is: everything that its numbers depend on, and how it reports.

    A new setting's default leaves runs as they were before it came.
    """

    cell: str = setting("lstm", "Recurrent cell; `charrnn cells` lists them. PATH.py:CLASS is one of your own.", MODEL)
    cell_opt: list[str] = setting([], "A setting of the cell's own, as name=value; may be repeated.", MODEL)
    hidden: int = setting(256, "Units in each layer.", MODEL)
    layers: int = setting(2, "Recurrent layers.", MODEL)
    embed: int = setting(64, "Width of the character embedding.", MODEL)
    skips: bool = setting(True, "Let the softmax see every layer, not the top one alone.", MODEL)
    residual: bool = setting(False, "Add to what a layer gives what it got, where the widths agree.", MODEL)
    norm: bool = setting(False, "Layer norm on what each layer gives.", MODEL)
    orthogonal: bool = setting(True, "Let recurrent matrices begin orthogonal; or else uniform, as others do.", MODEL)
    unigram: bool = setting(True, "Let the softmax begin with the symbols' frequencies; or else with none.", MODEL)
    forget_bias: float | None = setting(
        None, "Where the bias of a forget gate f begins; if not given, where the cell says (LSTM: 1).", MODEL
    )
    attention: int = setting(0, "Past outputs of the top layer that one attention head sees; 0 for no head.", MODEL)
    members: int = setting(1, "Models trained side by side; their logits are averaged.", MODEL)

    dropout: float = setting(0.1, "Locked dropout on what each layer gives, 0 to below 1.", NOISE, free=True)
    dropout_input: float = setting(0.0, "The same on what enters the first layer.", NOISE, free=True)
    dropout_output: float | None = setting(
        None, "The same on what the softmax sees; if not given, as --dropout.", NOISE, free=True
    )
    weight_drop: float = setting(
        0.0, "Share of the matrices that a state passes through left out, anew each step.", NOISE, free=True
    )
    zoneout: float = setting(0.0, "Share of the states' units that keep their old value at each character.", NOISE)
    state_reset: float = setting(0.0, "Chance of each lane to forget its state before a step.", NOISE, free=True)

    bytes: bool = setting(False, "Symbols are bytes instead of characters.", TEXT)
    encoding: str = setting("utf-8", "Encoding of the text files.", TEXT)
    errors: str = setting("strict", "What to do with bytes that are no text: strict or replace.", TEXT)
    min_count: int = setting(1, "Fold characters rarer than this into one unknown symbol.", TEXT)
    val: list[str] = setting([], "Validate on this text instead; may be repeated.", TEXT)
    val_fraction: float | None = setting(None, "Share of the text, at its end, to validate on; 0.1 as a rule.", TEXT)

    seq_len: int = setting(64, "Characters per step and lane that gradients flow back through.", TRAINING)
    batch_size: int = setting(32, "Lanes read side by side.", TRAINING)
    offsets: bool = setting(True, "Let the lanes begin elsewhere in each epoch.", TRAINING)
    lr: float = setting(4e-3, "Peak learning rate; falls along a cosine to a hundredth of it.", TRAINING, free=True)
    warmup: float = setting(0.02, "Share of the run over which the rate rises to its peak.", TRAINING, free=True)
    clip: float = setting(1.0, "Greatest norm of the gradient; 0 for no limit.", TRAINING, free=True)
    weight_decay: float = setting(0.02, "AdamW's weight decay, on matrices only.", TRAINING, free=True)
    cautious: bool = setting(False, "Move no weight against its gradient of the moment.", TRAINING, free=True)
    ema: float = setting(
        0.0,
        "Also average the weights over so large a last share of the steps, and keep the better; 0 not to.",
        TRAINING,
    )
    softmax_temperature: float = setting(
        1.0, "What logits are divided by wherever a model is scored and kept.", TRAINING, free=True
    )
    steps: int | None = setting(
        None, "Train for so many steps; 5000 as a rule, at most 60 epochs.", TRAINING, free=True
    )
    epochs: float | None = setting(None, "Train for so many passes over the text.", TRAINING, free=True)
    time: str | None = setting(
        None, "Train for so long: 90s, 5m, 1h30m; not repeatable to the bit.", TRAINING, free=True
    )
    patience: int | None = setting(None, "Stop after so many evaluations without a better one.", TRAINING, free=True)
    seed: int = setting(1, "Seed of every random draw.", TRAINING)

    device: str = setting("auto", "auto, cpu, cuda, cuda:N or mps; auto takes CUDA where it is.", MACHINE, free=True)
    engine: str = setting(
        "auto",
        "What unrolls the cell: auto, native (torch.nn's kernels), compiled, scan, generic or reference.",
        MACHINE,
    )
    precision: str = setting("float32", "Arithmetic of training: float32 or bfloat16 (mixed).", MACHINE, free=True)
    threads: int = setting(0, "Processor threads; 0 for torch's own choice.", MACHINE, free=True)

    eval_every: int = setting(0, "Steps between evaluations; 0 for ten in the run.", RUN, free=True)
    save_every: int = setting(0, "Steps between saves; 0 for at every evaluation and every minute.", RUN, free=True)
    sample_length: int = setting(200, "Characters of the sample taken at each evaluation; 0 for none.", RUN, free=True)

    def __post_init__(self):
        _at_least(self, 1, "hidden", "layers", "embed", "members")
        _at_least(self, 1, "min_count", "seq_len", "batch_size", "patience", "steps")
        _at_least(
            self, 0, "attention", "clip", "weight_decay", "seed", "threads", "eval_every", "save_every", "sample_length"
        )
        for name in ("lr", "epochs", "softmax_temperature"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise UsageError(f"{flag(name)} {value}: must be a number greater than 0")
        if self.forget_bias is not None and not math.isfinite(self.forget_bias):
            raise UsageError(f"--forget-bias {self.forget_bias}: must be a number")
        for name in (*NOISES, "ema", "warmup"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise UsageError(f"{flag(name)} {value}: must be from 0 to below 1")
        if self.val_fraction is not None and not 0 < self.val_fraction < 1:
            raise UsageError(f"--val-fraction {self.val_fraction}: must be between 0 and 1")
        if self.val and self.val_fraction is not None:
            raise UsageError(f"--val-fraction {self.val_fraction}: has no effect beside --val; give one of them")
        ordinary = {"encoding": "utf-8", "errors": "strict", "min_count": 1}
        for name, usual in ordinary.items() if self.bytes else ():
            if getattr(self, name) != usual:
                raise UsageError(f"{flag(name)} {getattr(self, name)}: has no effect on --bytes; leave one of them out")
        lengths = [name for name in LENGTHS if getattr(self, name) is not None]
        if len(lengths) > 1:
            raise UsageError(f"{' and '.join(map(flag, lengths))}: give one of --steps, --epochs, --time")
        for name, allowed in (("precision", ("float32", "bfloat16")), ("errors", ("strict", "replace"))):
            if getattr(self, name) not in allowed:
                value = getattr(self, name)
                raise UsageError(f"{flag(name)} {value}: must be {' or '.join(allowed)}{nearest(value, allowed)}")
        if self.time is not None:
            seconds(self.time)

    def cell_settings(self) -> dict[str, str]:
        """The cell's own settings from `--cell-opt name=value`."""
        for option in self.cell_opt:
            if "=" not in option:
                raise UsageError(f"--cell-opt {option}: must be name=value")
        return dict(option.split("=", 1) for option in self.cell_opt)

    def record(self) -> dict:
        return {f.name: getattr(self, f.name) for f in fields(self)}


def _at_least(config, least, *names):
    for name in names:
        value = getattr(config, name)
        if value is not None and not least <= value < math.inf:
            raise UsageError(f"{flag(name)} {value}: must be at least {least}")


def flag(name: str) -> str:
    """The option that sets a field: --seq-len for seq_len."""
    return "--" + name.replace("_", "-")


def complete(saved: dict) -> dict:
    """The settings of a checkpoint, also of one older than some of them: its run was what their defaults say."""
    return Config().record() | saved


def resumed(saved: dict, typed: dict) -> Config:
    """The saved settings with those typed now; UsageError where one is typed that a run cannot change."""
    saved = complete(saved)
    for f in fields(Config):
        if f.name in typed and typed[f.name] != saved[f.name] and not f.metadata["free"]:
            raise UsageError(
                f"{flag(f.name)} {typed[f.name]}: a resumed run cannot change it (it has {saved[f.name]}); "
                "start a new run, perhaps with --init-from"
            )
    return Config(**over(saved, typed))


def over(settings: dict, typed: dict) -> dict:
    """Settings with those typed over them; a length that is typed replaces one of another kind."""
    if any(typed.get(name) is not None for name in LENGTHS):
        settings = settings | dict.fromkeys(LENGTHS)
    return settings | typed


def read_toml(path: Path) -> dict:
    """The settings in a file; UsageError for a name that is none, or a value of the wrong kind."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config {path}: cannot be read ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path}: is not TOML ({error})") from None
    known, result = {f.name: f for f in fields(Config)}, {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in known:
            raise UsageError(f"--config {path}: no setting {key!r}{nearest(name, known)}")
        result[name] = _checked(path, key, value, known[name])
    return result


def _kind(f):
    """The kind of value that a field has, in a word: str, int, float, bool or list."""
    return re.match(r"\w+", getattr(f.type, "__name__", str(f.type)) if isinstance(f.type, type) else str(f.type))[0]


def _checked(path, key, value, f):
    """A value from a file, of the kind that its field has."""
    kinds, kind = {"str": str, "int": int, "float": (float, int), "bool": bool, "list": list}, _kind(f)
    if not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "bool"):
        raise UsageError(f"--config {path}: {key} = {value!r}: must be of type {kind}")
    if kind == "list" and not all(isinstance(each, str) for each in value):
        raise UsageError(f"--config {path}: {key} = {value!r}: must be a list of texts")
    return float(value) if kind == "float" else value


def to_toml(config: Config, planned: list[str] = ()) -> str:
    """The settings as TOML with their help; what is not set, or still to be `planned`, stands as a comment."""
    lines = []
    for f in fields(config):
        value = None if f.name in planned else getattr(config, f.name)
        written = f"# {f.name} =" if value is None else f"{f.name} = {_toml(value)}"
        lines += [f"# {f.metadata['help']}", written, ""]
    return "\n".join(lines)


def _toml(value):
    import json

    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # but for this, TOML writes them as JSON


def typed(name: str, text: str, option: str):
    """The value that a text gives a field; UsageError names the option where there is no such field or value."""
    known = {f.name: f for f in fields(Config)}
    if (field_name := name.replace("-", "_")) not in known:
        raise UsageError(f"{option} {name}: no such setting{nearest(field_name, known)}")
    kind = _kind(known[field_name])
    try:
        if kind == "bool":
            return {"on": True, "off": False, "true": True, "false": False}[text]
        return {"str": str, "int": int, "float": float, "list": lambda text: [text]}[kind](text)
    except (KeyError, ValueError):
        wanted = {"bool": "on or off", "int": "a whole number", "float": "a number"}[kind]
        raise UsageError(f"{option} {name}={text}: must be {wanted}") from None


def quantity(text: str, option: str) -> int:
    """A number of things: "62k", "1.5M", "1000"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kM]?)", text.strip())
    number = round(float(match[1]) * {"": 1, "k": 1e3, "M": 1e6}[match[2]]) if match else 0
    if number < 1:
        raise UsageError(f"{option} {text}: must be a number such as 500, 62k or 1.5M")
    return number


def seconds(text: str, option: str = "--time") -> float:
    """A length of time in seconds: "90", "90s", "5m", "1h30m"."""
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    total = sum(float(n or 0) * k for n, k in zip(match.groups(), (3600, 60, 1), strict=True)) if match else 0
    if not total > 0:
        raise UsageError(f"{option} {text}: must be a length of time such as 90s, 5m or 1h30m")
    return total
