"""The cache: the ids of a corpus in a file, with their digest behind them.

The file is read where it is asked for and not mapped: pages of a map that were touched count as memory of the
process, so that training on a large text would slowly take all of it; and a file cut short would kill the process.
"""

import contextlib
import hashlib
import os
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DataError

READ = 1 << 20  # bytes read at a time
DIGEST = hashlib.sha256().digest_size


class File:
    """A file open for reading at any place; what was opened is read though its name is gone."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self._number = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from None
        weakref.finalize(self, os.close, self._number)

    def read(self, start: int, end: int) -> bytes:
        """The bytes from one place to another; DataError where there are none any more."""
        parts = []
        while start < end:
            try:
                parts.append(self._read(min(end - start, READ), start))
            except OSError as error:
                raise DataError(f"{self.path}: cannot be read ({error.strerror})") from None
            if not parts[-1]:
                raise DataError(f"{self.path}: was cut short while it was in use; what was saved is kept")
            start += len(parts[-1])
        return b"".join(parts)

    def _read(self, size, start):
        if hasattr(os, "pread"):  # has no position that two readers could share
            return os.pread(self._number, size, start)
        os.lseek(self._number, start, os.SEEK_SET)
        return os.read(self._number, size)


@dataclass(frozen=True, eq=False)
class Ids:
    """The ids of a text in a file, from its `start` to its `stop`: a slice is an array, read when it is asked for."""

    file: File
    dtype: np.dtype
    start: int
    stop: int

    def __len__(self):
        return self.stop - self.start

    def __getitem__(self, place: slice) -> np.ndarray:
        start, stop, step = place.indices(len(self))
        assert step == 1, "what is read lies together"
        first, last = ((self.start + p) * self.dtype.itemsize for p in (start, max(start, stop)))
        return np.frombuffer(self.file.read(first, last), self.dtype)

    def __iter__(self):
        for block in self.blocks():
            yield from block

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[:], dtype)

    def part(self, start: int, stop: int) -> "Ids":
        return Ids(self.file, self.dtype, self.start + start, self.start + stop)

    def blocks(self):
        """All of them in order, as arrays of a bounded size."""
        for start in range(0, len(self), READ):
            yield self[start : start + READ]


def kept(path: Path, dtype: np.dtype, length: int, make, notes: list[str]) -> Ids:
    """The ids kept in a file, `length` of them; where it is not there yet or is not what was written, made of the
    arrays that `make()` gives."""
    if path.exists():
        if ids := _sound(path, dtype, length):
            return ids
        notes.append(f"{path}: the encoded corpus was damaged and is made again")
    beside = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        content = hashlib.sha256()
        with open(beside, "wb") as file:
            for block in make():
                raw = block.astype(dtype, copy=False).data
                content.update(raw)
                file.write(raw)
            file.write(content.digest())
        os.replace(beside, path)
    except OSError as error:
        raise DataError(f"{path.parent}: the encoded corpus cannot be kept there ({error.strerror})") from None
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
    return Ids(File(path), dtype, 0, length)


def _sound(path, dtype, length):
    """The ids in a file, or None where it has another length or digest than it was written with."""
    end = length * dtype.itemsize
    if path.stat().st_size != end + DIGEST:
        return None
    ids, content = Ids(File(path), dtype, 0, length), hashlib.sha256()
    for block in ids.blocks():
        content.update(block)
    return ids if ids.file.read(end, end + DIGEST) == content.digest() else None
