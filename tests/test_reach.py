"""What probes measure of any model: how far back it looks, and how far back its gradients reach."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import parts_of, plain, sentences, too_wide

from charrnn import engine
from charrnn.cells.base import Names
from charrnn.engine import on_torch, reference  # noqa: F401  (teaches the operators torch's tensors)
from charrnn.model import Model
from charrnn.probe import context, gradient

pytestmark = pytest.mark.usefixtures("one_thread")


def small(name="lstm", kind=torch.float64, **given):
    """A model of seven symbols, weights that are all at work, and a text of 400 symbols."""
    random = np.random.default_rng(4)
    model = Model(name, symbols=7, embed=5, hidden=8, layers=2, **given)
    weights = {k: torch.tensor(random.normal(0, 0.4, shape), dtype=kind) for k, shape in model.shapes().items()}
    return model, weights, random.integers(0, 7, 400).astype(np.uint8)


def one_by_one(model, weights, symbols, state=None):
    """The logits (V,) after each symbol and the state, one at a time by the reference."""
    p = model.bind(weights)
    state = state or model.initial_state(lambda: torch.zeros(1, 8, dtype=torch.float64))
    logits = []
    for symbol in symbols:
        row, state = model.forward(p, torch.tensor([int(symbol)]), state, reference.step)
        logits.append(row[0])
    return logits, state


def cost(logits, symbol):
    return float(-torch.log_softmax(logits, -1)[int(symbol)])


# ---- context


@pytest.mark.parametrize("given", [{}, {"attention": 3, "norm": True}], ids=["plain", "attention"])
def test_the_cost_of_knowing_little_is_that_of_a_plain_loop(given, monkeypatch):
    """In batches that end unevenly and in pieces of a few symbols."""
    monkeypatch.setattr(context, "LANES", 3)
    monkeypatch.setattr(context, "CHUNK", 600)
    model, weights, ids = small(**given)
    found = context.measure(model, weights, ids, reference.unroll, 16, 8, 5)
    whole, _ = one_by_one(model, weights, ids)
    assert list(found.known) == [1, 2, 4, 8, 16] and len(found.places) == 8 and min(found.places) >= 16
    for i, place in enumerate(found.places):
        assert found.full[i] == pytest.approx(cost(whole[place - 1], ids[place]), abs=1e-5)  # scored in float32
        for k, costs in found.known.items():
            logits, _ = one_by_one(model, weights, ids[place - k : place])
            assert costs[i] == pytest.approx(cost(logits[-1], ids[place]), abs=1e-5)  # as above


def test_rows_are_paired_differences_in_bits():
    random = np.random.default_rng(3)
    full = random.exponential(1, 4000)
    apart = random.normal(0.05, 0.2, 4000)
    (row,) = context.Context(np.arange(4000), full, {4: full + apart}).rows()
    assert row["nats"] == pytest.approx((full + apart).mean()) and row["bits"] == pytest.approx(
        row["nats"] / math.log(2)
    )
    assert row["perplexity"] == pytest.approx(math.exp(row["nats"])) and row["known"] == 4
    assert row["more"] == pytest.approx(apart.mean() / math.log(2))
    half = 1.96 * apart.std() / math.log(2) / math.sqrt(4000)
    ends = [row["more"] - half, row["more"] + half]
    assert [row["low"], row["high"]] == pytest.approx(ends, abs=0.2 * half)  # it is drawn at random


def test_the_effective_context_is_the_least_within_the_margin():
    rows = [
        {"known": k, "more": more, "low": more - 0.02, "high": None if k == 1 else more + 0.02}
        for k, more in zip([1, 2, 4, 8], [0.5, 0.03, 0.01, -0.02], strict=True)
    ]
    assert [context.effective(rows, name) for name in ("more", "low", "high")] == [4, 2, 8]
    assert context.effective(rows[:2]) is None


def test_windows_and_places_fit_the_text():
    assert context.lengths(512, 10_000) == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    assert context.lengths(100, 10_000)[-1] == 64
    assert context.lengths(512, 33) == [1, 2, 4, 8, 16] and context.lengths(512, 2) == [1]
    assert context.places(10, 4, 100, 1).tolist() == [4, 5, 6, 7, 8, 9]
    drawn = context.places(10_000, 64, 100, 1)
    assert len(set(drawn.tolist())) == 100 and drawn.min() >= 64 and (np.diff(drawn) > 0).all()
    assert drawn.tolist() == context.places(10_000, 64, 100, 1).tolist() != context.places(10_000, 64, 100, 2).tolist()


def test_context_of_a_run(charrnn, trained, corpus):
    asked = ("probe", "context", "-c", trained, corpus.name, "--positions", 300, "--longest", 64)
    answer = charrnn(*asked, "--out", "out")
    assert answer.status == 0, answer.err
    assert "effective context: " in answer.out and "characters known" in answer.out
    assert not too_wide(answer.out)
    rows = [json.loads(line) for line in Path("out/context.jsonl").read_text().splitlines()]
    written = list(csv.DictReader(Path("out/context.csv").read_text().splitlines()))
    assert [row["known"] for row in rows] == [1, 2, 4, 8, 16, 32, 64, None]
    assert [float(row["bits"]) for row in written] == [row["bits"] for row in rows]
    assert Path("out/context.png").read_bytes()[:4] == b"\x89PNG" and "<svg" in Path("out/context.svg").read_text()
    told = json.loads(charrnn(*asked, "--json").out)
    assert told["rows"][2]["bits"] == rows[2]["bits"] and told["full"]["bits"] == rows[-1]["bits"]
    assert told["positions"] == 300 and told["rows"][0]["more"] > 0.1 > told["rows"][-1]["more"]
    full = json.loads(charrnn("eval", trained, corpus, "--json").out)["bits"]
    assert told["full"]["bits"] == pytest.approx(full, abs=0.2)  # a sample of the places
    again = charrnn("probe", "context", "-c", trained, corpus, "--out", "out")
    assert again.status == 2 and "--out out: holds context.jsonl already" in again.err


def test_context_of_a_short_text_and_of_the_run_itself(charrnn, trained):
    Path("short").write_text("The", encoding="utf-8")
    answer = charrnn("probe", "context", "-c", trained, "short")
    assert answer.status == 0 and "note: short: has 3 characters, so that the longest window is 1" in answer.err
    told = json.loads(charrnn("probe", "context", "-c", trained, "--json", "--longest", 4).out)
    assert told["text"].startswith("val part of")


# ---- gradients


def oracle(model, weights, ids, place, lags):
    """|dl/de(T-k)| by k, by differentiating the reference's steps by one embedding at a time, in float64."""
    start, p = place - lags - 1 - gradient.AHEAD, model.bind(weights)
    _, state = one_by_one(model, weights, ids[start : start + gradient.AHEAD])
    norms = []
    for k in range(lags + 1):
        state_k, logits = state, None
        for step in range(lags + 1):
            table = weights["embedding"]
            if step == lags - k:
                table = table.clone().requires_grad_()
                chosen = table
            symbol = int(ids[start + gradient.AHEAD + step])
            bound = Names(**vars(p) | {"embedding": table})
            logits, state_k = model.forward(bound, torch.tensor([symbol]), state_k, reference.step)
            if step == lags - k:
                row = symbol
        (slope,) = torch.autograd.grad(F.cross_entropy(logits, torch.tensor([int(ids[place])])), chosen)
        norms.append(float(slope[row].norm()))
    return np.array(norms)


@pytest.mark.parametrize("given", [{}, {"attention": 4, "norm": True}, {"residual": True}], ids=str)
def test_gradients_by_lag_are_those_by_one_embedding_at_a_time(given):
    model, weights, ids = small("gru", **given)
    where = gradient.places(len(ids), 9, 3, 1)
    found = gradient.measure(model, weights, ids, where, 9, reference.unroll)
    for place, ratios in zip(where, found.ratios, strict=True):
        norms = oracle(model, weights, ids, place, 9)
        np.testing.assert_allclose(ratios, norms / norms[0], rtol=1e-10)


@pytest.mark.parametrize("name", engine.NAMES)
def test_every_engine_gives_the_same_gradients(name, monkeypatch):
    """Windows in batches that end unevenly; cells that the engine runs."""
    monkeypatch.setattr(gradient, "LANES", 4)
    runs = {"native": ["lstm", "gru", "rnn"], "scan": ["mingru", "rg-lru"]}.get(name, ["lstm", "gru-cho", "mingru"])
    for cell in runs:
        model, weights, ids = small(cell)
        where = gradient.places(len(ids), 20, 6, 1)
        _, run = engine.choose(name, model.stack[-1], weights["embedding"])
        found, law = (gradient.measure(model, weights, ids, where, 20, r).ratios for r in (run, reference.unroll))
        assert found.shape == (6, 21)
        np.testing.assert_allclose(found, law, rtol=1e-9)


def test_small_gradients_are_no_zeros():
    """A plain network that forgets fast, in float32: its gradients at lag 30 are below 1e-23, whose square is 0."""
    model, weights, ids = small("rnn", torch.float32)
    faded = {name: array * (0.05 if ".U." in name else 1) for name, array in weights.items()}
    where = gradient.places(len(ids), 30, 4, 1)
    found = gradient.measure(model, faded, ids, where, 30, reference.unroll)
    law = gradient.measure(model, {k: v.double() for k, v in faded.items()}, ids, where, 30, reference.unroll)
    assert 0 < law.median[-1] < 1e-23
    np.testing.assert_allclose(found.ratios, law.ratios, rtol=1e-2)  # float32, over thirty products


def test_weights_of_a_training_are_left_alone():
    model, weights, ids = small()
    weights = {name: array.requires_grad_() for name, array in weights.items()}
    gradient.measure(model, weights, ids, np.array([300]), 4, reference.unroll)
    assert all(array.grad is None and array.requires_grad for array in weights.values())


def test_a_half_life_is_that_of_the_fall():
    lags = np.arange(65)
    half, share = gradient.half_life(2.0 ** (-lags / 7))
    assert (half, share) == (pytest.approx(7), pytest.approx(1))
    assert gradient.half_life(np.r_[1.0, 3 * 2.0 ** (-lags[1:] / 20)])[0] == pytest.approx(20)  # lag 0 is no part of it
    assert gradient.half_life(np.r_[1.0, 0.5, 0.25, np.zeros(9)])[0] == pytest.approx(1)
    assert gradient.half_life(np.ones(9))[0] is None and gradient.half_life(np.r_[1.0, np.zeros(5)]) == (None, None)


def test_the_interval_of_a_half_life_is_over_windows():
    random = np.random.default_rng(1)
    half = random.normal(10, 1, (40, 1))
    summary = gradient.Reach(2.0 ** (-np.arange(33) / half)).summary()
    assert summary["low"] < summary["half_life"] < summary["high"] and summary["high"] - summary["low"] < 1.5
    alone = gradient.Reach(2.0 ** (-np.arange(33) / half[:1])).summary()
    assert (alone["low"], alone["high"]) == (None, None)


def test_gradients_of_runs(charrnn, trained, corpus):
    more = ("--lags", 16, "--windows", 20)
    answer = charrnn("probe", "gradient", corpus, "-c", trained, "-c", trained / "last.pt", *more, "--out", "out")
    assert answer.status == 0, answer.err
    assert "half-life" in answer.out and "lag, in characters" in answer.out
    rows = [json.loads(line) for line in Path("out/gradient.jsonl").read_text().splitlines()]
    assert len(rows) == 34 and rows[0]["ratio"] == 1.0 and rows[17]["label"].endswith("last.pt")
    assert {path.name for path in Path("out").iterdir()} == {
        f"gradient.{kind}" for kind in ("jsonl", "csv", "png", "svg")
    }
    model, weights, vocabulary = parts_of(trained / "best.pt")
    told = json.loads(charrnn("probe", "gradient", "-c", trained, corpus, *more, "--engine", "reference", "--json").out)
    assert told["engine"] == "reference" and told["ratio"] == pytest.approx(
        [row["ratio"] for row in rows[:17]], rel=1e-3
    )
    ids = vocabulary.encode(corpus.read_text(encoding="utf-8"), "error", "corpus")
    weights = {name: torch.from_numpy(array).double() for name, array in weights.items()}
    law = gradient.measure(model, weights, ids, gradient.places(len(ids), 16, 20, 1), 16, reference.unroll)
    assert told["ratio"] == pytest.approx(law.median.tolist(), rel=1e-3)  # float32 against float64


def test_gradients_of_cells_in_training(charrnn, corpus):
    more = (
        "--cells",
        "rnn,clockwork:modules=2",
        "--steps",
        120,
        "--hidden",
        8,
        "--embed",
        4,
        "--layers",
        1,
        "--seq-len",
        16,
    )
    answer = charrnn("probe", "gradient", corpus, *more, "--batch-size", 4, "--lags", 8, "--windows", 9, "--json")
    assert answer.status == 0, answer.err
    found = [json.loads(line) for line in answer.out.splitlines()]
    assert [(one["cell"], one["step"]) for one in found] == [
        (cell, step) for cell in ("rnn", "clockwork modules=2") for step in (0, 100, 120)
    ]
    assert len({tuple(one["ratio"]) for one in found}) == 6 and {one["windows"] for one in found} == {9}


def test_a_cell_that_diverges_is_told_and_left(charrnn, corpus):
    more = ("--cells", "rnn", "--steps", 60, "--hidden", 8, "--seq-len", 16, "--lr", 1e9, "--lags", 8)
    answer = charrnn("probe", "gradient", corpus, *more, "--json")
    assert answer.status in (0, 3) and "note: rnn: diverged at step" in answer.err
    assert [json.loads(line)["step"] for line in answer.out.splitlines()] == [0]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["context"], "Missing option '--checkpoint'"),
        (["context", "-c", "x", "--positions", 0], "--positions 0: must be at least 1"),
        (["context", "-c", "x", "--unknown", "skip"], "--unknown skip: must be error or replace"),
        (["context", "-c", "x", "--overwrite"], "--overwrite: has no effect without --out"),
        (["gradient"], "--checkpoint and --cells: give one of them"),
        (["gradient", "x", "--cells", "rnn", "-c", "y"], "--checkpoint and --cells: give one of them"),
        (["gradient", "--cells", "rnn"], "TEXT: name a text to train on"),
        (["gradient", "x", "--cells", "rmn"], "--cells rmn: no such cell (did you mean 'rnn'?)"),
        (["gradient", "x", "--cells", "rnn", "--lags", 1], "--lags 1: must be at least 2"),
        (["gradient", "-c", "x", "--hidden", 9], "--hidden: is for models that are trained (--cells)"),
        (["gradient", "-c", "x", "--steps", 9], "--steps: is for models that are trained (--cells)"),
        (["gradient", "x", "--cells", "rnn", "--cell", "y"], "--cell y: is for checkpoints"),
    ],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(charrnn, typed, said):
    answer = charrnn("probe", *typed)
    assert (answer.status, answer.out) == (2, "") and said in plain(answer.err).replace("\n", " ")


def test_a_text_that_is_too_short_for_gradients_is_told(charrnn, trained):
    Path("short").write_text(sentences(2), encoding="utf-8")
    answer = charrnn("probe", "gradient", "short", "-c", trained, "--lags", 100)
    assert (answer.status, answer.out) == (4, "") and "--lags 100 needs 166" in answer.err
