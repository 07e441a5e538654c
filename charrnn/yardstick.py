"""What a loss means: the same text under models that learn nothing deep, in bits per character.

All of them learn from the training part and are told the validation part in order: uniform, unigram, an interpolated
n-gram (Witten & Bell 1991), and two compressors that have read the training part first.
"""

import bz2
import contextlib
import hashlib
import json
import lzma
import os
from pathlib import Path

import numpy as np

from .corpus import Corpus

ORDER = 5  # the n of the n-gram: four characters of context
COUNTED = 5_000_000  # symbols, at the end of the training part, that the n-gram counts
COMPRESSED = 2_000_000  # symbols, at its end, that the compressors read
ASKED = 500_000  # symbols of the validation part, from its start, that the n-gram and the compressors are asked
FORMAT = 1  # changes with anything above or below that changes the numbers


def kept(corpus: Corpus, cache: Path) -> dict[str, float]:
    """The yardsticks of a corpus; worked out once and kept in the cache, so that every run after the first is spared
    their time and their memory."""
    identity = [FORMAT, corpus.digest, corpus.vocabulary.symbols, sorted(corpus.parts.items())]
    path = cache / f"{hashlib.sha256(repr(identity).encode()).hexdigest()[:32]}.yardsticks.json"
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="ascii"))
    marks = yardsticks(corpus)
    beside = path.with_suffix(f".{os.getpid()}.part")
    with contextlib.suppress(OSError):  # then they are worked out again
        cache.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(marks), encoding="ascii")
        os.replace(beside, path)
    return marks


def yardsticks(corpus: Corpus) -> dict[str, float]:
    """Bits per character of the validation part under each yardstick, by name."""
    train, val = corpus.part("train"), corpus.part("val")
    size = len(corpus.vocabulary)
    unigram = (corpus.unigram + 1) / (corpus.unigram + 1).sum()
    order = min(ORDER, int(62 / np.log2(size)))  # an n-gram must fit one 64-bit number
    return {
        "uniform": float(np.log2(size)),
        "unigram": _unigram_bits(unigram, val),
        f"{order}-gram": ngram_bits(train[-COUNTED:], val[:ASKED], size, order),
        "bzip2": _compressed(corpus, bz2.compress),
        "xz": _compressed(corpus, lambda text: lzma.compress(text, preset=9)),
    }


def _unigram_bits(unigram, val):
    counts = sum(np.bincount(block, minlength=len(unigram)) for block in val.blocks())
    return float(-(counts * np.log2(unigram)).sum() / len(val))


def ngram_bits(train: np.ndarray, val: np.ndarray, size: int, order: int = ORDER) -> float:
    """Bits per symbol of `val` under an n-gram model of `train` with Witten-Bell interpolation down to uniform."""
    p = np.full(len(val), 1 / size)
    for n in range(1, min(order, len(train), len(val)) + 1):
        counts, totals, kinds = _counts(train, val, n, size)
        seen = totals > 0
        p[seen] = (counts[seen] + kinds[seen] * p[seen]) / (totals[seen] + kinds[seen])
    return float(-np.log2(p).mean())


def _counts(train, val, n, size):
    """For each symbol of `val`: how often its n-gram and its context occur in `train`, and with how many symbols."""
    grams, found = np.unique(_grams(train, n, size), return_counts=True)
    contexts, first, kinds = np.unique(grams // size, return_index=True, return_counts=True)
    totals = np.add.reduceat(found, first)
    asked = np.full(len(val), -1, np.int64)  # the first n - 1 symbols have no full context
    asked[n - 1 :] = _grams(val, n, size)
    return (
        _at(grams, found, asked),
        _at(contexts, totals, np.where(asked < 0, -1, asked // size)),
        _at(contexts, kinds, np.where(asked < 0, -1, asked // size)),
    )


def _grams(ids, n, size):
    """Each run of n symbols as one number."""
    wide = np.asarray(ids, np.int64)
    number = np.zeros(max(0, len(wide) - n + 1), np.int64)
    for k in range(n):
        number = number * size + wide[k : len(wide) - n + 1 + k]
    return number


def _at(keys, values, asked):
    place = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where(keys[place] == asked, values[place], 0)


def _compressed(corpus, compress):
    """Bits per symbol that a compressor adds for the validation part once it has read the training part."""
    raw = corpus.vocabulary.raw
    train = raw(corpus.part("train")[-COMPRESSED:])
    val = corpus.part("val")[:ASKED]
    more = train + raw(val)
    return 8 * (len(compress(more)) - len(compress(train))) / len(val)
