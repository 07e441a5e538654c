"""Dynamic evaluation: the rule against its equations written out here, what it may see, its fit, the command."""

import io
import json
import math
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, sentences

from charrnn import adapt, cells, checkpoint
from charrnn.adapt import EPSILON, GRID, Adaptive, Settings
from charrnn.engine import choose, on_torch  # noqa: F401  (teaches the operators torch tensors)
from charrnn.evaluate import Score, score
from charrnn.model import Model
from charrnn.vocab import Vocabulary

SYMBOLS = 7
pytestmark = pytest.mark.usefixtures("one_thread")


def text(length, seed=0):
    """Symbols with a pattern to learn: mostly one more than the symbol before."""
    random = np.random.default_rng(seed)
    return (np.arange(length) + (random.random(length) < 0.2).cumsum()) % SYMBOLS


def fresh(cell="lstm", layers=2, hidden=8):
    """A model in float64 with weights that are stirred so that everything in it matters, and its engine."""
    model, random = Model(cell, SYMBOLS, 4, hidden, layers), np.random.default_rng(7)
    weights = model.initial_weights(random, np.full(SYMBOLS, 1 / SYMBOLS))
    weights = {name: torch.from_numpy(a + random.normal(0, 0.3, a.shape)) for name, a in weights.items()}
    return model, weights, choose("auto", model.stack[-1], weights["embedding"])[1]


# ---- the rule, by an oracle that shares no code


def stepped(w, symbol, h, c, layers):
    """One step of an LSTM with skips: the logits, and the state."""
    x, tops, h, c = w["embedding"][symbol], [], list(h), list(c)
    for k in range(layers):
        a = {q: x @ w[f"layers.{k}.W.{q}"] + w[f"layers.{k}.b.{q}"] + h[k] @ w[f"layers.{k}.U.{q}"] for q in "ifgo"}
        c[k] = a["f"].sigmoid() * c[k] + a["i"].sigmoid() * a["g"].tanh()
        x = h[k] = a["o"].sigmoid() * c[k].tanh()
        tops.append(x)
    return torch.cat(tops) @ w["head.W"] + w["head.b"], h, c


def segments(w, ids, length, layers, n):
    """For each segment the costs of its symbols and the gradient of their mean; `w` may change between segments."""
    h = c = [torch.zeros(n, dtype=torch.float64)] * layers
    for begin in range(0, len(ids) - 1, length):
        costs = []
        for symbol, following in zip(ids[begin : begin + length], ids[begin + 1 : begin + length + 1], strict=False):
            logits, h, c = stepped(w, symbol, h, c, layers)
            costs.append(logits.exp().sum().log() - logits[following])
        slopes = torch.autograd.grad(sum(costs) / len(costs), list(w.values()))
        h, c = [a.detach() for a in h], [a.detach() for a in c]
        yield [float(cost.detach()) for cost in costs], dict(zip(w, slopes, strict=True))


def plain(weights, train, ids, settings, layers, n):
    """Krause et al. 2018, equations 5 to 8: MS_g, then theta <- theta + lambda RMSnorm (theta_g - theta) - eta g /
    (sqrt(MS_g) + epsilon), where lambda RMSnorm is at most 1. Also: the largest lambda RMSnorm, unclipped."""
    w = {name: a.clone().requires_grad_() for name, a in weights.items()}
    eta, decay, length = settings.rate, settings.decay, settings.segment
    known = train[: len(train) - len(train) // 5]
    stretch = min(512 // 16 * length, len(known) - 1)
    places = min(16, (len(known) - 1) // stretch)
    squares, count = {name: torch.zeros_like(a) for name, a in weights.items()}, 0
    for k in range(places):
        start = k * (len(known) - 1 - stretch) // max(1, places - 1)
        for _, slopes in segments(w, known[start : start + stretch + 1], length, layers, n):
            squares = {name: square + slopes[name] ** 2 for name, square in squares.items()}
            count += 1
    rms = {name: (square / count).sqrt() for name, square in squares.items()}
    mean = torch.cat([r.flatten() for r in rms.values()]).mean()
    nats = []
    for costs, slopes in segments(w, ids, length, layers, n):
        nats += costs
        for name, weight in w.items():
            pull = torch.minimum(decay * rms[name] / mean, torch.ones(()))
            move = pull * (weights[name] - weight) - eta * slopes[name] / (rms[name] + EPSILON)
            weight.data = (weight + move).detach()
    return np.array(nats), max(float((decay * r / mean).max()) for r in rms.values())


@pytest.mark.parametrize(
    ("settings", "clipped"),
    [(Settings(0.01, 0.0, 5), False), (Settings(0.003, 0.02, 8), False), (Settings(0.02, 0.7, 3), True)],
    ids=str,
)
def test_the_rule(settings, clipped):
    model, weights, run = fresh()
    train, ids = text(400, 1), text(60, 2)
    expected, largest = plain(weights, train, ids, settings, model.layers, model.hidden)
    found = Adaptive(model, weights, run, train).score(ids, settings)
    assert (largest > 1) == clipped
    np.testing.assert_allclose(found.nats, expected, rtol=0, atol=1e-10)
    static = score(model, weights, ids, run).nats
    assert np.abs(static - expected).max() > 0.01  # the settings are such that adapting shows


def test_a_long_training_part_is_measured_at_sixteen_places():
    model, weights, run = fresh(layers=1, hidden=4)
    train, ids, settings = text(2000, 3), text(20, 4), Settings(0.01, 0.01, 2)
    expected, _ = plain(weights, train, ids, settings, 1, 4)
    found = Adaptive(model, weights, run, train).score(ids, settings)
    np.testing.assert_allclose(found.nats, expected, rtol=0, atol=1e-10)


# ---- properties


@pytest.mark.parametrize("cell", cells.classes())
def test_at_rate_0_it_is_the_static_score(cell):
    model, weights, run = fresh(cell)
    ids = text(50, 5)
    static = score(model, weights, ids, run)
    found = Adaptive(model, weights, run, text(100)).score(ids, Settings(0.0, 0.1, 7))
    np.testing.assert_allclose(found.nats, static.nats, rtol=0, atol=1e-12)
    assert (found.right == static.right).all() and found.nats.dtype == static.nats.dtype


@pytest.mark.parametrize("length", [1, 6, 7, 8, 13, 14])
def test_every_symbol_but_the_first_is_scored(length):
    model, weights, run = fresh()
    found = Adaptive(model, weights, run, text(100)).score(text(length + 1), Settings(segment=7))
    assert found.nats.shape == found.right.shape == (length,)


def test_a_symbol_is_scored_by_what_stands_before_its_segment():
    """The first segment costs what it does without adapting; what comes later changes nothing before it."""
    model, weights, run = fresh()
    adaptive, settings = Adaptive(model, weights, run, text(100)), Settings(0.05, 0.01, 8)
    ids, other = text(60, 1), text(60, 1)
    other[33:] = text(27, 9)
    whole, changed = adaptive.score(ids, settings), adaptive.score(other, settings)
    np.testing.assert_array_equal(whole.nats[:32], changed.nats[:32])
    assert (whole.nats[32:] != changed.nats[32:]).all()
    static = score(model, weights, ids, run).nats
    np.testing.assert_allclose(whole.nats[:8], static[:8], rtol=0, atol=1e-12)
    assert (np.abs(whole.nats[8:] - static[8:]) > 1e-6).all()


def test_the_weights_stay_and_scores_repeat():
    model, weights, run = fresh()
    before = {name: weight.clone() for name, weight in weights.items()}
    adaptive, settings = Adaptive(model, weights, run, text(100)), Settings(0.05, 0.01, 8)
    scores = [adaptive.score(text(50, 1), settings).nats for _ in range(2)]
    np.testing.assert_array_equal(*scores)
    assert all((weights[name] == before[name]).all() and not weights[name].requires_grad for name in before)


def test_where_the_text_shifts_adapting_pays():
    """The model expects one symbol after the other; the text goes down instead."""
    model, weights, run = fresh()
    adaptive, down = Adaptive(model, weights, run, text(400)), text(600, 1)[::-1].copy()
    assert adaptive.score(down, Settings(0.01, 0.0, 8)).nats.mean() < score(model, weights, down, run).nats.mean() - 0.5


# ---- the fit


def fitted(monkeypatch, cost):
    """What fit finds where settings cost what `cost` says, and what it was told on the way."""
    model, weights, run = fresh()
    adaptive, heard = Adaptive(model, weights, run, text(100)), []

    def told(ids, settings):
        assert ids is adaptive.tail
        return Score(np.full(3, cost(settings)), np.zeros(3, bool))

    monkeypatch.setattr(adaptive, "score", told)
    return adaptive.fit(lambda *what: heard.append(what)), heard


@pytest.mark.parametrize("rate", GRID["rate"])
@pytest.mark.parametrize(("decay", "segment"), [(0.0, 64), (1e-2, 16), (1e-3, 32)])
def test_the_fit_finds_the_least(monkeypatch, rate, decay, segment):
    def cost(s):
        return abs(math.log(s.rate / rate)) + abs(s.decay - decay) + abs(s.segment - segment)

    best, heard = fitted(monkeypatch, cost)
    assert best == Settings(rate, decay, segment)
    assert len(heard) == len(set(heard)) and (best, 0) in heard  # nothing is tried twice


def test_the_fit_follows_settings_that_hang_together(monkeypatch):
    """The best rate here depends on the segment: one round over the settings is not enough."""
    row = GRID["rate"]

    def cost(s):
        doubled = math.log2(s.segment / 16)
        return (row.index(s.rate) - 4 + doubled) ** 2 + 1.2 * (doubled - 2) ** 2

    best, _ = fitted(monkeypatch, cost)
    assert best.segment == 64 and row.index(best.rate) == 2


def test_what_is_not_finite_is_never_best(monkeypatch):
    best, heard = fitted(monkeypatch, lambda s: math.nan if s.rate > 1e-4 else s.rate)
    assert best.rate == min(GRID["rate"]) and all(nats == math.inf for s, nats in heard if s.rate > 1e-4)


def test_the_usual_settings_are_on_the_grid():
    assert all(getattr(Settings(), name) in row and list(row) == sorted(row) for name, row in GRID.items())


def test_the_end_is_fitted_on_and_not_measured(monkeypatch):
    """The end of the training part is kept from the gradient statistics; of a short one it is the last fifth."""
    model, weights, run = fresh()
    adaptive = Adaptive(model, weights, run, text(1000))
    assert (len(adaptive.train), len(adaptive.tail)) == (800, 200)
    assert len(Adaptive(model, weights, run, text(400_000)).tail) == adapt.FITTED == 20_000
    changed = text(1000)
    changed[800:] = 0
    ids, settings = text(50, 1), Settings(0.01, 0.01, 8)
    scores = [Adaptive(model, weights, run, train).score(ids, settings).nats for train in (text(1000), changed)]
    np.testing.assert_array_equal(*scores)


# ---- the command

TYPED = ("--dynamic-rate", 2e-3, "--dynamic-decay", 1e-4, "--dynamic-segment", 16)
FIGURES = ("nats", "bits", "perplexity", "accuracy", "bits_per_byte")
SHIFTED = sentences(60, seed=8).replace("eats", "aets").replace("the ", "de ").replace("sees", "seas")


@pytest.fixture
def few(monkeypatch):
    """A grid of two points, so that a fit is quick."""
    monkeypatch.setattr(adapt, "GRID", {"rate": (5e-4, 2e-3)})


def write(name, content):
    Path(name).write_bytes(content.encode())
    return name


def told(charrnn, *arguments):
    answer = charrnn("eval", *arguments, "--dynamic", "--json")
    assert answer.status == 0, answer
    return [json.loads(line) for line in answer.out.splitlines()], answer.err


def test_the_dynamic_score_stands_beside_the_static_one(charrnn, trained):
    path = write("text.txt", SHIFTED)
    (row,), said = told(charrnn, trained, path, *TYPED)
    static = json.loads(charrnn("eval", trained, path, "--json").out)
    dynamic = row.pop("dynamic")
    assert row == static and said == ""
    assert set(dynamic) == {*FIGURES, "rate", "decay", "segment", "epsilon", "fitted_on"}
    assert (dynamic["rate"], dynamic["decay"], dynamic["segment"], dynamic["fitted_on"]) == (2e-3, 1e-4, 16, 0)
    assert dynamic["nats"] < static["nats"] - 0.1  # the text's spelling is not that of the corpus
    assert dynamic["bits"] == pytest.approx(dynamic["nats"] / math.log(2), rel=1e-12)
    assert dynamic["perplexity"] == pytest.approx(math.exp(dynamic["nats"]), rel=1e-12)
    share = static["bits_per_byte"] / static["bits"]
    assert dynamic["bits_per_byte"] == pytest.approx(dynamic["bits"] * share, rel=1e-9)


def test_it_is_the_score_of_the_room(charrnn, trained):
    """The command's number is Adaptive's, told the training part and nothing else."""
    tensors, record = checkpoint.load(trained / "best.pt")
    model, vocabulary = Model.from_record(record["model"]), Vocabulary(record["vocabulary"])
    weights = {name: torch.from_numpy(array) for name, array in checkpoint.weights(tensors).items()}
    _, run = choose("auto", model.stack[-1], weights["embedding"])
    corpus = vocabulary.encode((trained.parent / "corpus.txt").read_text("utf-8"))
    cut = record["corpus"]["parts"]["train"][1]
    expected = Adaptive(model, weights, run, corpus[:cut]).score(corpus[cut:], Settings(2e-3, 1e-4, 16)).summary()
    (row,), _ = told(charrnn, trained, *TYPED)
    assert row["text"] == "val part of corpus.txt"
    assert {name: row["dynamic"][name] for name in expected} == pytest.approx(expected, rel=1e-6)  # float32


def test_the_tables(charrnn, trained):
    """Static and dynamic scores have a table each, whose columns say which they are; the settings are told."""
    names = [write("text.txt", SHIFTED), write("other.txt", sentences(9))]
    rows, _ = told(charrnn, trained, *names, *TYPED)
    answer = charrnn("eval", trained, *names, "--dynamic", *TYPED)
    static, dynamic = answer.out.split("\n\n")
    assert static + "\n" == charrnn("eval", trained, *names).out and answer.err == ""
    head, *lines, said, where = dynamic.splitlines()
    columns = ["characters", *(f"dynamic {name}" for name in ("nats", "bits", "bits/byte", "perplexity", "accuracy"))]
    assert re.split(r"  +", head.strip()) == ["text", *columns]
    for line, row in zip(lines, rows, strict=True):
        d = row["dynamic"]
        assert line.split() == [
            row["text"], f"{row['characters']:,}", f"{d['nats']:.4f}", f"{d['bits']:.4f}", f"{d['bits_per_byte']:.4f}",
            f"{d['perplexity']:.3f}", f"{d['accuracy']:.2%}",
        ]  # fmt: skip
    assert (said, where.strip()) == ("dynamic: rate 0.002, decay 0.0001, segments of 16,", "as typed")


def test_each_text_finds_the_trained_weights(charrnn, trained):
    one, other = write("one.txt", SHIFTED), write("other.txt", sentences(9))
    both, _ = told(charrnn, trained, one, other, *TYPED)
    assert both == told(charrnn, trained, one, *TYPED)[0] + told(charrnn, trained, other, *TYPED)[0]


def test_fitted_on_the_training_part_alone(charrnn, trained, few):
    """Whatever text is scored, the same settings are tried, at the same cost, and found; no file of the run changes."""
    before = {path.name: path.read_bytes() for path in trained.iterdir()}
    texts = [[], [write("text.txt", SHIFTED)], [write("short.txt", "A dog")]]
    answers = [told(charrnn, trained, *names) for names in texts]
    said = {err for _, err in answers}
    settings = {(row["dynamic"]["rate"], row["dynamic"]["decay"], row["dynamic"]["segment"]) for (row,), _ in answers}
    assert len(said) == len(settings) == 1 and {path.name: path.read_bytes() for path in trained.iterdir()} == before
    tried = re.findall(r"^fitting: rate ([\d.e-]+), decay .*, segments of \d+: ([\d.]+) nats$", said.pop(), re.M)
    assert {rate for rate, _ in tried} == {"0.0005", "0.002"}
    ((rate, _, _),) = settings
    assert float(min(tried, key=lambda pair: float(pair[1]))[0]) == rate
    ((row,), _) = answers[0]
    train = checkpoint.load(trained / "best.pt")[1]["corpus"]["parts"]["train"][1]
    assert row["dynamic"]["fitted_on"] == train // 5


def test_the_validation_part_does_not_decide(charrnn, corpus, few):
    """Two runs with the same training text and weights but other validation texts find the same settings."""
    texts = [write("one.txt", sentences(20, 1)), write("other.txt", sentences(30, 2) + SHIFTED)]
    for name, val in zip(("a", "b"), texts, strict=True):
        charrnn("train", corpus, "--val", val, "--steps", 8, "-q", *TINY, "--out", name)
    tensors, record = checkpoint.load(Path("b/best.pt"))
    weights, _ = checkpoint.load(Path("a/best.pt"))
    assert {name: array.shape for name, array in weights.items()} == {name: a.shape for name, a in tensors.items()}
    checkpoint.save(Path("b/best.pt"), weights, record)
    (one,), said = told(charrnn, "a")
    (other,), also = told(charrnn, "b")
    assert said == also and one["text"] != other["text"] and one["characters"] != other["characters"]


def test_what_was_fitted_can_be_typed(charrnn, trained, few):
    (row,), _ = told(charrnn, trained)
    d = row["dynamic"]
    typed = [part for name in ("rate", "decay", "segment") for part in (f"--dynamic-{name}", d[name])]
    (again,), said = told(charrnn, trained, *typed)
    assert said == "" and again["dynamic"] == d | {"fitted_on": 0}


def test_one_typed_setting_and_nothing_is_fitted(charrnn, trained):
    (row,), said = told(charrnn, trained, write("text.txt", SHIFTED), "--dynamic-rate", 0)
    usual = Settings()
    d = row["dynamic"]
    assert said == "" and (d["rate"], d["decay"], d["segment"]) == (0, usual.decay, usual.segment)
    assert d["nats"] == pytest.approx(row["nats"], abs=1e-6)  # float32, in pieces of 32 and in one


def test_a_text_in_place_of_the_training_part(charrnn, trained):
    """Without its folder a checkpoint knows no training part; the same text under another name gives the same."""
    shutil.copy(trained / "best.pt", "shared.pt")
    path = write("text.txt", SHIFTED)
    answer = charrnn("eval", "shared.pt", path, "--dynamic")
    assert (answer.status, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert "shared.pt" in answer.err and "--train-text" in answer.err
    content = (trained.parent / "corpus.txt").read_text("utf-8")
    cut = checkpoint.load(trained / "best.pt")[1]["corpus"]["parts"]["train"][1]
    known = write("known.txt", content[:cut])
    given, _ = told(charrnn, "shared.pt", path, "--train-text", known, *TYPED)
    assert given == told(charrnn, trained, path, *TYPED)[0]
    assert given != told(charrnn, trained, path, "--train-text", path, *TYPED)[0]


def test_a_short_text_in_its_place(charrnn, trained, few):
    """64 characters, as few as a training part may have, are fitted on and measured; fewer are an error."""
    content = sentences(3)
    (row,), _ = told(charrnn, trained, write("text.txt", "A dog"), "--train-text", write("known.txt", content[:64]))
    assert row["dynamic"]["fitted_on"] == 12 and math.isfinite(row["dynamic"]["nats"])
    answer = charrnn("eval", trained, "text.txt", "--dynamic", "--train-text", write("known.txt", content[:63]))
    assert (answer.status, answer.out) == (4, "") and "--train-text known.txt: has 63" in answer.err


def test_characters_of_the_training_text_that_the_model_never_saw(charrnn, trained):
    options = (trained, write("text.txt", SHIFTED), "--dynamic", *TYPED, "--train-text")
    known = write("known.txt", sentences(30) + "∂")
    answer = charrnn("eval", *options, known)
    assert answer.status == 4 and "known.txt" in answer.err and "∂" in answer.err
    answer = charrnn("eval", *options, known, "--unknown", "replace")
    assert answer.status == 0 and "note: --train-text known.txt: 1 characters the model never saw" in answer.err


def test_replaced_characters_cost_their_name_here_too(charrnn, trained):
    (row,), said = told(charrnn, trained, write("text.txt", "A c∂t sees.\n"), "--unknown", "replace", *TYPED)
    (known,), _ = told(charrnn, trained, write("known.txt", "A c t sees.\n"), *TYPED)
    assert "replaced" in said
    extra = math.log(0x110000) / row["characters"]
    assert row["dynamic"]["nats"] == pytest.approx(known["dynamic"]["nats"] + extra, rel=1e-12)


def test_a_rate_that_loses_the_model(charrnn, trained):
    answer = charrnn("eval", trained, write("text.txt", SHIFTED), "--dynamic", "--dynamic-rate", 1e38)
    assert (answer.status, answer.out, answer.err.count("\n")) == (3, "", 1)
    assert "--dynamic-rate 1e+38" in answer.err and "lower" in answer.err


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        (["--dynamic", "--windows", 16], ["--dynamic", "--windows 16"]),
        (["--dynamic", "--per", "line"], ["--dynamic", "--per line"]),
        (["--dynamic-rate", 0.1], ["--dynamic-rate 0.1", "without --dynamic"]),
        (["--dynamic-decay", 0], ["--dynamic-decay 0", "without --dynamic"]),
        (["--dynamic-segment", 5], ["--dynamic-segment 5", "without --dynamic"]),
        (["--train-text", "x"], ["--train-text x", "without --dynamic"]),
        (["--dynamic", "--dynamic-rate", -1], ["--dynamic-rate -1", "from 0"]),
        (["--dynamic", "--dynamic-rate", "nan"], ["--dynamic-rate nan"]),
        (["--dynamic", "--dynamic-rate", "inf"], ["--dynamic-rate inf"]),
        (["--dynamic", "--dynamic-decay", 1.5], ["--dynamic-decay 1.5", "0 to 1"]),
        (["--dynamic", "--dynamic-segment", 0], ["--dynamic-segment 0", "at least 1"]),
        (["--dynamic", *TYPED, "--train-text", "absent.txt"], ["--train-text absent.txt", "no such file"]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_usage(charrnn, trained, options, facts):
    answer = charrnn("eval", trained, write("text.txt", SHIFTED), *options)
    assert (answer.status, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert all(fact in answer.err for fact in facts), answer.err


def test_standard_input(charrnn, trained, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SHIFTED.encode())))
    (row,), _ = told(charrnn, trained, "-", *TYPED)
    (same,), _ = told(charrnn, trained, write("text.txt", SHIFTED), *TYPED)
    assert row == same | {"text": "standard input"}


def test_bytes(charrnn, corpus):
    charrnn("train", corpus, "--bytes", "--steps", 8, "-q", *TINY, "--out", "own")
    (row,), _ = told(charrnn, "own", write("text.txt", SHIFTED), *TYPED)
    d = row["dynamic"]
    assert d["bits"] == pytest.approx(d["bits_per_byte"], rel=1e-12) and d["nats"] < row["nats"]
