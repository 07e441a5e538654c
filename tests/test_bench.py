"""The benchmark: turns and load with a clock that the test holds, arithmetic against hand counts, workers that fail."""

import json
import math
import mmap
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from statistics import median

import numpy as np
import pytest
import torch
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from charrnn import cells
from charrnn.bench import SIZES, Settings, Size, encode, sample, start, timing, train, work
from charrnn.bench.timing import Limit, Series, Spread, Turn, faster, foreign_load, interleave
from charrnn.bench.ways import encode as encoding
from charrnn.bench.ways import nets
from charrnn.bench.ways import sample as sampling
from charrnn.bench.ways import train as training
from charrnn.bench.worker import Worker, environment, fresh
from charrnn.config import Config
from charrnn.errors import CharrnnError, Diverged, UsageError
from charrnn.train import Trainer

TINY = SIZES["tiny"]
ROUND = Settings(Limit(rounds=1))
every_cell = pytest.mark.parametrize("cell", cells.classes())


# ---- turns


class World:
    """A machine with two processors where time passes only while a contender works."""

    def __init__(self):
        self.now = self.worked = 0.0
        self.turns = []

    def clock(self) -> float:
        return self.now

    def busy(self):
        return self.worked, 2

    def run(self, contenders, **limit) -> list[Series]:
        return interleave(contenders, Limit(**limit), self.clock, self.busy)


class Contender:
    """Takes `seconds` for a repetition; `others` gives the share of the machine that others use in its turn k."""

    def __init__(self, world, name, seconds, units=1.0, others=lambda turn: 0.0):
        self.world, self.name, self.each, self.units, self.others, self.count = world, name, seconds, units, others, 0

    def turn(self, repetitions: int) -> Turn:
        seconds = repetitions * (self.each(self.count) if callable(self.each) else self.each)
        self.world.now += seconds
        self.world.worked += seconds + 2 * seconds * self.others(self.count)  # it uses one of the two processors
        self.world.turns.append((self.name, repetitions, seconds))
        self.count += 1
        return Turn(seconds, seconds)


def test_contenders_take_turns_and_every_other_round_goes_backwards():
    world = World()
    series = world.run([Contender(world, name, 0.4) for name in "ABC"], rounds=4)
    assert "".join(name for name, _, _ in world.turns[6:]) == "ABCCBAABCCBA"
    assert [list(each.samples) for each in series] == [[0, 1, 2, 3]] * 3
    assert [each.load for each in series] == ["clean"] * 3


def test_work_is_repeated_until_a_turn_lasts_long_enough():
    world = World()
    series = world.run([Contender(world, "quick", 0.001), Contender(world, "slow", 2.0)], rounds=2)
    turns = [(name, number) for name, number, _ in world.turns[-4:]]
    assert turns == [("quick", 300), ("slow", 1), ("slow", 1), ("quick", 300)]
    assert [each.seconds().median for each in series] == pytest.approx([0.001, 2.0])


@pytest.mark.parametrize("first", [0.25, 0.6])
def test_a_slow_first_time_does_not_decide_how_often_work_is_repeated(first):
    world = World()
    lazy = Contender(world, "lazy", lambda turn: first if turn == 0 else 0.00001)
    world.run([lazy], rounds=1)
    assert world.turns[-1][2] == pytest.approx(0.3, rel=0.01)


@pytest.mark.parametrize(("seconds", "each"), [(20, 0.05), (20, 3.0), (2, 0.01), (1, 0.2)])
def test_the_time_is_a_bound(seconds, each):
    world = World()
    series = world.run([Contender(world, "a", each), Contender(world, "b", each / 3)], seconds=seconds)
    assert world.now <= seconds
    assert len(series[0].samples) >= min(5, seconds / (3 * each)) - 1  # and it is used


def test_one_round_is_taken_however_short_the_time():
    world = World()
    (series,) = world.run([Contender(world, "a", 10.0)], seconds=1)
    assert list(series.samples.values()) == [10.0] and world.now == 30.0


# ---- foreign load


def test_samples_under_foreign_load_are_dropped_and_counted():
    world = World()

    def disturbed(turn):  # of the turns 3 and 5; 0 and 1 warm up
        return 0.4 if turn in (3, 5) else 0.0

    slowed = Contender(world, "a", lambda turn: 0.9 if turn in (3, 5) else 0.4, others=disturbed)
    ours, theirs = world.run([slowed, Contender(world, "b", 0.8)], rounds=5)
    assert (len(ours.samples), len(ours.used), len(theirs.used)) == (5, 3, 5)
    assert ours.seconds() == Spread(0.4, 0.4, 0.4) and ours.load == "clean"
    assert faster(ours, theirs) == Spread(2.0, 2.0, 2.0)


def test_a_row_of_which_every_sample_was_loaded_says_so():
    world = World()
    (series,) = world.run([Contender(world, "a", 0.4, others=lambda turn: 0.1)], rounds=3)
    assert series.load == "loaded" and len(series.used) == 3


def test_where_nothing_tells_of_load_nothing_is_dropped_and_it_is_said():
    world = World()
    contenders = [Contender(world, "a", 0.4, others=lambda turn: 0.5)]
    (silent,) = interleave(contenders, Limit(rounds=3), world.clock, lambda: None)
    (still,) = interleave(contenders, Limit(rounds=3), world.clock, lambda: (7.0, 2))  # a sandbox's counters
    assert [silent.load, still.load] == ["unknown"] * 2 and len(silent.used) == len(still.used) == 3


@pytest.mark.parametrize(
    ("worked", "own", "seconds", "loaded"),
    [
        (0.30, 0.30, 0.3, False),
        (0.33, 0.30, 0.3, False),  # 3 % of two processors and a tick of each: 0.038
        (0.34, 0.30, 0.3, True),
        (0.28, 0.30, 0.3, False),  # ticks are counted late
        (1.20, 0.30, 0.6, True),
        (0.10, 0.02, 0.04, None),  # too short to tell
        (0.00, 0.30, 0.3, None),  # counters that stand still
        (0.00, 0.00, 0.3, False),  # all asleep
    ],
)
def test_foreign_load(worked, own, seconds, loaded):
    assert foreign_load((100.0, 2), (100.0 + worked, 2), own, seconds) is loaded
    assert foreign_load(None, (1.0, 2), own, seconds) is foreign_load((1.0, 2), None, own, seconds) is None


def test_what_others_use_is_looked_at_beforehand():
    world = World()

    def sleep(seconds):
        world.now, world.worked = world.now + seconds, world.worked + seconds / 2

    assert timing.used_by_others(world.clock, sleep, world.busy) == pytest.approx(0.25)
    assert timing.used_by_others(world.clock, sleep, lambda: None) is None


def test_what_linux_tells_of_its_processors():
    text = "cpu  100 20 30 9000 700 1 2 40 5 5\ncpu0 1 1 1 1 1 1 1 1 0 0\ncpu1 1 1 1 1 1 1 1 1 0 0\nintr 7\n"
    assert timing.read_stat(text, 100) == (
        (100 + 20 + 30 + 1 + 2 + 40) / 100,
        2,
    )  # neither idle, nor waiting, nor guests twice
    assert timing.read_stat("intr 7\n", 100) is timing.read_stat("", 100) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_this_linux_tells():
    before, after = timing.processors_busy(), timing.processors_busy()
    assert after[0] >= before[0] >= 0 and after[1] == before[1] >= 1


# ---- medians and ratios

times = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=12)


def series_of(values, units=1.0):
    series = Series(units)
    for number, seconds in enumerate(values):
        series.add(number, seconds, False)
    return series


@given(times)
def test_a_spread_has_the_quartiles_that_numpy_has(values):
    low, middle, high = np.percentile(values, [25, 50, 75])
    assert asdict(Spread.of(values)) == pytest.approx({"median": middle, "low": low, "high": high})


@given(times, times, st.floats(0.1, 100), st.floats(0.1, 100))
def test_a_ratio_is_that_of_the_medians_and_lies_in_its_spread(a, b, mine, yours):
    ratio = faster(series_of(a, mine), series_of(b, yours))
    assert ratio.median == pytest.approx((mine / median(a)) / (yours / median(b)))
    assert ratio.low <= ratio.median <= ratio.high
    pairs = np.percentile([y * mine / (x * yours) for x in a for y in b], [25, 75])
    assert ratio.low == pytest.approx(min(ratio.median, pairs[0])) and ratio.high >= pairs[1] * (1 - 1e-9)


def test_a_speed_is_in_units():
    assert series_of([0.5, 0.25, 1.0], units=100).speed() == Spread(200, 150, 300)


# ---- arithmetic


@pytest.mark.parametrize(
    ("cell", "multiplications"),
    [  # of a character in one layer of 16 units with 64 inputs, counted by hand
        ("lstm", 4 * (64 + 16) * 16),
        ("gru", 3 * (64 + 16) * 16),
        ("gru-cho", 3 * (64 + 16) * 16),
        ("rnn", (64 + 16) * 16),
        ("peephole", 4 * (64 + 16) * 16),  # the peepholes are no products
        ("fgr", 4 * (64 + 16) * 16 + 9 * 16 * 16),
        ("sru", 3 * 64 * 16 + 64 * 16),  # and the input made as wide as the state
        ("slstm", 4 * 64 * 16 + 4 * 4 * 4 * 4),  # four heads of 4 units
        ("clockwork", 64 * 16 + 36 * 2 * 2),  # 8 modules of 2 units, each sees itself and the slower ones: 8 + 7 + ..
        ("mogrifier", 4 * (64 + 16) * 16 + 5 * (64 * 32 + 32 * 16)),  # five rounds of rank 32
        ("grid", 8 * (64 + 16) * 16),
    ],
)
def test_the_arithmetic_of_a_step(cell, multiplications):
    model = work.model(cell, TINY)
    per_character = multiplications + 16 * 96  # the head
    assert work.step_flops(model, TINY) == 6 * 4 * 8 * per_character
    assert work.weight_bytes(model) == 4 * per_character


def test_the_arithmetic_of_several_layers():
    per_character = 4 * (64 + 128) * 128 + 4 * (128 + 128) * 128 + 128 * 96
    assert work.step_flops(work.model("lstm", SIZES["A"]), SIZES["A"]) == 6 * 50 * 50 * per_character


@every_cell
def test_no_matrix_is_forgotten(cell):
    model = work.model(cell, Size(2, 16, 4, 8))
    matrices = {name for name, shape in model.shapes().items() if len(shape) > 1} - {"embedding"}
    assert {name for name, _, _ in work.matrices(model)} == matrices
    longer = work.step_flops(model, Size(2, 16, 8, 24))
    assert longer == 6 * work.step_flops(model, Size(2, 16, 4, 8))


@pytest.mark.parametrize("cell", ["lstm", "gru-cho", "mogrifier"])
def test_torch_counts_the_same_arithmetic(cell):
    """But for one product: the state before the first character wants no gradient."""
    trainer = training._trainer(cell, TINY, "reference", "float32")
    with FlopCounterMode(display=False) as counter:
        trainer.update()
    first = {"lstm": 4 * 16 * 16, "gru-cho": 2 * 16 * 16, "mogrifier": 16 * 32}[cell]
    assert counter.get_total_flops() == work.step_flops(trainer.model, TINY) - 2 * TINY.batch * first


# ---- what is read


def test_the_text_of_training_is_always_the_same_and_can_be_learned():
    text = work.text(5000)
    assert len(text) == 5000 and (text == work.text(5000)).all() and text.max() < work.SYMBOLS
    assert 0.1 < (text == 0).mean() < 0.34  # words of 2 to 8, each with an end


@pytest.mark.parametrize(("script", "widest"), [("ascii", 1), ("mixed", 4)])
def test_prose_has_its_length_and_its_scripts(script, widest):
    text = work.prose(script, 1_200_000)
    assert len(text) == 1_200_000 and text[:1000] == work.prose(script, 1000)
    assert max(len(character.encode()) for character in set(text)) == widest


# ---- the ways


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_the_peers_two_ways_are_one_model(kind):
    size = Size(2, 8, 3, 5)
    module, loop = nets.Module(kind, size), nets.Loop(kind, size)
    loop.embedding.load_state_dict(module.embedding.state_dict())
    loop.head.load_state_dict(module.head.state_dict())
    for layer, cell in enumerate(loop.cells):
        cell.load_state_dict({name: getattr(module.rnn, f"{name}_l{layer}") for name in cell.state_dict()})
    first, second = (torch.from_numpy(work.text(30).astype(np.int64)).view(2, 5, 3)[k] for k in (0, 1))
    states = [None, None]
    for ids in (first, second):
        (a, states[0]), (b, states[1]) = module(ids, states[0]), loop(ids, states[1])
        torch.testing.assert_close(a, b)
        states = [nets.detached(state) for state in states]


def test_the_models_of_both_sides_have_the_same_size():
    """But for the second bias that torch.nn has."""
    size = SIZES["A"]
    for cell, kind in work.KINDS.items():
        theirs = sum(p.numel() for name, p in nets.Module(kind, size).named_parameters() if "bias_hh" not in name)
        second = 2 * size.hidden if cell == "gru" else 0  # v.n
        assert sum(work.model(cell, size).count().values()) == theirs + second


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("way", ["module", "loop"])
def test_the_peers_train(monkeypatch, way, kind, precision):
    """A step after another, the state carried, the loss falling."""
    losses, cost = [], torch.nn.functional.cross_entropy

    def noted(*arguments):
        losses.append(cost(*arguments))
        return losses[-1]

    monkeypatch.setattr(training.F, "cross_entropy", noted)
    facts, once = training.WAYS[way](kind, asdict(replace(TINY, length=16)), precision)
    for _ in range(30):
        once()
    assert facts["units"] == 4 * 16 and losses[-1] < losses[0] - 0.1


def test_our_step_is_that_of_a_training():
    """The same weights after the same batches as a trainer that was made for them."""
    facts, once = training.charrnn("lstm", asdict(TINY), "auto", "float32", keep=False)
    for _ in range(3):
        once()
    trainer = once.__self__
    assert type(trainer) is Trainer and trainer.counters.step == 3 and facts["engine"] == trainer.engine
    config = Config(**trainer.config.record())
    again = Trainer(config, trainer.model, None, trainer.stream, "cpu", lambda *_, **__: None, lambda: None, None)
    again.begin(work.weights(trainer.model))
    for _ in range(3):
        again.update()
    for name, weight in again.weights.items():
        assert torch.equal(weight, trainer.weights[name]) and not torch.equal(weight, torch.zeros(()))
    assert trainer.config.dropout == 0 and not trainer.model.skips  # as the peers have it


@pytest.mark.parametrize("streams", [1, 3])
def test_every_way_of_sampling_draws(streams):
    ways = {"charrnn": {"cell": "lstm"}, "module": {"kind": "LSTM"}, "loop": {"cell": "lstm"}}
    for way, which in ways.items():
        facts, once = sampling.WAYS[way](**which, size=asdict(TINY), streams=streams)
        once(), once()
        assert facts["units"] == streams


def test_reading_reads_what_it_says():
    facts, once = sampling.reading(1 << 20)
    once()
    assert facts["units"] == 1 << 20
    assert sampling.reading(100)[0]["units"] == 4 * 1024  # a row at least


def test_every_way_of_encoding_gives_the_same_ids(tmp_path, monkeypatch):
    text = work.prose("mixed", 3000)
    (tmp_path / "text.txt").write_bytes(text.encode())
    counts = {ord(character): text.count(character) for character in set(text)}
    known = encode.Vocabulary.learn(counts)
    monkeypatch.setattr(encoding, "PIECE", 1000)
    for way in encoding.WAYS:
        more = {"folder": str(tmp_path / "cache")} if way == "corpus" else {}
        facts, once = encoding.WAYS[way](str(tmp_path / "text.txt"), known.document, 3000, **more)
        for _ in range(2):
            assert known.decode(np.asarray(once()[:])) == text, way
        assert facts["ids_bytes"] == 3000 * known.dtype().itemsize


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is held now")
def test_memory_is_what_a_pass_takes_at_most():
    def once():
        pages = mmap.mmap(-1, 64 << 20)  # straight from the system; the C library may hold pages that it lent before
        pages[:: mmap.PAGESIZE] = bytes(len(pages) // mmap.PAGESIZE)
        pages.close()
        return np.zeros(10, np.uint8)

    facts, _ = encoding._told(once, 10, encode.Vocabulary.learn({97: 5, 98: 5}))
    assert facts["memory"] >= 60 << 20 and facts["ids_bytes"] == 10


# ---- workers


def sampler(**more):
    job = {"cell": "lstm", "size": asdict(TINY), "streams": 1} | more
    return Worker("charrnn", "sample", 1, True, "charrnn", **job)


def test_a_worker_takes_turns_and_ends_with_its_block():
    with sampler() as worker:
        assert worker.ready()["units"] == worker.units == 1
        assert worker.facts["versions"] == {"numpy": np.__version__}  # and no torch
        turn = worker.turn(5)
        assert turn.seconds > 0 and turn.own >= 0
    assert worker._process.poll() is not None


def test_a_person_s_mistake_comes_back_as_what_it_is():
    with sampler(cell="lstn") as worker, pytest.raises(UsageError, match=r"no such cell \(did you mean 'lstm'\?\)"):
        worker.ready()


def test_a_worker_that_fails_is_told_in_one_line():
    with Worker("nn.LSTM", "sample", 1, False, "absent") as worker, pytest.raises(CharrnnError) as told:
        worker.ready()
    assert str(told.value) == "nn.LSTM: the process that was timed ended with status 1 (KeyError: 'absent')"


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_worker_that_is_killed_is_told_in_one_line():
    with sampler() as worker:
        worker.ready()
        os.kill(worker._process.pid, signal.SIGKILL)
        worker._process.wait()
        with pytest.raises(CharrnnError) as told:
            worker.turn(1)
    assert str(told.value) == "charrnn: the process that was timed was ended by SIGKILL"


def test_what_a_library_prints_does_not_come_between():
    code = """
import os
from charrnn.bench.worker import serve
serve({"loud": lambda x: (print("made", x) or {"units": 2}, lambda: os.system("echo once") and None)})
"""
    asked = '{"way": "loud", "x": 7}\n1\n2\n'
    done = subprocess.run(fresh(code), input=asked, capture_output=True, text=True, check=True)
    facts, *turns = map(json.loads, done.stdout.splitlines())
    assert facts == {"units": 2, "versions": {}} and [set(turn) for turn in turns] == [{"seconds", "own"}] * 2
    assert sorted(done.stderr.split()) == sorted(["made", "7", *["once"] * 3])


def test_the_peers_processes_know_nothing_of_our_settings(monkeypatch):
    monkeypatch.setenv("GOMP_SPINCOUNT", "10000")
    ours, theirs = environment(0, ours=True), environment(3, ours=False)
    assert ours["GOMP_SPINCOUNT"] == "10000" and "GOMP_SPINCOUNT" not in theirs
    assert [theirs[f"{library}_NUM_THREADS"] for library in ("OMP", "MKL", "OPENBLAS")] == ["3"] * 3
    assert ours["OMP_NUM_THREADS"] == os.environ["OMP_NUM_THREADS"]


def test_a_command_that_fails_is_told_in_one_line(tmp_path):
    failing = start.Command("import nothing", fresh("import nothing"), tmp_path, 0)
    with pytest.raises(CharrnnError) as told:
        failing.turn(1)
    assert str(told.value) == "import nothing: ended with status 1 (ModuleNotFoundError: No module named 'nothing')"


# ---- rows


class Inside:
    """As Worker, but in this process, which spares the import of torch; a repetition takes `seconds`."""

    seconds = 1.0

    def __init__(self, title, room, threads, ours, way, **job):
        rooms = {"train": training, "sample": sampling, "encode": encoding}
        self.title, self.facts, self._make = title, None, lambda: rooms[room].WAYS[way](**job)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def ready(self):
        if self.facts is None:
            self.facts, self._once = self._make()
        return self.facts

    @property
    def units(self):
        return self.ready()["units"]

    def turn(self, repetitions):
        self._once()
        return Turn(repetitions * self.seconds, repetitions * self.seconds)


@pytest.fixture
def inside(monkeypatch):
    """Workers are in this process, every repetition takes as long, and the best product is a small one."""
    for room in (train, sample, encode):
        monkeypatch.setattr(room, "Worker", Inside)
    monkeypatch.setattr(training, "SIDES", (16,))
    monkeypatch.setattr(timing, "LOOK", 0.0)


def silent(text):
    """Hears what is said of the progress."""


SPREAD = {"median": float, "low": float, "high": float}
MEASURED = {"bench": str, "way": str, "seconds": SPREAD, "samples": int, "kept": int, "load": str, "machine": dict}
SIZED = {"cell": str, "size": str, "layers": int, "hidden": int}
SCHEMA = {
    "train": MEASURED | SIZED | {
        "batch": int, "length": int, "precision": str, "engine": (str, None), "ratio": (SPREAD, None),
        "characters_per_second": SPREAD, "flops": int, "peak_share": float, "peak_flops": float, "peak_by": str,
    },
    "scaling": MEASURED | SIZED | {
        "batch": int, "length": int, "precision": str, "engine": str, "ratio": None, "doubled": (str, None),
        "time_ratio": (SPREAD, None), "flops_ratio": (float, None),
    },
    "loss": SIZED | {
        "bench": str, "way": str, "machine": dict, "batch": int, "length": int, "precision": str, "engine": str,
        "steps": int, "nats": float, "difference": float, "skipped": int,
    },
    "sample": MEASURED | SIZED | {
        "streams": int, "engine": None, "ratio": (SPREAD, None), "characters_per_second": SPREAD,
        "weight_bytes": int, "bandwidth": float, "bandwidth_share": float,
    },
    "encode": MEASURED | {
        "script": str, "characters": int, "symbols": int, "engine": None, "ratio": (SPREAD, None),
        "characters_per_second": SPREAD, "memory": (int, None), "ids_bytes": int,
    },
    "start": MEASURED | {"engine": None, "ratio": None},
}  # fmt: skip


def fits(value, kind) -> bool:
    if isinstance(kind, tuple):
        return any(fits(value, each) for each in kind)
    if kind is None:
        return value is None
    if isinstance(kind, dict):
        return isinstance(value, dict) and set(value) == set(kind) and all(fits(value[k], kind[k]) for k in kind)
    return type(value) is kind


def check(row: dict) -> dict:
    """A row as it comes out of JSON, once it is seen to fit the schema."""
    row, schema = json.loads(json.dumps(row, allow_nan=False)), SCHEMA[row["bench"]]
    assert set(row) == set(schema)
    assert [name for name in schema if not fits(row[name], schema[name])] == []
    assert {"processor", "processors", "threads", "system", "python", "charrnn"} <= set(row["machine"])
    return row


def test_rows_of_training(inside):
    rows = [check(row) for row in train.rows(["lstm", "slstm"], ["tiny"], ROUND, silent)]
    assert [(row["cell"], row["way"], row["engine"]) for row in rows] == [
        ("lstm", "charrnn", "native"), ("lstm", "nn.LSTM", None), ("lstm", "loop of nn.LSTMCell", None),
        ("slstm", "charrnn", rows[3]["engine"]), ("slstm", "autograd loop", "reference"),
    ]  # fmt: skip
    first, second, *_ = rows
    assert (first["seconds"]["median"], first["characters_per_second"]["median"], first["ratio"]) == (1.0, 32.0, None)
    assert second["ratio"] == {"median": 1.0, "low": 1.0, "high": 1.0}
    assert first["flops"] == 6 * 32 * 6656 and first["peak_flops"] == 2 * 16**3
    assert first["peak_share"] == pytest.approx(6 * 32 * 6656 / (2 * 16**3))


@every_cell
def test_every_cell_has_rows(inside, cell):
    rows = [*train.rows([cell], ["tiny"], ROUND, silent), *sample.rows([cell], ["tiny"], [1, 3], ROUND, silent)]
    assert {check(row)["cell"] for row in rows} == {cell} and len(rows) == (7 if cell in work.KINDS else 6)
    assert all(row["engine"] for row in rows if row["bench"] == "train" and row["way"] == "charrnn")


def test_rows_of_scaling(inside):
    rows = [check(row) for row in train.scaling(["gru"], ["tiny"], ROUND, silent)]
    assert [row["doubled"] for row in rows] == [None, "hidden", "length", "batch"]
    sizes = [(row["hidden"], row["length"], row["batch"]) for row in rows]
    assert sizes == [(16, 8, 4), (32, 8, 4), (16, 16, 4), (16, 8, 8)]
    assert [row["time_ratio"]["median"] for row in rows[1:]] == [1.0] * 3  # each turn takes a second here
    wider = (3 * (64 + 32) * 32 + 32 * 96) / (3 * (64 + 16) * 16 + 16 * 96)
    assert [row["flops_ratio"] for row in rows] == [None, pytest.approx(wider), 2.0, 2.0]


def test_rows_of_losses(inside):
    rows = [check(row) for row in train.loss(["lstm"], ["tiny"], 20, ROUND, silent)]
    assert [(row["engine"], row["precision"]) for row in rows] == [
        ("native", "float32"), ("reference", "float32"), ("native", "bfloat16")
    ]  # fmt: skip
    native, reference, coarse = rows
    assert native["difference"] == 0 and native["nats"] < math.log(96)  # it learns
    assert abs(reference["difference"]) < 1e-5  # float32 sums in another order, over 20 steps
    assert 0 < abs(coarse["difference"]) < 0.02 and coarse["nats"] == native["nats"] + coarse["difference"]


def test_a_loss_that_the_reference_alone_makes_is_made_once(inside):
    rows = [check(row) for row in train.loss(["lstm"], ["tiny"], 4, replace(ROUND, engine="reference"), silent)]
    assert [row["precision"] for row in rows] == ["float32", "bfloat16"]


def test_a_loss_is_the_mean_over_the_last_quarter():
    trainer, nats = training._trainer("rnn", TINY, "auto", "float32"), []
    for _ in range(10):
        before = trainer.counters.loss_sum
        trainer.update()
        nats.append(trainer.counters.loss_sum - before)
    facts, _ = training.loss("rnn", asdict(TINY), "auto", "float32", 10)
    assert facts["nats"] == pytest.approx(np.mean(nats[-3:]))


def test_a_loss_that_is_lost_is_told(monkeypatch):
    monkeypatch.setattr(Trainer, "_sound", lambda self, nats: False)
    with pytest.raises(Diverged, match="no loss of the last quarter"):
        training.loss("rnn", asdict(TINY), "auto", "float32", 4)


def test_rows_of_sampling(inside):
    rows = [check(row) for row in sample.rows(["gru", "sru"], ["tiny"], [1, 2], ROUND, silent)]
    assert [(row["cell"], row["streams"], row["way"]) for row in rows] == [
        ("gru", 1, "charrnn"), ("gru", 1, "nn.GRU"), ("gru", 2, "charrnn"), ("gru", 2, "nn.GRU"),
        ("sru", 1, "charrnn"), ("sru", 1, "loop on torch"), ("sru", 2, "charrnn"), ("sru", 2, "loop on torch"),
    ]  # fmt: skip
    needed = 4 * (3 * (64 + 16) * 16 + 16 * 96)
    assert rows[0]["weight_bytes"] == needed and rows[0]["bandwidth"] == needed // 4096 * 4096
    assert rows[0]["bandwidth_share"] == pytest.approx(needed / (needed // 4096 * 4096))
    assert rows[2]["characters_per_second"]["median"] == 2.0


def test_rows_of_sampling_with_8_bits(inside):
    ours, theirs = (check(row) for row in sample.rows(["gru"], ["tiny"], [1], ROUND, silent, int8=True))
    assert (ours["way"], theirs["way"]) == ("charrnn --int8", "nn.GRU")
    assert ours["weight_bytes"] == 3 * (64 + 16) * 16 + 16 * 96  # a byte for each


def test_rows_of_encoding(inside):
    rows = [check(row) for row in encode.rows(2000, ROUND, silent)]
    assert [row["way"] for row in rows] == ["charrnn", "charrnn, all of it", "tokenizers", "dict"] * 2
    assert [row["script"] for row in rows] == ["ascii"] * 4 + ["mixed"] * 4
    assert [row["characters"] for row in rows] == [2000, 2000, 200, 200] * 2
    assert rows[2]["ratio"]["median"] == 10.0  # a second for 200 characters, not for 2000


def test_rows_of_starting(monkeypatch, trained):
    """With an import of nothing for that of torch."""
    monkeypatch.setattr(start, "_trained", lambda folder, settings: (folder / "run").symlink_to(trained))
    monkeypatch.setattr(start, "fresh", lambda code, *more: fresh("pass" if "torch" in code else code, *more))
    rows = [check(row) for row in start.rows(ROUND, silent)]
    assert [row["way"] for row in rows] == ["python", "charrnn --help", "charrnn sample -n 1", "import torch"]
    assert all(row["seconds"]["median"] > 0 for row in rows)


def test_a_cell_that_an_engine_refuses_is_left_out_and_told(inside):
    told, settings = [], replace(ROUND, engine="native")
    rows = list(train.rows(["lstm", "sru"], ["tiny"], settings, told.append))
    assert {row["cell"] for row in rows} == {"lstm"}
    assert any("note: sru tiny left out" in text and "no kernel for the cell sru" in text for text in told)
    with pytest.raises(UsageError, match="no kernel for the cell sru"):
        list(train.rows(["sru"], ["tiny"], settings, told.append))


# ---- the command


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["train", "--cells", "lstn"], "--cells lstn: no such cell (did you mean 'lstm'?)"),
        (["sample", "--cells", "lstm,"], "--cells : no such cell"),
        (["train", "--sizes", "A,D"], "--sizes D: no such one; known: A, B, C, tiny"),
        (["train", "--sizes", "tini"], "(did you mean 'tiny'?)"),
        (["train", "--engine", "nativ"], "--engine nativ: no such one (did you mean 'native'?); known: auto, native"),
        (["train", "--precision", "bfloat"], "(did you mean 'bfloat16'?)"),
        (["train", "--loss", "-1"], "--loss -1: must be a number of steps"),
        (["sample", "--streams", "1,many"], "--streams many: must be a whole number of at least 1"),
        (["sample", "--streams", "0"], "--streams 0: "),
        (["encode", "--characters", "10"], "--characters 10: must be at least 1000"),
        (["start", "--seconds", "0"], "--seconds 0.0: must be a number greater than 0"),
        (["start", "--seconds", "nan"], "--seconds nan: "),
        (["start", "--rounds", "0"], "--rounds 0: must be at least 1"),
        (["start", "--rounds", "3", "--seconds", "5"], "--rounds 3: has no effect beside --seconds"),
        (["start", "--threads", "-1"], "--threads -1: must be at least 0"),
    ],
    ids=" ".join,
)
def test_usage(charrnn, arguments, told):
    done = charrnn("bench", *arguments)
    assert (done.status, done.out) == (2, "") and told in done.err and len(done.err.splitlines()) == 1


def test_a_wrong_word_is_told(charrnn):
    done = charrnn("bench", "trian")
    assert done.status == 2 and "train" in done.err and done.out == ""
    assert "sample" in charrnn("bench").out


def test_a_table_for_people(charrnn, inside):
    done = charrnn("bench", "train", "--cells", "lstm,gru-cho", "--sizes", "tiny", "--rounds", 2)
    lines = done.out.splitlines()
    assert done.status == 0 and max(map(len, lines)) <= 80
    assert "chars/s" in lines[1] and "times as fast" in lines[1]
    assert lines[2].startswith("lstm tiny: 1 x 16, batch 4, length 8, float32; peak ")
    assert [line.split("  ")[1] for line in lines[3:6]] == ["charrnn, native", "nn.LSTM", "loop of nn.LSTMCell"]
    assert "1.00 (1.00-1.00)" in lines[4] and "1.00 (1.00-1.00)" not in lines[3]
    assert "2 comparisons of 2 rounds" in done.err and "train gru-cho tiny" in done.err


def test_tables_of_all_kinds_fit_the_screen(charrnn, inside, monkeypatch):
    monkeypatch.setattr(Inside, "seconds", 0.045)
    for arguments in (
        ["train", "--cells", "depth-gated", "--sizes", "tiny", "--scaling", "--loss", 8],
        ["sample", "--cells", "depth-gated", "--sizes", "tiny"],
        ["encode", "--characters", 2000],
    ):
        done = charrnn("bench", *arguments, "--rounds", 1, "-q")
        assert (done.status, done.err) == (0, "") and max(map(len, done.out.splitlines())) <= 80
    scaled = charrnn("bench", "train", "--cells", "rnn", "--sizes", "tiny", "--rounds", 1, "--scaling", "--loss", 8).out
    assert [part in scaled for part in ("as it is", "length twice", "rnn tiny: 8 steps", "nats")] == [True] * 4


def test_a_busy_machine_is_told_beforehand(charrnn, inside, monkeypatch):
    monkeypatch.setattr(timing, "used_by_others", lambda: 0.42)
    arguments = ["bench", "encode", "--characters", 1000, "--rounds", 1]
    assert charrnn(*arguments).err.startswith("note: others use 42% of this machine now; ")
    assert charrnn(*arguments, "-q").err == ""


def test_json_is_one_row_a_line_and_nothing_else(charrnn, inside):
    done = charrnn("bench", "train", "--cells", "rnn", "--sizes", "tiny", "--rounds", 1, "--json")
    ways = [check(json.loads(line))["way"] for line in done.out.splitlines()]
    assert ways == ["charrnn", "nn.RNN", "loop of nn.RNNCell"]


def test_the_whole_as_it_is(process):
    """In real processes, in little time; how fast is nobody's business here."""
    done = process("bench", "sample", "--cells", "rnn", "--sizes", "tiny", "--streams", 2, "--seconds", 0.5, "--json")
    rows = [check(json.loads(line)) for line in done.stdout.decode().splitlines()]
    assert done.returncode == 0, done.stderr
    assert [row["way"] for row in rows] == ["charrnn", "nn.RNN"] and rows[1]["machine"]["torch"] == torch.__version__
    assert "torch" not in rows[0]["machine"]
    assert all(row["samples"] >= row["kept"] >= 0 and row["load"] in ("clean", "loaded", "unknown") for row in rows)


def test_every_field_is_told_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for schema in SCHEMA.values():
        assert [name for name in schema if f"`{name}`" not in readme] == []
