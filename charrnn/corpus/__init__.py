"""From texts to numbers: read strictly, count, learn the vocabulary, keep the ids in a file.

Nothing is ever read whole: a corpus of any size passes in blocks. The cache is keyed by content and vocabulary.
Several files are joined in the order given, with U+001C (Unicode's FILE SEPARATOR) between them.
"""

import codecs
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import DataError, UsageError, nearest
from ..vocab import Vocabulary, code_points, name_of
from .cache import Ids, kept

BLOCK = 1 << 20  # bytes read at a time
BOUNDARY = "\x1c"
MINIMUM_TRAIN, MINIMUM_VAL = 64, 2  # characters; less than this is no corpus
LARGEST_VAL = 5_000_000  # symbols of the validation part, where --val-fraction does not ask for more
STANDARD = 100_000_000  # bytes of enwik8 and of text8, which everybody splits 90/5/5


@dataclass(frozen=True)
class Reading:
    """How a text becomes symbols; these settings are part of what a corpus is."""

    bytes: bool = False
    encoding: str = "utf-8"
    errors: str = "strict"

    def __post_init__(self):
        try:
            "a".encode(self.encoding).decode(self.encoding)
        except (LookupError, ValueError):  # none such, or one that makes no text of bytes
            known = ("utf-8", "utf-16", "latin-1", "cp1252", "cp1251", "shift_jis", "gb18030", "big5", "euc-kr")
            raise UsageError(
                f"--encoding {self.encoding}: no such encoding{nearest(self.encoding, known)}; usual ones: "
                + ", ".join(known)
            ) from None
        if self.errors not in ("strict", "replace"):
            raise UsageError(f"--errors {self.errors}: must be strict or replace")


@dataclass
class Corpus:
    """An encoded corpus: `ids` lie in a file, `parts` names its contiguous train, val and test parts (start, end)."""

    ids: Ids
    vocabulary: Vocabulary
    parts: dict[str, tuple[int, int]]
    unigram: np.ndarray  # how often each symbol occurs in the training part
    digest: str  # of the content and of how it was read
    names: list[str]
    notes: list[str] = field(default_factory=list)

    def part(self, name: str) -> Ids:
        return self.ids.part(*self.parts[name])


def open_corpus(
    paths: list[Path],
    val_paths: list[Path],
    cache: Path,
    reading: Reading = Reading(),
    min_count: int = 1,
    val_fraction: float | None = None,
    known: tuple[Vocabulary, str] | None = None,
) -> Corpus:
    """The corpus made of these files; the validation part is its end, or the texts of `val_paths`.

    `known` is the vocabulary and the digest that it had before. Raises DataError where it is another now, for a text
    that cannot be read (file, byte, line), that is empty, or too short to learn from.
    """
    notes = []
    train, val = Survey(paths, reading, notes), Survey(val_paths, reading, notes)
    counts = train.counts.copy()
    for code, n in val.counts.items():
        counts[code] = counts.get(code, 0) + n
    if len(counts) < 2:
        only = f"only one distinct character, {name_of(chr(next(iter(counts))))}" if counts else "no text at all"
        raise DataError(f"{_title(paths)}: {only}; there is nothing to predict")
    if broken := [code for code in counts if 0xD800 <= code <= 0xDFFF]:
        raise DataError(f"{_title(paths)}: holds U+{broken[0]:04X}, half of a surrogate pair and no character")
    identity = [train.digest, val.digest, reading.bytes, reading.encoding, reading.errors]
    digest = hashlib.sha256(repr(identity).encode()).hexdigest()
    if known and known[1] != digest:
        raise DataError(
            f"{_title([*paths, *val_paths])}: is not the text that the run was trained on; it has changed since"
        )
    learned = Vocabulary.bytes() if reading.bytes else Vocabulary.learn(counts, min_count)
    vocabulary = known[0] if known else learned
    if len(vocabulary) < 2:
        raise DataError(f"--min-count {min_count}: fewer than two symbols are left; take a smaller one")
    ids = _encoded([(paths, train), (val_paths, val)], reading, vocabulary, cache, digest, notes)
    parts = _split(train.length, val.length, val_fraction, paths, notes)
    _long_enough(parts, paths, val_paths or paths)
    unigram = _unigram(train, ids.part(parts["train"][1], train.length), vocabulary)
    return Corpus(ids, vocabulary, parts, unigram, digest, [str(p) for p in [*paths, *val_paths]], notes)


class Survey:
    """One pass over some files: content digest, symbol counts, length in symbols; raises what reading raises."""

    def __init__(self, paths, reading, notes):
        content, counts = hashlib.sha256(), np.zeros(0x110000, np.int64)
        self.length = 0
        for block in _symbols(paths, reading, notes, content):
            found = np.bincount(block)
            counts[: len(found)] += found
            self.length += len(block)
        self.digest = content.hexdigest()
        self.counts = {int(code): int(counts[code]) for code in np.flatnonzero(counts)}


def read_texts(path: Path, reading: Reading, notes: list[str], content=None):
    """The text of a file, block by block; a byte that is not text raises DataError with its place."""
    decoder = codecs.getincrementaldecoder(reading.encoding)("strict" if reading.errors == "strict" else _REPLACING)
    offset, lines, first, replaced = 0, 1, True, 0
    for block in _blocks(path):
        if content:
            content.update(block)
        before = decoder.getstate()
        pending = len(before[0])  # bytes of the block before that are no whole character yet
        _replaced.clear()
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            decoder.setstate(before)
            line = lines + decoder.decode(block[: max(0, error.start - pending)]).count("\n")
            raise _undecodable(path, reading, error, offset - pending, line) from None
        except UnicodeError as error:  # UTF-16 that does not say its order of bytes
            raise DataError(f"{path}: is not {reading.encoding} ({error}); try utf-16-le or utf-16-be") from None
        replaced += len(_replaced)
        if first and text:
            first = False
            if text.startswith("\ufeff"):
                text = text[1:]
                notes.append(f"{path}: dropped the byte order mark at its start")
        offset += len(block)
        lines += text.count("\n")
        if text:
            yield text
    if replaced:
        notes.append(f"{path}: {replaced:,} places read as U+FFFD (--errors replace)")


_REPLACING, _replaced = "charrnn-replace", []


def _replace(error):
    """The codecs' own "replace", but counted."""
    _replaced.append(error.start)
    return codecs.replace_errors(error)


codecs.register_error(_REPLACING, _replace)


def _blocks(path):
    """The bytes of a file in blocks, and an empty one at the end."""
    try:
        with open(path, "rb") as file:
            while block := file.read(BLOCK):
                yield block
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    yield b""


def _undecodable(path, reading, error, start, line):
    byte = f"0x{error.object[error.start]:02x}"
    return DataError(
        f"{path}: byte offset {start + error.start:,} (line {line:,}) is {byte}, which is not {reading.encoding} "
        f"({error.reason}); name the right --encoding (latin-1, cp1252, utf-16, ..), or --errors replace, or --bytes"
    )


def _symbols(paths, reading, notes, content=None):
    """Blocks of symbol numbers of several files in order (code points, or bytes), with the boundary between them."""
    started = False
    for path in paths:
        filled = False
        if content:
            content.update(b"\0file\0")
        texts = _blocks(path) if reading.bytes else read_texts(path, reading, notes, content)
        for text in texts:
            if reading.bytes and content:
                content.update(text)
            if len(text):
                if started and not filled:
                    yield np.array([ord(BOUNDARY)], np.uint32)
                started = filled = True
                yield np.frombuffer(text, np.uint8) if reading.bytes else code_points(text)
        if not filled:
            if len(paths) == 1:
                raise DataError(f"{path}: the file is empty")
            notes.append(f"{path}: empty, left out")


def _encoded(groups, reading, vocabulary, cache, digest, notes):
    """The ids of all texts (paths with their survey), in a file of the cache named by what is in it."""
    key = hashlib.sha256((digest + "\n" + "\n".join(vocabulary.symbols)).encode("utf-8", "surrogatepass")).hexdigest()
    dtype, length = np.dtype(vocabulary.dtype).newbyteorder("<"), sum(survey.length for _, survey in groups)

    def make():
        for paths, survey in groups:
            content = hashlib.sha256()
            for block in _symbols(paths, reading, [], content):
                yield vocabulary.ids_of(block)
            if content.hexdigest() != survey.digest:
                raise DataError(f"{_title(paths)}: changed while it was read; start again")

    return kept(cache / f"{key[:32]}.ids", dtype, length, make, notes)


def _unigram(survey, rest, vocabulary):
    """How often each symbol occurs in the training part: in all that was surveyed, but for the rest behind it."""
    codes = np.fromiter(survey.counts, np.uint32)
    counts = np.zeros(len(vocabulary), np.int64)
    np.add.at(counts, vocabulary.ids_of(codes), np.fromiter(survey.counts.values(), np.int64))
    return counts - sum(np.bincount(block, minlength=len(counts)) for block in rest.blocks())


def _split(train, val, fraction, paths, notes):
    """Contiguous parts: what is typed, or the end of the text, or what everybody takes for a known corpus."""
    if val:
        return {"train": (0, train), "val": (train, train + val)}
    if fraction is None and len(paths) == 1 and paths[0].stat().st_size == STANDARD:
        notes.append(f"{paths[0]}: {STANDARD:,} bytes, taken for enwik8 or text8: 90/5/5, the test part stays apart")
        a, b = int(train * 0.90), int(train * 0.95)
        return {"train": (0, a), "val": (a, b), "test": (b, train)}
    cut = int(train * (1 - (0.1 if fraction is None else fraction)) + 1e-6)
    if fraction is None and train - cut > LARGEST_VAL:
        cut = train - LARGEST_VAL
        notes.append(f"validation on the last {LARGEST_VAL:,} symbols; --val-fraction asks for more")
    return {"train": (0, cut), "val": (cut, train)}


def _long_enough(parts, paths, val_paths):
    for name, minimum, files in (("train", MINIMUM_TRAIN, paths), ("val", MINIMUM_VAL, val_paths)):
        length = parts[name][1] - parts[name][0]
        if length < minimum:
            what = "training" if name == "train" else "validation"
            raise DataError(
                f"{_title(files)}: the {what} part has {length} characters, at least {minimum} are needed; "
                "give more text, or another --val-fraction, or --val FILE"
            )


def _title(paths):
    return ", ".join(str(p) for p in paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
