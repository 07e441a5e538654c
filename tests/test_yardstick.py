"""Yardsticks: each equals a plain computation that anybody can follow."""

import bz2
import json
import lzma
import math
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, sentences
from hypothesis import example, given, settings
from hypothesis import strategies as st

from charrnn import yardstick
from charrnn.corpus import Reading, open_corpus
from charrnn.yardstick import kept, ngram_bits, yardsticks

some = settings(derandomize=True, deadline=None, max_examples=60)


def opened(content: str | bytes, **more):
    path = Path("text.txt")
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return open_corpus([path], [], Path("cache"), **more)


# ---- the simple ones


@settings(derandomize=True, deadline=None, max_examples=15)
@given(st.text("abcé\n猫", min_size=120, max_size=300))
@example("ab" * 60 + "c" * 20)
def test_uniform_and_unigram_equal_a_direct_computation(text):
    corpus = opened("ab" + text)
    marks, cut = yardsticks(corpus), corpus.parts["train"][1]
    train, val, size = ("ab" + text)[:cut], ("ab" + text)[cut:], len(set("ab" + text))
    assert marks["uniform"] == pytest.approx(math.log2(size), abs=1e-12)
    unigram = [-math.log2((train.count(symbol) + 1) / (cut + size)) for symbol in val]
    assert marks["unigram"] == pytest.approx(sum(unigram) / len(val), abs=1e-12)
    assert list(marks) == ["uniform", "unigram", "5-gram", "bzip2", "xz"]


# ---- the n-gram


def witten_bell(train, val, size: int, order: int) -> list[float]:
    """The probability of each symbol of `val`, interpolated from uniform up to `order` (Witten & Bell 1991)."""
    follow = defaultdict(Counter)
    for n in range(1, order + 1):
        for i in range(n - 1, len(train)):
            follow[tuple(train[i - n + 1 : i])][train[i]] += 1
    result = []
    for i, symbol in enumerate(val):
        p = 1 / size
        for n in range(1, order + 1):
            seen = follow.get(tuple(val[i - n + 1 : i])) if i >= n - 1 else None
            if seen:
                total, kinds = sum(seen.values()), len(seen)
                p = (seen[symbol] + kinds * p) / (total + kinds)
        result.append(p)
    return result


def bits(probabilities) -> float:
    return -sum(map(math.log2, probabilities)) / len(probabilities)


SYMBOLS = st.integers(0, 3)


@settings(derandomize=True, deadline=None, max_examples=120)
@given(
    st.lists(SYMBOLS, min_size=12, max_size=80),
    st.lists(SYMBOLS, min_size=6, max_size=40),
    st.sampled_from([4, 5, 300]),
)
@example([0] * 20, [1] * 8, 4)
@example([0, 1] * 20, [0, 1, 0, 1, 1, 1, 3, 3], 4)
def test_the_n_gram_is_that_of_witten_and_bell(train, val, size):
    for order in (1, 2, 3, 5):
        ours = ngram_bits(np.array(train), np.array(val), size, order)
        assert ours == pytest.approx(bits(witten_bell(train, val, size, order)), abs=1e-9)


def test_the_n_gram_of_a_real_text():
    text = sentences(80)
    alphabet = sorted(set(text))
    ids = np.array([alphabet.index(symbol) for symbol in text], np.uint8)
    train, val = ids[:1400], ids[1400:]
    assert len(val) > 300
    expected = bits(witten_bell(train.tolist(), val.tolist(), len(alphabet), 5))
    assert ngram_bits(train, val, len(alphabet)) == pytest.approx(expected, abs=1e-9)
    assert ngram_bits(train, val, len(alphabet)) < ngram_bits(train, val, len(alphabet), 1), "context helps"


@some
@given(st.lists(SYMBOLS, min_size=12, max_size=60), st.lists(SYMBOLS, min_size=6, max_size=10), st.sampled_from([4, 7]))
@example([0] * 20, [0] * 6, 4)
@example([0] * 20, [3] * 6, 4)
def test_the_probabilities_of_what_may_come_next_sum_to_one(train, context, size):
    train, before = np.array(train), np.array(context)
    spent = ngram_bits(train, before, size) * len(before)
    total = 0.0
    for symbol in range(size):
        all_of_it = ngram_bits(train, np.append(before, symbol), size) * (len(before) + 1)
        total += 2 ** (spent - all_of_it)
    assert total == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 6])
def test_a_short_validation_text_is_scored(length):
    train, val = [0, 1, 2, 1] * 20, [0, 1, 2, 1, 0, 1][:length]
    expected = bits(witten_bell(train, val, 3, 5))
    assert ngram_bits(np.array(train), np.array(val), 3) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("length", [2, 3, 4])
def test_the_least_validation_files_train(charrnn, corpus, length):
    Path("val.txt").write_text("The "[:length])
    assert charrnn("train", corpus, "--val", "val.txt", *TINY, "--steps", 1, "-q").status == 0


@pytest.mark.parametrize(("size", "order"), [(5000, 5), (6000, 4), (46_340, 4), (46_400, 3)])
def test_a_large_alphabet_takes_a_shorter_n_gram_that_says_so_and_does_not_overflow(size, order):
    random = np.random.default_rng(1)
    codes = 0x10000 + np.arange(size)
    few = np.append(codes[-3:], random.choice(codes, 37, replace=False))  # with the greatest numbers of all
    text = np.concatenate([codes, few[random.integers(40, size=4000)]])
    text[size : size + 20] = text[-300:-280] = codes[-1]
    corpus = opened("".join(map(chr, text)), val_fraction=300 / len(text))
    train, val = corpus.part("train")[:].tolist(), corpus.part("val")[:].tolist()
    assert len(corpus.vocabulary) == size and max(val) == size - 1
    expected = bits(witten_bell(train, val, size, order))
    assert yardsticks(corpus)[f"{order}-gram"] == pytest.approx(expected, abs=1e-9)
    assert 0 < expected < math.log2(size)


def test_the_n_gram_counts_the_end_of_a_long_training_part(monkeypatch):
    monkeypatch.setattr(yardstick, "COUNTED", 100)
    corpus = opened("xyz" * 300 + "ab" * 100)
    train, val = corpus.part("train")[-100:], corpus.part("val")[:]
    expected = bits(witten_bell(train.tolist(), val.tolist(), 5, 5))
    assert yardsticks(corpus)["5-gram"] == pytest.approx(expected, abs=1e-9)


# ---- the compressors


def added(compress, train: bytes, val: bytes) -> int:
    return 8 * (len(compress(train + val)) - len(compress(train)))


def xz(raw: bytes) -> bytes:
    return lzma.compress(raw, preset=9)


def test_compressors_equal_a_direct_computation():
    corpus = opened(sentences(400))
    marks, cut = yardsticks(corpus), corpus.parts["train"][1]
    train, val = sentences(400)[:cut], sentences(400)[cut:]
    assert len(val.encode()) > len(val), "characters and bytes must differ here"
    assert marks["bzip2"] == pytest.approx(added(bz2.compress, train.encode(), val.encode()) / len(val), abs=1e-12)
    assert marks["xz"] == pytest.approx(added(xz, train.encode(), val.encode()) / len(val), abs=1e-12)


def test_long_parts_are_read_in_part(monkeypatch):
    monkeypatch.setattr(yardstick, "COMPRESSED", 3000)
    monkeypatch.setattr(yardstick, "ASKED", 300)
    text = sentences(400)
    corpus = opened(text)
    cut, marks = corpus.parts["train"][1], yardsticks(corpus)
    expected = added(bz2.compress, text[cut - 3000 : cut].encode(), text[cut : cut + 300].encode()) / 300
    assert marks["bzip2"] == pytest.approx(expected, abs=1e-12), "the end of the one, the start of the other"
    first = ngram_bits(corpus.part("train"), corpus.part("val")[:300], len(corpus.vocabulary))
    assert marks["5-gram"] == pytest.approx(first, abs=1e-12)


def test_compressors_read_the_bytes_of_a_text():
    raw = sentences(400).encode("ascii", "replace")
    corpus = opened(raw, reading=Reading(bytes=True))
    cut, marks = corpus.parts["train"][1], yardsticks(corpus)
    for name, compress in (("bzip2", bz2.compress), ("xz", xz)):
        assert marks[name] == pytest.approx(added(compress, raw[:cut], raw[cut:]) / len(raw[cut:]), abs=1e-12)


@pytest.mark.parametrize("name", ["bzip2", "xz"])
def test_compressors_read_bytes_that_are_no_text(name):
    raw = np.random.default_rng(1).integers(128, 256, 20_000).astype(np.uint8).tobytes()
    corpus = opened(raw, reading=Reading(bytes=True))
    expected = added({"bzip2": bz2.compress, "xz": xz}[name], raw[:18_000], raw[18_000:]) / 2000
    assert yardsticks(corpus)[name] == pytest.approx(expected, abs=1e-9)


# ---- all together


def test_a_yardstick_tells_what_it_should_of_a_text_with_structure():
    marks = yardsticks(opened(sentences(400)))
    assert max(marks["5-gram"], marks["bzip2"], marks["xz"]) < marks["unigram"] < marks["uniform"]
    assert all(isinstance(value, float) and math.isfinite(value) for value in marks.values())


def test_a_text_with_nothing_to_learn_costs_what_uniform_does():
    random = np.random.default_rng(1).integers(0, 16, 40_000)
    marks = yardsticks(opened("".join(chr(97 + i) for i in random)))
    assert marks["uniform"] == 4
    assert marks["unigram"] == pytest.approx(4, abs=0.01)
    assert 4 <= marks["5-gram"] < 6 and 3.9 < marks["bzip2"] < 4.6 and 3.9 < marks["xz"] < 5.5, "none can do better"


def test_tiny_shakespeare_has_the_numbers_that_were_measured_elsewhere(tinyshakespeare):
    marks = yardsticks(open_corpus([tinyshakespeare], [], Path("cache")))
    assert marks["uniform"] == pytest.approx(math.log2(65), abs=1e-12)
    assert marks["5-gram"] == pytest.approx(2.44, abs=0.1)
    assert marks["bzip2"] == pytest.approx(2.398, abs=0.02)
    assert marks["xz"] == pytest.approx(2.518, abs=0.02)


# ---- kept


def test_yardsticks_are_worked_out_once_for_a_corpus(monkeypatch):
    corpus, other = opened(sentences(60)), opened(sentences(60), val_fraction=0.2)
    first, second = kept(corpus, Path("kept")), kept(other, Path("kept"))
    assert first == yardsticks(corpus) and second == yardsticks(other) and first != second
    monkeypatch.setattr(yardstick, "yardsticks", lambda corpus: {"asked": "again"})
    assert (kept(corpus, Path("kept")), kept(other, Path("kept"))) == (first, second)
    assert kept(opened(sentences(61)), Path("kept")) == {"asked": "again"}
    assert not list(Path("kept").glob("*.part"))


def test_yardsticks_that_cannot_be_kept_or_read_are_worked_out_again(monkeypatch):
    corpus = opened(sentences(60))
    marks = kept(corpus, Path("kept"))
    (file,) = Path("kept").glob("*.json")
    file.write_text(file.read_text()[:-5])
    assert kept(corpus, Path("kept")) == marks
    assert json.loads(file.read_text()) == marks
    Path("taken").touch()
    assert kept(corpus, Path("taken")) == marks
