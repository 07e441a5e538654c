"""Training: schedule, dropout, clipping, the carried state, evaluation, divergence, lengths of a run, its metrics."""

import contextlib
import itertools
import json
import math
import os
import signal
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TINY, sentences
from hypothesis import given, settings
from hypothesis import strategies as st

from charrnn import cells, checkpoint, evaluate, train
from charrnn.cli.session import _model
from charrnn.config import Config
from charrnn.corpus import Reading, open_corpus
from charrnn.engine import choose, generic, products, reference
from charrnn.ensemble import Ensemble
from charrnn.errors import Diverged, Interrupted
from charrnn.evaluate import Score, score, windows
from charrnn.model import Model, joined, tempered
from charrnn.noise import Noise
from charrnn.optim import FLOOR, Optimizer, schedule
from charrnn.run import BLOCK, Run
from charrnn.stream import Stream, draws

NATIVE = ("lstm", "gru", "rnn")
SMALL = dict(hidden=8, layers=2, embed=6, seq_len=8, batch_size=3, steps=20, dropout=0.0, sample_length=0)
every_cell = pytest.mark.parametrize("name", cells.classes())


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One thread, for the arrays hold a few numbers; no waiting for the disk, for no power is cut."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Training:
    """A small run in a folder of its own: its trainer, what it told, and how it ended."""

    def __init__(self, home, text=None, stop=lambda: None, folder=None, **given):
        self.told, config = [], Config(**SMALL | given)
        home.mkdir()
        (home / "text.txt").write_bytes((text or sentences(30)).encode())
        corpus = open_corpus([home / "text.txt"], [], home / "cache", Reading(), config.min_count, config.val_fraction)
        stream, _ = Stream.fit(corpus.part("train"), config.batch_size, config.seq_len, config.seed)
        self.model = _model(config, len(corpus.vocabulary))
        self.trainer = train.Trainer(config, self.model, corpus, stream, "cpu", self.say, stop, lambda *_: "")
        unigram = (corpus.unigram + 1) / (corpus.unigram + 1).sum()
        self.trainer.begin(self.model.initial_weights(draws(config.seed, "weights"), unigram))
        self.unigram_nats = float(-np.log(unigram[corpus.part("val")]).mean())
        self.folder = folder or home / "run"
        if folder:
            self.trainer.resume(*checkpoint.load(folder / "last.pt"))

    def say(self, event, **what):
        self.told.append((event, what))

    def __call__(self):
        """Trains to the end."""
        with self.opened() as run:
            self.result = self.trainer.train(run, {"paths": "here"})
        return self

    def opened(self):
        """The folder, to be used in a with statement."""
        return contextlib.closing(Run(self.folder) if self.folder.exists() else Run.create(self.folder, "", ""))

    def evaluated(self, times=1):
        """Evaluates so many times, as it is."""
        with self.opened() as run:
            self.trainer.folder, self.trainer.record, self.trainer._started = run, {}, 0.0
            for _ in range(times):
                self.trainer._evaluate()

    @property
    def rows(self):
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]

    def of(self, event):
        return [row for row in self.rows if row["event"] == event]

    def arrays(self):
        """Everything but the counters, as it stands."""
        return {name: tensor.clone().numpy() for name, tensor in self.trainer.export().items()}

    def updates(self, number):
        """So many steps of training, nothing else; the loss of each."""
        self.trainer._started = self.trainer._saved = 0.0
        self.trainer._rate_clock = 0.0, 0
        self.trainer.folder = SimpleNamespace(log=lambda *_: None)
        for _ in range(number):
            self.trainer.update()
        return [what["nats"] for event, what in self.told if event == "train"][-number:]


@pytest.fixture
def training(tmp_path):
    """training(hidden=8, ..) is a Training with these settings."""
    numbers = itertools.count()
    return lambda **given: Training(tmp_path / str(next(numbers)), **given)


def same(a: dict, b: dict) -> bool:
    """Whether arrays by name are the same to the bit."""
    return a.keys() == b.keys() and all(a[k].tobytes() == b[k].tobytes() for k in a)


def weights_of(folder, name="last.pt"):
    return checkpoint.weights(checkpoint.load(folder / name)[0])


# ---- the schedule


def test_schedule_at_places_worked_out_by_hand():
    assert schedule(0.0, 0.02) == pytest.approx(1e-3)  # a first step that does nothing would be a step lost
    assert schedule(0.01, 0.02) == pytest.approx((0.5 + 1e-3) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * 0.01))))
    assert schedule(0.0, 0.0) == 1.0
    assert schedule(0.5, 0.02) == pytest.approx(0.505)
    assert schedule(1 / 3, 0.1) == pytest.approx(0.01 + 0.99 * 0.75)
    assert schedule(1.0, 0.02) == pytest.approx(FLOOR)
    assert FLOOR == 0.01  # as the help of --lr says


@settings(derandomize=True, deadline=None)
@given(st.floats(0, 0.4), st.floats(0, 1), st.floats(0, 1))
def test_schedule_rises_to_the_end_of_the_warm_up_then_falls(warmup, a, b):
    a, b = sorted((a, b))
    assert FLOOR * 1e-3 <= schedule(a, warmup) <= 1
    if a >= warmup:
        assert schedule(a, warmup) >= schedule(b, warmup)
        assert schedule(a, warmup) == schedule(a, 0.0)
    elif b <= warmup * 0.8:
        assert schedule(a, warmup) <= schedule(b, warmup)


def test_the_rate_of_a_step_is_a_function_of_progress(training):
    done = training(steps=20, lr=0.01, warmup=0.2)()
    assert [row["lr"] for row in done.of("train")] == [0.01 * schedule(k / 20, 0.2) for k in range(20)]
    longer = training(steps=40, lr=0.01, warmup=0.2)()
    assert [row["lr"] for row in longer.of("train")][::2] == [row["lr"] for row in done.of("train")]


# ---- noise


def test_dropout_drops_the_output_and_not_the_state(training, monkeypatch):
    """Where every unit is dropped what goes up is zero, and what is carried on is as if nothing were dropped."""

    class Silence(Noise):
        def output(self, layer, y):
            return y * 0, y * 0

    dropped, kept = training(dropout=0.5).trainer, training(dropout=0.0, layers=1).trainer
    monkeypatch.setattr(train, "Noise", Silence)
    x, y, _ = dropped.stream.batch(0)
    x, y = torch.from_numpy(x.astype(np.int64)), torch.from_numpy(y.astype(np.int64))
    loss, state = dropped._cost(x, y, 0, dropped.state, dropped.state)
    bias = torch.nn.functional.cross_entropy(dropped.weights["head.b"].expand(x.numel(), -1), y.flatten())
    assert loss.item() == pytest.approx(bias.item(), abs=1e-6)
    with torch.no_grad():
        for name in kept.weights.keys() - {"head.W", "head.b"}:
            kept.weights[name].copy_(dropped.weights[name])
    for name, array in kept._cost(x, y, 0, kept.state, kept.state)[1][0].items():
        assert torch.equal(array, state[0][name])


NOISY = dict(dropout=0.9, dropout_input=0.9, dropout_output=0.8, weight_drop=0.9)


def test_no_noise_in_evaluation(training):
    plain, noisy = training(), training(**NOISY)
    for one in (plain, noisy):
        one.evaluated()
    numbers = [{**row, "elapsed": 0} for one in (plain, noisy) for row in one.rows]
    assert len(numbers) == 2
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize("name", [*NOISY, "zoneout"])
def test_noise_changes_the_training_and_is_the_same_for_a_seed(training, name):
    losses = [training(**{name: p}).updates(3) for p in (0.0, 0.5, 0.5)]
    assert losses[1] == losses[2] != losses[0]


def test_lanes_forget_before_a_step_as_the_draws_say(training, monkeypatch):
    """What the model is given: the state that the step before left, but for the lanes that were drawn."""
    one, read, left = training(state_reset=0.4, steps=9), [], []
    forward = Model.forward

    def watched(self, p, ids, state, run, noise):
        read.append(state[0]["h"].clone())
        logits, after = forward(self, p, ids, state, run, noise)
        left.append(after[0]["h"].detach().clone())
        return logits, after

    monkeypatch.setattr(Model, "forward", watched)
    one.updates(8)
    for step in range(1, 8):
        lost = torch.from_numpy(draws(1, "state-reset", step).random(3, dtype=np.float32) < 0.4)
        assert torch.equal(read[step], torch.where(lost[:, None], 0.0, left[step - 1]))
    assert any((held == 0).all(1).any() for held in read[1:])


# ---- the average of the weights


def test_the_average_is_the_mean_over_the_last_share_of_the_steps(training):
    """By hand: each step weighs a step's share, and what was there shrinks by it."""
    one = training(ema=0.25, lr=0.1)
    expected, start = one.trainer.weights["head.W"].detach().clone(), one.trainer.weights["head.W"].detach().clone()
    for step in range(1, 9):
        one.updates(1)
        expected += (one.trainer.weights["head.W"].detach() - expected) / (1 + 0.25 * step)
    assert torch.allclose(one.trainer.average["head.W"], expected, rtol=0, atol=1e-6)
    assert not torch.allclose(expected, one.trainer.weights["head.W"], atol=1e-3)
    assert not torch.allclose(expected, start, atol=1e-3)


def test_averaging_changes_nothing_of_the_training(training):
    numbers = [
        [row | {"elapsed": 0, "chars_per_second": 0} for row in training(ema=ema, steps=12)().of("train")]
        for ema in (0.0, 0.3)
    ]
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize(("costs", "best"), [([3.0, 2.0, 1.5, 1.6], "raw"), ([3.0, 2.0, 1.6, 1.5], "averaged")])
def test_of_the_weights_and_their_average_the_better_is_kept(training, monkeypatch, costs, best):
    scripted(monkeypatch, [3.0, *costs])  # at first both are the same, and one score is enough
    one = training(ema=0.5, eval_every=2, steps=4, lr=0.05)()
    first, *_, last = one.of("eval")
    assert "averaged" not in first
    assert (last["raw"], last["averaged"], last["nats"]) == (costs[2], costs[3], 1.5)
    arrays, _ = checkpoint.load(one.folder / "last.pt")
    other = {"raw": "averaged", "averaged": "raw"}[best]
    sets = {"raw": checkpoint.weights(arrays)}
    sets["averaged"] = {k.removeprefix("average."): a for k, a in arrays.items() if k.startswith("average.")}
    assert same(weights_of(one.folder, "best.pt"), sets[best])
    assert not same(sets[best], sets[other])


# ---- the temperature of the softmax


def test_logits_are_divided_by_the_temperature_whatever_the_number_of_models():
    model, weights = model_of()
    for whole, some in ((model, weights), (Ensemble([model] * 2), joined([weights, model_of(scale=2.0)[1]]))):
        state = whole.initial_state(lambda: torch.zeros(1, model.hidden, dtype=torch.float64))
        ids = torch.tensor(text(20).astype(np.int64))[:, None]
        plain, warm = (
            whole.forward(whole.bind(held), ids, state, run_of(model))[0]
            for held in (tensors(some), tempered(tensors(some), 1.3))
        )
        assert torch.allclose(plain / 1.3, warm, rtol=0, atol=1e-12)


def test_what_is_kept_as_the_best_has_the_temperature_in_it_and_training_does_not(training):
    warm, plain = (training(softmax_temperature=t, lr=0.03, eval_every=20, ema=0.2)() for t in (1.25, 1.0))
    assert same(warm.arrays(), plain.arrays())  # what training goes on from
    assert [row["nats"] for row in warm.of("eval")] != [row["nats"] for row in plain.of("eval")]
    best = warm.trainer.counters.best_step
    assert best == plain.trainer.counters.best_step == 20
    kept = {one: weights_of(one.folder, "best.pt") for one in (warm, plain)}
    for name, array in kept[plain].items():
        expected = array / np.float32(1.25) if name.startswith("head.") else array
        np.testing.assert_allclose(kept[warm][name], expected, rtol=1e-6)
    part, model = plain.trainer.corpus.part("val"), plain.model
    flat = score(model, tempered(tensors(kept[plain], torch.float32), 1.25), part, run_of(model, "native"))
    assert warm.result["nats"] == pytest.approx(flat.summary()["nats"], abs=1e-6)


def test_a_rollback_takes_the_average_back_as_well(training):
    one = spoil(training(ema=0.2, eval_every=6), lambda c: c.step >= 13 and c.rate_scale == 1)
    held = {}

    def watch(event, **what):
        if event == "eval" and what["step"] == 12:
            held.update({name: array.clone() for name, array in one.trainer.average.items()})
        if event == "rollback":
            held["same"] = all(torch.equal(held[name], array) for name, array in one.trainer.average.items())

    one.trainer.say = watch
    one()
    assert held["same"]


# ---- clipping, decay, the optimizer


def pair():
    """A matrix and a vector with gradients of norm 5."""
    weights = {"W": torch.ones(2, 2, requires_grad=True), "b": torch.ones(2, requires_grad=True)}
    weights["W"].grad, weights["b"].grad = torch.tensor([[3.0, 0.0], [0.0, 0.0]]), torch.tensor([0.0, 4.0])
    return weights


def test_clipping_scales_the_gradient_of_all_weights_together():
    for clip, scale in ((1.0, 0.2), (2.5, 0.5), (5.1, 1.0), (0.0, 1.0)):
        weights = pair()
        assert Optimizer(weights, 0.0).clip(clip) == pytest.approx(5.0)
        assert weights["W"].grad[0, 0].item() == pytest.approx(3 * scale, rel=1e-5)  # torch adds 1e-6 to the norm
        assert weights["b"].grad[1].item() == pytest.approx(4 * scale, rel=1e-5)


@pytest.mark.parametrize("clip", [0.0, 0.05, 1000.0])
def test_clipping_in_training(training, monkeypatch, clip):
    norms, step = [], Optimizer.step

    def watched(self, lr):
        norms.append(math.sqrt(sum(float((w.grad.double() ** 2).sum()) for w in self.weights.values())))
        step(self, lr)

    monkeypatch.setattr(Optimizer, "step", watched)
    done = training(clip=clip)()
    told = [row["grad_norm"] for row in done.of("train")]  # as it was before clipping
    assert len(norms) == len(told) == 20
    assert min(told) > 0.05
    if clip == 0.05:
        assert max(norms) <= 0.05 * (1 + 1e-5)
    else:
        assert norms == pytest.approx(told, rel=1e-5)


def test_decay_is_on_matrices_only():
    weights = {
        "matrix": torch.full((2, 3), 2.0, requires_grad=True),
        "blocks": torch.full((2, 2, 2), 2.0, requires_grad=True),
        "vector": torch.full((3,), 2.0, requires_grad=True),
    }
    optimizer = Optimizer(weights, 0.1)
    for weight in weights.values():
        weight.grad = torch.zeros_like(weight)
    optimizer.step(0.5)
    assert torch.allclose(weights["matrix"], torch.tensor(2 * (1 - 0.5 * 0.1)))
    assert torch.allclose(weights["blocks"], torch.tensor(2 * (1 - 0.5 * 0.1)))
    assert (weights["vector"] == 2).all()


def test_decay_in_a_model(training):
    """After one step the decay is all that is between two runs, and only the matrices differ."""
    without, with_decay = training(weight_decay=0.0, warmup=0.0), training(weight_decay=0.5, warmup=0.0)
    for one in (without, with_decay):
        one.updates(1)
    a, b = without.arrays(), with_decay.arrays()
    differ = {name for name in a if name.startswith("weights.") and not np.array_equal(a[name], b[name])}
    assert differ == {f"weights.{name}" for name, shape in without.model.shapes().items() if len(shape) > 1}


@pytest.mark.parametrize("cautious", [False, True])
def test_updates_are_those_of_adamw_by_the_paper(cautious):
    """Loshchilov & Hutter 2019, algorithm 2, with betas .9 and .99; a cautious one takes back the moves against
    the gradient and scales the others by how few they are in their array (Liang et al. 2024, as the authors' code)."""
    random, shapes = np.random.default_rng(3), {"W": (3, 4), "b": (5,)}
    before = {name: random.normal(size=shape) for name, shape in shapes.items()}
    weights = {name: torch.tensor(w, dtype=torch.float32, requires_grad=True) for name, w in before.items()}
    optimizer, shares = Optimizer(weights, 0.1, cautious=cautious), []
    m, v = dict.fromkeys(shapes, 0.0), dict.fromkeys(shapes, 0.0)
    for t in range(1, 7):
        for name, shape in shapes.items():
            gradient = random.normal(size=shape)
            weights[name].grad = torch.tensor(gradient, dtype=torch.float32)
            m[name], v[name] = 0.9 * m[name] + 0.1 * gradient, 0.99 * v[name] + 0.01 * gradient**2
            u = m[name] / (1 - 0.9**t) / (np.sqrt(v[name] / (1 - 0.99**t)) + 1e-8)
            if cautious:
                agreed = u * gradient > 0
                shares.append(agreed.mean())
                u = np.where(agreed, u / max(agreed.mean(), 1e-3), 0.0)
            before[name] = before[name] * (1 - 0.05 * 0.1 * (name == "W")) - 0.05 * u
        optimizer.step(0.05)
    assert not cautious or (min(shares) < 0.7 and max(shares) == 1)
    for name, weight in weights.items():
        assert weight.detach().numpy() == pytest.approx(before[name], abs=1e-5)


def test_a_run_is_as_cautious_as_its_settings(training):
    """The first step has no momentum yet that could go against the gradient."""
    for steps, same_losses in ((2, True), (6, False)):
        plain, careful = (training(cautious=c, seed=2).updates(steps) for c in (False, True))
        assert (plain == pytest.approx(careful, rel=1e-4)) == same_losses


def test_a_cautious_step_that_goes_nowhere_is_no_division_by_zero():
    weights = {"b": torch.tensor([1.0, 2.0], requires_grad=True)}
    optimizer = Optimizer(weights, 0.0, cautious=True)
    for gradient in ([1.0, 1.0], [-1e-3, -1e-3], [0.0, 0.0]):  # against all momentum, then none at all
        held = weights["b"].detach().clone()
        weights["b"].grad = torch.tensor(gradient)
        optimizer.step(0.1)
        assert torch.isfinite(weights["b"]).all()
        assert torch.equal(weights["b"], held) == (gradient[0] != 1.0)


def test_an_optimizer_restored_goes_on_identically():
    def gradients(weights, k):
        for name, weight in weights.items():
            weight.grad = torch.from_numpy(draws(1, name, k).normal(size=weight.shape).astype(np.float32))

    def advanced(optimizer, steps):
        for k in steps:
            gradients(optimizer.weights, k)
            optimizer.step(0.01 * (k + 1))

    straight = Optimizer({k: w.detach().clone().requires_grad_() for k, w in pair().items()}, 0.02)
    assert straight.export() == {}
    advanced(straight, range(5))
    kept = {name: np.array(value.numpy()) for name, value in straight.export().items()}
    assert {name.split(".")[0] for name in kept} == {"step", "exp_avg", "exp_avg_sq"}
    other = Optimizer({k: w.detach().clone().requires_grad_() for k, w in straight.weights.items()}, 0.02)
    other.restore({name: torch.from_numpy(value) for name, value in kept.items()})
    advanced(straight, range(5, 9))
    advanced(other, range(5, 9))
    for name, weight in straight.weights.items():
        assert torch.equal(weight, other.weights[name])
    assert all(np.array_equal(kept[f"exp_avg.{n}"], kept[f"exp_avg.{n}"]) for n in straight.weights)
    assert straight.export().keys() == kept.keys()
    assert not np.array_equal(kept["exp_avg.W"], straight.export()["exp_avg.W"].numpy())  # a copy, not a view
    straight.restore({})
    assert straight.export() == {}


# ---- the state that is carried


def test_the_state_is_carried_and_starts_anew_with_an_epoch(training, monkeypatch):
    one, seen = training(layers=1, dropout=0.2), []
    forward = Model.forward

    def watched(self, p, ids, state, run, noise):
        logits, after = forward(self, p, ids, state, run, noise)
        seen.append((state, after))
        return logits, after

    monkeypatch.setattr(Model, "forward", watched)
    per_epoch = one.trainer.stream.steps_per_epoch
    one.updates(2 * per_epoch + 2)
    assert per_epoch > 5
    for step, (state, _) in enumerate(seen):
        assert not any(array.requires_grad for layer in state for array in layer.values())  # truncated there
        if step % per_epoch == 0:
            assert not any(array.any() for layer in state for array in layer.values())
        else:
            assert all(torch.equal(state[0][name], seen[step - 1][1][0][name]) for name in ("h", "c"))
            assert state[0]["h"].any()


def test_evaluating_touches_nothing(training):
    one = training(dropout=0.3, eval_every=1)
    one.updates(7)
    trainer = one.trainer
    held, drawn, numpys = one.arrays(), torch.get_rng_state(), np.random.get_state()[1].copy()
    before = asdict(trainer.counters)
    one.evaluated(2)
    assert same(one.arrays(), held)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert np.array_equal(np.random.get_state()[1], numpys)
    changed = {name for name, value in asdict(trainer.counters).items() if value != before[name]}
    assert changed <= {"evaluated", "evaluating", "milestone", "best_nats", "best_step", "stale"}
    assert all(weight.grad is None for weight in trainer.weights.values())


def test_evaluating_more_often_changes_nothing(training):
    runs = [training(dropout=0.3, eval_every=n, sample_length=n)() for n in (1, 7)]
    assert same(*(weights_of(one.folder) for one in runs))
    assert len(runs[0].of("eval")) == 21 > len(runs[1].of("eval")) == 4
    losses = [[(row["step"], row["nats"], row["grad_norm"]) for row in one.of("train")] for one in runs]
    assert losses[0] == losses[1]


def test_timing_a_step_before_the_run_changes_nothing(training):
    one = training(dropout=0.3)
    one.updates(3)
    held, counters = one.arrays(), asdict(one.trainer.counters)
    assert train.step_seconds(one.trainer) > 0
    assert same(one.arrays(), held)
    assert asdict(one.trainer.counters) == counters
    assert all(weight.grad is None for weight in one.trainer.weights.values())


# ---- scores


def model_of(name="lstm", layers=2, symbols=7, scale=1.0):
    model = Model(name, symbols, 5, 8, layers)
    weights = model.initial_weights(draws(4, name), np.full(symbols, 1 / symbols))
    return model, {key: (scale * array).astype(np.float64) for key, array in weights.items()}


def law(model, weights, ids):
    """What each symbol costs, in float64 numpy: the equations, one step after the other, -log softmax."""
    p, state = model.bind(weights), model.initial_state(lambda: np.zeros((1, model.hidden)))
    nats, right = [], []
    for now, then in itertools.pairwise(ids.tolist()):
        logits, state = model.forward(p, np.array([now]), state, reference.step)
        nats.append(np.log(np.exp(logits[0] - logits.max()).sum()) + logits.max() - logits[0, then])
        right.append(logits[0].argmax() == then)
    return np.array(nats), np.array(right)


def tensors(weights, kind=torch.float64):
    return {name: torch.from_numpy(array).to(kind) for name, array in weights.items()}


def text(length, symbols=7):
    return draws(9, "text").integers(symbols, size=length).astype(np.uint8)


def run_of(model, engine="reference"):
    return choose(engine, model.stack[-1], torch.zeros(1))[1]


@every_cell
def test_score_is_the_law(name):
    model, weights = model_of(name)
    ids = text(60)
    nats, right = law(model, weights, ids)
    for engine in ("reference", "generic", "native") if name in NATIVE else ("reference", "generic"):
        scored = score(model, tensors(weights), ids, run_of(model, engine))
        assert np.abs(scored.nats - nats).max() < 1e-6  # logits are rounded to float32 before the softmax
        assert np.array_equal(scored.right, right)
    assert nats.std() > 0.01


@pytest.mark.parametrize("name", NATIVE)
def test_score_is_the_law_in_float64(name):
    model, weights = model_of(name)
    assert (
        np.abs(score(model, tensors(weights), text(60), run_of(model)).nats - law(model, weights, text(60))[0]).max()
        < 1e-10
    )


def test_score_in_pieces_is_the_score_whole(monkeypatch):
    model, weights = model_of()
    ids, calls = text(101), []
    whole = score(model, tensors(weights), ids, run_of(model))
    monkeypatch.setattr(evaluate, "CHUNK", 7 * evaluate.width(model))
    pieces = score(model, tensors(weights), ids, run_of(model), between=lambda: calls.append(1))
    assert len(calls) == math.ceil(100 / 7)
    assert np.abs(pieces.nats - whole.nats).max() < 1e-6
    assert len(whole.nats) == len(whole.right) == 100


def test_blocks_are_the_sums_of_their_symbols():
    nats = np.arange(2500) / 1000
    assert Score(nats, nats > 1).blocks() == [
        pytest.approx(float(sum(nats[a:b])), abs=1e-4) for a, b in ((0, 1000), (1000, 2000), (2000, 2500))
    ]  # they are rounded so
    assert Score(nats[:1000], nats[:1000] > 1).blocks() == [499.5]
    assert Score(nats[1:2], nats[1:2] > 1).blocks() == [0.001]


@pytest.mark.parametrize(("symbols", "hidden"), [(40, 5), (5, 40)])
def test_what_a_score_holds_is_bounded_whatever_is_widest(symbols, hidden, monkeypatch):
    model, sizes = Model("lstm", symbols, 4, hidden, 2), []
    weights = model.initial_weights(draws(1, "test"), np.full(symbols, 1 / symbols))
    forward = Model.forward

    def measured(self, p, ids, *rest):
        sizes.append(ids.numel() * evaluate.width(model))
        return forward(self, p, ids, *rest)

    monkeypatch.setattr(Model, "forward", measured)
    monkeypatch.setattr(evaluate, "CHUNK", 10_000)
    ids = np.arange(4200) % 5
    for lanes in (1, 2):
        score(model, tensors(weights), ids, run_of(model), lanes)
    windows(model, tensors(weights), ids, run_of(model), 20)
    assert 5000 < max(sizes) <= 10_000


def test_a_score_can_be_given_up():
    model, weights = model_of()

    def stop():
        raise Interrupted("enough", 2)

    for scored in (score, lambda *rest, between: windows(*rest, 10, between)):
        with pytest.raises(Interrupted, match="enough"):
            scored(model, tensors(weights), text(50), run_of(model), between=stop)


def test_score_of_lanes_is_close_to_that_of_one():
    """A lane reads 512 symbols ahead; forget gates near sigmoid(1) leave of what came before less than 1e-60. What is
    left is the rounding of float32 in products of another size."""
    model, weights = model_of(scale=2.0)
    ids, held = text(9001), tensors(weights, torch.float32)
    one, four = (score(model, held, ids, run_of(model, "native"), lanes) for lanes in (1, 4))
    assert one.nats.shape == four.nats.shape == (9000,)
    assert np.abs(one.nats - four.nats).max() < 1e-5
    assert (one.right == four.right).mean() > 0.999
    fresh = score(model, held, ids[2250:2300], run_of(model, "native"))  # the second lane, had it read nothing ahead
    assert np.abs(fresh.nats[0] - one.nats[2250]) > 1e-3


@pytest.mark.parametrize("length", [2, 3, 64, 600, 4097, 4098, 8200])
def test_any_length_has_a_score_of_each_symbol_but_the_first(length):
    model, weights = model_of("rnn", layers=1)
    scored = score(model, tensors(weights, torch.float32), text(length), run_of(model, "native"), 16)
    assert scored.nats.shape == scored.right.shape == (length - 1,)
    assert np.isfinite(scored.nats).all()
    assert (scored.nats > 0).all()


@pytest.mark.parametrize("name", ["lstm", "slstm", "grid"])
def test_windows_are_scored_each_apart(name, monkeypatch):
    model, weights = model_of(name)
    ids, held = text(95), tensors(weights)
    apart = [score(model, held, ids[k : k + 11], run_of(model)).nats for k in range(0, 90, 10)]
    for chunk in (evaluate.CHUNK, 20 * evaluate.width(model)):  # side by side, or two at a time
        monkeypatch.setattr(evaluate, "CHUNK", chunk)
        scored = windows(model, held, ids, run_of(model), 10)
        assert scored.nats.shape == (90,)
        assert np.abs(scored.nats - np.concatenate(apart)).max() < 1e-6  # the softmax is taken in float32
    assert np.abs(scored.nats - law(model, weights, ids)[0][:90]).max() > 1e-3


def test_a_summary_says_the_same_three_times():
    told = Score(np.array([1.0, 2.0, 3.0]), np.array([True, False, False])).summary()
    assert told == {
        "nats": 2.0, "bits": pytest.approx(2 / math.log(2)), "perplexity": pytest.approx(math.exp(2)),
        "accuracy": pytest.approx(1 / 3),
    }  # fmt: skip
    assert json.dumps(Score(np.array([1e6]), np.array([False])).summary())
    assert math.isfinite(Score(np.array([1e6]), np.array([False])).summary()["perplexity"])


# ---- learning


def test_it_learns_a_small_text_by_heart(training):
    done = training(text="so much depends upon a red wheel barrow.\n" * 40, steps=150, hidden=32, lr=0.02)()
    assert done.unigram_nats > 2.3
    assert done.result["nats"] < 0.1
    assert done.result["accuracy"] > 0.99
    losses = [row["nats"] for row in done.of("train")]
    assert losses[0] > 2.3 > 0.2 > losses[-1]


def test_the_first_loss_is_about_that_of_the_unigram(training):
    """The bias of the softmax starts at the log frequencies."""
    one = training(text=sentences(200))
    assert one.updates(1)[0] == pytest.approx(one.unigram_nats, abs=0.3)


@pytest.mark.parametrize("orthogonal", [True, False])
@pytest.mark.parametrize("unigram", [True, False])
def test_how_weights_begin(charrnn, corpus, orthogonal, unigram):
    options = ["--no-orthogonal"] * (not orthogonal) + ["--no-unigram"] * (not unigram)
    short = ("--steps", 1, "--lr", 1e-30, "--weight-drop", 0, "--dropout", 0)
    assert charrnn("train", corpus, *TINY, *short, "--out", "run", *options, "-q").status == 0
    weights = {name.removeprefix("weights."): array for name, array in checkpoint.load("run/best.pt")[0].items()}
    recurrent = [array for name, array in weights.items() if ".U." in name]
    assert len(recurrent) == 4 * 2  # of an LSTM with two layers
    for U in recurrent:
        assert np.allclose(U @ U.T, np.eye(len(U)), atol=1e-5) == orthogonal
        assert orthogonal or 0.9 / len(U) ** 0.5 < abs(U).max() <= 1 / len(U) ** 0.5
    spread = float(np.ptp(weights["head.b"]))
    assert spread > 1 if unigram else spread == 0


@pytest.mark.parametrize(
    ("cell", "name", "usual"),
    [("lstm", "b.f", 1.0), ("peephole", "b.f", 1.0), ("mogrifier", "v.f", 1.0), ("ugrnn", "b.g", None)],
)
def test_where_forget_gates_begin(cell, name, usual):
    """Of every layer, and nothing else begins elsewhere: the vector f of a cell with peepholes is no bias."""
    model = Model(cell, 5, 4, 6, 2)
    usually, given = (model.initial_weights(draws(1, "x"), np.full(5, 0.2), forget_bias=bias) for bias in (None, -2.5))
    moved = {own for own in usually if not np.array_equal(usually[own], given[own])}
    assert moved == ({f"layers.{layer}.{name}" for layer in (0, 1)} if usual else set())
    for own in moved:
        assert (usually[own] == usual).all() and (given[own] == -2.5).all()


def test_a_run_begins_with_the_forget_bias_that_is_typed(charrnn, corpus):
    short = ("--steps", 1, "--lr", 1e-30, "--weight-drop", 0, "--dropout", 0)
    assert charrnn("train", corpus, *TINY, *short, "--out", "run", "--forget-bias", -2.5, "-q").status == 0
    weights = checkpoint.load("run/best.pt")[0]
    assert all((weights[f"weights.layers.{layer}.b.f"] == -2.5).all() for layer in (0, 1))


@pytest.mark.parametrize("cell", ["lstm", "sru"])
def test_a_seed_fixes_everything(training, cell):
    given = dict(cell=cell, dropout=0.2, steps=6)
    first, again, other = (training(seed=seed, **given)() for seed in (1, 1, 2))
    assert same(weights_of(first.folder), weights_of(again.folder))
    assert same(weights_of(first.folder, "best.pt"), weights_of(again.folder, "best.pt"))
    clocks = ("elapsed", "chars_per_second")
    strip = lambda rows: [{k: v for k, v in row.items() if k not in clocks} for row in rows]  # noqa: E731
    assert strip(first.rows) == strip(again.rows)
    a, b = weights_of(first.folder), weights_of(other.folder)
    assert all(not np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("cell", NATIVE)
def test_engines_give_the_same_losses(training, cell):
    """Both compute in float32, in another order; 30 steps of training amplify 1e-7 to less than 1e-4."""
    native, loop = (training(cell=cell, engine=engine, steps=30, dropout=0.1) for engine in ("native", "reference"))
    a, b = native.updates(30), loop.updates(30)
    assert (native.trainer.engine, loop.trainer.engine) == ("native", "reference")
    assert a == pytest.approx(b, abs=1e-4)
    assert max(a) - min(a) > 0.1


@every_cell
def test_every_cell_trains(training, name):
    one = training(cell=name, steps=3, dropout=0.1)
    held = one.arrays()
    losses = one.updates(3)
    assert len(losses) == 3
    assert np.isfinite(losses).all()
    after = one.arrays()
    still = {n for n in held if n.startswith("weights.") and np.array_equal(held[n], after[n])}
    assert not [n for n in still if not n.startswith("weights.layers.0.")]  # a gate may need a layer below
    assert len(still) <= 1
    linear = ("mingru", "minlstm", "qrnn", "rg-lru")
    kernels = ("lstm", "gru", "rnn")  # for lanes as few as these torch's is the fastest of all three
    assert one.trainer.engine == ("native" if name in kernels else "scan" if name in linear else "generic")


@pytest.mark.parametrize("cell", ["gru", "mut1", "minlstm"])
def test_compiled_code_gives_the_same_losses(training, cell):
    """As many steps as show that nothing drifts apart: rounding of 1e-7 grows to less than 1e-3 in 200."""
    compiled, loop = (training(cell=cell, engine=engine, steps=200, batch_size=5) for engine in ("auto", "reference"))
    a, b = compiled.updates(200), loop.updates(200)
    assert compiled.trainer.engine == "compiled"
    assert a == pytest.approx(b, abs=1e-3)
    assert max(a) - min(a) > 0.5


def test_a_run_goes_on_by_the_engine_it_began_with(training, monkeypatch):
    """Also where another would be chosen by now; if it is not there, another is."""
    one = training(cell="gru", batch_size=5, steps=4)()
    assert one.trainer.engine == "compiled"
    tensors, record = checkpoint.load(one.folder / "last.pt")
    assert record["engine"] == "compiled"
    one.trainer.resume(tensors, record | {"engine": "generic"})
    assert (one.trainer.engine, one.trainer.run) == ("generic", generic.unroll)
    monkeypatch.setattr(generic, "refuses", lambda cell, like: "broken")
    one.trainer.resume(tensors, record | {"engine": "generic"})
    assert one.trainer.engine == "compiled"


@pytest.mark.parametrize(
    ("cell", "lanes"), [("lstm", 3), ("gru-cho", 3), ("mut1", 3), ("qrnn", 3), ("gru-cho", 5), ("qrnn", 5)]
)
def test_bfloat16_runs_and_resumes_exactly(training, cell, lanes, monkeypatch):
    """From four lanes on by compiled code, where the processor has it."""
    monkeypatch.setattr(products, "COARSE", 0)  # small products would be left alone
    given = dict(cell=cell, precision="bfloat16", dropout=0.2, steps=12, batch_size=lanes)
    whole = training(**given)()
    losses = [row["nats"] for row in whole.of("train")]
    exact = [row["nats"] for row in training(**given | {"precision": "float32"})().of("train")]
    assert losses != exact
    assert losses == pytest.approx(exact, abs=0.05)  # bfloat16 has eight bits
    assert {array.dtype for array in whole.arrays().values()} == {np.dtype(np.float32)}
    parts = stopped(training, 5, **given)
    assert same(weights_of(parts.folder), weights_of(whole.folder))
    assert [row["nats"] for row in parts.of("train")] == losses


def stopped(training, *steps, again=lambda: {}, **given):
    """A run that was stopped before these steps and resumed each time."""
    folder = None
    for step in steps:
        one = training(folder=folder, **given | again())
        one.trainer.stop = lambda one=one, step=step: signal.SIGINT if one.trainer.counters.step == step else None
        with pytest.raises(Interrupted, match=f"stopped at step {step}, all saved"):
            one()
        folder = one.folder
    return training(folder=folder, **given | again())()


# ---- divergence


def spoil(one, bad, by=math.nan):
    """Makes the loss `by` times as great where bad(counters)."""
    good = one.trainer._cost

    def cost(*arguments):
        value, state = good(*arguments)
        return (value * by if bad(one.trainer.counters) else value), state

    one.trainer._cost = cost
    return one


@pytest.mark.parametrize("length", [0, 9])
def test_an_evaluation_that_is_no_number_is_told(charrnn, corpus, length):
    """The first update throws the weights beyond all numbers, and the evaluation after it says so."""
    rate = ("--lr", 1e38, "--warmup", 0, "--clip", 0, "--weight-decay", 0)
    options = (*rate, "--steps", 20, "--eval-every", 1, "--sample-length", length, *TINY)
    answer = charrnn("train", corpus, "--out", "run", *options)
    assert answer.status == 3
    assert "nan" in answer.err
    assert answer.err.splitlines()[-1].startswith("error: diverged at step")


@pytest.mark.parametrize("by", [math.nan, math.inf, 100.0])
def test_a_bad_loss_is_skipped_counted_and_told(training, by):
    one = spoil(training(), lambda c: c.step in (6, 7, 12), by)
    held = {}

    def watch(event, **what):
        held[what["step"], event] = one.arrays()
        Training.say(one, event, **what)

    one.trainer.say = watch
    one()
    skips = one.of("skip")
    assert [(row["step"], row["skipped"]) for row in skips] == [(7, 1), (8, 2), (13, 3)]
    assert all(row["loss"] == str(by) or row["loss"] > 100 for row in skips)
    assert [what["step"] for event, what in one.told if event == "skip"] == [7, 8, 13]
    for name, array in held[7, "skip"].items():
        if name.startswith("state."):
            assert not array.any()  # the state that led there is forgotten
        else:
            assert np.array_equal(array, held[6, "step"][name])  # weights and moments are as they were
    assert one.trainer.counters.step == 20
    assert one.trainer.counters.rollbacks == 0
    assert len(one.of("train")) == 17
    assert all(np.isfinite(array).all() for array in weights_of(one.folder).values())


def test_a_bad_gradient_is_skipped(training):
    one = training()
    one.trainer.weights["head.b"].register_hook(lambda g: g * math.nan if one.trainer.counters.step == 4 else g)
    one()
    (row,) = one.of("skip")
    assert (row["step"], row["grad_norm"], row["skipped"]) == (5, "nan", 1)
    assert math.isfinite(row["loss"])
    assert all(np.isfinite(array).all() for array in weights_of(one.folder).values())


def test_five_in_a_row_roll_back_to_the_last_good_state_at_half_the_rate(training):
    one = spoil(training(dropout=0.2, eval_every=6), lambda c: c.step >= 13 and c.rate_scale == 1)
    good = {}

    def watch(event, **what):
        if event in ("eval", "rollback"):
            good[event, what["step"]] = one.arrays()
        Training.say(one, event, **what)

    one.trainer.say = watch
    one()
    (row,) = one.of("rollback")
    assert (row["step"], row["at"], row["rate_scale"]) == (12, 18, 0.5)
    assert same(good["rollback", 12], good["eval", 12])
    assert [row["skipped"] for row in one.of("skip")] == [1, 2, 3, 4, 5]
    rows = one.rows[one.rows.index(row) + 1 :]
    rates = [r["lr"] for r in rows if r["event"] == "train"]
    assert rates == [0.5 * one.trainer.config.lr * schedule(k / 20, 0.02) for k in range(12, 20)]
    assert one.trainer.counters.rollbacks == 1
    assert one.trainer.counters.skipped == 5
    assert rows[-1]["event"] == "final"


def test_four_in_a_row_do_not_roll_back(training):
    one = spoil(training(), lambda c: c.step in (3, 4, 5, 6, 8, 9, 10, 11))()
    assert len(one.of("skip")) == 8
    assert one.of("rollback") == []


def test_a_run_that_cannot_be_saved_by_lower_rates_ends_diverged(training, monkeypatch):
    one = spoil(training(lr=0.008, eval_every=8, steps=40), lambda c: c.step >= 10)
    scripted(monkeypatch, [3.0, 2.0])
    with pytest.raises(Diverged, match=r"at step 15 after 3 attempts.*of step 8, is kept; try --lr 0\.00025") as end:
        one()
    assert end.value.status == 3
    assert [row["rate_scale"] for row in one.of("rollback")] == [0.5, 0.25, 0.125]
    assert [row["skipped"] for row in one.of("skip")] == list(range(1, 21))
    tensors, record = checkpoint.load(one.folder / "best.pt")
    assert record["training"]["step"] == 8
    assert all(np.isfinite(array).all() for array in tensors.values())
    assert record["result"]["nats"] == min(row["nats"] for row in one.of("eval"))


def test_diverged_has_its_exit_status_and_can_be_resumed(charrnn, corpus, monkeypatch):
    cost = train.Trainer._cost

    def spoiled(self, *arguments):
        value, state = cost(self, *arguments)
        return (value * math.nan if self.counters.step >= 6 and self.config.lr > 0.001 else value), state

    monkeypatch.setattr(train.Trainer, "_cost", spoiled)
    answer = charrnn("train", corpus, "--steps", 20, "--eval-every", 6, "--out", "run", "--lr", 0.004, "-q", *TINY)
    assert (answer.status, answer.out) == (3, "")
    said = answer.err.splitlines()
    assert said[-1].startswith(
        "error: diverged at step 11 after 3 attempts at a lower rate; the best checkpoint, of step"
    )
    assert sum("update skipped" in line for line in said) == 20
    assert sum("went back from step 11 to 6, rate times 0." in line for line in said) == 3
    assert charrnn("sample", "run", "-n", 5).status == 0
    again = charrnn("train", "--resume", "run", "--lr", 0.001, "-q")
    assert (again.status, again.out) == (0, "run/best.pt\n")


@pytest.mark.parametrize("where", ["initial_weights", "initial_state", "forward"])
@pytest.mark.parametrize("error", [MemoryError("Unable to allocate 7 TiB"), RuntimeError("CUDA out of memory.")])
def test_what_does_not_fit_into_memory_is_told_in_one_line(charrnn, corpus, monkeypatch, where, error):
    """Before the run is made as well as in it."""

    def full(*_, **__):
        raise error

    monkeypatch.setattr(Model, where, full)
    answer = charrnn("train", corpus, "--steps", 1, "-q")
    assert (answer.status, answer.out) == (1, "")
    assert answer.err.startswith("error: out of memory; ") and answer.err.count("\n") == 1
    assert all(option in answer.err for option in ("--batch-size", "--seq-len", "--hidden", "--attention"))


def test_a_rate_far_too_high_does_not_end_well_or_in_silence(charrnn, corpus):
    answer = charrnn("train", corpus, "--steps", 40, "--out", "run", "--lr", 1e8, "--warmup", 0, "-q", *TINY)
    assert answer.status == 3
    weights = weights_of(corpus.parent / "run", "best.pt")
    assert all(np.isfinite(array).all() for array in weights.values())


def test_lost_weights_are_never_the_last_good_state(training):
    """One update ruins the weights; an evaluation comes before five losses in a row have shown it."""
    one = training(eval_every=3)
    step = one.trainer.optimizer.step

    def ruinous(lr):
        step(lr)
        if one.trainer.counters.step == 8 and one.trainer.counters.rate_scale == 1:
            with torch.no_grad():
                one.trainer.weights["head.W"].mul_(1e6)

    one.trainer.optimizer.step = ruinous
    one()
    (row,) = one.of("rollback")
    assert row["step"] == 6
    assert one.of("eval")[-1]["nats"] < 4


def test_metrics_are_json_whatever_happens(training):
    one = training(eval_every=1)
    with torch.no_grad():
        one.trainer.weights["head.b"][0] = math.nan
    one()

    def refuse(word):
        pytest.fail(f"{word} is no JSON")

    lines = (one.folder / "metrics.jsonl").read_text().splitlines()
    made = [json.loads(line, parse_constant=refuse) for line in lines]
    assert [row["nats"] for row in made if row["event"] == "eval"][:5] == ["nan"] * 5


# ---- how long a run is


def test_epochs(training):
    for epochs in (0.5, 1, 2.25):
        one = training(steps=None, epochs=epochs)
        per_epoch = one.trainer.stream.steps_per_epoch
        one()
        assert one.trainer.counters.step == round(epochs * per_epoch) > 5
        assert one.of("train")[-1]["epoch"] == pytest.approx(epochs, abs=0.51 / per_epoch)


def test_a_run_of_no_stated_length_is_5000_steps_or_60_epochs(training):
    short, long = training(steps=None), training(steps=None, text=sentences(400))
    assert short.trainer.steps == 60 * short.trainer.stream.steps_per_epoch < 5000
    assert long.trainer.steps == 5000 < 60 * long.trainer.stream.steps_per_epoch


def test_a_tenth_of_an_epoch_too_short_for_a_step_is_one_step(training):
    assert training(steps=None, epochs=1e-9).trainer.steps == 1


def test_endless_epochs_are_refused(charrnn, corpus):
    assert charrnn("train", corpus, "--epochs", "inf", "-q", *TINY).status == 2


def test_evaluations_come_at_the_tenths(training):
    assert [row["step"] for row in training(steps=20)().of("eval")] == list(range(0, 21, 2))
    assert [row["step"] for row in training(steps=5)().of("eval")] == list(range(6))
    assert [row["step"] for row in training(steps=20, eval_every=6)().of("eval")] == [0, 6, 12, 18, 20]
    assert [row["step"] for row in training(steps=20, eval_every=50)().of("eval")] == [0, 20]


class Clock:
    """A clock that goes on by a second at each step of training, and only then."""

    def __init__(self, monkeypatch, now):
        self.now = now
        monkeypatch.setattr(train, "time", SimpleNamespace(monotonic=lambda: self.now))

    def watch(self, one):
        def tick(event, **what):
            self.now += event == "step"
            Training.say(one, event, **what)

        one.trainer.say = tick
        return one


def test_a_run_by_time_follows_its_clock(training, monkeypatch):
    monkeypatch.setattr(train, "ROW_STEPS", 1)
    clock = Clock(monkeypatch, 1000.0)
    one = clock.watch(training(steps=None, time="20s", lr=0.01))()
    assert one.trainer.counters.step == 20
    assert [row["lr"] for row in one.of("train")] == [0.01 * schedule(k / 20, 0.02) for k in range(20)]
    assert [row["elapsed"] for row in one.of("train")] == list(range(1, 21))
    assert [row["step"] for row in one.of("eval")] == list(range(0, 21, 2))


@pytest.mark.parametrize(
    ("cost", "seconds"),
    [(1, [0, 20, 40, 60, 80, 100]), (3, [0, 60, 100]), (30, [0, 101]), (0.25, [*range(0, 101, 10)])],
)
def test_slow_evaluations_of_a_run_by_time_are_fewer(training, monkeypatch, cost, seconds):
    """Each costs so many seconds: together they take a twentieth of the time, and whatever they cost there are two."""
    clock = Clock(monkeypatch, 0.0)
    one = clock.watch(training(steps=None, time="100s"))

    def slow(*given, **more):
        clock.now += cost
        return score(*given, **more)

    monkeypatch.setattr(train, "score", slow)
    one()
    began = [row["elapsed"] - cost for row in one.of("eval")]
    assert began == pytest.approx(seconds, abs=2)  # a step takes a second
    assert one.trainer.counters.evaluating == cost * len(began)


def test_a_run_by_time_goes_on_from_its_elapsed_time(training, monkeypatch):
    """Another session has another clock, and the time between the sessions does not count."""
    monkeypatch.setattr(train, "ROW_STEPS", 1)
    given, folder = dict(steps=None, time="20s", lr=0.01), None
    for start, until in ((1000.0, 8), (5.0, 13), (70_000.0, 20)):
        clock = Clock(monkeypatch, start)
        one = clock.watch(training(folder=folder, **given))
        one.trainer.stop = lambda one=one, until=until: (
            signal.SIGINT if one.trainer.counters.step == until < 20 else None
        )
        with pytest.raises((Interrupted, Ended)):
            one()
            raise Ended
        folder = one.folder
        assert one.trainer.counters.step == until
    assert [row["lr"] for row in one.of("train")] == [0.01 * schedule(k / 20, 0.02) for k in range(20)]
    assert [row["elapsed"] for row in one.of("train")] == list(range(1, 21))


class Ended(Exception):
    """Training came to its end."""


def test_a_run_by_time_from_the_command_line(charrnn, corpus):
    answer = charrnn("train", corpus, "--time", "0.3s", "--out", "run", *TINY)
    assert (answer.status, answer.out) == (0, "run/best.pt\n")


def saves(one):
    """The steps at which a run saves, without repetitions."""
    steps, save = [], one.trainer.save
    one.trainer.save = lambda: (steps.append(one.trainer.counters.step), save())
    one()
    return sorted(set(steps))


def test_saves_come_with_evaluations_and_every_minute(training, monkeypatch):
    clock = Clock(monkeypatch, 0.0)
    assert saves(clock.watch(training(steps=200, eval_every=150))) == [0, 61, 122, 150, 200]


def test_saves_come_as_asked(training):
    assert saves(training(steps=20, save_every=7)) == [0, 7, 14, 20]


def scripted(monkeypatch, values):
    """Makes evaluations come out so, and the last for ever."""
    values = itertools.chain(values, itertools.repeat(values[-1]))
    monkeypatch.setattr(train, "score", lambda *_, **__: Score(np.full(4, next(values)), np.zeros(4, bool)))


def test_patience_ends_a_run_that_gets_no_better(training, monkeypatch):
    scripted(monkeypatch, [3.0, 2.0, 2.5, 1.9, 1.9, 2.4, 2.3, 2.2])
    held, one = {}, training(eval_every=2, steps=40, patience=3)

    def watch(event, **what):
        if event == "eval":
            held[what["step"]] = {name: w.detach().clone().numpy() for name, w in one.trainer.weights.items()}

    one.trainer.say = watch
    one()
    assert [(row["step"], row["best"]) for row in one.of("eval")] == [
        (0, True),
        (2, True),
        (4, False),
        (6, True),
        (8, False),
        (10, False),
        (12, False),
    ]  # fmt: skip  as good as the best is not better
    assert one.trainer.counters.step == 12
    assert one.trainer.counters.best_step == 6
    assert same(weights_of(one.folder, "best.pt"), held[6])
    assert checkpoint.load(one.folder / "best.pt")[1]["training"]["step"] == 6


def test_without_patience_a_run_goes_to_its_end(training, monkeypatch):
    scripted(monkeypatch, [2.0, 3.0])
    one = training(eval_every=2)()
    assert one.trainer.counters.step == 20
    assert one.trainer.counters.best_step == 0


# ---- what is written


TRAIN = {  # a row of the training loss
    "event": str, "step": int, "epoch": float,
    "nats": float, "bits": float, "perplexity": float,  # the mean over the steps since the row before
    "lr": float, "grad_norm": float,  # of this step, before clipping
    "chars_per_second": int, "elapsed": float,  # clocks: not the same in a resumed run
}  # fmt: skip
EVAL = {  # the validation part
    "event": str, "step": int, "nats": float, "bits": float, "perplexity": float, "accuracy": float, "best": bool,
    "elapsed": float,
}  # fmt: skip
FINAL = {  # the best weights, scored exactly; `step` is theirs
    "event": str, "step": int, "nats": float, "bits": float, "perplexity": float, "accuracy": float,
    "characters": int, "blocks": list,  # scored in all; nats of each 1,000 of them
}  # fmt: skip
SKIP = {"event": str, "step": int, "loss": (float, str), "grad_norm": (float, str), "skipped": int, "elapsed": float}
ROLLBACK = {"event": str, "step": int, "at": int, "rate_scale": float, "elapsed": float}
SCHEMA = {"train": TRAIN, "eval": EVAL, "final": FINAL, "skip": SKIP, "rollback": ROLLBACK}


def test_metrics_have_one_schema(training):
    one = spoil(training(eval_every=6), lambda c: c.step >= 13 and c.rate_scale == 1)()
    assert {row["event"] for row in one.rows} == SCHEMA.keys()
    for row in one.rows:
        kinds = SCHEMA[row["event"]]
        assert row.keys() == kinds.keys()
        assert all(isinstance(row[name], kind) for name, kind in kinds.items())
        if "nats" in row:
            assert row["bits"] == pytest.approx(row["nats"] / math.log(2))
            assert row["perplexity"] == pytest.approx(math.exp(row["nats"]))
    elapsed = [row["elapsed"] for row in one.rows if "elapsed" in row]
    assert elapsed == sorted(elapsed)
    assert one.rows[-1]["event"] == "final"
    assert one.rows[-1]["step"] == one.trainer.counters.best_step
    assert {name: value for name, value in one.rows[-1].items() if name in one.result} == one.result
    characters, blocks = one.rows[-1]["characters"], one.rows[-1]["blocks"]
    assert characters == len(one.trainer.corpus.part("val")) - 1
    assert len(blocks) == math.ceil(characters / BLOCK)
    assert sum(blocks) / characters == pytest.approx(one.result["nats"], abs=1e-4)  # each is rounded to 1e-4
    assert [row["step"] for row in one.of("eval") if row["best"]][-1] == one.trainer.counters.best_step


def test_a_row_of_several_steps_is_their_mean(training, monkeypatch):
    single = [row["nats"] for row in training(steps=20)().of("train")]
    monkeypatch.setattr(train, "ROWS", 4)
    rows = training(steps=20)().of("train")
    assert [row["step"] for row in rows] == [5, 10, 15, 20]
    assert [row["nats"] for row in rows] == pytest.approx([sum(single[k : k + 5]) / 5 for k in (0, 5, 10, 15)])


def test_the_result_is_that_of_the_best_weights_read_from_end_to_end(training):
    one = training(text=sentences(60), steps=30)()
    tensors_, record = checkpoint.load(one.folder / "best.pt")
    held = {name: torch.from_numpy(array) for name, array in checkpoint.weights(tensors_).items()}
    exact = score(one.model, held, one.trainer.corpus.part("val"), run_of(one.model, "native")).summary()
    assert exact == one.result == record["result"]
    assert record["training"] == {
        "step": one.trainer.counters.best_step,
        "epoch": one.trainer.counters.best_step / one.trainer.stream.steps_per_epoch,
    }
    assert record["engine"] == "native"
    assert record["kind"] == "best"
    assert "paths" not in record  # best.pt is to be shared
    assert all(name.startswith("weights.") for name in tensors_)


def test_the_result_is_read_by_one_lane(training, monkeypatch):
    """And the evaluations on the way by several, which is quicker."""
    seen = []

    def watched(model, weights, ids, run, lanes=1, between=None):
        seen.append((lanes, len(ids)))
        return score(model, weights, ids, run, lanes, between)

    monkeypatch.setattr(train, "score", watched)
    one = training(eval_every=10)()
    length = len(one.trainer.corpus.part("val"))
    assert seen == [(evaluate.LANES, length)] * 3 + [(1, length)]


def test_a_rollback_after_a_resume_goes_back_to_the_same_state(training):
    """The last good state is older than the save: it travels in last.pt."""
    given = dict(dropout=0.2, eval_every=7)
    bad = lambda c: c.step >= 9 and c.rate_scale == 1  # noqa: E731
    whole, folder = spoil(training(**given), bad)(), None
    for stop in (9, 12):
        one = spoil(training(folder=folder, **given), bad)
        one.trainer.stop = lambda one=one, stop=stop: signal.SIGINT if one.trainer.counters.step == stop else None
        with pytest.raises(Interrupted):
            one()
        folder = one.folder
        assert any(name.startswith("good.weights.") for name in checkpoint.load(folder / "last.pt")[0])
    parts = spoil(training(folder=folder, **given), bad)()
    assert [(row["step"], row["at"]) for row in parts.of("rollback")] == [(7, 14)]
    assert same(weights_of(parts.folder), weights_of(whole.folder))
    assert same(weights_of(parts.folder, "best.pt"), weights_of(whole.folder, "best.pt"))
