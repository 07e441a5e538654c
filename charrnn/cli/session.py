"""From what was typed to a trained model: the corpus opened, the plan told, the run kept, the result printed."""

import contextlib
import json
import os
import platform
import shlex
import signal
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .. import __version__, checkpoint
from ..cells.own import bare, in_file, origin, retyped
from ..config import Config, complete, flag, resumed, to_toml
from ..engine.allocator import held, held_anew, keep_buffers
from ..errors import CharrnnError, CheckpointError, Interrupted, UsageError
from ..model import Model, apart, joined
from ..progress import Reporter, duration, in_bits, short
from ..run import Run, latest
from ..vocab import Vocabulary, name_of
from . import STOPS, cache
from .opening import opened, tried
from .planning import planned, told

# The settings that decide which weights there are:
SHAPE = ("cell", "embed", "hidden", "layers", "skips", "residual", "norm", "attention")


@dataclass
class Session:
    """What is to be done: settings, texts, and what there is already."""

    config: Config
    typed: dict | None  # what was typed, for the rest to be planned; None where nothing is left open
    paths: list[Path]
    val_paths: list[Path]
    title: str
    folder: Path | None = None  # of a run that goes on
    tensors: dict | None = None  # of the checkpoint that is gone on with, or started from
    record: dict | None = None


def new_session(corpus: list[str], typed: dict, init_from: Path | None) -> Session:
    """A new run; with --init-from the model is the other's, and what is typed must not contradict its weights."""
    tensors = record = None
    if init_from:
        tensors, record, typed = _opened(init_from, typed)
        typed = _inherited(complete(record["config"]), typed, init_from)
    config = Config(**typed)
    _model(config, 2)  # what is wrong with it is told before the corpus is read
    from ..corpus import known

    data = Path("data")
    paths = known.find(corpus, data, cache(), _download_progress)
    val_paths = known.find(config.val, data, cache(), _download_progress, "--val")
    title = "stdin" if corpus[0] == "-" else Path(corpus[0]).resolve().stem
    return Session(config, typed, paths, val_paths, title, tensors=tensors, record=record)


def _inherited(saved, typed, init_from):
    fixed = (*SHAPE, "members", "cell_opt", "bytes")
    for name in fixed:
        if name in typed and typed[name] != saved[name]:
            raise UsageError(f"{flag(name)} {typed[name]}: the weights of {init_from} fit only {saved[name]}")
    idle = [] if typed.get("orthogonal", True) else ["--no-orthogonal"]
    for option in idle + ["--forget-bias"] * ("forget_bias" in typed):
        raise UsageError(f"{option}: has no effect on the weights of {init_from}; leave one of them out")
    return {"zoneout": saved["zoneout"]} | typed | {name: saved[name] for name in fixed}


def _opened(path, typed):
    """A checkpoint, and what was typed with its cell as the checkpoint has it: a cell in a file is named again."""
    cell = typed.get("cell") if in_file(typed.get("cell", "")) else None
    tensors, record = opened(path, cell)
    return tensors, record, typed | {"cell": record["config"]["cell"]} if cell else typed


def resume_session(named: list[str] | None, typed: dict) -> Session:
    """A run that goes on, from its last.pt."""
    folder = Path(named[0]) if named else latest(Path("checkpoints"))
    folder = folder.parent if folder.is_file() else folder
    tensors, record, typed = _opened(folder / "last.pt", typed)
    config = resumed(record["config"], typed)
    paths, val_paths = ([Path(p) for p in record["paths"][kind]] for kind in ("train", "val"))
    return Session(config, None, paths, val_paths, record["title"], folder, tensors, record)


@contextlib.contextmanager
def _fitting():
    """What does not fit into memory is told in one line."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error).lower():
            raise
        raise CharrnnError(
            "out of memory; what was saved is kept; take a smaller --batch-size, --seq-len, --hidden or --attention"
        ) from None


@_fitting()
def run(session: Session, out: Path | None, overwrite: bool, report: Reporter, as_json: bool) -> None:
    """Trains and prints what came of it."""
    keep_buffers()
    from ..yardstick import kept

    corpus, stop = _corpus(session, report), Stop()
    marks = session.record["yardsticks"] if session.folder else kept(corpus, cache())
    choices = []
    if session.typed is not None:
        session.config, choices = planned(session.typed, corpus)
    imported = _imported()
    trainer = _trainer(session, corpus, report, stop)
    if session.folder:
        trainer.resume(session.tensors, session.record)
        folder = Run(session.folder)
        for note in folder.cut(session.record["logs"]):
            report.note(note)
    else:
        cell = trainer.model.cell.rpartition(":")[2]  # without the file that it may come from
        folder = Run.create(out, f"{session.title[:40]}-{cell}", to_toml(session.config), overwrite)
    report.table(_plan(session, corpus, trainer, folder, marks) + told(choices))
    with contextlib.closing(folder), stop, report.live():
        result = _train(trainer, folder, _record(session, corpus, trainer.model, marks))
    report.score(trainer.counters.best_step, result, marks)
    answer = _answer(trainer, folder, result, marks) | {"memory": _memory(trainer.device, imported)}
    print(json.dumps(answer) if as_json else folder.best)


def _corpus(session, report):
    """The texts as a corpus; for a run that goes on, checked to be the same as before."""
    from ..corpus import Reading, open_corpus

    config, known = session.config, None
    if session.folder:
        known = Vocabulary(session.record["vocabulary"]), session.record["corpus"]["digest"]
    corpus = open_corpus(
        session.paths, session.val_paths, cache(), Reading(config.bytes, config.encoding, config.errors),
        config.min_count, config.val_fraction, known,
    )  # fmt: skip
    for note in corpus.notes:
        report.note(note)
    return corpus


def _trainer(session, corpus, report, stop):
    """The training made ready, with fresh weights or those of --init-from."""
    from .. import train as training

    config = session.config
    device = _device(config.device)
    _threads(config.threads)
    model = _model(config, len(corpus.vocabulary))
    ids = corpus.part("train")
    stream, fitted = training.Stream.fit(ids, config.batch_size, config.seq_len, config.seed, config.offsets)
    if fitted:
        report.note(fitted)
    preview = _preview(corpus.vocabulary, config)
    trainer = training.Trainer(config, model, corpus, stream, device, report.say, stop.signal, preview)
    trainer.begin(_weights(session, model, corpus, report))
    return trainer


def _train(trainer, folder, record):
    """Trains; what ends it early is said with what to do next."""
    try:
        return trainer.train(folder, record)
    except Interrupted as error:
        again = shlex.join(["charrnn", "train", "--resume", str(folder.folder), *retyped(trainer.model.cell)])
        raise Interrupted(f"{error}; go on with: {again}", error.signal) from None


def _answer(trainer, folder, result, marks):
    """What --json prints."""
    c, stream = trainer.counters, trainer.stream
    seen, spent = c.step * stream.lanes * stream.length, c.elapsed - c.evaluating
    paths = {name: str(getattr(folder, name)) for name in ("folder", "best", "last")}
    return paths | {
        "result": result, "yardsticks": marks, "steps": c.step, "best_step": c.best_step, "elapsed": c.elapsed,
        "evaluating": c.evaluating, "chars_per_second": seen / spent if spent > 0 else None,
        "skipped": c.skipped, "rollbacks": c.rollbacks, "parameters": trainer.parameters,
        "engine": trainer.engine, "seed": trainer.config.seed, "corpus": trainer.corpus.digest,
    }  # fmt: skip


def _imported():
    """The memory that this process holds once everything is imported, also what torch puts off until it is used."""
    import torch

    from .. import train  # noqa: F401
    from ..engine import machine
    from ..optim import Optimizer

    machine.trouble()  # brings in what compiles
    Optimizer({"none": torch.zeros(1)}, 0.0)
    return held_anew()


def _memory(device, imported):
    """The bytes held before the model was made and at most since: the device's own, or this process's."""
    if device.type == "cuda":
        import torch

        return {"before": 0, "peak": torch.cuda.max_memory_allocated(device)}
    return {"before": imported[0], "peak": held()[1]} if device.type == "cpu" and imported else None


class Stop:
    """SIGINT, SIGTERM, SIGHUP as a question that training asks between steps; a second one ends the process at once."""

    def __init__(self):
        self._number = None

    def __enter__(self):
        self._before = {n: signal.signal(n, self._note) for n in STOPS}

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        if self._number is not None:
            os._exit(128 + number)
        self._number = number

    def signal(self) -> int | None:
        return self._number


def _device(name):
    """The torch device asked for, or UsageError where the machine has none such."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind = name.split(":")[0]
    if kind not in ("cpu", "cuda", "mps"):
        raise UsageError(f"--device {name}: must be auto, cpu, cuda, cuda:N or mps")
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}[kind]
    if not there:
        raise UsageError(f"--device {name}: there is none on this machine (or torch was built without it); use cpu")
    if ":" in name and name not in (f"cuda:{i}" for i in range(torch.cuda.device_count())):
        raise UsageError(f"--device {name}: this machine has {torch.cuda.device_count()}, counted from cuda:0")
    return name


def _threads(number):
    import torch

    if number:
        torch.set_num_threads(number)


def _model(config, symbols):
    """The model of these settings; UsageError where one of them has no effect on it."""
    own = {name: getattr(config, name) for name in (*SHAPE, "zoneout")} | {"cell": bare(config.cell)}
    model = tried(Model(symbols=symbols, settings=config.cell_settings(), **own))
    if config.residual and not any(model.passes):
        raise UsageError(
            f"--residual: has no effect on one layer where --embed {model.embed} is not --hidden {model.hidden}"
        )
    if config.weight_drop and not model.recurrent:
        raise UsageError(f"--weight-drop {config.weight_drop}: {config.cell} has no recurrent matrix to drop from")
    if not config.orthogonal and not any(".U." in name for name in model.shapes()):
        raise UsageError(f"--no-orthogonal: {config.cell} has no recurrent matrix")
    if config.forget_bias is not None and not model.forget_biases:
        raise UsageError(f"--forget-bias {config.forget_bias:g}: {config.cell} has no forget gate f")
    return model


def _weights(session, model, corpus, report):
    """Fresh weights of all members; with --init-from the other's, the rows of the softmax and embedding matched by
    character."""
    from ..stream import draws

    config = session.config
    counts = corpus.unigram * config.unigram + 1
    fresh = [
        model.initial_weights(
            draws(config.seed, "weights", number), counts / counts.sum(), config.orthogonal, config.forget_bias
        )
        for number in range(config.members)
    ]
    if session.tensors is None or session.folder is not None:
        return joined(fresh)
    before, now = Vocabulary(session.record["vocabulary"]).symbols, corpus.vocabulary.symbols
    place = {symbol: i for i, symbol in enumerate(before)}
    kept = [i for i, symbol in enumerate(now) if symbol in place]
    source = [place[now[i]] for i in kept]
    old = apart(checkpoint.weights(session.tensors), config.members)
    for own, theirs in zip(fresh, old, strict=True):
        _match(own, theirs, kept, source)
    new = [name_of(symbol) for symbol in now if symbol not in place]
    gone = [name_of(symbol) for symbol in before if symbol not in set(now)]
    report.note(f"--init-from: {len(kept)} symbols keep their rows, {_listed(new)} new, {_listed(gone)} gone")
    return joined(fresh)


def _match(weights, old, kept, source):
    """Puts the other's arrays in the place of fresh ones; of the rows of symbols those `kept`, from where they were."""
    for name in weights:
        if name == "embedding":
            weights[name][kept] = old[name][source]
        elif name in ("head.W", "head.b"):
            weights[name][..., kept] = old[name][..., source]
        elif weights[name].shape == old[name].shape:
            weights[name] = old[name].copy()
        else:
            raise CheckpointError(f"--init-from: {name} has the shape {old[name].shape}, not {weights[name].shape}")


def _listed(names):
    return f"{len(names)}" + (f" ({', '.join(names[:5])}{', ..' if len(names) > 5 else ''})" if names else "")


def _preview(vocabulary, config):
    """Draws the sample of an evaluation; always from the same random numbers, so that samples can be compared."""
    from ..sample import Picking, Sampler, generate, opening

    def preview(model, members, step):
        prompt, reader = opening(vocabulary, config.seed), Sampler([(model, weights) for weights in members])
        drawn = generate(reader, prompt, Picking(), config.seed, range(1), vocabulary.unknown)
        return vocabulary.decode([next(drawn)[0] for _ in range(config.sample_length)])

    return preview


def _plan(session, corpus, trainer, folder, marks):
    """The screen before the run."""
    import torch

    from ..train import step_seconds

    config, model, stream = session.config, trainer.model, trainer.stream
    lengths = {name: end - start for name, (start, end) in corpus.parts.items()}
    per_step = step_seconds(trainer)
    steps = trainer.steps or int(trainer.seconds / per_step)
    seen = steps * stream.lanes * stream.length
    expected = duration((trainer.seconds or steps * per_step) * (1 - trainer.progress()))
    files = corpus.names[0] if len(corpus.names) == 1 else f"{len(corpus.names)} files, {corpus.names[0]} first"
    parts = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
    each = 12 * model.hidden * model.layers + 3 * model.symbols + 3 * model.attention  # numbers for one character
    kept = 4 * stream.length * stream.lanes * each + 8 * stream.lanes * model.attention * model.hidden  # by one member
    memory = 16 * trainer.parameters + kept
    engine = {
        "native": "native: torch.nn's kernels",
        "compiled": "compiled: code for this processor",
        "generic": "generic: products, and arithmetic in blocks",
        "scan": "scan: linear in its state, all steps at once",
        "reference": "reference: a loop over the equations",
    }
    several = f"{config.members} models of " if config.members > 1 else ""
    rows = [
        ("run", f"{folder.folder}" + (f", resumed at step {trainer.counters.step:,}" if session.folder else "")),
        ("corpus", f"{files}; {parts} {'bytes' if config.bytes else 'characters'}"),
        ("symbols", f"{len(corpus.vocabulary)}"),
        ("model", f"{several}{model.cell}, {model.layers} x {model.hidden}, embedding {model.embed}: "
                  f"{trainer.parameters:,} parameters"),
        *_around(config),
        ("training", f"{'about ' * bool(trainer.seconds)}{steps:,} steps of {stream.lanes} lanes x {stream.length}, "
                     f"{seen / lengths['train']:.1f} epochs, seed {config.seed}"),
        ("machine", f"{trainer.device}, {torch.get_num_threads()} threads, {config.precision}, "
                    f"{engine[trainer.engine]}"),
        ("expected", f"{expected}{' (by time: not repeatable)' * bool(trainer.seconds)}, "
                     f"{short(stream.lanes * stream.length / per_step)} characters/s"),
        ("memory", f"about {short(memory)}B beside torch's own"),
        ("yardsticks", in_bits(marks)),
    ]  # fmt: skip
    return rows


def _around(config):
    """Rows of the plan for what stands around the cells, and for noise other than --dropout; none as a rule."""
    stack = {"residual": config.residual, "layer norm": config.norm}
    stack[f"attention over {config.attention}"] = config.attention
    noise = {"input": config.dropout_input or None, "output": config.dropout_output}
    noise |= {"weights": config.weight_drop or None, "zoneout": config.zoneout or None}
    noise |= {"state reset": config.state_reset or None}
    told = [f"{name} {rate:g}" for name, rate in noise.items() if rate is not None]
    rows = {
        "around": ", ".join(word for word, there in stack.items() if there),
        "noise": told and ", ".join([f"dropout {config.dropout:g}", *told]),
    }
    return [(name, row) for name, row in rows.items() if row]


def _record(session, corpus, model, marks):
    """What every checkpoint of the run says of itself."""
    import numpy
    import torch

    if session.folder is not None:
        return checkpoint.lasting(session.record) | {"config": session.config.record(), "cell_file": origin(model.cell)}
    versions = {"charrnn": __version__, "torch": torch.__version__, "numpy": numpy.__version__}
    return {
        "config": session.config.record() | {"cell": model.cell},
        "model": model.record(),
        "cell_file": origin(model.cell),
        "vocabulary": corpus.vocabulary.document,
        "title": session.title,
        "corpus": {"names": [Path(n).name for n in corpus.names], "digest": corpus.digest, "parts": corpus.parts},
        "paths": {"train": _absolute(session.paths), "val": _absolute(session.val_paths)},
        "yardsticks": marks,
        "init_from": session.record["corpus"]["digest"] if session.record else None,
        "versions": versions | {"python": platform.python_version()},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _absolute(paths):
    return [str(path.resolve()) for path in paths]


def _download_progress(done, total):
    if sys.stderr.isatty():
        share = f" of {total:,}" if total else ""
        print(f"\rdownloading: {done:,}{share} bytes", end="\n" if done == total else "", file=sys.stderr)
