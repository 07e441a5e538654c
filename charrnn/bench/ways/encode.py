"""From the bytes of a file to ids: ours, and what the peers do. Each tells the memory that its first pass took."""

import re
import sys
from pathlib import Path

import numpy as np

from ...corpus import Reading, open_corpus, read_texts
from ...vocab import Vocabulary, code_points

PIECE = 1 << 16  # characters that `tokenizers` is given at a time: it keeps a hundred bytes for each


def charrnn(path: str, vocabulary: str, characters: int):
    """What every command of ours does with a text: read in blocks, strictly, and looked up in a table."""
    known = Vocabulary(vocabulary)

    def once():
        return np.concatenate([known.ids_of(code_points(text)) for text in read_texts(Path(path), Reading(), [])])

    return _told(once, characters, known)


def corpus(path: str, vocabulary: str, characters: int, folder: str):
    """All that comes before a training: read, hashed, counted, read again, looked up, and the ids left in a file."""
    cache = Path(folder)

    def once():
        for made in cache.glob("*"):
            made.unlink()
        return open_corpus([Path(path)], [], cache).ids

    return _told(once, characters, Vocabulary(vocabulary))


def tokenizers(path: str, vocabulary: str, characters: int):
    """The library `tokenizers` with the same vocabulary."""
    from tokenizers import Tokenizer

    tokenizer, known = Tokenizer.from_str(vocabulary), Vocabulary(vocabulary)

    def once():
        text = Path(path).read_text(encoding="utf-8")
        pieces = (text[i : i + PIECE] for i in range(0, len(text), PIECE))
        return np.concatenate([np.array(tokenizer.encode(piece).ids, known.dtype) for piece in pieces])

    return _told(once, characters, known)


def dictionary(path: str, vocabulary: str, characters: int):
    """A dict from characters to ids."""
    known = Vocabulary(vocabulary)
    ids = {symbol: i for i, symbol in enumerate(known.symbols)}

    def once():
        text = Path(path).read_text(encoding="utf-8")
        return np.array([ids[character] for character in text], known.dtype)

    return _told(once, characters, known)


def _told(once, characters, vocabulary):
    """The facts, with the most memory that a first pass takes beyond what was held before, in bytes."""
    before = _held()
    ids = once()
    assert len(ids) == characters, f"{len(ids)} ids for {characters} characters"
    memory = _held()[1] - before[0] if before else None
    return {"units": characters, "memory": memory, "ids_bytes": characters * np.dtype(vocabulary.dtype).itemsize}, once


def _held():
    """The bytes that this process holds and the most that it ever held; None where the system does not tell."""
    if sys.platform == "linux":
        told = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE))
        return (int(told["VmRSS"]) << 10, int(told["VmHWM"]) << 10) if len(told) == 2 else None
    if sys.platform == "darwin":
        import resource

        return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,) * 2
    return None


WAYS = {"charrnn": charrnn, "corpus": corpus, "tokenizers": tokenizers, "dict": dictionary}
