"""What training adds and evaluation leaves out: where it is laid, that its mean is what evaluation computes with."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from charrnn.config import Config
from charrnn.engine import (
    on_torch,  # noqa: F401  teaches the operators torch tensors
    reference,
)
from charrnn.model import Model, Quiet
from charrnn.noise import Noise

LANES, T = 8, 5
MODEL = Model("lstm", symbols=5, embed=100, hidden=100, layers=2)
STEPS = range(3, 203)


def noise(step=3, model=MODEL, lanes=LANES, **given):
    """The noise of a step; what is not given is none."""
    config = replace(Config(dropout=0.0), **given)
    return Noise(config, model, lanes, torch.device("cpu"), step)


def ones():
    return torch.ones(T, LANES, 100)


def weights_of(model, kind=torch.float64):
    random = np.random.default_rng(2)
    return {name: torch.tensor(random.normal(0, 0.5, shape)).to(kind) for name, shape in model.shapes().items()}


def forward(model, noise, weights=None, ids=None):
    """Logits and states of a model under noise, from a fresh state, in float64."""
    ids = torch.tensor(np.random.default_rng(1).integers(5, size=(T, LANES))) if ids is None else ids
    start = model.initial_state(lambda: torch.zeros(LANES, model.hidden, dtype=torch.float64))
    return model.forward(model.bind(weights or weights_of(model)), ids, start, reference.unroll, noise)


# ---- dropout


def given(step, what, **options):
    """What dropout leaves of ones, for the input or for both ways out of each layer: (number, T, B, n)."""
    one = noise(step, **options)
    if what == "input":
        return one.input(ones())[None]
    return torch.stack([one.output(layer, ones())[what == "seen"] for layer in range(2)])


@pytest.mark.parametrize(
    ("what", "options"),
    [("input", {"dropout_input": 0.3}), ("up", {"dropout": 0.3}), ("seen", {"dropout": 0.3}),
     ("seen", {"dropout_output": 0.3})],
)  # fmt: skip
def test_dropout_is_locked(what, options):
    drawn = given(3, what, **options)
    assert (drawn == drawn[:, :1]).all()  # the same for all T of a step
    assert set(drawn.unique().tolist()) == {0.0, torch.tensor(1 / 0.7).item()}
    distinct = {tuple(lane.tolist()) for step in (3, 4) for layer in given(step, what, **options) for lane in layer[0]}
    assert len(distinct) == 2 * LANES * len(drawn)  # of each step, layer and lane its own
    assert torch.equal(given(3, what, **options), drawn)  # and drawn from the seed and the step alone
    assert not torch.equal(given(3, what, **options, seed=2), drawn)


@pytest.mark.parametrize(
    ("what", "options"),
    [("input", {"dropout_input": 0.3}), ("up", {"dropout": 0.6}), ("seen", {"dropout_output": 0.1})],
)
def test_the_mean_of_dropout_is_what_evaluation_sees(what, options):
    """Over 200 steps to six standard deviations: what is dropped and what is kept make up for each other."""
    (p,) = options.values()
    drawn = torch.stack([given(step, what, **options)[:, 0] for step in STEPS])
    assert drawn.mean().item() == pytest.approx(1, abs=6 * (p / (1 - p) / drawn.numel()) ** 0.5)
    each = drawn.mean(0)  # and every unit has its turn
    assert each.min() > 0 and (each - 1).abs().max() < 6 * (p / (1 - p) / len(STEPS)) ** 0.5


def test_dropout_output_is_as_dropout_unless_given():
    one, other = noise(dropout=0.4), noise(dropout=0.4, dropout_output=0.4)
    for layer in (0, 1):
        up, seen = one.output(layer, ones())
        assert up is seen and all(torch.equal(a, up) for a in other.output(layer, ones()))
    up, seen = noise(dropout=0.4, dropout_output=0.7).output(0, ones())
    assert torch.equal(up, one.output(0, ones())[0])
    assert (up[seen != 0] != 0).all() and (up != 0).sum() > (seen != 0).sum()  # one draw decides both


def test_where_nothing_is_asked_for_nothing_is_done():
    x = ones()
    assert noise().input(x) is x and noise().output(1, x) == (x, x) == Quiet().output(1, x)
    assert noise(dropout=0.5, dropout_output=0.0).output(1, x)[1] is x
    assert noise(dropout_output=0.5).output(1, x)[0] is x


@pytest.mark.parametrize("skips", [True, False])
def test_where_dropout_is_laid(skips):
    """On the embeddings, on what goes from layer to layer, on what the softmax sees; on no state."""
    model, told = Model("lstm", symbols=5, embed=3, hidden=4, layers=2, skips=skips), []

    class Loud(Quiet):
        def input(self, x):
            told.append(("input", tuple(x.shape)))
            return 2 * x

        def output(self, layer, y):
            told.append((layer, tuple(y.shape)))
            return 3 * y, 5 * y

    (logits, after), weights = forward(model, Loud()), weights_of(model)
    assert told == [("input", (T, LANES, 3)), (0, (T, LANES, 4)), (1, (T, LANES, 4))]
    weights["embedding"] = 2 * weights["embedding"]  # the same by other weights
    for gate in "ifgo":
        weights[f"layers.1.W.{gate}"] = 3 * weights[f"layers.1.W.{gate}"]
    weights["head.W"] = 5 * weights["head.W"]
    again, state = forward(model, Quiet(), weights)
    torch.testing.assert_close(logits, again, rtol=0, atol=1e-12)
    for mine, other in zip(after, state, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)


# ---- weight dropping


def matrices(weights):
    return {name: array for name, array in weights.items() if ".U." in name}


def test_weight_drop_leaves_out_a_part_of_the_recurrent_matrices_and_of_nothing_else():
    weights = weights_of(MODEL)
    dropped = noise(weight_drop=0.4).weights(weights)
    assert list(dropped) == list(weights) and len(matrices(weights)) == 8
    for name, array in weights.items():
        if name not in matrices(weights):
            assert dropped[name] is array
            continue
        kept = dropped[name] != 0
        torch.testing.assert_close(dropped[name][kept], array[kept] / (1 - 0.4), rtol=1e-6, atol=0)  # a float32 mask
        assert kept.double().mean().item() == pytest.approx(0.6, abs=6 * (0.6 * 0.4 / 10_000) ** 0.5)
    masks = {tuple((array != 0).flatten().tolist()) for array in matrices(dropped).values()}
    again, other = noise(weight_drop=0.4).weights(weights), noise(4, weight_drop=0.4).weights(weights)
    assert len(masks) == 8  # each has its own
    assert all(torch.equal(again[name], dropped[name]) for name in weights)
    assert not any(torch.equal(other[name], dropped[name]) for name in matrices(weights))
    assert noise().weights(weights) == weights


def test_the_mean_of_weight_drop_is_the_weights():
    """Over 200 steps to six standard deviations."""
    weights = {"layers.0.U.i": torch.ones(20, 30)}
    drawn = torch.stack([noise(step, weight_drop=0.25).weights(weights)["layers.0.U.i"] for step in STEPS])
    deviation = (0.25 / 0.75 / len(STEPS)) ** 0.5
    assert (drawn.mean(0) - 1).abs().max() < 6 * deviation
    assert drawn.mean().item() == pytest.approx(1, abs=6 * deviation / 600**0.5)


def test_what_is_dropped_learns_nothing():
    """The gradient goes through the transformed weights to those that are owned, and only where they were used."""
    model = Model("gru", symbols=5, embed=3, hidden=4, layers=2)
    weights = {name: array.requires_grad_() for name, array in weights_of(model).items()}
    one = noise(model=model, weight_drop=0.5)
    logits, _ = forward(model, one, one.weights(weights))
    logits.square().sum().backward()
    for name, array in matrices(weights).items():
        used = one.weights(weights)[name] != 0
        assert (array.grad[used] != 0).all() and (array.grad[~used] == 0).all()
