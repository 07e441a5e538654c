"""What the tests share: a folder and a cache of their own, the command run in-process or as a process, a small run."""

import os
import platform
import random
import re
import signal
import subprocess
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import pytest

from charrnn import checkpoint, cli
from charrnn.model import Model
from charrnn.vocab import Vocabulary

cli.load()  # all commands, in their order
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models here are too small for more; read when torch is imported

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _quiet_world(tmp_path_factory):
    """A cache that is not the user's, no colour but where a test asks for it, and on a GPU all bits of a float32."""
    os.environ["CHARRNN_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    for name in ("FORCE_COLOR", "CLICOLOR_FORCE"):
        os.environ.pop(name, None)
    os.environ |= {"NO_COLOR": "1", "COLUMNS": "80"}
    import torch  # only here, where OMP_NUM_THREADS is set

    torch.backends.cudnn.allow_tf32 = False  # what is scored in-process is compared with sums in float64


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """Each test stands in an empty folder, where data/ and checkpoints/ land."""
    monkeypatch.chdir(tmp_path)


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    status: int
    out: str
    err: str


@pytest.fixture
def charrnn(capsys, monkeypatch):
    """charrnn("train", "a.txt") runs the command in this process, which spares torch's import."""

    def run(*arguments) -> Answer:
        monkeypatch.setattr(sys, "argv", ["charrnn", *map(str, arguments)])
        handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
            sys.exit(0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        said = capsys.readouterr()
        return Answer(end.value.code or 0, said.out, said.err)

    return run


@pytest.fixture
def process():
    """process("sample", "run") runs the command as a process of its own, with a real stdin, stdout and exit status."""

    def run(*arguments, input: bytes = b"", timeout: float = 120, **environment) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "charrnn", *map(str, arguments)],
            input=input, capture_output=True, timeout=timeout, env=os.environ | environment,
        )  # fmt: skip

    return run


def sentences(count: int, seed: int = 0) -> str:
    """A text with something to learn: sentences of a small grammar, with accents and other scripts."""
    pick = random.Random(seed).choice
    who, does = ["The cat", "A dog", "Zoë", "Ein Bär", "Мышь", "猫"], ["sees", "eats", "likes", "finds"]
    what = ["the fish", "a bone", "the café", "some bread", "nothing at all"]
    return "".join(f"{pick(who)} {pick(does)} {pick(what)}.\n" for _ in range(count))


def plain(screen: str) -> str:
    """The screen without escape codes."""
    return re.sub(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\].*?\x07)", "", screen)


def width(line: str) -> int:
    """Columns that a line takes: two for wide characters, none for combining ones."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line)


def too_wide(text: str, columns: int = 80) -> list[str]:
    return [line for line in re.split(r"[\r\n]+", plain(text)) if width(line) > columns]


@pytest.fixture
def corpus(tmp_path) -> Path:
    """A text file of about 10,000 characters."""
    path = tmp_path / "corpus.txt"
    path.write_bytes(sentences(400).encode())
    return path


TINY = ("--hidden", 24, "--layers", 2, "--embed", 8, "--seq-len", 16, "--batch-size", 4)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, _quiet_world) -> Path:
    """The folder of a small finished run (60 steps on `sentences`); do not change what is in it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "corpus.txt").write_bytes(sentences(400).encode())
    command = ["train", "corpus.txt", "--out", "run", "--steps", 60, "-q", *TINY]
    subprocess.run([sys.executable, "-m", "charrnn", *map(str, command)], cwd=folder, check=True, capture_output=True)
    return folder / "run"


@pytest.fixture(scope="module")
def one_thread():
    """For models so small that two threads would only wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def parts_of(path: Path) -> tuple[Model, dict, Vocabulary]:
    """The model, the weights (numpy) and the vocabulary in a checkpoint."""
    tensors, record = checkpoint.load(path)
    return Model.from_record(record["model"]), checkpoint.weights(tensors), Vocabulary(record["vocabulary"])


@pytest.fixture(scope="session")
def loaded(trained):
    """What `trained` learned: its model, weights and vocabulary; do not change them."""
    return parts_of(trained / "best.pt")


@pytest.fixture(params=["haswell", "x86-64"])
def lesser(request, monkeypatch) -> str:
    """Code is made as for a lesser processor of the same kind, of this name."""
    processor = pytest.importorskip("charrnn.engine.machine.processor", exc_type=ImportError)
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("another kind of processor")
    wider = request.param == "haswell"
    able = {name: there and wider and "512" not in name for name, there in processor.features().items()}
    able = type(processor.features())(able | {"sse2": True, "64bit": True})
    monkeypatch.setattr(processor, "features", lambda: able)
    monkeypatch.setattr(processor.llvm, "get_host_cpu_name", lambda: request.param)
    return request.param


@pytest.fixture
def tinyshakespeare() -> Path:
    """Tiny Shakespeare, where $CHARRNN_TINYSHAKESPEARE says; without it the test is skipped, and says so."""
    named = os.environ.get("CHARRNN_TINYSHAKESPEARE", "")
    if not Path(named).is_file():
        pytest.skip("CHARRNN_TINYSHAKESPEARE names no file: set it to the path of tinyshakespeare.txt")
    return Path(named)
