"""Code that draws symbol after symbol, against the calls of numpy by which it could be done."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import types
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from conftest import sentences
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_sample import fresh
from test_stack import LEAVES, arrays_of_leaves, made_up

from charrnn import cells, checkpoint, sample, threads
from charrnn.cells.base import tanh
from charrnn.cells.trace import Symbol
from charrnn.engine import machine
from charrnn.engine.program import Program
from charrnn.model import Model, rounded
from charrnn.sample import Picking, Sampler, _pick, generate
from charrnn.vocab import Vocabulary

pytest.importorskip("llvmlite")
from llvmlite import ir

from charrnn.engine import loop as room
from charrnn.engine.loop import Loop
from charrnn.engine.machine import processor, whole
from charrnn.engine.machine.threads import at_once

PLAIN = 0.8, 0, 1.0, 0.0, None  # temperature, top_k, top_p, min_p, forbidden


def ready(sampler, lanes, many):
    """A loop that goes on from the start of a sampler, and the logits and the state that it goes on from."""
    logits, state = sampler.step(np.arange(lanes) % 7, repeated(sampler.start(), lanes))
    loop = Loop(sampler.program, lanes, many)
    loop.begin(logits, flat(state))
    return loop, logits.copy(), [{k: a.copy() for k, a in own.items()} for own in state]


def repeated(state, lanes):
    return [{k: np.repeat(a, lanes, axis=0) for k, a in own.items()} for own in state]


def flat(state):
    return [array for own in state for array in own.values()]


def values(loop):
    """The logits and the states where a loop has come to, (B, ..) each."""
    parts = [np.concatenate([loop.step.part_of(arena, array) for arena in loop.arenas], axis=1) for array in loop.ends]
    return [part.T[: loop.lanes] for part in parts]


def by_calls(sampler, logits, state, uniform):
    """The same by numpy: the symbols, then logits and states."""
    found = []
    for u in uniform:
        found.append(_pick(Picking().weights(logits), u).copy())
        logits, state = sampler.step(found[-1], state)
    return np.array(found), [logits, *flat(state)]


def draws_as_numpy_does(sampler, lanes, many, steps=25, within=1e-4):
    """The same symbols, and within rounding the same logits and states."""
    loop, logits, state = ready(sampler, lanes, many)
    uniform = np.random.default_rng(lanes).random((steps, lanes))
    symbols, law = by_calls(sampler, logits, state, uniform)
    assert (loop.draw(uniform, 1, *PLAIN) == symbols).all() and len(np.unique(symbols)) > 2
    for mine, own in zip(values(loop), law, strict=True):
        np.testing.assert_allclose(mine, own, rtol=within, atol=within)


# ---- every cell and option


@pytest.mark.parametrize("lanes", [1, 5, 40])
@pytest.mark.parametrize("cell", cells.classes())
def test_every_cell_draws_as_numpy_does(cell, lanes):
    sampler = Sampler([fresh(cell, layers=3 if cell == "lstm" else 2, skips=cell != "gru")])
    draws_as_numpy_does(sampler, lanes, 1)


@pytest.mark.parametrize("lanes", [1, 7])
@pytest.mark.parametrize("options", [{"norm": True}, {"residual": True, "norm": True}, {"zoneout": 0.3}])
def test_every_option_draws_as_numpy_does(options, lanes):
    model, weights = stirred(Model("gru", 11, 37, 37, 2, **options))
    draws_as_numpy_does(Sampler([(model, weights)]), lanes, 1)


def stirred(model, seed=7):
    """A model with weights as at the start of a training, stirred so that everything in it matters."""
    random = np.random.default_rng(seed)
    weights = model.initial_weights(random, np.full(model.symbols, 1 / model.symbols))
    return model, {name: a + random.normal(0, 0.2, a.shape).astype(np.float32) for name, a in weights.items()}


@pytest.mark.parametrize("lanes", [1, 7])
def test_an_ensemble_draws_as_numpy_does(lanes):
    models = Model("gru", 11, 6, 16, 1), Model("lstm", 11, 5, 24, 2), Model("sru", 11, 6, 16, 2)
    members = [stirred(model, seed) for seed, model in enumerate(models)]
    draws_as_numpy_does(Sampler(members), lanes, 1)


def test_attention_is_left_to_numpy():
    model, weights = stirred(Model("gru", 11, 6, 16, 1, attention=5))
    sampler = Sampler([(model, weights)])
    logits, state = sampler.step(np.zeros(1, int), sampler.start())
    assert room.refuses(sampler.programs[1][0]) == "attend, remember" and sampler.loop(logits, state) is None


@pytest.mark.parametrize("lanes", [1, 5])
@given(made=made_up())
@example(made=(tanh(LEAVES[0]), [LEAVES[1], LEAVES[0], LEAVES[2]]))  # states that change places
@settings(derandomize=True, deadline=None, max_examples=25)
def test_a_made_up_step(lanes, made):
    """Steps of made-up arithmetic, by code and by numpy; a symbol is picked, but nothing comes of it."""
    output, after = made
    random, ids = np.random.default_rng(3), Symbol("leaf", "ids")
    fixed = arrays_of_leaves(random)
    states = list(zip(LEAVES[:3], after, strict=True))

    def program(count):
        return Program(output + 0.0 * LEAVES[0], states, ids, fixed, [(2,)] * 3, count)

    law, loop = program(lanes), Loop(program, lanes, 1)
    start = [random.normal(size=(lanes, 2)).astype(np.float32) for _ in after]
    loop.begin(np.zeros((lanes, 2), np.float32), start)
    for mine, value in zip(law.state, start, strict=True):
        mine[...] = value
    for _ in range(2):
        loop.draw(np.zeros((1, lanes)), 1, *PLAIN)
        expected = [law.run(np.zeros(lanes, int)), *law.state]
        for mine, own in zip(values(loop), expected, strict=True):
            np.testing.assert_allclose(mine, own, rtol=1e-3, atol=1e-4)


# ---- lanes, threads, calls


def of_any_width(cell="gru", hidden=37, **more):
    return stirred(Model(cell, 29, 8, hidden, 2, **more))


def drawn(sampler, lanes, many, parts, cuts):
    """Symbols (T, B) in calls of so many steps, and where that leads to."""
    _, logits, state = ready(sampler, 40, many)
    loop = Loop(sampler.program, lanes, many)
    loop.begin(logits[:lanes], [array[:lanes] for array in flat(state)])
    uniform, found = np.random.default_rng(5).random((sum(cuts), 40))[:, :lanes], []
    for end, steps in zip(np.cumsum(cuts), cuts, strict=True):
        found.append(loop.draw(uniform[end - steps : end], next(parts), *PLAIN))
    return np.concatenate(found), values(loop)


def forever(*parts):
    while True:
        yield from parts


@pytest.mark.parametrize("cell", ["gru", "lstm", "mut1"])
@pytest.mark.parametrize("form", [lambda weights: weights, rounded])
def test_threads_change_no_bit(cell, form, monkeypatch):
    """A lane is shared out among one, two or three threads, and among as many as it comes, call by call."""
    monkeypatch.setattr(room, "SHARED", 1)
    model, weights = of_any_width(cell, hidden=70)
    sampler = Sampler([(model, form(weights))])
    alone, law = drawn(sampler, 1, 1, forever(1), [60])
    for many, parts in ((2, [2]), (3, [3]), (8, [7]), (3, [1, 3, 2])):
        symbols, ends = drawn(sampler, 1, many, forever(*parts), [7, 13, 1, 39])
        assert (symbols == alone).all()
        assert all((mine == own).all() for mine, own in zip(ends, law, strict=True))


@pytest.mark.parametrize("form", [lambda weights: weights, rounded])
def test_a_lane_has_the_same_bits_whatever_stands_beside_it(form):
    model, weights = of_any_width()
    sampler = Sampler([(model, form(weights))])
    together, ends = drawn(sampler, 40, 2, forever(1), [30])
    ways = (1, 1), (3, 1), (5, 2), (6, 1), (12, 2), (40, 3)
    assert len({Loop(sampler.program, *way).kind.lanes for way in ways}) > 1
    for lanes, many in ways:
        symbols, mine = drawn(sampler, lanes, many, forever(1), [11, 19])
        assert (symbols == together[:, :lanes]).all()
        assert all((a == b[:lanes]).all() for a, b in zip(mine, ends, strict=True))


def test_how_many_threads_are_tried(monkeypatch):
    sampler = Sampler([of_any_width(hidden=70)])
    assert Loop(sampler.program, 1, 4).most == 1  # too small to be shared out
    monkeypatch.setattr(room, "SHARED", 20_000)
    assert Loop(sampler.program, 1, 4).most == 3 and Loop(sampler.program, 1, 2).most == 2
    assert Loop(sampler.program, 2, 4).most == 1
    alone = Sampler([stirred(Model("indrnn", 29, 8, 9000, 1))])  # its only product is that of the softmax
    assert Loop(alone.program, 1, 4).most == 1
    monkeypatch.delattr(os, "sched_yield")
    assert Loop(sampler.program, 1, 4).most == 1


def test_who_is_interrupted_lets_the_others_go(monkeypatch):
    """A thread that waits for one that never comes would wait for ever; none runs on when this returns."""
    there, gone = threading.Event(), []

    def waits():
        there.wait(60)
        gone.append(1)

    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        at_once([interrupted, waits, waits], there.set)
    assert gone == [1, 1]
    monkeypatch.setattr(room, "SHARED", 1)
    sampler = Sampler([of_any_width()])
    loop, *_ = ready(sampler, 1, 3)
    run = loop._run
    monkeypatch.setattr(loop, "_run", lambda integers, *rest: (run if integers[2] else interrupted)(integers, *rest))
    with pytest.raises(KeyboardInterrupt):
        loop.draw(np.zeros((50, 1)), 3, *PLAIN)


def test_several_threads_draw_as_long_as_they_are_faster(monkeypatch):
    """Where others take the processors one thread goes on alone, and now and then it is seen whether they still do."""
    now, calls, cost = [0.0], [], {1: 1.0, 2: 0.5}

    def draw(steps, many):
        now[0] += steps * cost[many]
        calls.append((steps, many))
        return [None]

    monkeypatch.setattr(sample.time, "perf_counter", lambda: now[0])
    found = sample._several(types.SimpleNamespace(chunk=160, most=2), draw)

    def next_calls(count):
        calls.clear()
        list(islice(found, count))
        return calls

    alone = [(160, 1)] * 8
    assert next_calls(9) == [(40, 1)] * 3 + [(40, 2)] + [(160, 2)] * 5
    cost[2] = 3.0
    assert next_calls(19) == [(160, 2), *alone, (40, 2), *alone, (40, 2)]
    cost[2] = 0.9
    assert next_calls(13) == [*alone, (40, 2)] + [(160, 2)] * 4


def test_threads_as_the_environment_says(monkeypatch):
    for said, many in (("3", 3), ("0", 0), ("many", 0), ("", 0)):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        assert threads.threads() == (many or threads.processors()) >= 1


# ---- picking

WEIGHT = st.sampled_from([0.0, 0.5, 1.0, 1.0, 2.0, 3.0, -40.0]) | st.floats(-9, 9, width=32)
SHARE = st.sampled_from([0.0, 0.5, math.nextafter(1, 0)]) | st.floats(0, 1, exclude_max=True)


@pytest.fixture(scope="module")
def still():
    """Loops of one lane and of twelve whose logits never change: 19 symbols."""
    logits, ids = Symbol("leaf", "logits"), Symbol("leaf", "ids")

    def program(lanes):
        return Program(logits * 1.0, [(logits, logits)], ids, {}, [(19,)], lanes)

    return {lanes: Loop(program, lanes, 1) for lanes in (1, 12)}


@pytest.mark.parametrize("lanes", [1, 12])
@given(
    rows=st.lists(WEIGHT, min_size=19, max_size=19),
    temperature=st.sampled_from([0.0, 1e-9, 0.8, 1.0, 3.0]),
    top_k=st.sampled_from([0, 0, 1, 4, 19, 50]),
    top_p=st.sampled_from([1.0, 1.0, 0.9, 0.5, 1e-9]),
    min_p=st.sampled_from([0.0, 0.0, 0.05, 1.0]),
    forbidden=st.none() | st.integers(0, 18),
    shares=st.lists(SHARE, min_size=12, max_size=12),
)
@settings(derandomize=True, deadline=None, max_examples=300)
def test_symbols_are_picked_as_numpy_does(still, lanes, rows, temperature, top_k, top_p, min_p, forbidden, shares):
    """Equal logits, shares at the very ends; each lane has the logits in an order of its own."""
    loop, picking = still[lanes], Picking(temperature, top_k, top_p, min_p)
    logits = np.array([np.roll(rows, k) for k in range(lanes)], np.float32)
    loop.begin(logits, [logits])
    u = np.array(shares[:lanes])
    expected = logits.copy()
    if forbidden is not None:
        expected[:, forbidden] = -np.inf
    law, weights = _pick(picking.weights(expected), u), picking.weights(expected)
    (found,) = loop.draw(u[None], 1, temperature, top_k, top_p, min_p, forbidden)
    assert (weights[np.arange(lanes), found] > 0).all()
    sums = weights.cumsum(-1)
    for lane in np.flatnonzero(found != law):  # a sum may be rounded to either side of a share
        edges = sums[lane, sorted((found[lane], law[lane]))[0]] / sums[lane, -1]
        assert abs(edges - u[lane]) < 1e-12


def test_a_model_gone_mad_picks_some_symbol(still):
    for lanes, loop in still.items():
        logits = np.full((lanes, 19), np.nan, np.float32)
        loop.begin(logits, [logits])
        for rule in (PLAIN, (0.8, 3, 0.9, 0.1, 4)):
            assert (loop.draw(np.full((3, lanes), 0.7), 1, *rule) < 19).all()


LIKELY = Picking(1.0, 5), Picking(1.0, 0, 0.9), Picking(1.2, 7, 0.7), Picking(0.9, min_p=0.05)
PICKINGS = [Picking(0.8), Picking(0.0), *LIKELY]


@pytest.mark.parametrize("streams", [1, 3, 20])
@pytest.mark.parametrize("picking", PICKINGS)
def test_the_text_goes_on_as_it_would(picking, streams, monkeypatch):
    """From numpy's calls to code at any step, over many calls, with and without a symbol that is never picked."""
    sampler = Sampler([of_any_width()])
    monkeypatch.setattr(room, "MOST", 50)
    for forbidden in (None, 3):
        texts = []
        for patience in (math.inf, 1, 130):
            monkeypatch.setattr(Sampler, "patience", lambda self, lanes, own=patience: own)
            found = generate(sampler, np.array([0, 5]), picking, 2, range(streams), forbidden)
            texts.append(np.array([ids.copy() for ids in islice(found, 400)]))
        assert (texts[0] == texts[1]).all() and (texts[0] == texts[2]).all()
        assert 3 not in texts[0] if forbidden else 3 in texts[0] or picking != PICKINGS[0]


def test_when_code_is_made(monkeypatch):
    """When numpy has taken as long: after more steps, the fewer weights and streams there are."""
    small, large = Sampler([of_any_width()]), Sampler([of_any_width(hidden=300)])
    assert small.patience(1) > large.patience(1) > large.patience(64) >= 1 and small.patience(1) < 20_000
    made = []
    monkeypatch.setattr(Sampler, "loop", lambda self, logits, state: made.append(1))
    monkeypatch.setattr(Sampler, "patience", lambda self, lanes: 10)
    assert len(text_of(small, 10)) == 10 and not made
    assert text_of(small, 3000)[:11] == text_of(small, 11) and made == [1, 1]


def text_of(sampler, length):
    return [int(ids[0]) for ids in islice(generate(sampler, np.array([0]), Picking(), 1, range(1)), length)]


def test_without_llvm_numpy_goes_on(monkeypatch):
    sampler = Sampler([of_any_width()])
    monkeypatch.setattr(Sampler, "patience", lambda self, lanes: 10)
    monkeypatch.setattr(machine, "trouble", lambda: "no such thing here")
    there = text_of(sampler, 300)
    assert sampler.loop(*sampler.step(np.array([0]), sampler.start())) is None
    monkeypatch.undo()
    monkeypatch.setattr(Sampler, "patience", lambda self, lanes: 10)
    assert there == text_of(sampler, 300)


def test_large_alphabets_are_sorted_by_numpy(monkeypatch):
    """Where the likeliest are asked for by their share."""
    made = []
    monkeypatch.setattr(Sampler, "patience", lambda self, lanes: 3)
    monkeypatch.setattr(Sampler, "loop", lambda self, logits, state: made.append(1))
    sampler = Sampler([stirred(Model("rnn", 1001, 4, 5, 1))])
    for picking, count in ((Picking(top_p=0.9), 0), (Picking(top_k=5), 1), (Picking(), 2)):
        assert len(list(islice(generate(sampler, np.array([0]), picking, 1, range(1)), 8))) == 8
        assert len(made) == count


# ---- 8 bits


def test_weights_are_rounded_to_8_bits():
    """Column by column; vectors and embeddings stay, and what is rounded already stays as it is."""
    _, weights = of_any_width("gru", norm=True)
    small = rounded(weights)
    for name, array in weights.items():
        if array.ndim == 1 or name == "embedding":
            assert small[name] is array
            continue
        assert small[name].dtype == np.float32
        step = np.abs(array).max(-2) / 127
        assert (np.abs(small[name] - array) <= step / 2 * 1.001).all()
        assert np.abs(small[name] / step - np.rint(small[name] / step)).max() < 1e-3
        np.testing.assert_allclose(rounded(small)[name], small[name], rtol=1e-6)
    assert rounded({"head.W": np.zeros((3, 4), np.float32)})["head.W"].tolist() == [[0.0] * 4] * 3


@pytest.mark.parametrize("lanes", [1, 9])
@pytest.mark.parametrize("cell", ["lstm", "gru", "mut1", "mogrifier", "clockwork", "slstm"])
def test_rounded_weights_are_multiplied_as_they_are(cell, lanes):
    """Products of whole numbers give what those of the floats they stand for give, but that values have 16 bits."""
    model, weights = of_any_width(cell, hidden=40)
    sampler = Sampler([(model, rounded(weights))])
    draws_as_numpy_does(sampler, lanes, 1, within=2e-3)
    functions = Loop(sampler.program, lanes, 1).step.functions
    assert ("set whole" in functions) == processor.in_bytes()
    assert ("product" in functions) == (cell == "clockwork" or not processor.in_bytes())  # a mask hides its largest
    assert ("add whole" in functions) == (cell not in ("gru", "clockwork") and processor.in_bytes())  # in pieces
    assert "set whole" not in Loop(Sampler([(model, weights)]).program, lanes, 1).step.functions


whole_kinds = pytest.mark.parametrize(
    "kind", [processor.kind_alone(), processor.kind_for(5, 1), processor.kind_for(64, 1)]
)


@pytest.mark.skipif(not processor.in_bytes(), reason="no products of bytes on this processor")
@whole_kinds
@pytest.mark.parametrize(("M", "K"), [(1, 1), (5, 3), (16, 64), (75, 33), (130, 2100)])
def test_whole_products(M, K, kind):
    """Against whole numbers in Python's own arithmetic, at the largest values that there are, too."""
    module, random, lanes = ir.Module(), np.random.default_rng(M), kind.lanes
    for add in (False, True):
        whole.product(module, f"product{add:d}", add, kind)
    whole.shorts(module, "shorts", kind)
    for function in module.functions:
        function.linkage = "external"  # else there is no address of it
    compiled = processor.Compiled(module)
    for most in (False, True):
        matrix = np.full((M, K), -127) if most else random.integers(-127, 128, (M, K))
        matrix[:, 0] = 127
        scales = np.zeros(-(-M // kind.tall) * kind.tall, np.float32)
        scales[:M] = random.random(M) + 0.1
        given = (np.full((K, lanes), -3.0) if most else random.normal(size=(K, lanes))).astype(np.float32)
        numbers, found = whole.rows_of(matrix * scales[:M, None].astype(float))
        assert (numbers == matrix).all()
        np.testing.assert_allclose(found, scales[:M], rtol=1e-6)
        limit, pairs, factor = whole.largest(K), -(-K // 2), np.zeros(lanes, np.float32)
        small = np.zeros((pairs, lanes, 2), np.int16)
        compiled.function("shorts", 2, 3)(K, limit, *(a.ctypes.data for a in (given, small, factor)))
        values = small.swapaxes(1, 2).reshape(2 * pairs, lanes)
        assert np.abs(np.abs(values).max(0) - limit).max() <= 1 and not values[K:].any()
        assert (np.abs(values[:K] * factor - given) <= np.abs(given).max(0) / limit).all()
        law = (matrix.astype(object) @ values[:K].astype(object)).astype(float) * scales[:M, None] * factor
        packed, result = whole.packed(numbers, kind), np.full((M + 3, lanes), 7.0, np.float32)
        for add, times in ((False, 1), (True, 2)):
            places = (a.ctypes.data for a in (packed, small, result, scales, factor))
            compiled.function(f"product{add:d}", 2, 5)(M, pairs, *places)
            np.testing.assert_allclose(result[:M], times * law, rtol=1e-5, atol=1e-5 * np.abs(law).max())
        assert (result[M:] == 7.0).all()


def test_what_is_no_matrix_of_8_bits():
    random = np.random.default_rng(1)
    assert whole.rows_of(random.normal(size=(4, 5))) is None
    numbers, scales = whole.rows_of(np.zeros((2, 3)))
    assert not numbers.any() and not scales.any()


def test_scores_and_samples_with_rounded_weights(charrnn, trained):
    """As those of a checkpoint whose weights have been rounded."""
    tensors, record = checkpoint.load(trained / "best.pt")
    weights = rounded(checkpoint.weights(tensors))
    checkpoint.save(Path("small.pt"), {f"weights.{name}": array for name, array in weights.items()}, record)
    text = Path("text.txt")
    text.write_bytes(sentences(30, seed=4).encode())
    before, mine, law = (
        json.loads(charrnn("eval", which[0], text, "--json", *which[1:]).out)
        for which in ([trained], [trained, "--int8"], ["small.pt"])
    )
    assert mine.pop("int8") is True and mine == law and mine["nats"] != before["nats"]
    assert mine["nats"] == pytest.approx(before["nats"], abs=0.01)
    assert charrnn("eval", trained, text, "--int8").out.splitlines()[-1] == "weights rounded to 8 bits"
    texts = [charrnn("sample", which, *more, "-n", 300) for which, *more in ((trained, "--int8"), ("small.pt",))]
    assert texts[0] == texts[1] and texts[0].status == 0 and len(texts[0].out) > 300
    both = charrnn("eval", trained, text, "--ensemble", "small.pt", "--int8", "--json")
    assert json.loads(both.out)["nats"] == pytest.approx(law["nats"], abs=1e-6)
    refused = charrnn("eval", trained, "--int8", "--dynamic")
    assert refused.status == 2 and refused.err.startswith("error: --int8 and --dynamic: give one of them")


# ---- other processors


def test_lesser_processors_draw_the_same(lesser):
    assert processor.kind_alone().width == (8 if lesser == "haswell" else 4) and processor.in_bytes()
    for form in (lambda weights: weights, rounded):
        model, weights = of_any_width()
        for lanes in (1, 9):
            draws_as_numpy_does(Sampler([(model, form(weights))]), lanes, 1, within=2e-3)


# ---- the command


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_text_without_end_stops_when_it_is_told(stop):
    """While several threads draw it."""
    model, weights = stirred(Model("gru", 256, 8, 256, 2))
    record = {"model": model.record(), "vocabulary": Vocabulary.bytes().document}
    checkpoint.save(Path("wide.pt"), {f"weights.{name}": array for name, array in weights.items()}, record)
    command = [sys.executable, "-m", "charrnn", "sample", "wide.pt", "-n", "-1", "-t", "2"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "2"}, **pipes) as child:
        read = 0
        while read < 30_000:
            read += len(child.stdout.read1(1 << 16))
        child.send_signal(stop)
        _, complaint = child.communicate(timeout=30)
    assert child.returncode not in (0, 1) and complaint.count(b"\n") <= 1 and b"Traceback" not in complaint
