"""What training adds and evaluation leaves out: where it is laid, that its mean is what evaluation computes with."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import oracles
import pytest
import torch
from test_cells import (
    B,
    arrays,
    bound,
    cases,
    close,
    detached,
    every_size,
    gradients,
    over,
    part,
    refused,
    tensors,
    unrolled,
)

from charrnn.cells import classes, make
from charrnn.cells.base import Cell
from charrnn.cells.trace import parameters, trace
from charrnn.cells.zoneout import Zoneout
from charrnn.config import Config
from charrnn.engine import NAMES, choose, reference
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


def states(value, lanes=LANES):
    """Two layers with states of one value, and a memory."""
    own = {"h": torch.full((lanes, 3), value), "c": torch.full((lanes, 3), value)}
    return [dict(own), dict(own), {"memory": torch.full((lanes, 4, 5), value)}]


def test_a_lane_that_forgets_forgets_all_and_the_others_nothing():
    kept, fresh, times = states(1.0), states(-1.0), torch.zeros(LANES)
    for step in STEPS:
        made = noise(step, state_reset=0.25).state(kept, fresh)
        lost = made[0]["h"][:, 0] < 0
        for own in made:
            for array in own.values():
                assert torch.equal(
                    array, torch.where(lost.view(-1, *[1] * (array.dim() - 1)), -1.0, 1.0).expand_as(array)
                )
        times += lost
    expected = 0.25 * len(STEPS)
    assert (times - expected).abs().max() < 5 * (0.75 * expected) ** 0.5  # each lane has its turn
    assert noise().state(kept, fresh) is kept


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("skips", [True, False])
def test_where_dropout_is_laid(skips, norm):
    """On the embeddings, on what goes from layer to layer, on what the softmax sees; on no state."""
    model, told = Model("lstm", symbols=5, embed=3, hidden=4, layers=2, skips=skips, norm=norm), []

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


@pytest.mark.parametrize("skips", [True, False])
def test_with_residual_connections_dropout_is_laid_on_what_a_layer_adds(skips):
    """What passes a layer by is dropped there neither on its way up nor for the softmax."""
    model, told = Model("lstm", symbols=5, embed=4, hidden=4, layers=2, skips=skips, residual=True), []

    class Loud(Quiet):
        def output(self, layer, y):
            told.append(y)
            return 0 * y, 5 * y

    weights, ids = weights_of(model), torch.arange(T)[:, None].expand(T, LANES) % 5
    logits, _ = forward(model, Loud(), weights, ids)
    x = weights["embedding"][ids]  # which both layers get, as nothing is added on the way up
    seen = torch.cat([x + 5 * y for y in (told if skips else told[1:])], -1)
    torch.testing.assert_close(logits, seen @ weights["head.W"] + weights["head.b"], rtol=0, atol=1e-12)


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


@pytest.mark.parametrize(
    ("cell", "dropped"),
    [
        ("rg-lru", set()),  # its blocks read the input alone
        ("slstm", {"U.i", "U.f", "U.z", "U.o"}),
        ("mut1", {"U.r", "U.h"}),  # z sees the input alone
        (
            "mogrifier",
            {f"U.{k}{i}" for k in ("left", "right") for i in "12"} | {f"U.{p}{g}" for p in ("", "x") for g in "ifgo"},
        ),
    ],
)
def test_weight_drop_is_for_the_matrices_that_a_state_passes_through(cell, dropped):
    settings = {"rounds": 2} if cell == "mogrifier" else {}
    model = Model(cell, symbols=5, embed=4, hidden=8, layers=1, settings=settings)
    weights = weights_of(model)
    after = noise(model=model, weight_drop=0.5).weights(weights)
    assert {name for name in weights if after[name] is not weights[name]} == {f"layers.0.{name}" for name in dropped}


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


# ---- zoneout


RATE = 0.3


def mixed(old, new, stay):
    return [s * a + (1 - s) * b for s, a, b in zip(stay, old, new, strict=True)]


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@every_size
def test_zoneout_keeps_of_every_state_what_it_is_told_to_keep(case, training):
    """Three steps of the cell's oracle and the paper's mixing: in training the old value where the mask is 1 and the
    new one where it is 0, else both in the proportion of the rate."""
    inner, settings = case.cell(), dict(case.settings)
    cell, drawn, law = Zoneout(inner, RATE), arrays(case, 3), oracles.oracle(case.name, case.layer)
    masks = {name: np.random.default_rng(4).integers(2, size=(3, B, case.n)) for name in cell.regularised}
    p, state, listed = bound(cell, drawn, case.n), part(drawn, "state"), {k: a.tolist() for k, a in drawn.items()}
    lanes = [{name: values[lane] for name, values in part(listed, "state").items()} for lane in range(B)]
    for t in range(3):
        below = {name: values[t] for name, values in part(drawn, "below").items()}
        noise = {f"zoneout_{name}": mask[t] - RATE for name, mask in masks.items() if training}
        up, state = reference.step(cell, p, drawn["x"][t], below | noise, state)
        for lane in range(B):
            lower, old = {name: values[t][lane] for name, values in part(listed, "below").items()}, lanes[lane]
            high, new = law(listed, listed["x"][t][lane], lower, old, **settings)
            for name, mask in masks.items():
                new[name] = mixed(old[name], new[name], mask[t][lane] if training else [RATE] * case.n)
            close({k: a[lane] for k, a in up.items()}, {k: new.get(k, high[k]) for k in high}, 1e-12, f"{case}, up")
            close({k: a[lane] for k, a in state.items()}, new, 1e-12, f"{case}, state")
            lanes[lane] = new


@every_size
def test_a_wrapped_cell_is_the_cell_in_all_but_its_step(case):
    inner = case.cell()
    cell = Zoneout(inner, RATE)
    assert (cell.states, cell.ups, cell.initial()) == (inner.states, inner.ups, inner.initial())
    assert parameters(cell, case.m, case.n) == parameters(inner, case.m, case.n)
    assert trace(cell).stages == trace(inner).stages and list(trace(cell).named) == list(trace(inner).named)
    assert set(cell.regularised) == set(inner.states) - set(inner.carried.split())
    assert cell.name not in classes()


@over([case for case in cases(sizes=((3, 4),)) if case.layer])
def test_chunks_equal_the_whole_under_zoneout(case):
    cell, drawn = Zoneout(case.cell(), RATE), arrays(case, 6)
    noise = np.random.default_rng(3).choice([-RATE, 1 - RATE], (6, B, case.n))
    drawn |= {f"below.zoneout_{name}": noise for name in cell.regularised}
    whole, state, pieces = unrolled(reference, cell, drawn, case.n), part(drawn, "state"), []
    for t in (0, 2, 4):
        piece = {name: array[t : t + 2] for name, array in drawn.items() if name == "x" or name.startswith("below.")}
        piece |= {f"state.{name}": array for name, array in state.items()}
        pieces.append(unrolled(reference, cell, drawn | piece, case.n))
        state = part(pieces[-1], "state")
    joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in whole if name.startswith("up.")}
    close(whole, joined | {f"state.{name}": array for name, array in state.items()}, 1e-12, str(case))


def test_zoneout_is_drawn_for_each_state_layer_lane_and_time():
    model = replace(MODEL, zoneout=RATE)
    x = torch.zeros(T, LANES, 1)
    drawn = [noise(step, model).zoneout(layer, x) for step in (3, 4) for layer in (0, 1)]
    assert [list(each) for each in drawn] == [["zoneout_h", "zoneout_c"]] * 4
    every = torch.stack([array for each in drawn for array in each.values()])
    assert every.shape == (8, T, LANES, 100)
    assert set(every.unique().tolist()) == {torch.tensor(-RATE).item(), torch.tensor(1 - RATE).item()}
    assert len({tuple(units.tolist()) for units in every.reshape(-1, 100)}) == 8 * T * LANES
    assert torch.equal(noise(3, model).zoneout(1, x)["zoneout_c"], drawn[1]["zoneout_c"])
    assert not torch.equal(noise(3, model, seed=2).zoneout(1, x)["zoneout_c"], drawn[1]["zoneout_c"])
    assert noise(3, MODEL).zoneout(1, x) == {} == Quiet().zoneout(1, x)


@pytest.mark.parametrize("name", ["lstm", "slstm", "clockwork"])
def test_the_mean_of_zoneout_is_a_step_of_evaluation(name):
    """One step of time from a given state: what is kept is linear in the masks, so their mean gives the mean state.

    Over 200 steps of training to six standard deviations.
    """
    model = Model(name, symbols=5, embed=6, hidden=16, layers=1, zoneout=RATE)
    (cell,), weights, random = model.stack, weights_of(model, torch.float32), np.random.default_rng(6)
    x, p = torch.tensor(random.normal(0, 1, (LANES, 6)), dtype=torch.float32), model.bind(weights).layers[0]
    old = {name: torch.tensor(random.uniform(0.2, 0.9, (LANES, 16)), dtype=torch.float32) for name in cell.states}
    if name == "clockwork":
        old["t"] = old["t"].round()
    _, law = reference.step(cell, p, x, {}, old)
    _, new = reference.step(cell.inner, p, x, {}, old)
    drawn = []
    for step in STEPS:
        below = noise(step, model).zoneout(0, x[None])
        drawn.append(reference.step(cell, p, x, {key: array[0] for key, array in below.items()}, old)[1])
    for state in cell.states:
        mean = torch.stack([each[state] for each in drawn]).mean(0)
        deviation = (new[state] - old[state]).abs() * (RATE * (1 - RATE) / len(STEPS)) ** 0.5
        assert ((mean - law[state]).abs() <= 6 * deviation + 1e-5).all()
        assert torch.equal(law[state], new[state]) == (state not in cell.regularised)


@every_size
def test_engines_that_take_zoneout_give_what_the_reference_gives(case):
    """Values and gradients to 1e-10, with the noise of training; an engine that cannot must have refused."""
    cell, drawn = Zoneout(case.cell(), RATE), tensors(arrays(case, 7), gradients=True)
    for name in cell.regularised:
        stays = np.random.default_rng(3).random((7, B, case.n)) < RATE
        drawn[f"below.zoneout_{name}"] = torch.tensor(stays - RATE)
    law = unrolled(reference, cell, drawn, case.n)
    slopes = gradients(law, drawn)
    for name in NAMES:
        engine = import_module(f"charrnn.engine.{name}")
        if not engine.refuses(cell, torch.zeros(1)):
            found = unrolled(engine, cell, drawn, case.n)
            close(detached(found), detached(law), 1e-10, f"{name}: {case}")
            close(gradients(found, drawn), slopes, 1e-10, f"{name}: {case}")


def test_torch_nn_refuses_zoneout_in_words():
    cell, like = Zoneout(make("lstm"), RATE), torch.zeros(1)
    with refused("--engine native", "no kernel for the cell lstm with zoneout"):
        choose("native", cell, like)
    assert choose("auto", cell, like)[0] != "native"


class Ticking(Cell):
    """Counts, and has no other state."""

    name, state, carried = "ticking", "t", "t"

    def step(self, x, t):
        return t + 1


def test_a_cell_without_a_state_to_keep_refuses_zoneout():
    with refused("--zoneout 0.3: ticking has no state that may be regularised"):
        Zoneout(Ticking(), RATE)
