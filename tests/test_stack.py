"""The stack around the cells: what passes a layer by, step against sequence, chunks against the whole, depth."""

import math

import numpy as np
import oracles
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_cells import NAMES, SETTINGS, B, close, nonzero, part, tensors
from test_sample import OnTorch, drawn

from charrnn import evaluate as scoring
from charrnn.cells.base import Names, attend, join, normalise, remember, tanh
from charrnn.cells.trace import Symbol, evaluate, ordered
from charrnn.engine import choose, on_torch, reference
from charrnn.engine.program import Program
from charrnn.model import Model
from charrnn.sample import Picking, Sampler

T = 7
OPTIONS = {  # each alone, and all together
    "plain": {},
    "residual": {"residual": True},
    "norm": {"norm": True},
    "attention": {"attention": 3},  # fewer than T
    "zoneout": {"zoneout": 0.3},
}
ALL = {key: value for options in OPTIONS.values() for key, value in options.items()}
every_option = pytest.mark.parametrize(
    "options", [*OPTIONS.values(), {"attention": 2 * T}, ALL], ids=[*OPTIONS, "attention to all", "all"]
)


def model_of(name="lstm", layers=3, embed=4, **given):
    settings = SETTINGS.get(name, [{}])[0]
    return Model(name, symbols=5, embed=embed, hidden=4, layers=layers, settings=settings, **given)


def weights_and_ids(model):
    random = np.random.default_rng(2)
    return {name: nonzero(random, *shape) for name, shape in model.shapes().items()}, random.integers(0, 5, (T, B))


def steps(model, weights, ids):
    """Logits (T, B, V) and the last state, one step after the other on numpy."""
    p, state, rows = model.bind(weights), model.initial_state(lambda: np.zeros((B, 4))), []
    for now in ids:
        logits, state = model.forward(p, now, state, reference.step)
        rows.append(logits)
    return np.stack(rows), state


def fresh(model):
    return model.initial_state(lambda: torch.zeros(B, 4, dtype=torch.float64))


def same(found, expected):
    """Logits and states are the same to 1e-12."""
    close({"logits": found[0].detach()}, {"logits": expected[0]}, 1e-12)
    for mine, other in zip(found[1], expected[1], strict=True):
        close({name: array.detach() for name, array in mine.items()}, other, 1e-12)


# ---- the law


def normalised(a):
    mean = math.fsum(a) / len(a)
    deviation = math.sqrt(math.fsum((number - mean) ** 2 for number in a) / len(a) + 1e-5)
    return [(number - mean) / deviation for number in a]


def norm(a, gain, bias):
    """Ba, Kiros & Hinton 2016, equations 3 and 4."""
    return oracles.add(oracles.mul(normalised(a), gain), bias)


def attended(model, listed, rows, y):
    """After Merity 2019: y + v * (the mean of the last N rows and its own, weighed with the softmax of their products
    with the query); `rows` is all that was said, and grows."""
    rows.append(normalised(y))
    query = oracles.add(oracles.times(rows[-1], listed["attention.W"]), listed["attention.b"])
    query = oracles.mul(normalised(query), listed["attention.k"])
    seen = rows[max(0, len(rows) - 1 - model.attention) :]
    shares = [math.exp(math.fsum(oracles.mul(query, row)) / math.sqrt(len(query))) for row in seen]
    found = [math.fsum(oracles.mul(shares, column)) / math.fsum(shares) for column in zip(*seen, strict=True)]
    return oracles.add(y, oracles.mul(listed["attention.v"], found))


def law(model, listed, ids):
    """The logits of one lane in plain Python, as they follow from the definitions and the oracles of the cells."""
    said = []
    state = [{k: a[0].tolist() for k, a in own.items()} for own in model.initial_state(lambda: np.zeros((1, 4)))]
    for now in ids:
        x, below, seen = listed["embedding"][now], {}, []
        for layer in range(model.layers):
            step, own = oracles.oracle(model.cell, layer), part(part(listed, "layers"), str(layer))
            up, new = step(own, x, below, state[layer], **model.settings)
            for name in model.stack[layer].regularised if model.zoneout else ():
                pair = zip(state[layer][name], new[name], strict=True)
                new[name] = [model.zoneout * a + (1 - model.zoneout) * b for a, b in pair]
            up = {name: new.get(name, array) for name, array in up.items()}
            y = next(iter(up.values()))
            if model.norm:
                y = norm(y, listed[f"norms.{layer}.gain"], listed[f"norms.{layer}.bias"])
            if model.attention and layer == model.layers - 1:
                y = attended(model, listed, said, y)
            x = oracles.add(x, y) if model.residual and len(x) == len(y) else y
            below, state[layer] = up, new
            seen.append(x)
        top = [number for x in seen for number in x] if model.skips else x
        yield oracles.add(oracles.times(top, listed["head.W"]), listed["head.b"])


def equals_law(model):
    weights, ids = weights_and_ids(model)
    listed = {name: array.tolist() for name, array in weights.items()}
    expected = np.array(list(law(model, listed, ids[:, 0].tolist())))
    close({"logits": steps(model, weights, ids)[0][:, 0]}, {"logits": expected}, 1e-12)


@pytest.mark.parametrize("embed", [4, 3], ids=["equal", "other"])
@pytest.mark.parametrize("skips", [True, False], ids=["skips", "top"])
@every_option
def test_the_stack_equals_its_definition(options, skips, embed):
    equals_law(model_of(skips=skips, embed=embed, **options))


@pytest.mark.parametrize("name", NAMES)
def test_every_cell_in_a_stack_with_everything(name):
    equals_law(model_of(name, **ALL))


# ---- depth


@pytest.mark.parametrize("layers", range(1, 7))
@pytest.mark.parametrize("name", NAMES)
def test_every_cell_in_stacks_of_one_to_six(name, layers):
    """A sampling step equals a training step, with everything that can stand around the cells."""
    model = model_of(name, layers, **ALL)
    weights, ids = weights_and_ids(model)
    p = model.bind(tensors(weights))
    same(model.forward(p, torch.tensor(ids), fresh(model), reference.unroll), steps(model, weights, ids))
    assert len(model.layer_shapes()) == layers and model.count()[f"layer {layers - 1}"] > 0


@every_option
def test_chunks_equal_the_whole(options):
    """Whatever the chunks are, values, states and gradients; the state is carried, gradients too unless cut."""
    model = model_of(**options)
    weights, ids = weights_and_ids(model)
    ids, slopes = torch.tensor(ids), []
    for cuts in ([0, T], [0, 1, 3, 4, T]):
        held, state, rows = tensors(weights, gradients=True), fresh(model), []
        for start, end in zip(cuts, cuts[1:], strict=False):
            logits, state = model.forward(model.bind(held), ids[start:end], state, reference.unroll)
            rows.append(logits)
        same((torch.cat(rows), state), steps(model, weights, ids.numpy()))
        torch.cat(rows).pow(2).sum().backward()
        slopes.append({name: array.grad for name, array in held.items()})
        assert all(slope.any() for slope in slopes[-1].values())
    close(*slopes, 1e-10)


@every_option
def test_engines_agree_on_a_stack(options):
    model = model_of(**options)
    weights, ids = weights_and_ids(model)
    p, run = model.bind(tensors(weights)), choose("auto", model.stack[-1], torch.zeros(1))[1]
    same(model.forward(p, torch.tensor(ids), fresh(model), run), steps(model, weights, ids))


@pytest.mark.parametrize("embed", [4, 3])
def test_residual_connections_are_there_where_the_widths_agree(embed):
    """With nothing coming out of the layers, the softmax sees what passes them by."""
    model = model_of("rnn", layers=3, embed=embed, residual=True)
    weights, ids = weights_and_ids(model)
    weights = {name: array * (not name.startswith("layers.")) for name, array in weights.items()}  # tanh(0) = 0
    logits, _ = steps(model, weights, ids)
    x = weights["embedding"][ids] if embed == 4 else np.zeros((T, B, 4))
    close({"": logits}, {"": np.concatenate([x, x, x], -1) @ weights["head.W"] + weights["head.b"]}, 1e-12)
    assert model.passes == [embed == 4, True, True]
    assert model_of(embed=4).passes == [False] * 3


# ---- attention


def test_the_state_of_the_attention_is_the_last_rows_and_their_presence():
    model = model_of(attention=3)
    weights, ids = weights_and_ids(model)
    assert fresh(model)[-1]["memory"].shape == (B, 3, 5) and not fresh(model)[-1]["memory"].any()
    for length, there in ((0, [0, 0, 0]), (1, [0, 0, 1]), (2, [0, 1, 1]), (5, [1, 1, 1])):
        _, state = steps(model, weights, ids[:length]) if length else (None, fresh(model))
        memory = np.asarray(state[-1]["memory"])
        assert memory[0, :, -1].tolist() == there
        np.testing.assert_allclose(
            (memory[..., :-1] ** 2).mean(-1)[:, 3 - sum(there) :], 1, rtol=0, atol=1e-2
        )  # EPSILON
        assert not memory[:, : 3 - sum(there)].any()


@pytest.mark.parametrize("length", [1, 3, 4, 5, 8, 9, 13])
def test_attention_in_blocks_is_attention_at_once(length, monkeypatch):
    """And torch's is numpy's, that of the first step included, whatever was remembered."""
    random = np.random.default_rng(length)
    query, new, memory = random.normal(size=(length, B, 4)), random.normal(size=(length, B, 4)), np.zeros((B, 3, 5))
    memory[1] = random.normal(size=(3, 5))
    memory[:, 1:, -1], memory[1, 0, -1] = 1, 0
    law = attend(query, new, memory)
    for block in (on_torch.BLOCK, 4, 1):
        monkeypatch.setattr(on_torch, "BLOCK", block)
        close({"": attend(*map(torch.tensor, (query, new, memory)))}, {"": law}, 1e-12)
    one = attend(torch.tensor(query[0]), torch.tensor(new[0]), torch.tensor(memory))
    close({"": one}, {"": law[0]}, 1e-12)
    close({"": remember(torch.tensor(memory), torch.tensor(new))}, {"": remember(memory, new)}, 0.0)
    close({"": remember(torch.tensor(memory), torch.tensor(new[0]))}, {"": remember(memory, new[0])}, 0.0)


def test_a_score_in_pieces_is_the_score_whole(monkeypatch):
    """And the first of several lanes, which reads nothing ahead, remembers nothing of what the others read meanwhile.

    To 1e-6: logits are rounded to float32 before the softmax.
    """
    model = model_of(attention=3)
    weights, _ = weights_and_ids(model)
    ids, held = np.random.default_rng(3).integers(0, 5, 4100), tensors(weights)
    whole = scoring.score(model, held, ids[:300], reference.unroll).nats
    lanes = scoring.score(model, held, ids, reference.unroll, lanes=2).nats
    np.testing.assert_allclose(lanes[:299], whole, rtol=0, atol=1e-6)
    monkeypatch.setattr(scoring, "CHUNK", 7 * model.symbols)
    np.testing.assert_allclose(scoring.score(model, held, ids[:300], reference.unroll).nats, whole, rtol=0, atol=1e-6)


def test_gradients_flow_within_a_chunk_and_not_into_what_was_remembered():
    """From the logits of the last step: through the head to every row that it sees, as long as nothing is cut."""
    model = model_of("rnn", layers=1, attention=3)
    weights, ids = weights_and_ids(model)
    weights["layers.0.U.h"] *= 0  # nothing else carries
    p = model.bind(tensors(weights))
    p.embedding = p.embedding[torch.tensor(ids)].requires_grad_()  # one row for each place: (T, B, D)
    places = torch.arange(T * B).view(T, B)
    logits, _ = model.forward(flat(p), places, fresh(model), reference.unroll)
    (slope,) = torch.autograd.grad(logits[-1].square().sum(), p.embedding)
    assert slope.abs().sum((1, 2)).gt(0).tolist() == [False] * 3 + [True] * 4
    _, state = model.forward(flat(p), places[:5], fresh(model), reference.unroll)
    state = [{name: array.detach() for name, array in own.items()} for own in state]
    logits, _ = model.forward(flat(p), places[5:], state, reference.unroll)
    (slope,) = torch.autograd.grad(logits[-1].square().sum(), p.embedding)
    assert slope.abs().sum((1, 2)).gt(0).tolist() == [False] * 5 + [True] * 2


def flat(p):
    """The same weights, with an embedding (T, B, D) as a table."""
    return Names(**vars(p) | {"embedding": p.embedding.flatten(0, 1)})


def test_a_model_begins_as_it_would_without_attention():
    """And every other weight is drawn as without it."""
    models = [model_of("lstm", attention=size) for size in (0, 4)]
    weights = [model.initial_weights(np.random.default_rng(1), np.full(5, 0.2)) for model in models]
    assert weights[1].keys() - weights[0].keys() == {f"attention.{name}" for name in "Wbkv"}
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    _, ids = weights_and_ids(models[0])
    plain, attentive = (steps(model, own, ids)[0] for model, own in zip(models, weights, strict=True))
    np.testing.assert_array_equal(plain, attentive)
    assert weights[1]["attention.W"].any()


def test_a_long_text_is_never_seen_all_at_once(monkeypatch):
    """Of 10,000 positions there would be 10,000 x 10,000 scores."""
    sizes, softmax = [], torch.Tensor.softmax
    monkeypatch.setattr(torch.Tensor, "softmax", lambda a, dim: sizes.append(a.numel()) or softmax(a, dim))
    query = torch.randn(10_000, 1, 4, generator=torch.Generator().manual_seed(1))
    assert attend(query, query, torch.zeros(1, 300, 5)).isfinite().all()
    assert sum(sizes) <= 10_000 * (on_torch.BLOCK + 300) and max(sizes) <= on_torch.BLOCK * (on_torch.BLOCK + 300)


def test_counts():
    counts = model_of(layers=2, norm=True, attention=7).count()
    assert (counts["norms"], counts["attention"]) == (2 * 2 * 4, 4 * 4 + 3 * 4)
    assert list(counts) == ["embedding", "layer 0", "layer 1", "norms", "attention", "head"]
    assert list(model_of(layers=1).count()) == ["embedding", "layer 0", "head"]


# ---- sampling


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_every_cell_samples_as_it_trains_with_everything(name, lanes):
    samples_as_it_trains(model_of(name, layers=2, **ALL), lanes)


@pytest.mark.parametrize("lanes", [1, 3])
@every_option
def test_every_option_samples_as_it_trains(options, lanes):
    samples_as_it_trains(model_of("gru", skips=False, embed=3, **options), lanes)


def samples_as_it_trains(model, lanes):
    """Symbols that were drawn for one lane and for several, then the states compared; float32 in another order."""
    weights, _ = weights_and_ids(model)
    weights = {key: array.astype(np.float32) for key, array in weights.items()}
    ours, theirs = Sampler([(model, weights)]), OnTorch(model, weights, "reference")
    ids = np.random.default_rng(1).integers(5, size=(30, lanes))
    state = [{k: np.repeat(a, lanes, axis=0) for k, a in own.items()} for own in ours.start()]
    expected_state = [{k: a.copy() for k, a in own.items()} for own in state]
    for row in ids:
        logits, state = ours.step(row, state)
        expected, expected_state = theirs.step(row, expected_state)
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
        for own, other in zip(state, expected_state, strict=True):
            assert own.keys() == other.keys()
            for key in other:
                np.testing.assert_allclose(own[key], other[key], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_state_that_becomes_another_in_a_program(lanes):
    """a grows, b is what a was a step before, c and d change places: whatever is moved first."""
    a, b, c, d, ids = (Symbol("leaf", name) for name in "abcdi")
    program = Program(a + b, [(a, a + 1.0), (b, a), (c, d), (d, c)], ids, {}, [(2,)] * 4, lanes)
    for array, value in zip(program.state, (3.0, 9.0, 5.0, 7.0), strict=True):
        array[...] = value
    for output, state in ((12.0, [4, 3, 7, 5]), (7.0, [5, 4, 5, 7]), (9.0, [6, 5, 7, 5])):
        assert (program.run(np.zeros(lanes, int)) == output).all()
        assert [array.tolist() for array in program.state] == [[[value] * 2] * lanes for value in state]


BINARY = ["+", "-", "*", "maximum", "join"]


@st.composite
def made_up(draw):
    """A step of made-up arithmetic on three states: (made symbols, output, new states)."""
    pool = list(draw(st.permutations(LEAVES)))
    for _ in range(draw(st.integers(3, 14))):
        kind = draw(st.sampled_from(["sigmoid", "sigmoid", "tanh", "@", "@", "where", *BINARY]))
        pick = st.sampled_from(pool) | st.sampled_from(pool[-3:])
        if kind == "@":
            pool.append(Symbol("@", draw(pick), draw(st.sampled_from(MATRICES))))
        elif kind == "join":
            pool.append(Symbol("@", Symbol("join", draw(pick), draw(pick)), TALL))
        elif kind == "where":
            pool.append(Symbol("where", Symbol(">=", draw(pick), 0.1), draw(pick), draw(pick)))
        else:
            other = [] if kind in ("sigmoid", "tanh") else [draw(st.one_of(pick, st.just(0.25)))]
            pool.append(Symbol(kind, draw(pick), *other))
    made = [symbol for symbol in pool if symbol.operator != "leaf"]
    return made[-1], [draw(st.sampled_from([*made, *LEAVES[:3]])) for _ in range(3)]


LEAVES = [Symbol("leaf", name) for name in ("a", "b", "c", "v")]  # three states and a vector
MATRICES, TALL = [Symbol("leaf", name) for name in ("U", "V")], Symbol("leaf", "T")
NEXT = tanh(LEAVES[0] * 0.25)
JOINED = Symbol("@", Symbol("join", *LEAVES[:2]), TALL)


def arrays_of_leaves(random):
    """Those that made-up steps do not change."""
    fixed = {s: random.normal(size=(2, 2)).astype(np.float32) for s in MATRICES}
    return fixed | {LEAVES[3]: np.array([0.3, -0.7], np.float32), TALL: random.normal(size=(4, 2)).astype(np.float32)}


@pytest.mark.parametrize("lanes", [1, 3])
@given(step=made_up())
@example(step=(tanh(JOINED), [NEXT, *LEAVES[1:3]]))  # what is joined is read once more
@settings(derandomize=True, deadline=None, max_examples=300)
def test_a_program_computes_what_its_step_says(lanes, step):
    """Rewritten, done together and written over what was there, against the arithmetic as it stands."""
    output, after = step
    random, ids = np.random.default_rng(3), Symbol("leaf", "ids")
    fixed = arrays_of_leaves(random)
    program = Program(output, list(zip(LEAVES[:3], after, strict=True)), ids, fixed, [(2,)] * 3, lanes)
    state = [random.normal(size=(lanes, 2)).astype(np.float32) for _ in after]
    for array, value in zip(program.state, state, strict=True):
        array[...] = value
    for _ in range(3):
        leaf = {s.arguments[0]: array for s, array in [*zip(LEAVES, state, strict=False), *fixed.items()]}
        leaf["v"] = np.broadcast_to(leaf["v"], (lanes, 2))
        symbols = ordered([output, *after])
        values = evaluate(symbols, leaf.get)
        expected = values[output]
        np.testing.assert_allclose(program.run(np.zeros(lanes, int)) + 0 * expected, expected, rtol=1e-4, atol=1e-4)
        state = [np.clip(values[s], -2, 2) for s in after]
        for array, value in zip(program.state, state, strict=True):
            np.testing.assert_allclose(np.clip(array, -2, 2), value, rtol=1e-4, atol=1e-4)
            array[...] = value


@pytest.mark.parametrize(("cell", "calls"), [("lstm", 22), ("gru", 30), ("rnn", 8)])
def test_a_step_is_few_calls(cell, calls):
    """Two layers and a softmax that sees both: nothing is moved, and all gates of a layer are one product."""
    model = Model(cell, 11, 6, 16, 2, True)
    sampler = Sampler([(model, model.initial_weights(np.random.default_rng(7), np.full(11, 1 / 11)))])
    sampler.step(np.array([3]), sampler.start())
    program, _ = sampler.programs[1]
    assert len(program.calls) == calls and not any(each.name == "copy" for each in program.operations)


@pytest.mark.parametrize("lanes", [1, 2])
def test_neighbours_are_not_normalised_as_one_nor_look_back_as_one(lanes):
    """Operations on parts of one buffer are done together where they are elementwise; these are not."""
    a, W, V, one, other, ids = (Symbol("leaf", name) for name in ("a", "W", "V", "one", "other", "ids"))
    random = np.random.default_rng(1)
    fixed = {W: random.normal(size=(3, 3)).astype(np.float32), V: random.normal(size=(3, 3)).astype(np.float32)}
    left, right = tanh(a @ W), tanh(a @ V)  # side by side in one buffer
    norms, found = [normalise(left), normalise(right)], [attend(left, left, one), attend(right, right, other)]
    states = [(a, left), (one, remember(one, left)), (other, remember(other, right))]
    program = Program(join(*norms, *found), states, ids, fixed, [(3,), (2, 4), (2, 4)], lanes)
    for array in program.state:
        array[...] = random.normal(size=array.shape)
    a, one, other = (array.copy() for array in program.state)
    left, right = np.tanh(a @ fixed[W]), np.tanh(a @ fixed[V])
    law = [normalise(left), normalise(right), attend(left, left, one), attend(right, right, other)]
    np.testing.assert_allclose(program.run(np.zeros(lanes, int)), join(*law), rtol=0, atol=1e-6)  # float32


@every_option
def test_the_text_is_that_of_torch(options):
    """Several streams from one prompt, so that the state goes over from one lane to three."""
    model = model_of(layers=2, **options)
    weights, _ = weights_and_ids(model)
    weights = {key: array.astype(np.float32) for key, array in weights.items()}
    texts = [
        drawn(sampler, [1, 2, 3, 4, 0, 1], Picking(1.0), 3, range(3), 100).tolist()
        for sampler in (Sampler([(model, weights)]), OnTorch(model, weights, "auto"))
    ]
    assert texts[0] == texts[1] and len({tuple(text) for text in texts[0]}) == 3
