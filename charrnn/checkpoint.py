"""Checkpoints: `.pt` files of tensors and plain data, with a digest of their content, never half written.

torch.load(path, weights_only=True) opens them. They are read here without torch, by a small reader that admits
nothing but arrays and plain data, so that sampling on a CPU starts at once and no file can run code.
"""

import hashlib
import io
import json
import math
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np

from .config import complete
from .errors import CharrnnError, CheckpointError
from .model import apart

FORMAT = "charrnn 1"
_KINDS = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ByteStorage": np.uint8,
}


def digest(tensors: dict[str, np.ndarray], record: dict) -> str:
    """SHA-256 of everything in a checkpoint: names, kinds, shapes, numbers and the plain data."""
    content = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for name in sorted(tensors):
        array = tensors[name]
        content.update(f"{name} {array.dtype.str} {array.shape}".encode())
        content.update(array.tobytes())
    return content.hexdigest()


def save(path: Path, tensors: dict[str, np.ndarray], record: dict) -> None:
    """Writes a checkpoint beside `path`, flushes it to the disk and renames it: there is always a whole one."""
    import torch

    assert all(array.dtype in _KINDS.values() for array in tensors.values()), "a kind of number that load does not know"
    record = json.loads(json.dumps(record))  # what is stored is what is read back: plain data, lists for tuples
    content = {
        "format": FORMAT,
        "digest": digest(tensors, record),
        "record": record,
        "tensors": {name: torch.from_numpy(np.array(array, order="C")) for name, array in tensors.items()},
    }
    made = io.BytesIO()  # in memory first: torch hides why a file could not be written
    torch.save(content, made)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        try:
            with open(beside, "wb") as file:
                file.write(made.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
            flush_folder(path.parent)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise CharrnnError(f"{path}: cannot be saved ({error.strerror}); what was there is untouched") from None


def flush_folder(folder: Path) -> None:
    """Makes a rename in a folder survive a power cut; Windows has no such call and needs none."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def load(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """The tensors and the plain data of a checkpoint; CheckpointError says what is wrong with a file that is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            content = _read(archive)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise _Refused(f"it is not a checkpoint of charrnn's format {FORMAT!r}")
        tensors, record = content["tensors"], content["record"]
        if digest(tensors, record) != content["digest"]:
            raise _Refused("its content does not match its digest: the file was damaged or changed")
        return tensors, record
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    except _Refused as refusal:
        raise CheckpointError(f"{path}: refused, {refusal}") from None
    except Exception as error:  # a damaged archive or pickle can raise nearly anything
        raise CheckpointError(f"{path}: is damaged or no checkpoint ({type(error).__name__}: {error})") from None


class _Refused(Exception):
    """The file is none of ours, is not what it was, or wants something that is neither array nor plain data."""


def _read(archive):
    root = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
    byteorder = f"{root}byteorder"
    if byteorder in archive.namelist() and archive.read(byteorder) != b"little":
        raise _Refused("its numbers are not little-endian")
    return _Reader(archive, root).load()


class _Reader(pickle.Unpickler):
    """An unpickler whose only class is the tensor, made as a numpy array."""

    def __init__(self, archive, root):
        super().__init__(io.BytesIO(archive.read(f"{root}data.pkl")))
        self.archive, self.root = archive, root

    def find_class(self, module, name):
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _array
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch" and name in _KINDS:
            return _KINDS[name]
        raise _Refused(f"it asks for {module}.{name}; only arrays and plain data are admitted")

    def persistent_load(self, key):
        kind, number, name = key[0], key[1], key[2]
        if kind != "storage":
            raise _Refused(f"it asks for a {kind!r}")
        return np.frombuffer(self.archive.read(f"{self.root}data/{name}"), np.dtype(number).newbyteorder("<"))


def _array(storage, offset, shape, stride, *_):
    size = storage.itemsize
    if min(offset, 0, *shape, *stride) < 0:
        raise _Refused("a tensor reaches before its storage")
    if offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True)) + 1 > len(storage) and 0 not in shape:
        raise _Refused("a tensor reaches beyond its storage")
    if math.prod(shape) > len(storage):  # by strides of 0: it would be copied, however large
        raise _Refused("a tensor has more numbers than its storage")
    return np.lib.stride_tricks.as_strided(storage[offset:], shape, [s * size for s in stride], writeable=False).copy()


def weights(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The model's own arrays among the tensors of a checkpoint; those of several members are `joined`."""
    return {name.removeprefix("weights."): array for name, array in tensors.items() if name.startswith("weights.")}


def members(tensors: dict[str, np.ndarray], record: dict) -> list[dict]:
    """The arrays of each model in a checkpoint: of one as a rule, or of those that were trained side by side."""
    return apart(weights(tensors), complete(record.get("config", {}))["members"])


def shareable(record: dict) -> dict:
    """A record without where on this machine the texts lie."""
    return {name: value for name, value in record.items() if name != "paths"}


def lasting(record: dict) -> dict:
    """What of the record of a last.pt holds for the whole run."""
    passing = ("kind", "engine", "result", "training", "counters", "good", "logs")
    return {name: value for name, value in record.items() if name not in passing}


def find(path: Path) -> Path:
    """The checkpoint that a path means: itself, or the best (else the last) one of a run folder."""
    if path.is_dir():
        for name in ("best.pt", "last.pt"):
            if (path / name).exists():
                return path / name
        raise CheckpointError(f"{path}: the folder holds neither best.pt nor last.pt")
    return path
