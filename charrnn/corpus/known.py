"""Corpora known by name, and what a CORPUS argument may be: files, folders, a known name, `-` for standard input."""

import hashlib
import http.client
import os
import sys
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from ..errors import CharrnnError, DataError, UsageError, nearest


@dataclass(frozen=True)
class Known:
    """A corpus that charrnn knows: what it is, its split, and what others reached on it."""

    name: str
    about: str
    split: str
    published: tuple[str, ...] = ()
    url: str = ""
    sha256: str = ""
    make: object = None  # () -> iterator of text, for those that Python itself carries


def _pydocs():
    from pydoc_data.topics import topics

    for title in sorted(topics):
        yield topics[title].strip("\n") + "\n\n"


def _pycode():
    folder = Path(os.__file__).parent
    for path in sorted(folder.glob("*.py")):
        yield path.read_text(encoding="utf-8", errors="replace")


KNOWN = {
    known.name: known
    for known in (
        Known("pydocs", "The language reference that every CPython carries, English with code", "90/10", make=_pydocs),
        Known("pycode", "The top-level modules of Python's standard library, Python code", "90/10", make=_pycode),
        Known(
            "tinyshakespeare",
            "Plays of Shakespeare, the file of char-rnn that the field quotes; downloaded on first use",
            "90/10",
            (
                "nanoGPT 10.7 M, context 256: 1.470 nats = 2.120 bits",
                "LSTM 2 x 128 (tensorflow-char-rnn): 1.576 nats = 2.274 bits",
                "minGRU (Feng 2024), its own test part: 1.548 nats = 2.233 bits",
            ),
            "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        ),
        Known(
            "enwik8",
            "Wikipedia's first 100,000,000 bytes; your own file, known by its length; usually with --bytes",
            "90/5/5",
            ("LSTM, tuned (Melis 2017): 1.195 bits", "Mogrifier (Melis 2020): 1.122 bits", "xz: 1.987 bits"),
        ),
        Known(
            "text8",
            "The same cleaned to a-z and space; your own file, known by its length",
            "90/5/5",
            ("multiplicative LSTM (Krause 2016): 1.40 bits", "recurrent highway (Zilly 2017): 1.27 bits"),
        ),
    )
}


def find(
    arguments: list[str], data: Path, cache: Path, progress=lambda done, total: None, name: str = "CORPUS"
) -> list[Path]:
    """The files that arguments mean, in the order that they are read (a folder's by name).

    `name` is what the arguments are called where one of them means nothing.
    """
    paths = []
    for argument in arguments:
        path = Path(argument)
        if argument == "-":
            paths.append(_spool(cache, sys.stdin.buffer))
        elif os.path.isdir(path):
            inside = sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p.relative_to(path)))
            if not inside:
                raise DataError(f"{path}: the folder holds no files")
            paths += inside
        elif os.path.isfile(path):
            paths.append(path)
        elif os.path.exists(path):  # a pipe
            with open(path, "rb") as stream:
                paths.append(_spool(cache, stream))
        elif argument in KNOWN:
            paths.append(fetch(KNOWN[argument], data, progress))
        else:
            beside = path.parent.glob("*") if os.path.isdir(path.parent) else ()
            near = nearest(argument, [*KNOWN, *map(str, beside)])
            raise UsageError(f"{name} {argument}: no such file or folder{near}; known: {', '.join(KNOWN)}")
    return paths


def _hidden(path):
    return any(part.startswith(".") for part in path.parts)


def _spool(cache, stream):
    """What can be read once only, copied to a file, because a corpus is read twice. Its name is that of its content."""
    cache.mkdir(parents=True, exist_ok=True)
    content = hashlib.sha256()
    with tempfile.NamedTemporaryFile(dir=cache, suffix=".part", delete=False) as file:
        while block := stream.read(1 << 20):
            content.update(block)
            file.write(block)
    path = cache / f"stdin-{content.hexdigest()[:16]}.txt"
    os.replace(file.name, path)
    return path


def fetch(known: Known, data: Path, progress=lambda done, total: None) -> Path:
    """The file of a known corpus in the folder `data`, made or downloaded there if it is not yet."""
    path = data / f"{known.name}.txt"
    if not known.make and not known.url and not path.exists():
        raise UsageError(f"CORPUS {known.name}: is not downloaded; get the file and give its path, or put it at {path}")
    if path.exists() and (not known.sha256 or _digest(path) == known.sha256):
        return path
    if path.exists():
        raise DataError(f"{path}: is not the {known.name} that it should be (its sha256 differs); move it away")
    blocks = (text.encode("utf-8") for text in known.make()) if known.make else _download(known, progress)
    try:
        data.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(f".{os.getpid()}.part")
        try:
            with open(beside, "wb") as file:
                file.writelines(blocks)
            if known.sha256 and _digest(beside) != known.sha256:
                raise DataError(f"{known.url}: what came is not {known.name} (its sha256 differs); nothing was kept")
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise CharrnnError(f"{path}: cannot be written ({error.strerror})") from None
    return path


def _download(known, progress):
    try:
        with urllib.request.urlopen(known.url, timeout=30) as answer:
            total, done = int(answer.headers.get("Content-Length") or 0), 0
            while block := answer.read(1 << 16):
                done += len(block)
                progress(done, total)
                yield block
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        reason = str(getattr(error, "reason", error)).strip() or type(error).__name__
        raise CharrnnError(
            f"{known.name}: could not be downloaded from {known.url} ({reason}); "
            "go online, or get the file yourself and give its path"
        ) from None


def _digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
