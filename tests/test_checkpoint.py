"""Checkpoints: what is written is what is read, damage is seen, nothing in a file runs, a save is whole or none."""

import hashlib
import io
import itertools
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hn

from charrnn import checkpoint
from charrnn.errors import CharrnnError, CheckpointError

CAMPAIGN = int(os.environ.get("CHARRNN_CAMPAIGN", "0"))
KINDS = [np.float32, np.float64, np.int64, np.int32, np.uint8]
posix = pytest.mark.skipif(os.name != "posix", reason="the system has no such signals and limits")


# ---- what is written is what is read


def same(a: dict, b: dict) -> bool:
    """Whether tensors are the same to the bit, not-a-numbers included."""
    return a.keys() == b.keys() and all(
        (a[k].dtype, a[k].shape, a[k].tobytes()) == (b[k].dtype, b[k].shape, b[k].tobytes()) for k in a
    )


def views(array):
    """An array, and views of it that do not lie in memory in the order in which they are read."""
    return [
        array,
        array.T,
        array[..., ::2],
        array[::-1] if len(array) > 1 else array,
        array[:, None].repeat(2, 1)[:, 1],
    ]


names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
arrays = st.sampled_from(KINDS).flatmap(
    lambda kind: hn.arrays(kind, hn.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
)
tensors = st.dictionaries(names, arrays.map(views).flatmap(st.sampled_from), max_size=4)
words = st.text(st.characters(codec=None), max_size=12)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)
records = st.dictionaries(words, plain, max_size=4)
quick = settings(derandomize=True, deadline=None, max_examples=60)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A file for hypothesis, which runs a test many times in one folder."""
    return tmp_path_factory.mktemp("checkpoint") / "a.pt"


@quick
@given(tensors, records)
def test_round_trip(place, tensors, record):
    checkpoint.save(place, tensors, record)
    read, told = checkpoint.load(place)
    assert same(read, tensors)
    assert told == record
    assert repr(told) == repr(dict(record))  # True is not 1, 1 is not 1.0, -0.0 is not 0.0
    assert all(array.flags.writeable and array.flags.c_contiguous for array in read.values())


@pytest.mark.parametrize(
    "array",
    [np.array(7, np.float32), np.array(7), np.array([7.0])[::-1]],
    ids=["single", "single whole", "reversed"],
)
def test_round_trip_of_odd_arrays(place, array):
    checkpoint.save(place, {"a": array}, {})
    assert same(checkpoint.load(place)[0], {"a": array})


@quick
@given(tensors, records)
def test_torch_opens_it_and_agrees(place, tensors, record):
    checkpoint.save(place, tensors, record)
    opened = torch.load(place, weights_only=True)
    read, told = checkpoint.load(place)
    assert same({name: tensor.numpy() for name, tensor in opened["tensors"].items()}, read)
    assert opened["record"] == told
    assert opened["format"] == checkpoint.FORMAT
    assert opened["digest"] == checkpoint.digest(read, told)


def test_tuples_and_numbered_keys_come_back_as_json_has_them(place):
    checkpoint.save(place, {}, {"parts": (1, 2), 3: "three"})
    assert checkpoint.load(place)[1] == {"parts": [1, 2], "3": "three"}


def test_the_same_content_is_the_same_file(place, tmp_path):
    other = tmp_path / "elsewhere.pt"
    for path in (place, other):
        checkpoint.save(path, {"a": np.arange(5.0)}, {"b": 1})
    assert place.read_bytes() == other.read_bytes()


def test_the_digest_sees_every_part():
    tensors, record = {"a": np.arange(6, dtype=np.int32), "b": np.zeros(2, np.int32)}, {"x": 1}
    a, b = tensors["a"], tensors["b"]
    others = [
        ({"a": a, "c": b}, record),
        ({"a": b, "b": a}, record),
        ({"a": a}, record),
        ({"a": a.view(np.float32), "b": b}, record),
        ({"a": a.reshape(2, 3), "b": b}, record),
        ({"a": a.reshape(3, 2), "b": b}, record),
        ({"a": a + 1, "b": b}, record),
        (tensors, {"x": 2}),
        (tensors, {"y": 1}),
        (tensors, {"x": "1"}),
    ]
    digests = {checkpoint.digest(*other) for other in [(tensors, record), *others]}
    assert len(digests) == 1 + len(others)
    assert checkpoint.digest(dict(reversed(tensors.items())), record) == checkpoint.digest(tensors, record)
    assert checkpoint.digest({"a": np.array([0.0])}, {}) != checkpoint.digest({"a": np.array([-0.0])}, {})


def test_weights_are_the_models_own():
    arrays = {"weights.head.b": np.zeros(1), "weights.layers.0.U.f": np.ones(1), "optimizer.step.head.b": np.zeros(1)}
    assert list(checkpoint.weights(arrays)) == ["head.b", "layers.0.U.f"]


def test_the_reader_does_without_torch(trained):
    """Sampling on a CPU starts at once because of this."""
    script = """
        import sys
        from pathlib import Path
        from charrnn import checkpoint
        tensors, record = checkpoint.load(Path(sys.argv[1]))
        print("torch" in sys.modules, record["model"]["cell"], checkpoint.digest(tensors, record))
    """
    said = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), trained / "best.pt"], check=True, capture_output=True, text=True
    )
    digest = torch.load(trained / "best.pt", weights_only=True)["digest"]
    assert said.stdout.split() == ["False", "lstm", digest]


def test_a_run_folder_means_its_best_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=r"neither best\.pt nor last\.pt"):
        checkpoint.find(tmp_path)
    for name in ("last.pt", "best.pt"):
        (tmp_path / name).touch()
        assert checkpoint.find(tmp_path) == tmp_path / name
    assert checkpoint.find(tmp_path / "last.pt") == tmp_path / "last.pt"


# ---- damage is seen


@pytest.fixture
def sound(tmp_path):
    """A checkpoint with all kinds of arrays, one of them of numbers that stand nowhere else in the file."""
    numbers = np.random.default_rng(5).integers(0, 256, 512).astype(np.uint8)
    tensors = {kind.__name__: np.arange(12).astype(kind).reshape(3, 4) for kind in KINDS} | {"numbers": numbers}
    path = tmp_path / "sound.pt"
    checkpoint.save(path, tensors, {"cell": "lstm", "symbols": "abcé", "lr": 0.004, "parts": {"train": [0, 90]}})
    return path


def refusal(path) -> str:
    """The line that says why a file cannot be loaded; it names the file and is fit to be read."""
    with pytest.raises(CheckpointError) as refused:
        checkpoint.load(path)
    line = str(refused.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    assert "None" not in line
    return line


def flipped(whole: bytes, bits):
    """Copies of the bytes, each with one bit the other way."""
    for bit in bits:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)


def harmless(path, damaged: bytes, content) -> bool:
    """Whether damaged bytes still give exactly the content; if not they must be refused."""
    path.write_bytes(damaged)
    outcome = loaded_or_refused(path)
    if isinstance(outcome, CheckpointError):
        return False
    assert same(outcome[0], content[0])
    assert outcome[1] == content[1]
    return True


def loaded_or_refused(path):
    with pytest.raises((CheckpointError, Loaded)) as end:
        raise Loaded(checkpoint.load(path))
    return end.value.args[0] if isinstance(end.value, Loaded) else end.value


class Loaded(Exception):
    """A checkpoint was loaded, and this is it."""


@pytest.mark.campaign
def test_a_flipped_bit_is_refused_or_harmless(sound, tmp_path):
    whole, content = sound.read_bytes(), checkpoint.load(sound)
    bits = random.Random(1).sample(range(8 * len(whole)), min(8 * len(whole), 500 + 500 * CAMPAIGN))
    spared = sum(harmless(tmp_path / "damaged.pt", damaged, content) for damaged in flipped(whole, bits))
    assert spared < len(bits) / 2  # dates and padding of the archive, which nobody reads


def test_every_flipped_bit_of_a_number_is_refused(sound, tmp_path):
    whole, numbers = sound.read_bytes(), checkpoint.load(sound)[0]["numbers"].tobytes()
    assert whole.count(numbers) == 1
    start, path = whole.index(numbers), tmp_path / "damaged.pt"
    for damaged in flipped(whole, random.Random(2).sample(range(8 * start, 8 * (start + len(numbers))), 200)):
        path.write_bytes(damaged)
        refusal(path)


def rewritten(source, target, change):
    """The same archive with other members, and with checksums that fit them."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            member = change(name, old.read(name))
            if member is not None:
                new.writestr(name, member)


def test_numbers_changed_with_care_are_refused_by_the_digest(sound, tmp_path):
    numbers, changed = checkpoint.load(sound)[0]["numbers"].tobytes(), tmp_path / "changed.pt"
    rewritten(sound, changed, lambda name, member: member)
    assert same(checkpoint.load(changed)[0], checkpoint.load(sound)[0])
    for one in flipped(numbers, random.Random(3).sample(range(8 * len(numbers)), 50)):
        rewritten(sound, changed, lambda name, member, one=one: one if member == numbers else member)
        assert "does not match its digest" in refusal(changed)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content["record"].update(cell="gru"),
        lambda content: content["record"].update(more=1),
        lambda content: content["record"].pop("lr"),
        lambda content: content["tensors"].pop("int32"),
        lambda content: content["tensors"].update(int32=content["tensors"]["int32"].t()),
        lambda content: content["tensors"].update(int32=content["tensors"]["int32"].long()),
        lambda content: content["tensors"].update(more=torch.zeros(1)),
        lambda content: content.update(digest="0" * 64),
        lambda content: content.update(digest=None),
    ],
)
def test_content_changed_with_care_is_refused_by_the_digest(sound, change):
    content = torch.load(sound, weights_only=True)
    change(content)
    torch.save(content, sound)
    assert "does not match its digest" in refusal(sound)


@pytest.mark.campaign
def test_a_flipped_bit_with_its_checksum_mended_is_refused_or_harmless(sound, tmp_path):
    content, changed, scratch = checkpoint.load(sound), tmp_path / "changed.pt", tmp_path / "scratch.pt"
    with zipfile.ZipFile(sound) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/data/5")]
        pick = random.Random(4)
        for _ in range(200 + 100 * CAMPAIGN):
            name = pick.choice([names[0], names[0], pick.choice(names)])  # mostly the pickle
            bits = [pick.randrange(8 * len(archive.read(name)))]
            (damaged,) = flipped(archive.read(name), bits)
            rewritten(sound, changed, lambda n, member, name=name, damaged=damaged: damaged if n == name else member)
            harmless(scratch, changed.read_bytes(), content)


def test_a_file_cut_short_is_refused(sound, tmp_path):
    whole, cut = sound.read_bytes(), tmp_path / "cut.pt"
    lengths = {0, 1, 4, 30, len(whole) // 2, len(whole) - 22, len(whole) - 1}
    for length in lengths | set(random.Random(6).sample(range(len(whole)), 150)):
        cut.write_bytes(whole[:length])
        refusal(cut)


def test_a_missing_member_is_refused(sound, tmp_path):
    gone = tmp_path / "gone.pt"
    with zipfile.ZipFile(sound) as archive:
        needed = [name for name in archive.namelist() if name.endswith("data.pkl") or "/data/" in name]
    assert len(needed) == 1 + len(checkpoint.load(sound)[0])
    for name in needed:
        rewritten(sound, gone, lambda n, member, name=name: None if n == name else member)
        refusal(gone)


def test_big_endian_numbers_are_refused(sound, tmp_path):
    other = tmp_path / "other.pt"
    rewritten(sound, other, lambda name, member: b"big" if name.endswith("byteorder") else member)
    assert "little-endian" in refusal(other)


def test_what_is_no_checkpoint_is_refused_in_words(tmp_path):
    empty, text, image = tmp_path / "empty.pt", tmp_path / "text.pt", tmp_path / "image.pt"
    empty.write_bytes(b"")
    text.write_text("not a checkpoint\n" * 50)
    with zipfile.ZipFile(image, "w") as archive:
        archive.writestr("word/document.xml", "<w/>")
    for path in (empty, text, image):
        assert "damaged or no checkpoint" in refusal(path)
    assert "Is a directory" in refusal(tmp_path) or os.name == "nt"
    assert "no such checkpoint" in refusal(tmp_path / "absent.pt")
    refusal(text / "inside.pt")


def test_a_refusal_is_one_line_and_status_5(tmp_path, charrnn):
    (tmp_path / "text.pt").write_text("hello")
    answer = charrnn("sample", "text.pt")
    assert (answer.status, answer.out, answer.err.count("\n")) == (5, "", 1)
    assert answer.err.startswith("error: text.pt: ")


@pytest.mark.parametrize(
    "foreign",
    [
        {"model": {"w": torch.zeros(2)}, "iter_num": 5},
        [torch.zeros(2)],
        torch.zeros(2),
        {},
        {"format": 1},
        {"format": "charrnn 2", "digest": "", "record": {}, "tensors": {}},
    ],
    ids=["nanogpt", "list", "tensor", "empty", "format", "future"],
)
def test_a_foreign_pt_is_refused_in_words(tmp_path, foreign):
    torch.save(foreign, tmp_path / "foreign.pt")
    assert "is not a checkpoint of charrnn's format" in refusal(tmp_path / "foreign.pt")


def test_a_foreign_pt_of_another_make_is_refused_in_words(tmp_path):
    """Half precision, a whole module, a parameter, a module's state, and the format before zip archives."""
    path = tmp_path / "foreign.pt"
    for foreign, word in (
        (torch.zeros(2).half(), "torch.HalfStorage"),
        (torch.nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        (torch.nn.Parameter(torch.zeros(2)), "_rebuild_parameter"),
        (torch.nn.Linear(2, 2).state_dict(), ""),
    ):
        torch.save(foreign, path)
        assert word in refusal(path)
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    assert "no checkpoint" in refusal(path)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"tensors": {}, "record": {}},
        {"digest": "", "record": {}},
        {"digest": "", "record": {}, "tensors": [1]},
        {"digest": "", "record": 3, "tensors": 4},
    ],
    ids=["nothing", "no digest", "no tensors", "list", "numbers"],
)
def test_our_format_with_parts_missing_is_refused(tmp_path, content):
    torch.save({"format": checkpoint.FORMAT} | content, tmp_path / "odd.pt")
    refusal(tmp_path / "odd.pt")


# ---- nothing in a file runs


class Call:
    """Pickled, it is a call that is made when it is read."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Storage:
    """Pickled as torch pickles the numbers of a tensor."""

    def __init__(self, size, kind="storage", number=torch.FloatStorage, name="0"):
        self.key = kind, number, name, "cpu", size


class Pickler(pickle.Pickler):
    def persistent_id(self, thing):
        return thing.key if isinstance(thing, Storage) else None


def crafted(path, content, storage=b"\0" * 16):
    """A `.pt` archive as an enemy would make it."""
    written = io.BytesIO()
    Pickler(written, 2, fix_imports=False).dump(content)
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in (("data.pkl", written.getvalue()), ("byteorder", b"little"), ("data/0", storage)):
            archive.writestr(f"archive/{name}", member)


def ours(tensor):
    return {"format": checkpoint.FORMAT, "digest": "", "record": {}, "tensors": {"a": tensor}}


def view(shape, stride, offset=0, storage=None):
    """A tensor over a storage of four float32 numbers."""
    rebuild = torch._utils._rebuild_tensor_v2
    return Call(rebuild, storage or Storage(4), offset, shape, stride, False, OrderedDict())


attacks = {
    "system": Call(os.system, "echo pwned > pwned"),
    "eval": Call(eval, "open('pwned', 'w').close()"),
    "exec": Call(exec, "open('pwned', 'w').close()"),
    "open": Call(open, "pwned", "w"),
    "import": Call(__import__, "os"),
    "popen": Call(subprocess.Popen, ("touch", "pwned")),
    "numpy": Call(np.save, "pwned", 1),
    "torch": Call(torch.save, 1, "pwned"),
    "tensor": Call(torch.Tensor, 3),
    "module": Call(torch.nn.Linear, 3, 3),
    "device": Call(torch.device, "cpu"),
}


@pytest.mark.parametrize("attack", attacks.values(), ids=attacks)
def test_a_file_cannot_run_anything(tmp_path, attack):
    """Whether the call stands alone, where a tensor is expected, within the plain data, or as a key."""
    function, evil = attack.call[0], tmp_path / "evil.pt"
    asked = f"refused, it asks for {function.__module__}.{function.__name__}; only arrays and plain data are admitted"
    for content in (attack, ours(attack), ours(view((4,), (1,))) | {"record": [attack]}, {attack: 1}):
        crafted(evil, content)
        assert asked in refusal(evil)
        evil.write_bytes(pickle.dumps(attack, 2))  # as torch.save did before zip archives
        assert "no checkpoint" in refusal(evil)
    assert not list(tmp_path.glob("pwned*"))


@pytest.mark.parametrize(
    "names", ["builtins getattr", "builtins __import__", "os system", "charrnn.checkpoint _array", "numpy frombuffer",
              "torch load", "torch hub", "torch._utils _rebuild_tensor", "torch.nn.modules.linear Linear",
              "collections Counter", "_codecs encode", "torch FloatStorage.__class__"],
)  # fmt: skip
def test_no_other_name_is_admitted(tmp_path, names):
    module, name = names.split()
    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as archive:
        archive.writestr("archive/data.pkl", f"\x80\x02c{module}\n{name}\n.".encode("latin-1"))
    assert f"refused, it asks for {module}.{name}" in refusal(tmp_path / "evil.pt")


@pytest.mark.parametrize(
    "tensor",
    [
        view((5,), (1,)),
        view((2, 2), (3, 1)),
        view((1,), (1,), offset=4),
        view((4,), (1,), offset=1),
        view((2,), (1,), storage=Storage(2, number=torch.DoubleStorage), offset=1),
        view((-1,), (1,)),
        view((2,), ()),
        view((2,), (1,), storage=Storage(4, name="1")),
        view((2,), (1,), storage=Storage(4, name="../byteorder")),
        view((2,), (1,), storage=Storage(4, kind="file")),
        view("ab", "cd"),
    ],
)
def test_a_tensor_that_its_storage_cannot_hold_is_refused(tmp_path, tensor):
    crafted(tmp_path / "evil.pt", ours(tensor))
    assert "digest" not in refusal(tmp_path / "evil.pt")  # refused before it was read


@pytest.mark.parametrize("size", [5, 10**13])
def test_a_tensor_larger_than_its_storage_is_refused_unread(tmp_path, size):
    """Where a system promises more memory than it has, a stride of 0 would have it all."""
    crafted(tmp_path / "evil.pt", ours(view((size,), (0,))))
    assert "more numbers than its storage" in refusal(tmp_path / "evil.pt")


@pytest.mark.parametrize("tensor", [view((4,), (-1,), offset=2), view((1,), (1,), offset=-3)], ids=["stride", "offset"])
def test_a_tensor_that_starts_before_its_storage_is_refused(tmp_path, tensor):
    crafted(tmp_path / "evil.pt", ours(tensor))
    assert "digest" not in refusal(tmp_path / "evil.pt")


def test_a_tensor_that_runs_backwards_is_refused_unread(tmp_path):
    """A digest that happens to fit must not help: what lies before the storage in memory is not the file's."""
    crafted(tmp_path / "evil.pt", ours(view((2,), (-(10**11),))))
    script = "import sys, pathlib; from charrnn import checkpoint; checkpoint.load(pathlib.Path(sys.argv[1]))"
    ended = subprocess.run([sys.executable, "-c", script, tmp_path / "evil.pt"], capture_output=True, text=True)
    assert ended.returncode == 1  # not killed by the system
    assert "CheckpointError" in ended.stderr


# ---- a save is whole or not at all


def test_a_save_is_flushed_then_renamed_then_the_folder_flushed(tmp_path, monkeypatch):
    path, calls = tmp_path / "a.pt", []
    checkpoint.save(path, {}, {"v": 1})
    real = os.fsync, os.replace

    def fsync(handle):
        calls.append(("flush", os.fstat(handle).st_mode & 0o040000 != 0, checkpoint.load(path)[1]["v"]))
        real[0](handle)

    def replace(source, target):
        calls.append(("rename", Path(source).parent == tmp_path, checkpoint.load(Path(source))[1]["v"]))
        real[1](source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    checkpoint.save(path, {}, {"v": 2})
    folder = [("flush", True, 2)] if os.name == "posix" else []
    assert calls == [("flush", False, 1), ("rename", True, 2), *folder]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_an_error_of_the_disk_leaves_the_old_file(tmp_path, monkeypatch, call):
    path = tmp_path / "a.pt"
    checkpoint.save(path, {"a": np.zeros(3)}, {"v": 1})
    before = path.read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, call, fail)
        with pytest.raises(CharrnnError, match=r"cannot be saved \(No space left on device\); what") as end:
            checkpoint.save(path, {"a": np.ones(3)}, {"v": 2})
    assert end.value.status == 1
    assert str(path) in str(end.value)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    checkpoint.save(path, {"a": np.ones(3)}, {"v": 2})
    assert checkpoint.load(path)[1] == {"v": 2}


def test_a_folder_that_is_not_there_is_an_error_in_words(tmp_path):
    (tmp_path / "file").touch()
    for parent in ("absent", "file"):
        with pytest.raises(CharrnnError, match="cannot be saved"):
            checkpoint.save(tmp_path / parent / "a.pt", {}, {})


LIMITED = """
    import resource, sys, pytest, numpy as np
    from pathlib import Path
    from charrnn import checkpoint
    from charrnn.errors import CharrnnError
    path, zeros = Path(sys.argv[1]), np.zeros(50_000, np.float32)
    checkpoint.save(path, {"a": zeros}, {"v": 1})
    for limit in (0, 1, 100, 3_000, 100_000, path.stat().st_size - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        with pytest.raises(CharrnnError) as end:
            checkpoint.save(path, {"a": zeros + 1}, {"v": 2})
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        tensors, record = checkpoint.load(path)
        assert record == {"v": 1} and not tensors["a"].any()
        assert [p.name for p in path.parent.iterdir()] == [path.name]
        print(limit, end.value)
    checkpoint.save(path, {"a": zeros + 1}, {"v": 2})
    assert checkpoint.load(path)[1] == {"v": 2}
"""


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    """What a process says whose files may not grow: a line for each limit that stopped a save."""
    path = tmp_path_factory.mktemp("limited") / "a.pt"
    said = subprocess.run([sys.executable, "-c", textwrap.dedent(LIMITED), path], capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (0, "")
    return path, said.stdout.splitlines()


@posix
def test_a_disk_that_fills_up_leaves_the_old_file(limited):
    path, lines = limited
    assert len(lines) == 6
    assert all(f"{path}: cannot be saved (" in line and line.endswith("what was there is untouched") for line in lines)


@posix
def test_a_disk_that_fills_up_is_said_to_be_full(limited):
    assert all("(File too large)" in line for line in limited[1])


SAVER = """
    import os, sys, numpy as np
    from pathlib import Path
    from charrnn import checkpoint
    path = Path(sys.argv[1])
    import torch
    for _ in sys.stdin:
        child = os.fork()
        if not child:
            k = checkpoint.load(path)[1]["k"]
            while True:
                k += 1
                checkpoint.save(path, {"a": np.full(20_000, k), "b": np.full((3, 5), k)}, {"k": k, "text": "é" * k})
                os.write(1, f"{os.getpid()}\\n".encode())
        os.waitpid(child, 0)
        os.write(1, b"ended\\n")
"""


@posix
@pytest.mark.campaign
def test_kill_in_the_middle_of_a_save_leaves_a_whole_file(tmp_path):
    """A process that does nothing but save is killed (SIGKILL), again and again; the file can always be read."""
    path, pick, seen = tmp_path / "a.pt", random.Random(7), [0]
    checkpoint.save(path, {"a": np.zeros(20_000, int), "b": np.zeros((3, 5), int)}, {"k": 0, "text": ""})
    command = [sys.executable, "-c", textwrap.dedent(SAVER), path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as saver:
        for _ in range(8 + CAMPAIGN):
            saver.stdin.write("go\n")
            child = int(saver.stdout.readline())  # it has saved once
            time.sleep(pick.uniform(0, 0.05))
            os.kill(child, signal.SIGKILL)
            list(itertools.takewhile(lambda line: line != "ended\n", saver.stdout))
            tensors, record = checkpoint.load(path)
            assert record["k"] > seen[-1]
            assert (tensors["a"] == record["k"]).all()
            assert (tensors["b"] == record["k"]).all()
            assert record["text"] == "é" * record["k"]
            seen.append(record["k"])
        saver.stdin.close()
    assert {p.suffix for p in tmp_path.iterdir()} <= {".pt", ".part"}


def test_the_file_on_the_disk_is_what_was_digested(sound):
    """The digest that stands in the file is of the content by its definition, remade here in other words."""
    content = torch.load(sound, weights_only=True)
    told = hashlib.sha256()
    told.update(json.dumps(content["record"], sort_keys=True).encode())
    for name, tensor in sorted(content["tensors"].items()):
        told.update(f"{name} {tensor.numpy().dtype.str} {tuple(tensor.shape)}".encode() + tensor.numpy().tobytes())
    assert told.hexdigest() == content["digest"]
