"""The mistakes of the peers, one test each: what other character-level trainers were found to do to their users."""

import json
import math
import os
import pickletools
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY, sentences

from charrnn import cells, checkpoint
from charrnn.corpus import open_corpus
from charrnn.optim import Optimizer, schedule
from charrnn.stream import Stream
from charrnn.vocab import Vocabulary

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def train(charrnn):
    """train(corpus, ..) makes a tiny run quietly and returns its folder."""

    def run(*arguments) -> Path:
        done = charrnn("train", *arguments, *TINY, "--sample-length", 0, "-q")
        assert done.status == 0, done.err
        return Path(done.out.strip()).parent

    return run


def events(run: Path, kind: str) -> list[dict]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if row["event"] == kind]


# ---- text in


def test_an_unknown_character_is_not_index_0(charrnn, trained):
    """spro/char-rnn.pytorch and textgenrnn: a character that was never seen becomes the first of the vocabulary."""
    done = charrnn("sample", trained, "--prompt", "The ☃", "-n", 3)
    assert (done.status, done.out) == (4, "") and "U+2603 SNOWMAN" in done.err and "character 5" in done.err
    vocabulary = Vocabulary(checkpoint.load(trained / "best.pt")[1]["vocabulary"])
    assert vocabulary.encode("The ☃", "skip").tolist() == vocabulary.encode("The ").tolist()
    assert vocabulary.symbols[vocabulary.encode("☃", "replace")[0]] == " " != vocabulary.symbols[0]


def test_a_text_is_not_forced_to_ascii(charrnn, trained):
    """spro/char-rnn.pytorch: unidecode strips accents and writes every other script in Latin letters."""
    (read,) = [open_corpus([trained.parent / "corpus.txt"], [], Path("cache"))]
    assert read.vocabulary.decode(read.ids) == sentences(400)
    assert {"ë", "ä", "М", "ы", "ш", "ь", "猫", "é"} <= set(read.vocabulary.symbols)
    shown = json.loads(charrnn("inspect", trained, "--json").out)
    assert shown["symbols"] == read.vocabulary.symbols
    done = charrnn("sample", trained, "--prompt", "猫 Zoë Мышь", "-n", 5)
    assert done.status == 0 and done.out.startswith("猫 Zoë Мышь")


def test_the_first_line_is_not_dropped(charrnn, train):
    """textgenrnn: the first line of a file is taken for the header of a table."""
    first = "Ω is here and nowhere else\n"
    Path("a.txt").write_text(first + sentences(60), encoding="utf-8")
    corpus = open_corpus([Path("a.txt")], [], Path("cache"))
    assert corpus.vocabulary.decode(corpus.part("train")).startswith(first)
    assert corpus.unigram[corpus.vocabulary.symbols.index("Ω")] == 1
    run = train("a.txt", "--steps", 1)
    Path("line.txt").write_text(first, encoding="utf-8")
    done = charrnn("eval", run, "line.txt", "--per", "line")
    assert [json.loads(row)["content"] for row in done.out.splitlines()] == [first.removesuffix("\n")]


def test_a_cache_does_not_know_a_text_by_its_path_or_time(train):
    """awd-lstm-lm, char-rnn, ml5: the encoded corpus of yesterday is trained on because path or time is the same."""
    path = Path("a.txt")
    path.write_text(sentences(60, seed=1)[:3000], encoding="utf-8")
    before, first = os.stat(path), train(path, "--steps", 1)
    content = path.read_bytes()
    path.write_bytes(bytes(reversed(content.decode().encode("ascii", "replace").ljust(len(content), b"?"))))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (os.stat(path).st_size, os.stat(path).st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    records = [checkpoint.load(run / "best.pt")[1] for run in (first, train(path, "--steps", 1))]
    assert records[0]["corpus"]["digest"] != records[1]["corpus"]["digest"]
    symbols = [set(Vocabulary(record["vocabulary"]).symbols) for record in records]
    assert symbols == [set(content.decode()), set(path.read_text(encoding="utf-8"))]


# ---- folders and files


def test_the_output_folder_is_not_deleted_at_start(charrnn, corpus):
    """tensorflow-char-rnn: the output folder is removed, with whatever was in it, when training begins."""
    out = Path("mine")
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    for more in ([], ["--overwrite"]):
        done = charrnn("train", corpus, "--out", out, *more, *TINY, "--steps", 1)
        assert (done.status, done.out) == (2, "") and "mine" in done.err
        assert [path.name for path in out.iterdir()] == ["thesis.txt"]
        assert (out / "thesis.txt").read_text() == "years of work"


def test_a_run_is_not_written_over(charrnn, train, corpus):
    """tensorflow-char-rnn: a second run into the same folder takes the first one's place."""
    run = train(corpus, "--out", "run", "--steps", 1)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert charrnn("train", corpus, "--out", "run", *TINY, "--steps", 2).status == 2
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert train(corpus, "--steps", 1) != train(corpus, "--steps", 1), "without --out each run has a number of its own"


def test_the_vocabulary_is_inside_the_checkpoint(charrnn, trained):
    """nanoGPT: the vocabulary lies beside the data in meta.pkl, and a checkpoint alone can neither write nor read."""
    shutil.copy(trained / "best.pt", "alone.pt")
    done = charrnn("sample", "alone.pt", "--prompt", "Zoë ", "-n", 40)
    assert done.status == 0 and done.out.startswith("Zoë ") and len(done.out) == 4 + 40 + 1
    Path("text.txt").write_text(sentences(5, seed=3), encoding="utf-8")
    assert json.loads(charrnn("eval", "alone.pt", "text.txt", "--json").out)["characters"] == len(sentences(5, 3)) - 1


def test_vocabularies_are_not_compared_by_size(train):
    """torch-rnn: fine-tuning on as many but other characters goes through, a silent substitution cipher."""
    Path("a.txt").write_text("abcd " * 200)
    Path("b.txt").write_text("cdxa " * 200)
    first = train("a.txt", "--steps", 30)
    second = train("b.txt", "--init-from", first, "--steps", 1, "--lr", "1e-30")
    (old, before), (new, after) = (checkpoint.load(run / "best.pt") for run in (first, second))
    before, after = Vocabulary(before["vocabulary"]), Vocabulary(after["vocabulary"])
    assert len(before) == len(after) and before != after
    for symbol in " acd":
        i, j = before.symbols.index(symbol), after.symbols.index(symbol)
        assert np.array_equal(old["weights.embedding"][i], new["weights.embedding"][j]), symbol
        assert np.array_equal(old["weights.head.W"][:, i], new["weights.head.W"][:, j]), symbol
        assert old["weights.head.b"][i] == new["weights.head.b"][j], symbol
    i, j = before.symbols.index("b"), after.symbols.index("x")
    assert not np.array_equal(old["weights.embedding"][i], new["weights.embedding"][j]), "x does not inherit b's row"


def test_no_objects_are_pickled(charrnn, trained):
    """spro/char-rnn.pytorch, awd-lstm-lm: models are pickled whole: only old code reads them, any code hides there."""
    for name in ("best.pt", "last.pt"):
        content = torch.load(trained / name, weights_only=True)
        assert all(type(tensor) is torch.Tensor for tensor in content["tensors"].values())
        assert json.loads(json.dumps(content["record"])) == content["record"], "the rest is plain data"
        with zipfile.ZipFile(trained / name) as archive:
            (inside,) = [each for each in archive.namelist() if each.endswith("data.pkl")]
            asked = {arg for code, arg, _ in pickletools.genops(archive.read(inside)) if code.name == "GLOBAL"}
        assert asked == {"collections OrderedDict", "torch FloatStorage", "torch._utils _rebuild_tensor_v2"}
    torch.save({"format": "charrnn 1", "record": Path("x"), "tensors": {}, "digest": ""}, "whole.pt")
    done = charrnn("sample", "whole.pt")
    assert (done.status, done.out) == (5, "") and "refused" in done.err and "pathlib" in done.err


# ---- training


def test_adams_moments_are_not_thrown_away_at_a_decay(corpus, train):
    """torch-rnn: each change of the learning rate makes a new optimiser, whose moments begin at zero."""
    run = train(corpus, "--steps", 12, "--dropout", 0)
    tensors = checkpoint.load(run / "last.pt")[0]
    rates = [row["lr"] for row in events(run, "train")]
    assert len(set(rates)) == 12, "the rate must change at each step for the test to mean anything"
    counted = [array for name, array in tensors.items() if name.startswith("optimizer.step.")]
    assert counted and all(count == 12 for count in counted), "Adam counts every update of the run"

    w = torch.ones(3, dtype=torch.float64, requires_grad=True)
    optimizer, by_hand, m, v = Optimizer({"w": w}, 0.0), np.ones(3), 0.0, 0.0
    for k in range(1, 9):
        gradient, rate = np.array([0.1, -2.0, 3.0]) * math.cos(k), 0.1 * schedule(k / 8, 0.1)
        w.grad = torch.from_numpy(gradient.copy())
        optimizer.step(rate)
        m, v = 0.9 * m + 0.1 * gradient, 0.99 * v + 0.01 * gradient**2
        by_hand -= rate * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.99**k)) + 1e-8)
    assert np.allclose(w.detach().numpy(), by_hand, rtol=0, atol=1e-12)


def test_validation_does_not_overlap_training():
    """textgenrnn: validation windows are drawn at random from the text that training windows overlap."""
    Path("a.txt").write_text("".join(chr(0x4E00 + i) for i in range(2000)), encoding="utf-8")
    corpus = open_corpus([Path("a.txt")], [], Path("cache"))
    stream, _ = Stream.fit(corpus.part("train"), 4, 32, seed=1)
    read = {int(i) for step in range(4 * stream.steps_per_epoch) for part in stream.batch(step)[:2] for i in part.flat}
    scored = set(np.asarray(corpus.part("val")).tolist())
    assert read.isdisjoint(scored) and len(scored) == 200 and len(read) > 1700
    assert corpus.unigram[1800:].sum() == 0, "nor do the yardsticks learn from it"


def test_the_split_does_not_move_with_the_batch_size(corpus, train):
    """char-rnn: the text is cut into whole batches first, so that each batch size has another validation text."""
    sizes = [(1, 16), (4, 16), (7, 50), (512, 64)]
    runs = [train(corpus, "--steps", 1, "--batch-size", lanes, "--seq-len", length) for lanes, length in sizes]
    records = [checkpoint.load(run / "best.pt")[1] for run in runs]
    length = len(sentences(400))
    expected = {"train": [0, length * 9 // 10], "val": [length * 9 // 10, length]}
    assert [record["corpus"]["parts"] for record in records] == [expected] * len(sizes)
    assert len({record["corpus"]["digest"] for record in records}) == 1


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_evaluating_more_often_changes_nothing(corpus, train, engine):
    """torch-rnn, char-rnn#17: an evaluation resets the training state, or draws from the training's generator."""
    common = (corpus, "--steps", 9, "--dropout", 0.3, "--engine", engine, "--seed", 5)
    seldom, often = train(*common, "--eval-every", 1000), train(*common, "--eval-every", 1)
    assert (len(events(seldom, "eval")), len(events(often, "eval"))) == (2, 10)
    ours, theirs = (checkpoint.load(run / "last.pt")[0] for run in (seldom, often))
    names = [name for name in ours if not name.startswith("good.")]
    assert names == [name for name in theirs if not name.startswith("good.")]
    assert any(name.startswith("state.") and ours[name].any() for name in names)
    for name in names:
        assert np.array_equal(ours[name], theirs[name]), name
    assert [row["nats"] for row in events(seldom, "train")] == [row["nats"] for row in events(often, "train")]


def test_a_run_that_diverged_does_not_exit_with_0(charrnn, corpus):
    """char-rnn: "loss is exploding, aborting", and exit status 0."""
    done = charrnn("train", corpus, *TINY, "--steps", 60, "--lr", "1e9", "--clip", 0, "--out", "run", "-q")
    assert (done.status, done.out) == (3, "")
    assert "diverged" in done.err and "Traceback" not in done.err
    tensors, record = checkpoint.load(Path("run/best.pt"))
    assert all(np.isfinite(array).all() for array in tensors.values()) and math.isfinite(record["result"]["nats"])
    done = charrnn("sample", "run", "-n", 20, "--no-echo")
    assert done.status == 0 and len(done.out) == 21, "the best checkpoint that is kept works"


# ---- what is advertised is there


@pytest.mark.parametrize("cell", list(cells.classes()))
def test_every_cell_that_is_listed_trains(cell, charrnn, train, corpus):
    """makemore: the LSTM of the list of models is not there."""
    assert cell in [row["name"] for row in json.loads(charrnn("cells", "--json").out)]
    run = train(corpus, "--cell", cell, "--steps", 2)
    assert [row["step"] for row in events(run, "train")] == [1, 2]
    tensors = checkpoint.load(run / "last.pt")[0]
    assert all(np.isfinite(array).all() for array in tensors.values())
    moved = [name for name in tensors if name.startswith("optimizer.exp_avg.layers") and tensors[name].any()]
    assert moved, "gradients reach the cell"
    done = charrnn("sample", run, "-n", 5, "--no-echo")
    assert done.status == 0 and len(done.out) == 6


def test_patience_stops_when_nothing_gets_better(corpus, train):
    """textgenrnn and others: an early stop that never stops, or that stops a run which still gets better."""
    idle = train(corpus, "--steps", 500, "--eval-every", 2, "--patience", 3, "--lr", "1e-30")
    assert [row["step"] for row in events(idle, "eval")] == [0, 2, 4, 6]
    assert checkpoint.load(idle / "last.pt")[1]["training"]["step"] == 6
    learns = train(corpus, "--steps", 20, "--eval-every", 2, "--patience", 3)
    assert [row["step"] for row in events(learns, "eval")] == list(range(0, 21, 2))
    assert all(row["best"] for row in events(learns, "eval"))


def test_stdout_holds_what_was_asked_for_and_nothing_else(process, trained, corpus):
    """char-rnn: banners, progress and notes stand on stdout among the text."""
    done = process("train", corpus, *TINY, "--steps", 2, "--batch-size", 5000, "--show-samples", OMP_NUM_THREADS="1")
    assert done.returncode == 0 and done.stdout == f"{Path('checkpoints/corpus-lstm-1/best.pt')}\n".encode()
    assert b"note: " in done.stderr and b"yardsticks" in done.stderr, "people are told on stderr"
    done = process("sample", trained, "--prompt", "The ", "-n", 30, "--no-echo")
    assert done.returncode == 0 and done.stderr == b"" and len(done.stdout.decode()) == 31


@pytest.mark.parametrize("command", [("train",), ("eval",), ("inspect",), ("sample",), ("cells",), ("corpora",)])
def test_stdout_of_json_is_json(command, charrnn, trained, corpus):
    """char-rnn: what a program is to read begins with a banner."""
    arguments = {"train": (corpus, *TINY, "--steps", 1), "eval": (trained, corpus), "inspect": (trained,)}
    more = arguments.get(command[0], (trained, "-n", 5) if command[0] == "sample" else ())
    done = charrnn(*command, *more, "--json")
    assert done.status == 0 and json.loads(done.out) and done.out.count("\n") == 1
