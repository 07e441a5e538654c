"""Texts that a model reads, block by block: what was named on the command line, as ids."""

from ..corpus import BLOCK, read_texts
from ..errors import DataError


def opened(path, vocabulary, reading, notes):
    """A file as blocks of text; of bytes, where the symbols are bytes."""
    if not vocabulary.of_bytes:
        yield from read_texts(path, reading, notes)
        return
    try:
        with open(path, "rb") as file:
            yield from iter(lambda: file.read(BLOCK), b"")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def encoded(blocks, vocabulary, unknown, title):
    """Each block as ids (T,), the block itself, and the places in it that the model never saw; with `unknown` "error"
    the first of them is a DataError that names it and its place in the text."""
    import numpy as np

    length = 0
    for block in blocks:
        if vocabulary.of_bytes:
            yield np.frombuffer(block, np.uint8), block, ()
            continue
        where = f"{title}, after character {length:,}" if length else title
        yield vocabulary.encode(block, unknown, where, skips=False), block, vocabulary.lookup(block)[1]
        length += len(block)
