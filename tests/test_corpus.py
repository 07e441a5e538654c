"""Text in: nothing of it is lost, every fault is told with its place, and the cache knows content, not names."""

import codecs
import io
import json
import os
import re
import subprocess
import sys
import time
import tracemalloc
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, sentences
from hypothesis import example, given, settings
from hypothesis import strategies as st

from charrnn import corpus as module
from charrnn.corpus import BOUNDARY, Reading, known, open_corpus, read_texts
from charrnn.corpus.cache import DIGEST
from charrnn.errors import DataError, UsageError
from charrnn.vocab import Vocabulary

CAMPAIGN = int(os.environ.get("CHARRNN_CAMPAIGN", "0"))
CACHE = Path("cache")
PLAIN = Reading()
FILLER = "The quick brown fox jumps over the lazy dog.\n" * 3  # enough to be a corpus
UNICODE = st.characters(codec="utf-8")
BLOCKS = st.integers(1, 40)
some = settings(derandomize=True, deadline=None, max_examples=60)


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    """A cache for this module: its tests count what lies in their own one, CACHE, and the command's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHARRNN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def write(name: str, content: bytes | str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def opened(*contents: bytes | str, reading=PLAIN, val=(), **more):
    """The corpus made of these contents, written to 0.txt, 1.txt and so on."""
    paths = [write(f"{i}.txt", content) for i, content in enumerate(contents)]
    val_paths = [write(f"val{i}.txt", content) for i, content in enumerate(val)]
    return open_corpus(paths, val_paths, CACHE, reading, **more)


def text_of(corpus) -> str:
    return corpus.vocabulary.decode(np.asarray(corpus.ids))


def told(call, *arguments, **more) -> str:
    """The message of the DataError that a call must raise."""
    with pytest.raises(DataError) as error:
        call(*arguments, **more)
    return str(error.value)


@contextmanager
def blocks_of(size: int):
    """Files are read so many bytes at a time (a fixture would last for all of a property's examples)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", size)
        yield


def faults(raw: bytes, encoding: str) -> list[int]:
    """The places that Python's own decoder objects to, the file read whole."""
    places = []

    def note(error):
        places.append(error.start)
        return "\ufffd", error.end

    codecs.register_error("charrnn-tests", note)
    raw.decode(encoding, "charrnn-tests")
    return places


# ---- nothing is lost


@some
@given(st.text(UNICODE, max_size=30), st.text(UNICODE, max_size=30), BLOCKS)
@example("first line\n", "last character", 1)
@example("\r\n\r\r\n\n", "\r", 3)
@example("a\ufeff\0\u2028", "e\u0301👩‍👩‍👧\n\n", 2)
@example("\n", "\n", 64)
def test_every_character_from_the_first_to_the_last_is_there(head, tail, block):
    text = head.lstrip("\ufeff") + FILLER + tail
    with blocks_of(block):
        corpus = opened(text)
    assert text_of(corpus) == text and corpus.notes == []
    assert corpus.parts["train"][0] == 0 and corpus.parts["val"][1] == len(text) == len(corpus.ids)
    assert corpus.ids.dtype == corpus.vocabulary.dtype


@some
@given(st.binary(max_size=30), BLOCKS)
@example(b"\xff\xfe\0\r\n\xef\xbb\xbf", 1)
def test_every_byte_is_there_with_bytes(head, block):
    raw = head + FILLER.encode() + head
    with blocks_of(block):
        corpus = opened(raw, reading=Reading(bytes=True))
    assert bytes(corpus.ids) == raw, "a BOM too is bytes"


@pytest.mark.parametrize("block", [1, 2, 3, 4, 1000])
def test_a_byte_order_mark_is_dropped_at_the_start_alone_and_said(block, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", block)
    corpus = opened("\ufeffA\ufeff" + FILLER, FILLER, "\ufeff" + FILLER)
    assert text_of(corpus) == "A\ufeff" + FILLER + BOUNDARY + FILLER + BOUNDARY + FILLER
    assert [note.split(":")[0] for note in corpus.notes] == ["0.txt", "2.txt"], "one note for each file that had one"
    assert all("byte order mark" in note for note in corpus.notes)


def test_the_note_about_a_byte_order_mark_reaches_the_user(charrnn):
    write("bom.txt", "\ufeff" + FILLER)
    done = charrnn("train", "bom.txt", *TINY, "--steps", 1, "-q")
    assert done.status == 0 and "note: bom.txt: dropped the byte order mark" in done.err


# ---- a byte that is no text


PIECES = [b"\n", b"a", b"\xc3\xa9", b"\xe2\x82\xac", b"\xf0\x9f\x91\xa9", b"\xe2\x82", b"\xff", b"\x80", b"\x81"]
SPOILED = st.binary(max_size=40) | st.lists(st.sampled_from(PIECES), max_size=20).map(b"".join)


@settings(derandomize=True, deadline=None, max_examples=250)
@given(SPOILED, BLOCKS, st.sampled_from(["utf-8", "shift_jis", "euc-kr", "big5", "cp1252"]))
@example(b"\n\nab\xe2\x82", 4, "utf-8")
@example(b"\xf0\x9f\x91\n\xff", 2, "utf-8")
@example(b"\n\xe2\x82\n", 1, "utf-8")
def test_blocks_of_any_size_give_the_text_or_the_fault_of_the_whole(raw, block, encoding):
    path, wrong = write("spoiled.txt", raw), faults(raw, encoding)
    with blocks_of(block):
        if not wrong:
            text = "".join(read_texts(path, Reading(encoding=encoding), []))
            assert text == raw.decode(encoding).removeprefix("\ufeff")
            return
        message = told(lambda: list(read_texts(path, Reading(encoding=encoding), [])))
    line = raw[: wrong[0]].count(b"\n") + 1
    assert message.startswith(f"spoiled.txt: byte offset {wrong[0]:,} (line {line:,}) is 0x{raw[wrong[0]]:02x}, ")
    assert f"not {encoding} (" in message and "\n" not in message


@pytest.mark.parametrize(
    ("encoding", "raw", "place", "line"),
    [("shift_jis", b"\0\xd8\x82\x810\xf0\\", 5, 1), ("euc-kr", b"\\AB\n\xa9\xf0$B\x81\xc3\xd8", 8, 2)],
)
def test_a_fault_after_a_character_that_two_blocks_share_has_its_place(encoding, raw, place, line):
    path, reading = write("spoiled.txt", raw), Reading(encoding=encoding)
    with blocks_of(3 if encoding == "shift_jis" else 5):
        message = told(lambda: list(read_texts(path, reading, [])))
    assert f"byte offset {place} (line {line}) is 0x{raw[place]:02x}" in message


@pytest.mark.parametrize("place", [-3, -2, -1, 0, 1, 2])
def test_a_bad_byte_about_the_boundary_of_two_blocks_has_its_own_place(place):
    at = module.BLOCK + place
    raw = bytearray(b"123456\n" * (at // 7 + 2))
    raw[at] = 0xE9  # é in latin-1
    message = told(opened, bytes(raw))
    assert message.startswith(f"0.txt: byte offset {at:,} (line {at // 7 + 1:,}) is 0xe9, which is not utf-8")


@pytest.mark.parametrize("place", [-3, -2, -1, 0])
def test_a_character_that_lies_across_the_boundary_of_two_blocks_is_one(place):
    before = module.BLOCK + place
    corpus = opened("ab" * (before // 2) + "a" * (before % 2) + "👩" + "ab" * 50)
    assert corpus.vocabulary.symbols == ["a", "b", "👩"]
    assert np.flatnonzero(corpus.ids[:] == 2).tolist() == [before] and len(corpus.ids) == before + 101


def test_a_bad_byte_is_one_clear_line_with_the_remedies_and_status_4(charrnn):
    write("bad.txt", b"one\ntwo\nthr\xe9e\n" + FILLER.encode())
    done = charrnn("train", "bad.txt", *TINY, "--steps", 1)
    assert (done.status, done.out) == (4, "")
    assert done.err.startswith("error: bad.txt: byte offset 11 (line 3) is 0xe9, which is not utf-8 (")
    assert "--encoding" in done.err and "--errors replace" in done.err and "--bytes" in done.err
    assert done.err.count("\n") == 1 and not Path("checkpoints").exists()
    for remedy in (["--encoding", "latin-1"], ["--errors", "replace"], ["--bytes"]):
        done = charrnn("train", "bad.txt", *TINY, "--steps", 1, "-q", *remedy)
        assert done.status == 0, f"the remedy {remedy} must be one"


@pytest.mark.parametrize("block", [1, 5, module.BLOCK])
@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("latin-1", "café ÿ\x85\n"), ("utf-16", "Жук 👩\r\n"), ("utf-16-be", "\u010a\u0a0a\n"), ("utf-32", "猫👩\n"),
        ("shift_jis", "日本語ソ表\n"), ("cp1251", "Мышь\n"), ("gb18030", "猫👩é\n"), ("iso2022_jp", "日本語a\n"),
    ],
)  # fmt: skip
def test_an_encoding_is_read_as_it_is_meant(encoding, text, block):
    text = text + FILLER + text
    with blocks_of(block):
        corpus = opened(text.encode(encoding), reading=Reading(encoding=encoding))
    assert text_of(corpus) == text


def test_errors_replace_puts_u_fffd_and_says_how_many():
    corpus = opened(b"caf\xe9, na\xefve\n" + FILLER.encode() + b"\xe2\x82", reading=Reading(errors="replace"))
    assert text_of(corpus) == "caf\ufffd, na\ufffdve\n" + FILLER + "\ufffd"
    numbers = [int(re.search(r"0\.txt: ([\d,]+) places", note)[1]) for note in corpus.notes]
    assert sum(numbers) == 3


def test_a_replacement_character_of_the_text_itself_is_not_counted_as_a_fault():
    assert opened("\ufffd" + FILLER, reading=Reading(errors="replace")).notes == []


def test_replaced_places_are_told_once_for_a_file():
    with blocks_of(8):
        corpus = opened(b"caf\xe9, na\xefve\n" + FILLER.encode(), reading=Reading(errors="replace"))
    assert corpus.notes == ["0.txt: 2 places read as U+FFFD (--errors replace)"]


def test_the_line_of_a_fault_in_utf_16_is_that_of_an_editor():
    raw = "\u010a\u0a0a one\ntwo".encode("utf-16-le") + b"\x00\xdc" + FILLER.encode("utf-16-le")
    for size in (1, 3, 8, 20, 1000):
        with blocks_of(size):
            assert "byte offset 20 (line 2) is" in told(opened, raw, reading=Reading(encoding="utf-16-le"))


def test_utf_16_without_a_byte_order_mark_is_read_or_refused_with_a_word():
    raw = FILLER.encode("utf-16-le")
    assert "utf-16-le" in told(opened, raw, reading=Reading(encoding="utf-16"))


def test_an_encoding_that_is_none_suggests_the_nearest(charrnn):
    done = charrnn("train", write("a.txt", FILLER), "--encoding", "latin1x")
    assert (done.status, done.out) == (2, "") and "--encoding latin1x" in done.err and "'latin-1'" in done.err
    with pytest.raises(UsageError, match="--errors ignore: must be strict or replace"):
        Reading(errors="ignore")


@pytest.mark.parametrize("name", ["hex", "base64", "rot13", "zlib", "undefined", "utf-8\0"])
def test_a_codec_that_is_no_text_encoding_is_a_usage_error(name):
    with pytest.raises(UsageError, match="--encoding"):
        Reading(encoding=name)


# ---- the cache


def entries() -> list[Path]:
    return sorted(CACHE.iterdir())


def test_the_cache_is_keyed_by_content_though_name_size_and_time_stay():
    first = opened(FILLER)
    before = os.stat("0.txt")
    write("0.txt", FILLER[::-1])
    os.utime("0.txt", ns=(before.st_atime_ns, before.st_mtime_ns))
    after = os.stat("0.txt")
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    second = open_corpus([Path("0.txt")], [], CACHE)
    assert text_of(second) == FILLER[::-1] and text_of(first) == FILLER
    assert second.digest != first.digest and len(entries()) == 2


def test_the_same_content_is_encoded_once_whatever_its_name_and_time():
    first = opened(FILLER)
    (entry,) = entries()
    made = entry.stat()
    write("folder/other.txt", FILLER)
    os.utime("folder/other.txt", (1, 1))
    second = open_corpus([Path("folder/other.txt")], [], CACHE)
    assert entries() == [entry] and entry.stat().st_mtime_ns == made.st_mtime_ns and entry.stat().st_ino == made.st_ino
    assert second.digest == first.digest and text_of(second) == FILLER


@pytest.mark.parametrize("length", [0, 1, len(FILLER) - 1, len(FILLER) + 7])
def test_a_cache_entry_of_the_wrong_length_is_made_again(length):
    opened(FILLER)
    (entry,) = entries()
    os.truncate(entry, length)
    assert text_of(opened(FILLER)) == FILLER
    assert entries() == [entry] and entry.stat().st_size == len(FILLER) + DIGEST


@pytest.mark.parametrize("place", [0, len(FILLER) // 2, len(FILLER) - 1, len(FILLER), len(FILLER) + DIGEST - 1])
def test_a_flipped_bit_in_the_cache_is_noticed_and_told(place):
    assert opened(FILLER).notes == []
    (entry,) = entries()
    raw = bytearray(entry.read_bytes())
    raw[place] ^= 1
    entry.write_bytes(raw)
    corpus = opened(FILLER)
    assert corpus.notes == [f"{entry}: the encoded corpus was damaged and is made again"]
    assert text_of(corpus) == FILLER and entries() == [entry]
    assert opened(FILLER).notes == []


def test_a_note_about_a_damaged_cache_reaches_the_user_and_the_run_is_the_same(charrnn, monkeypatch):
    monkeypatch.setenv("CHARRNN_CACHE", str(CACHE))
    train = ("train", write("a.txt", FILLER), *TINY, "--steps", 2, "-q", "--json", "--out")
    before = charrnn(*train, "before")
    (entry,) = (path for path in entries() if path.suffix == ".ids")  # the yardsticks lie there too
    entry.write_bytes(entry.read_bytes()[::-1])
    after = charrnn(*train, "after")
    assert before.status == after.status == 0 and "was damaged and is made again" not in before.err
    assert f"note: {entry}: the encoded corpus was damaged and is made again" in after.err
    assert json.loads(before.out)["result"] == json.loads(after.out)["result"]


def test_a_cache_cut_short_while_it_is_read_is_told_in_a_line():
    corpus = opened(FILLER)
    (entry,) = entries()
    os.truncate(entry, 10)
    assert told(lambda: corpus.ids[:]) == f"{entry}: was cut short while it was in use; what was saved is kept"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows lets no file go that is open")
def test_a_cache_entry_that_is_deleted_while_it_is_read_is_read_on():
    corpus = opened(FILLER)
    entries()[0].unlink()
    assert text_of(corpus) == FILLER


@pytest.mark.parametrize("later", [FILLER + "fox", FILLER[::-1], FILLER[3:]])
def test_a_text_that_changes_while_it_is_read_is_told_and_nothing_is_kept(later, monkeypatch):
    def read_and_changed(paths, reading, notes, content=None):
        yield from symbols(paths, reading, notes, content)
        for path in paths:
            path.write_text(later)

    symbols = module._symbols
    monkeypatch.setattr(module, "_symbols", read_and_changed)
    assert told(opened, FILLER) == "0.txt: changed while it was read; start again"
    assert entries() == []


@some
@given(
    st.lists(st.none() | st.integers(-800, 800), min_size=2, max_size=2),
    st.tuples(st.integers(0, 700), st.integers(0, 700)),
)
@example([None, None], (0, 0))
@example([5, 5], (0, 700))
@example([6, 5], (0, 700))
def test_ids_in_a_file_are_those_of_an_array(place, bounds):
    text = "".join(chr(0x100 + i % 301) for i in range(700))
    ids, (start, stop) = opened(text).ids, sorted(bounds)
    whole, part, place = np.arange(700) % 301, ids.part(start, stop), slice(*place)
    assert len(part) == stop - start and np.asarray(part).tolist() == list(part) == whole[start:stop].tolist()
    assert part[place].tolist() == whole[start:stop][place].tolist()


def test_what_is_read_differently_is_another_corpus():
    raw = "é ÿ\n".encode() * 40
    readings = [Reading(), Reading(bytes=True), Reading(encoding="latin-1"), Reading(encoding="cp1251")]
    made = [opened(raw, reading=reading) for reading in readings]
    assert len({corpus.digest for corpus in made}) == len(made) == len(entries())
    assert [text_of(corpus) for corpus in made] == [
        raw.decode(), raw.decode(), raw.decode("latin-1"), raw.decode("cp1251"),
    ]  # fmt: skip


def test_the_vocabulary_is_part_of_the_key():
    raw = "aab" + FILLER
    whole, folded = opened(raw), opened(raw, min_count=4)
    given_one = opened(raw, known=(Vocabulary.learn(dict.fromkeys(range(128), 1)), whole.digest))
    assert len(entries()) == 3
    assert text_of(whole) == raw == text_of(given_one) and "\ufffd" in text_of(folded)
    assert np.asarray(given_one.ids).tolist() == list(raw.encode())
    assert text_of(opened(raw)) == raw and len(entries()) == 3


def test_where_texts_end_is_part_of_what_a_corpus_is():
    half = FILLER[:70]
    digests = {
        opened(half + half).digest, opened(half, half).digest, opened(half, val=[half]).digest,
        opened(half, half, half).digest, opened(half, half, val=[half]).digest, opened(half, val=[half, half]).digest,
        opened(half + BOUNDARY + half).digest,
    }  # fmt: skip
    assert len(digests) == 7


def test_the_ids_cannot_be_written_to_and_nothing_is_left_beside_them():
    corpus = opened(FILLER)
    assert not corpus.ids[:].flags.writeable
    assert [path.suffix for path in entries()] == [".ids"]


def test_a_cache_that_cannot_be_made_is_told_in_a_line():
    write("cache", "a file stands where the folder should")
    assert told(opened, FILLER).startswith("cache: the encoded corpus cannot be kept there")


def test_a_text_that_must_be_the_same_and_is_not_is_refused():
    before = opened(FILLER, val=["validation"])
    known = before.vocabulary, before.digest
    assert opened(FILLER, val=["validation"], known=known).digest == before.digest
    for changed in (FILLER + "☃", FILLER[:-1], FILLER[::-1]):
        assert "changed since" in told(opened, changed, val=["validation"], known=known)
    assert "val0.txt" in told(opened, FILLER, val=["Validation"], known=known)


# ---- several files


def test_files_are_joined_in_the_order_given_with_a_boundary_between():
    write("b.txt", "B\n" + FILLER)
    write("a.txt", FILLER + "A")
    corpus = open_corpus([Path("b.txt"), Path("a.txt"), Path("b.txt")], [], CACHE)
    assert BOUNDARY == "\x1c"
    assert text_of(corpus) == f"B\n{FILLER}\x1c{FILLER}A\x1cB\n{FILLER}"
    assert "\x1c" in corpus.vocabulary.symbols and corpus.names == ["b.txt", "a.txt", "b.txt"]
    assert BOUNDARY not in opened(FILLER).vocabulary.symbols, "one file has no boundary"


@some
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\ufeff"), max_size=12), max_size=5), BLOCKS)
@example(["", "a", "", "", "b", ""], 1)
@example(["", ""], 3)
def test_files_in_blocks_of_any_size_are_joined_alike(contents, block):
    with blocks_of(block):
        corpus = opened(FILLER, *contents, FILLER)
        raw = opened(FILLER, *contents, FILLER, reading=Reading(bytes=True))
    joined = BOUNDARY.join([FILLER, *filter(None, contents), FILLER])
    assert text_of(corpus) == joined and bytes(raw.ids) == joined.encode()
    empty = [f"{i + 1}.txt: empty, left out" for i, content in enumerate(contents) if not content]
    assert corpus.notes == raw.notes == empty


def test_a_folder_is_read_by_name_without_hidden_files():
    for name in ("t/b.txt", "t/a.txt", "t/sub/c.txt", "t/B.txt", "t/.hidden", "t/.git/x.txt", "t/sub/.DS_Store"):
        write(name, name)
    found = known.find(["t"], Path("data"), CACHE)
    assert [path.as_posix() for path in found] == ["t/B.txt", "t/a.txt", "t/b.txt", "t/sub/c.txt"]
    assert known.find(["t/b.txt", "t/sub", "t/a.txt"], Path("data"), CACHE) == [
        Path("t/b.txt"), Path("t/sub/c.txt"), Path("t/a.txt"),
    ]  # fmt: skip
    write("empty/.hidden", "x")
    assert told(known.find, ["empty"], Path("data"), CACHE) == "empty: the folder holds no files"


def test_standard_input_is_a_corpus_of_its_content(monkeypatch):
    raw = "Ünï\r\n".encode() + FILLER.encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
    (path,) = known.find(["-"], Path("data"), CACHE)
    assert path.read_bytes() == raw and entries() == [path]
    assert text_of(open_corpus([path], [], CACHE)) == raw.decode()


# ---- texts that are none, or nearly none


def test_an_empty_file_among_several_is_said(charrnn):
    write("a.txt", FILLER)
    write("nothing.txt", "")
    done = charrnn("train", "a.txt", "nothing.txt", *TINY, "--steps", 1, "-q")
    assert done.status == 0 and "note: nothing.txt: empty, left out" in done.err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "a.txt: the file is empty"),
        (
            "z" * 500,
            "a.txt: only one distinct character, 'z' (U+007A LATIN SMALL LETTER Z); there is nothing to predict",
        ),
        ("\n" * 500, "a.txt: only one distinct character, '\\n' (U+000A"),
        ("ab" * 35, "a.txt: the training part has 63 characters, at least 64 are needed"),
        ("ab", "a.txt: the training part has 1 characters, at least 64 are needed"),
    ],
)
def test_what_is_no_corpus_is_one_line_and_status_4(charrnn, content, words):
    write("a.txt", content)
    done = charrnn("train", "a.txt", *TINY, "--steps", 1)
    assert (done.status, done.out) == (4, "")
    assert done.err.startswith(f"error: {words}") and done.err.count("\n") == 1
    assert not Path("checkpoints").exists()


def test_the_least_text_that_is_one_trains(charrnn):
    assert opened(FILLER[:72]).parts == {"train": (0, module.MINIMUM_TRAIN), "val": (64, 72)}
    assert "at least 64" in told(opened, FILLER[:71])
    done = charrnn("train", write("a.txt", FILLER[:72]), *TINY, "--steps", 2, "-q")
    assert done.status == 0 and done.out.strip().endswith("best.pt")


def test_a_validation_part_that_is_too_short_is_refused():
    message = told(opened, FILLER[:100], val_fraction=0.01)
    assert "the validation part has 1 characters, at least 2" in message and "--val-fraction" in message


def test_a_validation_file_that_is_too_short_is_named():
    assert told(opened, FILLER, val=["x"]).startswith("val0.txt: ")


def test_all_files_empty_is_an_error():
    assert told(opened, "", "") == "0.txt, 1.txt: no text at all; there is nothing to predict"


def test_min_count_that_leaves_nothing_is_an_error():
    assert "--min-count 1000" in told(opened, FILLER, min_count=1000)


def test_a_file_that_cannot_be_read_is_named():
    Path("0.txt").mkdir()
    assert told(open_corpus, [Path("0.txt")], [], CACHE).startswith("0.txt: cannot be read (")


def test_nuls_are_characters():
    text = "\0" + FILLER.replace("\n", "\0") + "\0\0"
    assert text_of(opened(text)) == text and bytes(opened(text, reading=Reading(bytes=True)).ids) == text.encode()


def one_line(megabytes: int):
    """The corpus of one long line, and the processor seconds that it took."""
    text = (FILLER.replace("\n", " é ") * (megabytes * 1_000_000 // len(FILLER.encode()) + 1)) + "\n"
    path = write("line.txt", text)
    start = time.process_time()
    corpus = open_corpus([path], [], CACHE)
    spent = time.process_time() - start
    assert path.stat().st_size >= megabytes * 1_000_000 and len(corpus.ids) == len(text)
    assert text_of(corpus) == text
    return spent


def test_a_line_of_5_mb_is_a_text_like_any_other():
    assert one_line(5) < 3, "it takes about .2 s"


@pytest.mark.campaign
@pytest.mark.skipif(not CAMPAIGN, reason="CHARRNN_CAMPAIGN is not set: no line of 50 MB")
def test_a_line_of_50_mb_is_a_text_like_any_other():
    assert one_line(50) < 30, "it takes about 2 s"


# ---- memory


def test_what_is_held_does_not_grow_with_the_text(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 1 << 14)
    peaks = []
    for blocks in (8, 128):  # 128 kB, 2 MB
        write("0.txt", (FILLER * (blocks * module.BLOCK // len(FILLER)))[:-1])
        tracemalloc.start()
        open_corpus([Path("0.txt")], [], CACHE)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 20 * module.BLOCK, (
        "20 bytes for each byte of a block at most, whatever the text's size"
    )


MEASURED = """
import re, sys
from pathlib import Path
from charrnn.corpus import open_corpus
from charrnn.stream import Stream

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) << 10

open_corpus([Path("small.txt")], [], Path("cache"))
before = peak()
for again in (False, True):
    corpus = open_corpus([Path("big.txt")], [], Path("cache"))
    assert len(corpus.vocabulary) == 28, corpus.vocabulary.symbols
    stream = Stream(corpus.part("train"), 32, 64, 1)
    for step in range(0, stream.steps_per_epoch, 30):  # every page of the file is touched
        stream.batch(step)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process alone is told by Linux only")
def test_a_big_file_is_encoded_found_again_and_trained_on_in_little_memory():
    line = b"the quick brown fox jumps over the lazy dog\n" + b" " * 980
    write("big.txt", line * 100_000)
    write("small.txt", line * 10_000)
    done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20 << 20, f"{int(done.stdout):,} bytes more for a text ten times as large"


PEAK = """
import atexit, re, sys
from pathlib import Path
from charrnn.cli import main
atexit.register(lambda: print(re.search(r"VmHWM:.* kB", Path("/proc/self/status").read_text())[0], file=sys.stderr))
main()
"""


@pytest.mark.campaign
@pytest.mark.skipif(not CAMPAIGN, reason="CHARRNN_CAMPAIGN is not set: no text of so many gigabytes")
@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process alone is told by Linux only")
def test_gigabytes_train_in_one():
    """A text of pseudo-words, as often as Zipf has it, and all that is done with it in less than 1 GB."""
    random = np.random.default_rng(1)
    letters = random.choice([*"etaoinshrdlucmfwypvbgkjqxzé猫"], (100_000, 8))
    words = ["".join(word[: random.integers(2, 9)]) + random.choice([" ", " ", " ", ", ", ".\n"]) for word in letters]
    rank = np.cumsum(1 / np.arange(3, len(words) + 3))
    with open("big.txt", "w", encoding="utf-8") as file:
        while file.tell() < CAMPAIGN * 10**9:
            places = np.searchsorted(rank / rank[-1], random.random(1_000_000))
            file.write("".join([words[place] for place in places]))
    train = ["train", "big.txt", "--hidden", "32", "--steps", "20", "--out", "run", "-q"]
    for command in (train, ["train", "--resume", "run", "--steps", "1000", "-q"], ["eval", "run"]):
        done = subprocess.run([sys.executable, "-c", PEAK, *command], capture_output=True, text=True, check=True)
        peak = int(re.search(r"VmHWM:\s+(\d+) kB", done.stderr)[1]) / 1000
        print(f"charrnn {' '.join(command)}: {peak:,.0f} MB at the peak")
        assert peak < 1000


# ---- parts


def test_the_split_of_tiny_shakespeare_is_nanogpts(tinyshakespeare):
    corpus = open_corpus([tinyshakespeare], [], CACHE)
    assert corpus.parts == {"train": (0, 1_003_854), "val": (1_003_854, 1_115_394)}
    assert len(corpus.part("train")) == 1_003_854 and len(corpus.part("val")) == 111_540
    assert len(corpus.vocabulary) == 65
    text = tinyshakespeare.read_text(encoding="utf-8")
    assert corpus.vocabulary.decode(corpus.part("val")[:1000]) == text[int(len(text) * 0.9) :][:1000]
    assert corpus.unigram[corpus.vocabulary.symbols.index("e")] == text[:1_003_854].count("e")


@some
@given(st.integers(80, 3000), st.none() | st.floats(0.03, 0.2))
@example(1000, 0.1)
@example(100, 0.2)
@example(110, None)
def test_validation_is_the_contiguous_end(length, fraction):
    text = (FILLER * 30)[:length]
    corpus = opened(text, val_fraction=fraction)
    (start, cut), (begin, end) = corpus.parts["train"], corpus.parts["val"]
    assert (start, begin, end) == (0, cut, length) and set(corpus.parts) == {"train", "val"}
    assert abs((end - cut) - Fraction(fraction or 0.1) * length) <= 1
    if fraction is None:
        assert cut == int(length * 0.9), "nanoGPT's rule"
    assert corpus.vocabulary.decode(corpus.part("val")) == text[cut:]


def test_the_validation_part_of_a_huge_text_is_bounded_and_that_is_said(monkeypatch):
    monkeypatch.setattr(module, "LARGEST_VAL", 50)
    text = (FILLER * 10)[:1000]
    corpus = opened(text)
    assert corpus.parts == {"train": (0, 950), "val": (950, 1000)} and len(corpus.notes) == 1
    assert "50 symbols" in corpus.notes[0] and "--val-fraction" in corpus.notes[0]
    assert opened(text, val_fraction=0.1).parts["val"] == (900, 1000), "what is asked for is given"
    assert opened(text[:500]).notes == [], "where nothing is cut nothing is said"
    assert opened(FILLER, val=[text]).parts["val"] == (len(FILLER), len(FILLER) + 1000)


def test_a_validation_file_is_the_whole_validation_part():
    corpus = opened(FILLER, val=["Val é\n", "two"], val_fraction=None)
    assert corpus.parts == {"train": (0, len(FILLER)), "val": (len(FILLER), len(FILLER) + 10)}
    assert corpus.vocabulary.decode(corpus.part("val")) == "Val é\n\x1ctwo"
    assert corpus.vocabulary.decode(corpus.part("train")) == FILLER
    assert "é" in corpus.vocabulary.symbols, "characters of the validation text can be scored"
    assert corpus.names == ["0.txt", "val0.txt", "val1.txt"]


def test_a_fraction_beside_a_validation_file_is_not_ignored_in_silence(charrnn):
    write("a.txt", FILLER)
    done = charrnn("train", "a.txt", "--val", "a.txt", "--val-fraction", ".3", *TINY, "--steps", 1, "-q")
    assert "--val-fraction" in done.err


@pytest.mark.parametrize("option", [("--encoding", "latin-1"), ("--errors", "replace"), ("--min-count", 3)])
def test_an_option_without_effect_on_bytes_is_not_ignored_in_silence(charrnn, option):
    done = charrnn("train", write("a.txt", FILLER), "--bytes", *option, *TINY, "--steps", 1, "-q")
    assert option[0] in done.err


def test_enwik8_and_text8_are_known_by_their_length(monkeypatch):
    monkeypatch.setattr(module, "STANDARD", 1000)
    text = (FILLER * 10)[:1000]
    corpus = opened(text)
    assert corpus.parts == {"train": (0, 900), "val": (900, 950), "test": (950, 1000)}
    assert corpus.vocabulary.decode(corpus.part("test")) == text[950:]
    assert len(corpus.notes) == 1 and "0.txt: 1,000 bytes" in corpus.notes[0] and "90/5/5" in corpus.notes[0]
    assert set(opened(text, val_fraction=0.1).parts) == {"train", "val"}, "what is typed wins"
    assert set(opened(text, val=[FILLER]).parts) == {"train", "val"}
    assert set(opened(text[:999]).parts) == {"train", "val"} == set(opened(text, text).parts)


def test_the_standard_length_is_counted_in_bytes(monkeypatch):
    monkeypatch.setattr(module, "STANDARD", 1000)
    raw = ("é" * 20 + FILLER * 10).encode()[:1000]
    assert opened(raw, reading=Reading(bytes=True)).parts["test"] == (950, 1000)
    assert opened(raw).parts == {"train": (0, 882), "val": (882, 931), "test": (931, 980)}


@some
@given(st.text("abé\n", max_size=200), BLOCKS)
def test_unigram_counts_are_those_of_the_training_part_alone(head, block):
    text = head + FILLER + "☃" * 8
    with blocks_of(block):
        corpus = opened(text, val_fraction=0.05)
    cut = corpus.parts["train"][1]
    assert corpus.unigram.tolist() == [text[:cut].count(symbol) for symbol in corpus.vocabulary.symbols]
    assert corpus.unigram.sum() == cut


def test_a_corpus_of_several_scripts_comes_back(corpus):
    read = open_corpus([corpus], [], CACHE)
    assert text_of(read) == sentences(400) and {"Ë", "Б"}.isdisjoint(read.vocabulary.symbols)
    assert {"ë", "ä", "М", "猫"} <= set(read.vocabulary.symbols)


def test_half_of_a_surrogate_pair_is_no_character():
    raw = FILLER.encode() + b"\\ud83d"
    assert "U+D83D" in told(opened, raw, reading=Reading(encoding="unicode_escape"))
