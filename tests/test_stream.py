"""The training stream: lanes that read on, targets one further, a pure function of seed and step."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY
from hypothesis import example, given, settings
from hypothesis import strategies as st

from charrnn.corpus import MINIMUM_TRAIN
from charrnn.stream import SHORTEST, Stream, draws

many = settings(derandomize=True, deadline=None, max_examples=150)
SIZES = st.tuples(st.integers(MINIMUM_TRAIN, 3000), st.integers(1, 70), st.integers(1, 300))
SEEDS = st.integers(0, 2**63 - 1)


def places(n: int) -> np.ndarray:
    """A text whose symbols are their own places."""
    return np.arange(n, dtype=np.uint32)


@st.composite
def streams(draw):
    """A stream fitted to any text that is long enough to be a corpus."""
    n, lanes, length = draw(SIZES)
    return Stream.fit(places(n), lanes, length, draw(SEEDS))[0]


def epoch(stream: Stream, number: int = 0):
    """The batches of one epoch."""
    steps = stream.steps_per_epoch
    return [stream.batch(step) for step in range(number * steps, (number + 1) * steps)]


# ---- batches


@many
@given(streams(), st.integers(0, 10**9))
@example(Stream.fit(places(MINIMUM_TRAIN), 64, 64, 0)[0], 10**9)
def test_a_batch_is_time_first_and_its_targets_follow_in_the_text(stream, step):
    x, y, _ = stream.batch(step)
    assert x.shape == y.shape == (stream.length, stream.lanes) and x.dtype == stream.ids.dtype
    assert (y == x + 1).all(), "what follows each symbol in the text"
    assert (np.diff(x.astype(int), axis=0) == 1).all(), "each lane reads without a gap"
    assert x.min() >= 0 and y.max() < len(stream.ids)


@many
@given(st.integers(2, 400), st.integers(1, 9), st.integers(1, 40), SEEDS)
@example(2, 1, 1, 0)
@example(21, 10, 1, 3)
@example(40, 4, 5, 1)
def test_no_index_is_out_of_range_wherever_the_text_holds_the_batch(n, lanes, length, seed):
    stream = Stream(places(n), lanes, length, seed)
    if stream.lanes * stream.lane >= n:
        return  # not one step fits: `fit` never makes such a stream
    for step in range(3 * stream.steps_per_epoch):
        x, y, _ = stream.batch(step)
        assert x.min() >= 0 and y.max() <= n - 1, (step, x.min(), y.max())


@many
@given(streams(), st.integers(0, 3))
def test_lanes_go_on_where_they_stopped_within_an_epoch(stream, number):
    batches = epoch(stream, number)
    assert [fresh for _, _, fresh in batches] == [True] + [False] * (len(batches) - 1)
    for (_, y, _), (x, _, _) in zip(batches, batches[1:], strict=False):
        assert (x[0] == y[-1]).all(), "the last target of a lane is its next input"
    starts = np.diff(batches[0][0][0].astype(int))
    assert (starts == stream.lane).all(), "the lanes share the text evenly"


@many
@given(streams(), st.integers(0, 3))
def test_an_epoch_reads_all_but_a_small_remainder_exactly_once(stream, number):
    targets = np.concatenate([y.ravel() for _, y, _ in epoch(stream, number)])
    n, lanes, length = len(stream.ids), stream.lanes, stream.length
    assert len(np.unique(targets)) == len(targets), "no character is read twice"
    missed = n - len(targets)
    remainder = lanes * (length - 1)  # of each lane what fills no step
    assert missed <= remainder + length + lanes, "and the room for the offset, and a rest of the division"
    assert targets.min() >= 1, "the first character has nothing before it"


@pytest.mark.parametrize(("n", "lanes", "length"), [(100_000, 32, 64), (1_003_854, 32, 64)])
def test_of_a_text_of_usual_size_an_epoch_misses_next_to_nothing(n, lanes, length):
    stream, _ = Stream.fit(places(n), lanes, length, 1)
    read = stream.steps_per_epoch * lanes * length
    assert read > 0.97 * n if n < 500_000 else read > 0.998 * n


@pytest.mark.parametrize(("n", "lanes", "length"), [(64, 32, 64), (200, 2, 30), (319, 4, 20), (159, 1, 40)])
def test_what_one_epoch_leaves_out_another_reads(n, lanes, length):
    stream, _ = Stream.fit(places(n), lanes, length, 5)
    read = np.concatenate([y.ravel() for number in range(400) for _, y, _ in epoch(stream, number)])
    one = np.concatenate([y.ravel() for _, y, _ in epoch(stream)])
    assert len(one) < 0.9 * n, "the example must be one in which an epoch leaves something out"
    assert sorted({*read.tolist()}) == list(range(1, n)), "every character but the first, to the last one"


def test_epochs_start_at_different_places_and_so_do_seeds():
    stream = Stream(places(1000), 4, 32, 1)
    room = 1000 - 1 - stream.lanes * stream.lane
    assert room >= 32
    starts = [int(epoch(stream, number)[0][0][0, 0]) for number in range(2000)]
    assert set(starts) == set(range(room + 1)), "each offset comes up"
    others = [int(Stream(places(1000), 4, 32, seed).batch(0)[0][0, 0]) for seed in range(2000)]
    assert set(others) == set(range(room + 1))


def test_without_offsets_every_epoch_starts_at_one_place():
    shifting, steady = (Stream(places(1000), 4, 32, 1, offsets) for offsets in (True, False))
    first = epoch(shifting)
    for number in range(20):
        for (x, y, fresh), (u, v, anew) in zip(epoch(steady, number), first, strict=True):
            assert (x == u).all() and (y == v).all() and fresh == anew


def test_offsets_are_a_setting_of_a_run(charrnn, corpus):
    ends = []
    for options in ([], ["--no-offsets"]):
        asked = ("--epochs", 3, "--out", f"run{len(ends)}", "-q", *TINY, *options)
        assert charrnn("train", corpus, *asked).status == 0
        rows = [json.loads(line) for line in Path(f"run{len(ends)}/metrics.jsonl").read_text().splitlines()]
        ends.append({row["step"]: row["nats"] for row in rows if row["event"] == "train"})
    one, other = ends
    assert one.keys() == other.keys()
    differing = [step for step in one if one[step] != other[step]]
    assert differing and min(differing) > max(one) / 3, "the first epoch is the same, those behind it are not"


# ---- purity


@many
@given(streams(), st.lists(st.integers(0, 500), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_a_batch_depends_on_nothing_that_came_before(stream, steps, order):
    expected = {step: stream.batch(step) for step in steps}
    again = Stream(stream.ids, stream.lanes, stream.length, stream.seed)
    np.random.seed(0)
    order.shuffle(steps)
    for step in steps:
        for ours, theirs in zip(again.batch(step), expected[step], strict=True):
            assert np.array_equal(ours, theirs)


def test_a_batch_leaves_the_text_and_the_global_generators_alone():
    ids, before = places(500), (random.getstate(), np.random.get_state()[1].tolist())
    stream, _ = Stream.fit(ids, 4, 16, 3)
    x, y, _ = stream.batch(7)
    x[:], y[:] = 0, 0
    assert (ids == places(500)).all(), "a batch is a copy"
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


# ---- short texts


@many
@given(SIZES)
@example((MINIMUM_TRAIN, 32, 64))
@example((MINIMUM_TRAIN, 1, 9))
@example((4096, 32, 64))
@example((4095, 32, 64))
def test_a_short_text_gets_fewer_lanes_then_shorter_sequences_and_says_so(sizes):
    n, lanes, length = sizes
    stream, said = Stream.fit(places(n), lanes, length, 0)
    assert 1 <= stream.lanes <= lanes and min(SHORTEST, length) <= stream.length <= length
    assert 2 * stream.lanes * stream.length <= n, "two steps at least"
    assert stream.steps_per_epoch >= 1
    if n >= 2 * lanes * length:
        assert (stream.lanes, stream.length, said) == (lanes, length, ""), "nothing is changed that need not be"
        return
    assert f"{n:,} training characters" in said
    assert f"{stream.lanes} lanes x {stream.length} instead of {lanes} x {length}" in said
    assert stream.length == length or stream.lanes == 1, "sequences are shortened last"
    if stream.length == length:
        assert n < 4 * (stream.lanes + 1) * length, "no more lanes are given up than must be"


def test_the_example_of_the_sentence():
    stream, said = Stream.fit(places(1000), 32, 64, 0)
    assert (stream.lanes, stream.length) == (4, 64)
    assert said == "1,000 training characters are few: 4 lanes x 64 instead of 32 x 64"


def test_the_note_reaches_the_user_and_the_run_is_made(charrnn, corpus):
    done = charrnn("train", corpus, "--hidden", 8, "--layers", 1, "--batch-size", 512, "--steps", 1, "-q")
    assert done.status == 0 and "note: " in done.err and "lanes x 64 instead of 512 x 64" in done.err


# ---- draws

NAMES = ["offset", "dropout", "sample", "weights", "opening"]  # what the package draws for
PURPOSES = st.tuples(SEEDS, st.sampled_from(NAMES), st.integers(0, 2**40))


@many
@given(st.lists(PURPOSES, min_size=2, max_size=8, unique=True))
@example([(1, "offset", 0), (1, "offset", 1), (1, "sample", 0), (2, "offset", 0), (0, "offset", 0)])
@example([(1, "sample", 0), (1, "sample", 2**32), (1 << 32, "sample", 1)])
def test_draws_are_their_own_for_each_seed_name_and_number_in_any_order(purposes):
    forwards = [draws(*purpose).random(4).tolist() for purpose in purposes]
    backwards = [draws(*purpose).random(4).tolist() for purpose in reversed(purposes)][::-1]
    assert forwards == backwards, "the same whatever came before"
    assert len({tuple(numbers) for numbers in forwards}) == len(purposes), "and no two alike"


def test_draws_can_be_had_at_once():
    one, other = draws(1, "sample", 0), draws(1, "sample", 1)
    mixed = [(one.random(), other.random()) for _ in range(5)]
    assert [a for a, _ in mixed] == draws(1, "sample", 0).random(5).tolist()
    assert [b for _, b in mixed] == draws(1, "sample", 1).random(5).tolist()


def test_the_numbers_drawn_are_those_of_every_release():
    assert draws(1, "sample", 0).integers(1 << 30, size=3).tolist() == [45964753, 508774289, 74325562], (
        "or old runs no longer resume exactly"
    )
