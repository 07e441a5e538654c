"""Sampling: the numpy path against torch, what may be picked, seeds, stops, prompts, pipes."""

import gc
import io
import json
import math
import os
import re
import subprocess
import sys
import tracemalloc
from itertools import islice, pairwise
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from conftest import TINY, sentences
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from charrnn import cells, checkpoint
from charrnn.engine import choose, on_torch  # noqa: F401  (teaches the operators torch tensors)
from charrnn.model import Model
from charrnn.sample import DRAWN, Picking, Sampler, Text, generate, opening
from charrnn.stream import draws
from charrnn.vocab import Vocabulary

pytestmark = pytest.mark.usefixtures("one_thread")
few = settings(derandomize=True, deadline=None, max_examples=60)
posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX pipes and terminals")
PLAIN = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}


@pytest.fixture(scope="module")
def of_bytes(tmp_path_factory, _quiet_world) -> Path:
    """A checkpoint of bytes, hardly trained: what it draws is mostly no UTF-8."""
    from charrnn.stream import draws

    model, vocabulary = Model("gru", 256, 8, 16, 1), Vocabulary.bytes()
    weights = model.initial_weights(draws(1, "test"), np.full(256, 1 / 256))
    record = {"model": model.record(), "vocabulary": vocabulary.document}
    path = tmp_path_factory.mktemp("bytes") / "best.pt"
    checkpoint.save(path, {f"weights.{name}": array for name, array in weights.items()}, record)
    return path


class OnTorch:
    """A sampler that runs the model on torch tensors, one symbol at a time, with an engine."""

    patience = staticmethod(lambda lanes: math.inf)

    def __init__(self, model, weights, engine):
        self.model, tensors = model, {name: torch.from_numpy(array) for name, array in weights.items()}
        self.p = model.bind(tensors)
        self.name, self.run = choose(engine, model.stack[-1], tensors["embedding"])

    def start(self):
        return [
            {k: a.numpy() for k, a in s.items()}
            for s in self.model.initial_state(lambda: torch.zeros(1, self.model.hidden))
        ]

    @torch.no_grad()
    def step(self, ids, state):
        held = [{name: torch.from_numpy(np.array(array)) for name, array in own.items()} for own in state]
        logits, after = self.model.forward(self.p, torch.from_numpy(np.array(ids, np.int64))[None], held, self.run)
        return logits[0].numpy(), [{name: array.numpy() for name, array in own.items()} for own in after]


class Always:
    """A sampler whose logits are always the same."""

    patience = staticmethod(lambda lanes: math.inf)

    def __init__(self, logits):
        self.logits = np.array(logits, np.float32)

    def start(self):
        return [{}]

    def step(self, ids, state):
        return np.tile(self.logits, (len(ids), 1)), state


# ---- numpy against torch


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_logits_are_those_of_torch(loaded, engine):
    """1e-5: float32, sums in another order, over 300 steps."""
    model, weights, vocabulary = loaded
    ids = vocabulary.encode(sentences(12, seed=3))[:300].astype(np.int64)
    torch_p = model.bind({name: torch.from_numpy(array) for name, array in weights.items()})
    name, run = choose(engine, model.stack[-1], torch_p.embedding)
    with torch.no_grad():
        state = model.initial_state(lambda: torch.zeros(1, model.hidden))
        expected, _ = model.forward(torch_p, torch.from_numpy(ids)[:, None], state, run)
    assert name == engine
    sampler = Sampler([(model, weights)])
    state = sampler.start()
    for symbol, logits in zip(ids, expected[:, 0].numpy(), strict=True):
        found, state = sampler.step(np.array([symbol]), state)
        np.testing.assert_allclose(found[0], logits, rtol=0, atol=1e-5)


def fresh(cell, layers=2, skips=True):
    """A model of a cell with weights as at the start of a training, stirred so that everything in it matters."""
    model = Model(cell, 11, 6, 16, layers, skips)
    random = np.random.default_rng(7)
    weights = model.initial_weights(random, np.full(11, 1 / 11))
    return model, {name: a + random.normal(0, 0.3, a.shape).astype(np.float32) for name, a in weights.items()}


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("cell", cells.classes())
def test_every_cell_samples_as_it_trains(cell, lanes):
    model, weights = fresh(cell, layers=3 if cell == "lstm" else 2, skips=cell != "gru")
    ours, theirs = Sampler([(model, weights)]), OnTorch(model, weights, "reference")
    ids = np.random.default_rng(1).integers(11, size=(20, lanes))
    state = [{k: np.repeat(a, lanes, axis=0) for k, a in own.items()} for own in ours.start()]
    expected_state = [{k: a.copy() for k, a in own.items()} for own in state]
    for row in ids:
        logits, state = ours.step(row, state)
        expected, expected_state = theirs.step(row, expected_state)
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)  # float32 in another order
        for own, other in zip(state, expected_state, strict=True):
            for name in other:
                np.testing.assert_allclose(own[name], other[name], rtol=1e-5, atol=1e-5)


def drawn(sampler, prompt, picking, seed, streams, length, forbidden=None):
    """The first `length` symbols of each stream, (B, length)."""
    found = generate(sampler, np.array(prompt), picking, seed, streams, forbidden)
    return np.array([ids.copy() for ids in islice(found, length)]).T


@pytest.mark.parametrize("engine", ["native", "reference"])
@pytest.mark.parametrize("picking", [Picking(0.5), Picking(1.0), Picking(0.0), Picking(1.2, top_k=8, top_p=0.9)])
def test_the_text_is_that_of_torch(loaded, engine, picking):
    model, weights, vocabulary = loaded
    prompt = vocabulary.encode("The cat sees")
    for seed in (1, 2, 3):
        texts = [
            [vocabulary.decode(ids) for ids in drawn(sampler, prompt, picking, seed, range(2), 150)]
            for sampler in (Sampler([(model, weights)]), OnTorch(model, weights, engine))
        ]
        assert texts[0] == texts[1]


def test_the_command_draws_the_same_text(charrnn, loaded, trained):
    model, weights, vocabulary = loaded
    sampler, prompt = OnTorch(model, weights, "auto"), vocabulary.encode("A dog ")
    (ids,) = drawn(sampler, prompt, Picking(0.9, min_p=0.02), 7, range(1), 200)
    answer = charrnn("sample", trained, "-p", "A dog ", "-n", 200, "-t", 0.9, "--min-p", 0.02, "--seed", 7)
    assert (answer.status, answer.err) == (0, "")
    assert answer.out.removesuffix("\n") == ("A dog " + vocabulary.decode(ids)).removesuffix("\n")


# ---- seeds and streams


def test_a_stream_draws_the_same_whatever_stands_beside_it(loaded):
    model, weights, vocabulary = loaded
    prompt = vocabulary.encode("\n")
    together = drawn(Sampler([(model, weights)]), prompt, Picking(1.0), 5, range(4), 120)
    for k in range(4):
        assert (drawn(Sampler([(model, weights)]), prompt, Picking(1.0), 5, range(k, k + 1), 120) == together[k]).all()
    assert len({tuple(ids) for ids in together}) == 4
    assert (drawn(Sampler([(model, weights)]), prompt, Picking(1.0), 5, range(2, 4), 120) == together[2:]).all()


def test_what_a_stream_draws_is_its_generator_in_order():
    """With a thousand equal symbols the pick is the uniform number itself, block after block."""
    found = drawn(Always(np.zeros(1000)), [0], Picking(1.0), 9, range(1, 3), 2 * DRAWN + 50)
    for k, ids in zip((1, 2), found, strict=True):
        uniform = draws(9, "sample", k).random(2 * DRAWN + 50)
        assert (np.abs(uniform * 1000 - ids - 0.5) <= 0.5 + 1e-6).all()  # an edge may round to either side


def test_seeds(charrnn, trained):
    texts = [charrnn("sample", trained, "-n", 80, "--seed", seed).out for seed in (1, 1, 2, 3)]
    assert texts[0] == texts[1] and len(set(texts)) == 3
    assert charrnn("sample", trained, "-n", 80).out == texts[0]


def test_count_on_the_command_line(charrnn, trained):
    alone = charrnn("sample", trained, "-n", 90, "--seed", 4, "--json").out
    four = charrnn("sample", trained, "-n", 90, "--seed", 4, "--count", 4, "--json").out.splitlines(keepends=True)
    assert four[0] == alone and len(four) == 4
    assert len({json.loads(line)["text"] for line in four}) == 4


def test_a_longer_text_begins_with_the_shorter(charrnn, trained):
    short, long = (charrnn("sample", trained, "-n", n, "--json").out for n in (40, 1100))
    assert json.loads(long)["text"].startswith(json.loads(short)["text"])
    assert len(json.loads(long)["text"]) == 1100


# ---- what may be picked


def slow(logits, picking):
    """The definition, one symbol after the other: temperature, then min_p, then top_k, then top_p."""
    best = max(logits)
    if picking.temperature == 0:
        first = logits.index(best)
        return [float(i == first) for i in range(len(logits))]
    weight = [math.exp((a - best) / picking.temperature) for a in logits]
    for w in weight:
        assume(picking.min_p == 0 or w == 1 or abs(w - picking.min_p) > 1e-9)  # no edge that rounding decides
    kept = [i for i, w in enumerate(weight) if w >= picking.min_p]
    kept.sort(key=lambda i: (-weight[i], i))
    kept = kept[: picking.top_k or None]
    total, sum_before, chosen = sum(weight[i] for i in kept), 0.0, []
    for i in kept:
        assume(not chosen or picking.top_p == 1 or abs(sum_before / total - picking.top_p) > 1e-9)
        if not chosen or picking.top_p == 1 or sum_before / total < picking.top_p:
            chosen.append(i)
        sum_before += weight[i]
    total = sum(weight[i] for i in chosen)
    return [weight[i] / total if i in chosen else 0.0 for i in range(len(logits))]


pickings = st.builds(
    Picking,
    temperature=st.sampled_from([0.0, 0.05, 0.5, 0.8, 1.0, 1.7, 20.0]),
    top_k=st.integers(0, 9),
    top_p=st.one_of(st.just(1.0), st.floats(1e-6, 1.0)),
    min_p=st.one_of(st.just(0.0), st.floats(0, 1)),
)
logit = st.one_of(st.integers(-30 * 1024, 30 * 1024).map(lambda k: k / 1024), st.sampled_from([0.0, 1.0]))  # exact
rows = st.integers(2, 8).flatmap(
    lambda size: st.lists(
        st.lists(logit, min_size=size, max_size=size),
        min_size=1,
        max_size=3,
    )
)


@few
@given(rows, pickings)
def test_probabilities_are_those_of_the_definition(logits, picking):
    expected = [slow(row, picking) for row in logits]
    found = picking.probabilities(np.array(logits, np.float32))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=0, atol=1e-12)
    sure = np.array(expected) > 1e-15  # what is less than a rounding may fall out of a cumulated sum
    assert (found[sure] > 0).all() and (found[np.array(expected) == 0] == 0).all()


@few
@given(rows, pickings)
def test_what_is_kept(logits, picking):
    """The promises of each option, said another way."""
    for row, p in zip(np.array(logits), picking.probabilities(np.array(logits, np.float32)), strict=True):
        kept = p > 0
        assert kept[row.argmax()] and row[~kept].max(initial=-np.inf) <= row[kept].min()
        if picking.temperature == 0:
            assert kept.sum() == 1 and kept.argmax() == row.argmax()
        if picking.top_k:
            assert kept.sum() <= picking.top_k
        if picking.top_p < 1 and kept.sum() > 1:
            assert p[kept].min() > 0


def test_every_limit_on_an_example():
    logits = np.log(np.array([[0.1, 0.4, 0.2, 0.3]]))
    for picking, expected in {
        Picking(1.0): [0.1, 0.4, 0.2, 0.3],
        Picking(0.0): [0, 1, 0, 0],
        Picking(0.5): np.array([1, 16, 4, 9]) / 30,
        Picking(1.0, top_k=2): [0, 4 / 7, 0, 3 / 7],
        Picking(1.0, top_p=0.6): [0, 4 / 7, 0, 3 / 7],
        Picking(1.0, top_p=0.35): [0, 1, 0, 0],
        Picking(1.0, top_p=1e-9): [0, 1, 0, 0],
        Picking(1.0, min_p=0.45): [0, 4 / 9, 2 / 9, 3 / 9],
        Picking(1.0, min_p=1.0): [0, 1, 0, 0],
        Picking(1.0, top_k=3, top_p=0.7): [0, 4 / 7, 0, 3 / 7],
        Picking(1.0, top_k=1, top_p=0.9, min_p=0.01): [0, 1, 0, 0],
        Picking(1.0, top_k=99): [0.1, 0.4, 0.2, 0.3],
    }.items():
        np.testing.assert_allclose(picking.probabilities(logits)[0], expected, rtol=1e-12, atol=0, err_msg=str(picking))


class Fixed:
    """A generator whose numbers are always u."""

    def __init__(self, u):
        self.u = u

    def random(self, size):
        return np.full(size, self.u)


@few
@given(rows, pickings, st.sampled_from([0.0, 1e-300, 0.25, 0.5, 1 - 1e-9, math.nextafter(1, 0)]), st.booleans())
def test_a_symbol_that_cannot_come_never_comes(logits, picking, u, forbid):
    row = np.array(logits[0], np.float32)
    forbidden = int(row.argmax()) if forbid else None
    with mock.patch("charrnn.sample.draws", lambda *_: Fixed(u)):
        (ids,) = drawn(Always(row), [0], picking, 1, range(1), 3, forbidden)
    if forbid:
        row[forbidden] = -np.inf
    p = picking.probabilities(row[None])[0]
    assert set(ids) == {ids[0]} and p[ids[0]] > 0 and ids[0] != forbidden
    before = p[: ids[0]].sum()
    assert before - 1e-9 <= u <= before + p[ids[0]] + 1e-9


def test_the_ends_of_the_uniform_numbers():
    """u = 0 takes the first symbol that can come, the greatest u the last, zeros on either side notwithstanding."""
    logits = [-np.inf, 0.0, 1.0, -np.inf, 0.5, -np.inf]
    for u, expected in ((0.0, 1), (math.nextafter(1, 0), 4)):
        with mock.patch("charrnn.sample.draws", lambda *_, u=u: Fixed(u)):
            assert drawn(Always(logits), [0], Picking(1.0), 1, range(2), 2).tolist() == [[expected] * 2] * 2


def test_a_tiny_temperature_is_greedy():
    assert Picking(1e-3).probabilities(np.array([[1.0, 3.0, 2.0]], np.float32)).tolist() == [[0, 1, 0]]


def test_the_tiniest_temperature_is_greedy(charrnn, trained):
    coldest, greedy = (charrnn("sample", trained, "-n", 20, "-t", t) for t in ("1e-310", "0"))
    assert coldest == greedy


@pytest.mark.parametrize("picking", [Picking(1.0), Picking(0.7), Picking(1.3, top_k=4), Picking(1.0, top_p=0.8)])
def test_symbols_come_as_often_as_they_should(picking):
    """Pearson's chi-square of 20,000 draws within five standard deviations of its mean, for a fixed seed."""
    logits = np.array([0.3, -1.0, 2.0, 0.0, 1.1, -0.4, 0.9])
    counts = np.bincount(drawn(Always(logits), [0], picking, 3, range(4), 5000).ravel(), minlength=7)
    expected = picking.probabilities(logits[None])[0] * 20000
    can = expected > 0
    assert counts[~can].sum() == 0
    statistic, freedom = (((counts - expected) ** 2)[can] / expected[can]).sum(), can.sum() - 1
    assert statistic < freedom + 5 * math.sqrt(2 * freedom)
    assert np.corrcoef(counts[can], expected[can])[0, 1] > 0.99


def test_the_unknown_symbol_is_never_drawn(charrnn, corpus):
    """A model with an explicit unknown symbol has seen it often; its samples have none."""
    charrnn("train", corpus, "--steps", 5, "--min-count", 600, "--threads", 1, "-q", "--out", "run", *TINY)
    _, record = checkpoint.load(Path("run/best.pt"))
    assert Vocabulary(record["vocabulary"]).unknown == 0
    for temperature in ("1", "0", "5"):
        answer = charrnn("sample", "run", "-n", 400, "-t", temperature)
        assert answer.status == 0 and "\ufffd" not in answer.out and "<unk>" not in answer.out


# ---- beginnings and ends


def test_a_text_without_prompt_begins_a_line(loaded, charrnn, trained):
    vocabulary = loaded[2]
    assert opening(vocabulary, 1).tolist() == [vocabulary.symbols.index("\n")]
    bare = charrnn("sample", trained, "-n", 60)
    assert bare == charrnn("sample", trained, "-n", 60, "--prompt", "")
    assert charrnn("sample", trained, "-n", 60, "--prompt", "\n").out == "\n" + bare.out


def test_without_line_breaks_the_opening_is_drawn_from_the_seed():
    vocabulary = Vocabulary.learn(dict.fromkeys(range(ord("a"), ord("a") + 26), 9))
    first = [int(opening(vocabulary, seed)[0]) for seed in range(40)]
    assert first == [int(opening(vocabulary, seed)[0]) for seed in range(40)]
    assert len(set(first)) > 10 and set(first) <= set(range(26))


def cut(text, length, stops):
    """What is left of an endless text: `length` characters at most, or up to the first end of a stop."""
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    return text[: min([*ends, length])]


LETTERS = Vocabulary.learn(dict.fromkeys(map(ord, "abc"), 1))


@few
@given(
    st.text("abc", min_size=30, max_size=30),
    st.integers(0, 30),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=3),
)
def test_a_text_ends_at_its_length_or_after_a_stop(endless, length, stops):
    text, told = Text(LETTERS, length, stops), ""
    for symbol in LETTERS.encode(endless):
        assert text.done or len(told) < length
        told += text.add(symbol)
    assert text.done and told == cut(endless, length, stops)


def test_stop(charrnn, trained):
    endless = charrnn("sample", trained, "-n", 300, "--json").out
    full = json.loads(endless)["text"]
    rare, common = full[150:153], full[20:22]
    for stops in ([rare], [common], [rare, common], ["nowhere"], [common, common]):
        options = [part for stop in stops for part in ("--stop", stop)]
        answer = charrnn("sample", trained, "-n", 300, "--json", *options)
        assert json.loads(answer.out)["text"] == cut(full, 300, stops)
    assert charrnn("sample", trained, "-n", "-1", "--stop", rare).out.rstrip("\n") == cut(full, 300, [rare]).rstrip(
        "\n"
    )


def test_a_stop_in_the_prompt_is_no_stop(charrnn, trained):
    answer = charrnn("sample", trained, "-n", 30, "--prompt", "A dog.", "--stop", "dog.", "--json")
    assert len(json.loads(answer.out)["text"]) == 30


def test_each_of_several_texts_stops_for_itself(charrnn, trained):
    full, ended = (
        [
            json.loads(line)["text"]
            for line in charrnn("sample", trained, "-n", 120, "--count", 5, "--json", *stop).out.splitlines()
        ]
        for stop in ([], ["--stop", "a"])
    )
    assert ended == [cut(text, 120, ["a"]) for text in full] and len(set(map(len, ended))) > 1


def test_length_0(charrnn, trained):
    assert charrnn("sample", trained, "-n", 0).out.strip("\n") == ""
    assert charrnn("sample", trained, "-n", 0, "-p", "A cat").out == "A cat\n"
    assert json.loads(charrnn("sample", trained, "-n", 0, "--json").out)["text"] == ""


def test_the_last_line_is_ended_once(charrnn, trained):
    full = json.loads(charrnn("sample", trained, "-n", 300, "--json").out)["text"]
    at = full.index("\n") + 1
    assert charrnn("sample", trained, "-n", at).out == full[:at]
    assert charrnn("sample", trained, "-n", at - 1).out == full[: at - 1] + "\n"


# ---- prompts


def test_echo(charrnn, trained):
    shown = charrnn("sample", trained, "-n", 50, "--prompt", "Zoë eats").out
    hidden = charrnn("sample", trained, "-n", 50, "--prompt", "Zoë eats", "--no-echo").out
    assert shown == "Zoë eats" + hidden and len(hidden.removesuffix("\n")) in (49, 50)
    told = charrnn("sample", trained, "-n", 50, "--prompt", "Zoë eats", "--no-echo", "--json").out
    assert json.loads(told)["prompt"] == "" and json.loads(told)["text"].rstrip("\n") == hidden.rstrip("\n")


def test_a_prompt_makes_a_difference(charrnn, trained):
    one, other = (charrnn("sample", trained, "-n", 50, "-p", p, "--no-echo", "-t", 0).out for p in ("The c", "The f"))
    assert one != other


def test_a_prompt_from_a_file_and_from_standard_input(charrnn, trained, monkeypatch):
    """Kept to the last byte: the line break at its end is part of it."""
    for prompt in ("A dog", "A dog\n", "\nZoë\n\n"):
        Path("prompt.txt").write_bytes(prompt.encode())
        typed = charrnn("sample", trained, "-n", 40, "--prompt", prompt)
        assert typed.status == 0 and typed.out.startswith(prompt)
        assert charrnn("sample", trained, "-n", 40, "--prompt-file", "prompt.txt") == typed
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(prompt.encode())))
        assert charrnn("sample", trained, "-", "-n", 40) == typed
    with_break, without = (charrnn("sample", trained, "-n", 40, "-p", p, "--no-echo").out for p in ("A dog\n", "A dog"))
    assert with_break != without


def test_standard_input_of_a_process(process, charrnn, trained):
    done = process("sample", trained, "-", "-n", 40, input="猫 sees\n".encode())
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == charrnn("sample", trained, "-n", 40, "--prompt", "猫 sees\n").out


def test_a_prompt_that_is_no_text(charrnn, trained):
    Path("prompt.txt").write_bytes(b"A d\xffg")
    answer = charrnn("sample", trained, "--prompt-file", "prompt.txt")
    assert (answer.status, answer.out) == (2, "") and "prompt.txt: byte offset 3 is not UTF-8" in answer.err


def test_a_character_that_was_never_seen(charrnn, trained):
    answer = charrnn("sample", trained, "-p", "A c∂t\U0001f600", "-n", 5)
    assert (answer.status, answer.out, answer.err.count("\n")) == (4, "", 1)
    for fact in ("the prompt", "'∂'", "U+2202", "PARTIAL DIFFERENTIAL", "character 4", "1 other", "skip", "replace"):
        assert fact in answer.err
    invisible = charrnn("sample", trained, "-p", "\u202e", "-n", 5).err
    assert "U+202E" in invisible and "\u202e" not in invisible


def test_skip_and_replace(charrnn, trained):
    skipped = charrnn("sample", trained, "-p", "A c∂t", "-n", 40, "--unknown", "skip")
    assert skipped == charrnn("sample", trained, "-p", "A ct", "-n", 40) and skipped.out.startswith("A ct")
    replaced = charrnn("sample", trained, "-p", "A c∂t", "-n", 40, "--unknown", "replace")
    assert replaced == charrnn("sample", trained, "-p", "A c t", "-n", 40)
    nothing = charrnn("sample", trained, "-p", "∂∂", "-n", 40, "--unknown", "skip")
    assert nothing == charrnn("sample", trained, "-n", 40)


# ---- outputs


def test_json(charrnn, trained):
    options = ("-p", "Zoë", "-n", 25, "--seed", 6, "--json")
    answer = charrnn("sample", trained, *options, "--count", 3, "-t", "0.5,1")
    told = [json.loads(line) for line in answer.out.splitlines()]
    assert answer.status == 0 and answer.err == ""
    assert [(row["temperature"], row["index"]) for row in told] == [(t, i) for t in (0.5, 1.0) for i in range(3)]
    for row in told:
        assert set(row) == {"temperature", "index", "seed", "prompt", "text"}
        assert (row["seed"], row["prompt"], len(row["text"])) == (6, "Zoë", 25)
    one = json.loads(charrnn("sample", trained, *options, "-t", 1).out)
    assert one == told[3]


def test_several_temperatures_in_a_pipe(charrnn, trained):
    answer = charrnn("sample", trained, "-p", "Zoë", "-n", 25, "-t", "0.5,0,1", "--count", 2)
    parts = answer.out.split("==> ")[1:]
    alone = {
        t: charrnn("sample", trained, "-p", "Zoë", "-n", 25, "-t", t, "--count", 2, "--json").out
        for t in ("0.5", "0", "1")
    }
    expected = [
        f"temperature {t}, text {i + 1} of 2 <==\n" + row["prompt"] + row["text"] + "\n\n"
        for i in range(2)
        for t in ("0.5", "0", "1")
        for row in [json.loads(alone[t].splitlines()[i])]
    ]
    assert parts == expected and answer.out.startswith("==> ")


@posix
def test_several_temperatures_on_a_terminal(charrnn, trained):
    import pexpect
    from rich.cells import cell_len

    options = ("-p", "Zoë", "-n", "60")
    command = ["-m", "charrnn", "sample", str(trained), *options, "-t", "0.5,1"]
    child = pexpect.spawn(sys.executable, command, encoding="utf-8", dimensions=(24, 80), timeout=60)
    screen = child.read()
    child.wait()
    assert child.exitstatus == 0 and "==>" not in screen
    lines = re.sub(r"\x1b\[[0-9;]*m", "", screen).replace("\r\n", "\n").split("\n")
    heading = next(line for line in lines if "temperature" in line)
    assert "temperature 0.5" in heading and "temperature 1" in heading and max(map(cell_len, lines)) <= 80
    body = [line.strip("│").split("│") for line in lines if line.startswith("│")]
    for column, t in enumerate(("0.5", "1")):
        shown = "".join(cells[column] for cells in body)
        assert "".join(shown.split()) == "".join(charrnn("sample", trained, *options, "-t", t).out.split())


def test_out(charrnn, trained):
    printed = charrnn("sample", trained, "-n", 70, "-p", "Ein Bär")
    written = charrnn("sample", trained, "-n", 70, "-p", "Ein Bär", "--out", "text.txt")
    assert (written.status, written.out, written.err) == (0, "", "")
    assert Path("text.txt").read_bytes() == printed.out.encode()
    again = charrnn("sample", trained, "-n", 7, "--out", "text.txt")
    assert (again.status, again.out) == (2, "") and "--out text.txt: already exists" in again.err
    assert Path("text.txt").read_bytes() == printed.out.encode()
    nowhere = charrnn("sample", trained, "-n", 7, "--out", "absent/text.txt")
    assert nowhere.status == 2 and "--out " in nowhere.err and nowhere.err.count("\n") == 1
    assert charrnn("sample", trained, "-n", 5, "--count", 2, "--json", "--out", "rows.jsonl").out == ""
    assert [len(json.loads(line)["text"]) for line in Path("rows.jsonl").read_text("utf-8").splitlines()] == [5, 5]


def test_a_folder_or_a_file(charrnn, trained):
    folder, best, last = (
        charrnn("sample", path, "-n", 60) for path in (trained, trained / "best.pt", trained / "last.pt")
    )
    assert folder == best and folder.status == last.status == 0 and len(last.out) >= 60


# ---- bytes, locales, pipes, memory


def test_bytes_never_break_utf8(process, of_bytes):
    done = process("sample", of_bytes, "-n", 400, "-t", 1.5, "--prompt", "é", PYTHONUTF8="0", LC_ALL="C")
    text = done.stdout.decode("utf-8")  # strict
    assert (done.returncode, done.stderr) == (0, b"") and text.startswith("é") and "\ufffd" in text


def test_bytes_make_whole_characters():
    """Bytes are held back until they make a character; what never becomes one is U+FFFD, also at the end."""
    text, told = Text(Vocabulary.bytes(), 8, []), []
    for byte in "aé猫".encode() + b"\xe7\x8c":
        told.append(text.add(byte))
    assert told[:6] == ["a", "", "é", "", "", "猫"] and "".join(told) == "aé猫\ufffd" and text.done


def test_bytes_in_json_are_the_streamed_text(charrnn, of_bytes):
    streamed = charrnn("sample", of_bytes, "-n", 200).out
    assert json.loads(charrnn("sample", of_bytes, "-n", 200, "--json").out)["text"].rstrip("\n") == streamed.rstrip(
        "\n"
    )


@pytest.mark.parametrize("extra", [{}, {"PYTHONIOENCODING": "ascii"}], ids=["C", "C and ascii"])
def test_utf8_whatever_the_locale(process, charrnn, trained, extra):
    options = ("sample", trained, "-p", "Мышь 猫", "-n", 60)
    done = process(*options, **(PLAIN | extra))
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode("utf-8") == charrnn(*options).out


@posix
@pytest.mark.parametrize(
    "arguments", [["-n", "50"], ["-n", "-1"], ["-n", "50", "--json"], ["-n", "50", "--count", "2"]], ids=" ".join
)
def test_a_pipe_that_is_closed_already(trained, arguments):
    """`| head` has gone before the first character: quiet, and no failure."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "charrnn", "sample", str(trained), *arguments]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=120)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@posix
def test_a_text_without_end_ends_with_its_reader(charrnn, trained):
    command = [sys.executable, "-m", "charrnn", "sample", str(trained), "-n", "-1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        beginning = child.stdout.read(3000)
        child.stdout.close()
        assert (child.stderr.read(), child.wait(timeout=60)) == (b"", 0)
    whole = charrnn("sample", trained, "-n", 3000).out.encode()
    assert len(beginning) == 3000 and whole.startswith(beginning)


@posix
def test_head(charrnn, trained):
    command = [sys.executable, "-m", "charrnn", "sample", str(trained), "-n", "20000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        head = subprocess.run(["head", "-c", "10"], stdin=child.stdout, capture_output=True, timeout=60)
        child.stdout.close()
        assert (child.stderr.read(), child.wait(timeout=60)) == (b"", 0)
    assert head.stdout == charrnn("sample", trained, "-n", 20).out.encode()[:10]


def test_constant_memory(loaded):
    """What is held after 2,048 characters and after 10,240 is the same to 32 kB (numpy keeps small blocks for later);
    a list of what was drawn between would take 64 kB for its places alone."""
    model, weights, vocabulary = loaded
    found = generate(Sampler([(model, weights)]), np.array([0]), Picking(), 1, range(1))
    text, held = Text(vocabulary, None, ["nowhere"]), []
    tracemalloc.start()
    for length in range(1, 10 * DRAWN + 1):
        assert len(text.add(next(found)[0])) == 1
        if length in (2 * DRAWN, 10 * DRAWN):
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert abs(held[1] - held[0]) < 32_000 and len(text.tail) < 10


def test_constant_memory_of_the_command(charrnn, trained):
    """The most that is held for 2,000 and for 6,000 characters is the same to 60 kB; a list of them would be 32 kB
    of places and more of what stands there."""
    charrnn("sample", trained, "-n", 50, "--out", "warm.txt")
    peaks = []
    for length in (2000, 6000):
        gc.collect()
        tracemalloc.start()
        answer = charrnn("sample", trained, "-n", length, "--out", f"{length}.txt")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert answer.status == 0 and len(Path(f"{length}.txt").read_text("utf-8")) >= length
    assert abs(peaks[1] - peaks[0]) < 60_000


def test_streams_grow_in_step(loaded):
    """Every draw gives one symbol to each stream, as numbers of the vocabulary."""
    model, weights, vocabulary = loaded
    steps = list(islice(generate(Sampler([(model, weights)]), np.array([0]), Picking(), 1, range(3)), 20))
    assert all(ids.shape == (3,) and (ids < len(vocabulary)).all() for ids in steps)
    assert any((a != b).any() for a, b in pairwise(steps))
