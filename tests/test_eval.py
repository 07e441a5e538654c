"""Scores against sums made another way; what inspect says of a checkpoint, and cells of a cell."""

import inspect
import io
import json
import math
import re
import shutil
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, parts_of, sentences

from charrnn import cells, checkpoint
from charrnn.sample import Sampler
from charrnn.vocab import Vocabulary

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = ("--threads", 1, "-q", "--out", "own", *TINY)
LINES = "A dog sees the fish.\n\nZoë eats a bone.\nМышь likes some bread.\n"


class Oracle:
    """What each symbol of a text costs, by one numpy step after the other and a log-softmax in float64."""

    def __init__(self, model, weights, vocabulary):
        self.sampler, self.vocabulary = Sampler([(model, weights)]), vocabulary

    def ids(self, text):
        if self.vocabulary.of_bytes:
            return list(text.encode())
        return [self.vocabulary.symbols.index(character) for character in text]

    def costs(self, ids, every=None):
        """Nats of each symbol but the first, and whether it was the likeliest; the state fresh after `every`."""
        nats, right = [], []
        for place, (symbol, following) in enumerate(zip(ids, ids[1:], strict=False)):
            if place == 0 or (every and place % every == 0):
                state = self.sampler.start()
            logits, state = self.sampler.step(np.array([symbol]), state)
            row = logits[0].astype(np.float64)
            nats.append(row.max() + math.log(np.exp(row - row.max()).sum()) - row[following])
            right.append(row.argmax() == following)
        return np.array(nats), np.array(right)


@pytest.fixture(scope="module")
def oracle(loaded):
    return Oracle(*loaded)


@pytest.fixture
def scores(charrnn):
    """scores("run", "a.txt") is what `charrnn eval --json` printed, a dict per text."""

    def run(*arguments, notes=""):
        answer = charrnn("eval", *arguments, "--json")
        assert answer.status == 0 and re.fullmatch(notes, answer.err), answer
        return [json.loads(line) for line in answer.out.splitlines()]

    return run


def write(name, text):
    Path(name).write_bytes(text.encode())
    return name


def close(a, b, tolerance=1e-6):
    """1e-6 for means: the errors of single float32 costs, about 1e-6 each, fall in both directions."""
    return a == pytest.approx(b, rel=0, abs=tolerance)


# ---- the numbers


def test_a_score_is_the_sum_of_its_steps(scores, trained, oracle):
    text = sentences(40, seed=5)
    nats, right = oracle.costs(oracle.ids(text))
    (told,) = scores(trained, write("text.txt", text))
    assert set(told) == {
        "text", "characters", "nats", "bits", "perplexity", "accuracy", "bits_per_byte", "unknown"
    }  # fmt: skip
    assert (told["text"], told["characters"], told["unknown"]) == ("text.txt", len(text) - 1, 0)
    assert close(told["nats"], nats.mean())
    assert told["accuracy"] == right.mean()


def test_units(scores, trained):
    """Bits are nats / ln 2, perplexity is exp(nats), bytes are those of UTF-8, the first character's left out."""
    text = "猫 sees the café.\nМышь eats.\n"
    (told,) = scores(trained, write("text.txt", text))
    assert close(told["bits"], told["nats"] / math.log(2), 1e-12)
    assert close(told["perplexity"], math.exp(told["nats"]), 1e-9)
    assert len(text[1:].encode()) == len(text) - 1 + 5  # é and four letters of the mouse have two bytes, the cat is out
    assert close(told["bits_per_byte"], told["bits"] * (len(text) - 1) / len(text[1:].encode()), 1e-12)


def test_the_state_is_carried(scores, trained, oracle):
    """And with --windows it is not; what is left over at the end is not scored, and not counted."""
    text = sentences(30, seed=6)
    ids = oracle.ids(text)
    (carried,), (reset,), (short,) = (
        scores(trained, write("text.txt", text), *options) for options in ([], ["--windows", 16], ["--windows", 2])
    )
    for told, every in ((reset, 16), (short, 2)):
        count = (len(ids) - 1) // every * every
        nats, right = oracle.costs(ids, every)
        assert told["characters"] == count and close(told["nats"], nats[:count].mean())
        assert told["accuracy"] == right[:count].mean()
    assert carried["nats"] < reset["nats"] < short["nats"]


def test_windows_of_all_but_the_last_are_the_text(scores, trained):
    text = write("text.txt", sentences(5))
    (whole,) = scores(trained, text)
    (one,) = scores(trained, text, "--windows", whole["characters"])
    assert {**one, "text": ""} == {**whole, "text": ""} | {"nats": pytest.approx(whole["nats"], abs=1e-6)} | {
        name: pytest.approx(whole[name], abs=1e-5) for name in ("bits", "perplexity", "bits_per_byte")
    }


def test_bytes(charrnn, scores, corpus):
    """A model of bytes has a cost for each byte, whatever it is, and bits per character are bits per byte."""
    charrnn("train", corpus, "--bytes", "--steps", 3, *QUICK)
    oracle = Oracle(*parts_of(Path("own/best.pt")))
    (told,) = scores("own", write("text.txt", LINES + "∂"))
    nats, right = oracle.costs(oracle.ids(LINES + "∂"))
    assert (told["characters"], told["unknown"]) == (len((LINES + "∂").encode()) - 1, 0)
    assert close(told["nats"], nats.mean()) and told["accuracy"] == right.mean()
    assert told["bits_per_byte"] == pytest.approx(told["bits"], rel=1e-12)
    Path("noise.txt").write_bytes(bytes(range(256)))
    assert scores("own", "noise.txt")[0]["characters"] == 255


# ---- per character, per line


def each(charrnn, *arguments):
    answer = charrnn("eval", *arguments)
    assert (answer.status, answer.err) == (0, "")
    return [json.loads(line) for line in answer.out.splitlines()]


def test_per_char(charrnn, scores, trained, oracle):
    rows = each(charrnn, trained, write("text.txt", LINES), "--per", "char")
    assert "".join(row["symbol"] for row in rows) == LINES
    assert [(row["text"], row["index"]) for row in rows] == [("text.txt", i) for i in range(len(LINES))]
    assert rows[0]["nats"] is None
    nats = np.array([row["nats"] for row in rows[1:]])
    np.testing.assert_allclose(nats, oracle.costs(oracle.ids(LINES))[0], rtol=0, atol=1e-5)  # float32, one by one
    (told,) = scores(trained, "text.txt")
    assert close(nats.sum(), told["nats"] * told["characters"])


@pytest.mark.parametrize(
    "text", [LINES, LINES.rstrip("\n"), "\n\nA dog", "A dog", "\n\n", "  A dog \n sees \n "], ids=ascii
)
def test_per_line(charrnn, scores, trained, text):
    """Each line's cost is that of its characters and its line break; the lines make the text again."""
    rows = each(charrnn, trained, write("text.txt", text), "--per", "line")
    characters = each(charrnn, trained, "text.txt", "--per", "char")
    assert [row["line"] for row in rows] == list(range(1, len(rows) + 1))
    joined = "\n".join(row["content"] for row in rows) + "\n" * text.endswith("\n")
    assert joined == text
    start = 0
    for row, line in zip(rows, text.splitlines(keepends=True), strict=True):
        costs = [c["nats"] for c in characters[start : start + len(line)] if c["nats"] is not None]
        assert row["characters"] == len(costs) and close(row["nats"], sum(costs), 1e-9)
        bits = row["nats"] / len(costs) / math.log(2) if costs else None
        assert row["bits_per_character"] == (pytest.approx(bits, rel=1e-12) if costs else None)
        start += len(line)
    (told,) = scores(trained, "text.txt")
    assert close(sum(row["nats"] for row in rows), told["nats"] * told["characters"])
    assert sum(row["characters"] for row in rows) == told["characters"]


def test_per_char_of_bytes_joins_to_the_text(charrnn, corpus):
    charrnn("train", corpus, "--bytes", "--steps", 1, *QUICK)
    rows = each(charrnn, "own", write("text.txt", LINES), "--per", "char")
    assert len(rows) == len(LINES.encode()) and "".join(row["symbol"] for row in rows) == LINES
    lines = each(charrnn, "own", "text.txt", "--per", "line")
    assert "\n".join(row["content"] for row in lines) + "\n" == LINES


# ---- which text


def test_standard_input_and_several_files(charrnn, scores, trained, monkeypatch):
    one, other = write("one.txt", LINES), write("other.txt", sentences(3))
    both = scores(trained, one, other)
    assert [told["text"] for told in both] == [one, other]
    assert both == scores(trained, one) + scores(trained, other)  # no state goes from one to the next
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LINES.encode())))
    (told,) = scores(trained, "-")
    assert {**told, "text": one} == both[0]
    Path("texts").mkdir()
    for name in (one, other):
        Path(name).rename(f"texts/{name}")
    listed = scores(trained, "texts")
    assert [{**told, "text": Path(told["text"]).name} for told in listed] == both


def test_standard_input_is_called_so(scores, trained, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LINES.encode())))
    (told,) = scores(trained, "-")
    assert told["text"] in ("-", "stdin", "standard input")


def test_the_table(charrnn, scores, trained):
    names = [write("one.txt", LINES), write("other.txt", sentences(30))]
    answer = charrnn("eval", trained, *names)
    head, *rows = answer.out.splitlines()
    assert (answer.status, answer.err) == (0, "")
    assert head.split() == ["text", "characters", "nats", "bits", "bits/byte", "perplexity", "accuracy"]
    for row, told in zip(rows, scores(trained, *names), strict=True):
        assert row.split() == [
            told["text"], f"{told['characters']:,}", f"{told['nats']:.4f}", f"{told['bits']:.4f}",
            f"{told['bits_per_byte']:.4f}", f"{told['perplexity']:.3f}", f"{told['accuracy']:.2%}",
        ]  # fmt: skip


def test_encodings(scores, trained):
    Path("text.txt").write_bytes(LINES.replace("Мышь", "A cat").encode("cp1252"))
    (latin,) = scores(trained, "text.txt", "--encoding", "cp1252")
    (told,) = scores(trained, write("text.txt", LINES.replace("Мышь", "A cat")))
    assert latin == told


def test_a_byte_that_is_no_text(charrnn, trained):
    Path("text.txt").write_bytes(b"A dog\nsees\xff\n")
    answer = charrnn("eval", trained, "text.txt")
    assert (answer.status, answer.out) == (4, "")
    for fact in ("text.txt", "byte offset 10", "line 2", "0xff", "--encoding", "--errors replace"):
        assert fact in answer.err


def test_a_byte_order_mark_is_told(scores, trained):
    Path("text.txt").write_bytes(b"\xef\xbb\xbf" + LINES.encode())
    (told,) = scores(trained, "text.txt", notes="note: text.txt: dropped the byte order mark at its start\n")
    assert told == scores(trained, write("text.txt", LINES))[0]


@pytest.mark.parametrize("text", ["", "A"])
def test_too_short(charrnn, trained, text):
    answer = charrnn("eval", trained, write("text.txt", text))
    assert (answer.status, answer.out, answer.err.count("\n")) == (4, "", 1)
    assert f"text.txt: has {len(text)} character" in answer.err and "at least 2" in answer.err
    assert charrnn("eval", trained, write("text.txt", "A ")).status == 0


@pytest.mark.parametrize("text", ["", "A"])
def test_too_short_for_bytes(charrnn, corpus, text):
    charrnn("train", corpus, "--bytes", "--steps", 1, *QUICK)
    answer = charrnn("eval", "own", write("text.txt", text))
    assert (answer.status, answer.out) == (4, "") and "at least 2" in answer.err


# ---- characters that the model never saw


def test_unknown_characters_are_an_error(charrnn, trained):
    answer = charrnn("eval", trained, write("text.txt", "A c∂t\nQ"))
    assert (answer.status, answer.out, answer.err.count("\n")) == (4, "", 1)
    for fact in ("text.txt", "'∂'", "U+2202 PARTIAL DIFFERENTIAL", "character 4", "1 other", "--unknown replace"):
        assert fact in answer.err


def test_the_error_offers_only_what_eval_has(charrnn, trained):
    assert "skip" not in charrnn("eval", trained, write("text.txt", "A c∂t\n")).err


def test_replaced_characters_cost_their_name(charrnn, trained, scores):
    """A replaced character costs its replacement and besides ln 0x110000, to say which code point it is; it is told."""
    text = "∂A c∂t sees Q.\n"  # the first character is not predicted, so it costs nothing
    note = r"note: text.txt: 2 characters the model never saw, replaced; each costs 20.09 bits more, .*\n"
    (told,) = scores(trained, write("text.txt", text), "--unknown", "replace", notes=note)
    (known,) = scores(trained, write("known.txt", text.replace("∂", " ").replace("Q", " ")))
    n = len(text) - 1
    assert (told["unknown"], told["characters"]) == (2, n)
    assert close(told["nats"], known["nats"] + 2 * math.log(0x110000) / n, 1e-12)
    assert close(told["bits"], told["nats"] / math.log(2), 1e-12)
    assert close(told["perplexity"], math.exp(told["nats"]), 1e-9 * told["perplexity"])
    rows = [
        json.loads(r)
        for r in charrnn("eval", trained, "text.txt", "--unknown", "replace", "--per", "char").out.splitlines()
    ]
    plain = [json.loads(r) for r in charrnn("eval", trained, "known.txt", "--per", "char").out.splitlines()]
    extra = [i for i in range(1, n + 1) if not close(rows[i]["nats"], plain[i]["nats"], 1e-9)]
    assert extra == [4, text.index("Q")]
    assert close(sum(row["nats"] for row in rows[1:]), told["nats"] * n)


def test_bytes_of_replaced_characters_are_those_of_the_text(scores, trained):
    text = "A ∂∂∂ sees.\n"
    (told,) = scores(trained, write("text.txt", text), "--unknown", "replace", notes="note: .*\n")
    assert close(told["bits_per_byte"], told["bits"] * told["characters"] / len(text[1:].encode()), 1e-9)


def test_bytes_of_folded_characters_are_not_made_up(charrnn, scores, corpus):
    """The unknown symbol stands for characters that nobody knows any more: then there are no bits per byte."""
    charrnn("train", corpus, "--min-count", 200, "--steps", 1, *QUICK)
    (told,) = scores("own")
    assert told["bits_per_byte"] is None and told["bits"] > 0
    assert charrnn("eval", "own").out.splitlines()[1].split()[-3] == "-"


def test_replaced_characters_outside_the_windows_cost_nothing(scores, trained):
    text = sentences(2)
    text = text[: len(text) // 16 * 16 + 1]
    (whole,) = scores(trained, write("text.txt", text), "--windows", 16)
    (longer,) = scores(trained, write("text.txt", text + "∂"), "--windows", 16, "--unknown", "replace", notes=".*\n?")
    assert longer == whole


@pytest.mark.parametrize("per", ["char", "line"])
def test_replacing_is_said_with_per_too(charrnn, trained, per):
    answer = charrnn("eval", trained, write("text.txt", "A c∂t"), "--unknown", "replace", "--per", per)
    assert answer.status == 0 and "replaced" in answer.err


# ---- the run's own corpus


def test_without_a_text_it_is_the_result_of_the_run(charrnn, scores, trained, corpus):
    (told,) = scores(trained)
    _, record = checkpoint.load(trained / "best.pt")
    assert told["text"] == "val part of corpus.txt" and told["characters"] == 881
    for name in ("nats", "bits", "perplexity", "accuracy"):
        assert close(told[name], record["result"][name], 1e-6 * max(1, told[name]))
    trained_here = json.loads(charrnn("train", corpus, "--steps", 9, "--json", *QUICK).out)
    (own,) = scores("own")
    assert close(own["nats"], trained_here["result"]["nats"]) and own["nats"] != told["nats"]
    assert scores("own/best.pt") == [own]


def test_parts(charrnn, scores, corpus):
    """A part is the text between its bounds, read alone."""
    charrnn("train", corpus, "--steps", 4, "--val-fraction", 0.25, *QUICK)
    text = corpus.read_bytes().decode()
    cut = int(len(text) * 0.75)
    for part, content in (("train", text[:cut]), ("val", text[cut:])):
        (told,) = scores("own", "--part", part)
        (same,) = scores("own", write("part.txt", content))
        assert told["text"] == f"{part} part of corpus.txt"
        assert {**told, "text": ""} == {**same, "text": ""}
    answer = charrnn("eval", "own", "--part", "test")
    assert (answer.status, answer.out) == (2, "") and "--part test: the corpus has train, val" in answer.err


def test_the_test_part_of_a_known_corpus(charrnn, scores, corpus, monkeypatch):
    """A text as long as enwik8 has three parts; here the length is made that of the text."""
    monkeypatch.setattr("charrnn.corpus.STANDARD", corpus.stat().st_size)
    answer = charrnn("train", corpus, "--steps", 1, *QUICK)
    assert answer.status == 0 and "test part stays apart" in answer.err
    text = corpus.read_bytes().decode()
    (told,) = scores("own", "--part", "test")
    (same,) = scores("own", write("part.txt", text[int(len(text) * 0.95) :]))
    assert {**told, "text": ""} == {**same, "text": ""}


def test_a_validation_text_of_its_own(charrnn, scores, corpus):
    charrnn("train", corpus, "--val", write("held.txt", LINES), "--steps", 1, *QUICK)
    (told,) = scores("own")
    (same,) = scores("own", "held.txt")
    assert {**told, "text": ""} == {**same, "text": ""}


def test_a_corpus_that_changed_or_went(charrnn, corpus):
    charrnn("train", corpus, "--steps", 1, *QUICK)
    content = corpus.read_bytes()
    corpus.write_bytes(content.replace(b"cat", b"tac", 1))
    answer = charrnn("eval", "own")
    assert (answer.status, answer.out, answer.err.count("\n")) == (4, "", 1)
    assert "corpus.txt" in answer.err and "is not the text" in answer.err
    corpus.unlink()
    answer = charrnn("eval", "own")
    assert (answer.status, answer.out) == (2, "") and "corpus.txt" in answer.err and "name a text" in answer.err
    corpus.write_bytes(content)
    assert charrnn("eval", "own").status == 0


def test_a_corpus_that_changed_is_named(charrnn, corpus):
    charrnn("train", corpus, "--steps", 1, *QUICK)
    corpus.write_bytes(corpus.read_bytes() + "∂".encode())
    answer = charrnn("eval", "own")
    assert answer.status == 4 and "corpus.txt" in answer.err


def test_a_best_that_was_shared(charrnn, scores, trained):
    """Without its folder a checkpoint scores any text, but its own corpus is not known to it."""
    shutil.copy(trained / "best.pt", "shared.pt")
    assert scores("shared.pt", write("text.txt", LINES)) == scores(trained, "text.txt")
    answer = charrnn("eval", "shared.pt")
    assert (answer.status, answer.out) == (2, "") and "name a text" in answer.err
    assert str(trained.parent).encode() not in Path("shared.pt").read_bytes()


# ---- inspect


def value(formula, **sizes):
    """The number that a formula such as `4nm + 1/4n² + 4n` or `L n V + V` gives for these sizes."""
    total = Fraction(0)
    for term in formula.replace("n²", "nn").replace(" ", "").split("+"):
        factor, letters = re.fullmatch(r"([\d/]*)([A-Za-z]+)", term).groups()
        product = Fraction(factor or 1)
        for letter in letters:
            product *= sizes[letter]
        total += product
    return total


def looked(charrnn, path):
    answer = charrnn("inspect", path, "--json")
    assert (answer.status, answer.err, answer.out.count("\n")) == (0, "", 1)
    return json.loads(answer.out)


def consistent(told, path):
    """Checks what inspect says against the arrays of the file."""
    tensors, record = checkpoint.load(path)
    arrays = checkpoint.weights(tensors)
    model = told["model"]
    assert told["parameters"] == sum(array.size for array in arrays.values()) == sum(told["parts"].values())
    for part, count in told["parts"].items():
        prefix = {"embedding": "embedding", "head": "head."}.get(part, part.replace("layer ", "layers.") + ".")
        assert count == sum(array.size for name, array in arrays.items() if name.startswith(prefix)), part
    widths = [model["embed"]] + [model["hidden"]] * (model["layers"] - 1)
    for number, (layer, width) in enumerate(zip(told["layers"], widths, strict=True)):
        assert (layer["layer"], layer["m"], layer["n"]) == (number, width, model["hidden"])
        assert layer["parameters"] == told["parts"][f"layer {number}"] == value(layer["formula"], n=layer["n"], m=width)
        assert (layer["input"], layer["output"]) == (f"(T, B, {width})", f"(T, B, {model['hidden']})")
        assert layer["state"] == dict.fromkeys(cells.make(model["cell"]).states, f"(B, {model['hidden']})")
    assert told["symbols"] == Vocabulary(record["vocabulary"]).symbols and len(told["symbols"]) == model["symbols"]
    assert told["config"] == record["config"] and told["versions"] == record["versions"]
    assert told["corpus"] == record["corpus"] and "paths" not in told
    assert (told["file"], told["bytes"]) == (str(path), path.stat().st_size)


def test_inspect_as_json(charrnn, trained):
    best, last = (looked(charrnn, trained / name) for name in ("best.pt", "last.pt"))
    consistent(best, trained / "best.pt")
    consistent(last, trained / "last.pt")
    assert looked(charrnn, trained) == best
    assert (best["kind"], last["kind"]) == ("best", "last")
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text("utf-8").splitlines()]
    history = [{"step": row["step"], "bits": row["bits"]} for row in rows if row["event"] == "eval"]
    assert best["history"] == last["history"] == history and history[-1]["step"] == 60
    assert best["result"]["bits"] == pytest.approx(min(row["bits"] for row in history), abs=1e-3)  # 16 lanes there
    assert last["training"]["step"] == 60 and best["training"]["step"] in [row["step"] for row in history]


@pytest.mark.parametrize(("cell", "options"), [("gru", ["--no-skips"]), ("grid", []), ("mogrifier", []), ("slstm", [])])
def test_inspect_other_cells(charrnn, corpus, cell, options):
    assert charrnn("train", corpus, "--cell", cell, "--steps", 1, *QUICK, *options).status == 0
    told = looked(charrnn, "own")
    consistent(told, Path("own/best.pt"))
    model = told["model"]
    assert (model["cell"], model["skips"]) == (cell, not options)
    table = charrnn("inspect", "own").out
    head = next(line for line in table.splitlines() if line.startswith("head "))
    formula = re.search(r"(?:L )?n V \+ V", head)[0]
    sizes = {"n": model["hidden"], "V": model["symbols"], "L": model["layers"]}
    assert value(formula, **sizes) == told["parts"]["head"] and f"{told['parts']['head']:,}" in head


def test_inspect_what_stands_around_the_cells(charrnn, corpus):
    """Each part has a row whose formula gives its number."""
    options = ("--norm", "--residual", "--zoneout", 0.1, "--attention", 5)
    assert charrnn("train", corpus, "--steps", 1, *QUICK, *options).status == 0
    told = looked(charrnn, "own")
    consistent(told, Path("own/best.pt"))
    rows = {line.split(" ")[0]: line for line in charrnn("inspect", "own").out.splitlines()}
    sizes = {"n": told["model"]["hidden"], "L": told["model"]["layers"]}
    for part in ("norms", "attention"):
        count, formula = re.search(r"([\d,]+)  +(\S.*)$", rows[part].rstrip()).groups()
        assert value(formula, **sizes) == told["parts"][part] == int(count.replace(",", ""))


def test_inspect_for_people(charrnn, trained):
    told, answer = looked(charrnn, trained), charrnn("inspect", trained)
    assert (answer.status, answer.err) == (0, "")
    page = " ".join(answer.out.split())
    result = told["result"]
    for fact in (
        "corpus.txt", f"{told['parameters']:,}", f"{result['nats']:.4f} nats", f"{result['bits']:.4f} bits",
        f"{result['perplexity']:.3f}", "V D", "L n V + V", "4nm + 4n² + 4n", "lstm", "60 steps", "hidden 24",
        "seed 1", told["corpus"]["digest"][:16], f"torch {told['versions']['torch']}", told["created"],
        f"60:{told['history'][-1]['bits']:.3f}",
    ):  # fmt: skip
        assert fact in page, fact
    for name, count in told["parts"].items():
        assert any(line.startswith(name) and f" {count:,} " in f"{line} " for line in answer.out.splitlines())
    assert "not scored" in charrnn("inspect", trained / "last.pt").out


def test_inspect_without_its_folder(charrnn, trained):
    shutil.copy(trained / "best.pt", "shared.pt")
    told = looked(charrnn, "shared.pt")
    consistent(told, Path("shared.pt"))
    assert told["history"] == [] and "none beside it" in charrnn("inspect", "shared.pt").out


def test_inspect_with_damaged_metrics(charrnn, trained):
    Path("run").mkdir()
    shutil.copy(trained / "best.pt", "run/best.pt")
    write("run/metrics.jsonl", '{"event": "ev')
    answer = charrnn("inspect", "run")
    assert (answer.status, answer.out, answer.err.count("\n")) == (1, "", 1) and "metrics.jsonl" in answer.err


def test_inspect_bytes_and_odd_symbols(charrnn, corpus):
    charrnn("train", write("odd.txt", sentences(40) + "\x00\u2028\u202e[bold]\ufeff"), "--steps", 1, *QUICK)
    answer = charrnn("inspect", "own")
    assert answer.status == 0 and not set(answer.out) & set("\x00\u2028\u202e")
    for symbol in (r"\x00", r"\u2028", r"\u202e", "[", "]"):
        assert symbol in answer.out.replace("\n            ", "")
    shutil.rmtree("own")
    charrnn("train", corpus, "--bytes", "--steps", 1, *QUICK)
    assert re.search(r"^symbols +256: bytes *$", charrnn("inspect", "own").out, re.MULTILINE)
    consistent(looked(charrnn, "own"), Path("own/best.pt"))


# ---- cells


def test_the_table_of_cells(charrnn):
    answer = charrnn("cells")
    listed = json.loads(charrnn("cells", "--json").out)
    assert (answer.status, answer.err) == (0, "")
    assert [fact["name"] for fact in listed] == list(cells.classes())
    rows = [line for line in answer.out.splitlines() if line[:1].isalpha()]
    for name in cells.classes():
        assert sum(row.split()[0] == name for row in rows) == 1
    for fact in listed:
        assert fact["paper"] and fact["about"] and fact["state"] and fact["formula"]
        assert fact["ratio"] == fact["parameters_at_256"] / 525_312
    assert {fact["name"]: fact["ratio"] for fact in listed}["lstm"] == 1


PRODUCTS = {"lstm": "4 in 1", "gru-cho": "3 in 2", "clockwork": "1 in 1", "sru": "none", "grid": "8 in 2"}  # by hand


def test_the_columns_of_the_table(charrnn):
    """A row says what the JSON says, and the trace what anybody sees in the equations."""
    head, *lines = charrnn("cells").out.splitlines()
    listed = json.loads(charrnn("cells", "--json").out)
    rows = {line.split()[0]: re.split("  +", line.strip()) for line in lines[: len(listed)]}
    assert head.split() == ["cell", "state", "products", "size", "ratio", "scan", "counts"]
    assert {name: rows[name][2] for name in PRODUCTS} == PRODUCTS
    for fact in listed:
        name, state, scan = fact["name"], " ".join(fact["state"]), "yes" if fact["parallel"] else "no"
        size = [f"{fact['parameters_at_256']:,}", f"{fact['ratio']:.2f}"]
        assert rows[name] == [name, state, rows[name][2], *size, scan, fact["counter"] or "no"]
        assert fact["counter"] == cells.make(name).counter
    told = " ".join(lines[len(listed) :])
    assert all(column in told for column in head.split()[2:])


def test_the_cells_whose_steps_can_be_computed_at_once(charrnn):
    found = {fact["name"] for fact in json.loads(charrnn("cells", "--json").out) if fact["parallel"]}
    assert found == {"qrnn", "mingru", "minlstm", "rg-lru"} & set(cells.classes())


@pytest.mark.parametrize("name", cells.classes())
def test_the_formula_gives_the_number_beside_it(charrnn, name):
    told = json.loads(charrnn("cells", name, "--json").out)
    count = told["parameters_at_256"]
    if "(masked)" in told["formula"]:  # of a masked matrix only the part that is there counts
        assert value(told["formula"].replace(" (masked)", ""), n=256, m=256) > count
    else:
        assert value(told["formula"], n=256, m=256) == count


@pytest.mark.parametrize("name", cells.classes())
def test_a_cell_is_shown_as_it_is_written(charrnn, name):
    kind = cells.classes()[name]
    source = textwrap.dedent(inspect.getsource(inspect.getmodule(kind).__dict__[kind.__name__].step))
    answer = charrnn("cells", name)
    told = json.loads(charrnn("cells", name, "--json").out)
    assert (answer.status, answer.err) == (0, "")
    assert answer.out.startswith(f"{name}: {inspect.getdoc(kind)}\n")
    assert source in answer.out and told["equations"].startswith(source) and answer.out.endswith(told["equations"])
    facts = dict(re.findall(r"^(\w+(?: at)?)  +(.+)$", answer.out, re.MULTILINE))
    assert facts["paper"] == kind.paper == told["paper"] and facts["state"].split() == told["state"]
    assert facts["gates"].split() == told["gates"] or not told["gates"]
    assert facts["scan"].split(":")[0] == ("yes" if told["parallel"] else "no")
    assert facts["counts"] == (f"in {told['counter']}" if told["counter"] else "no") + " (a prediction)"
    assert facts["parameters"].startswith(told["formula"] + "; ") and f"{told['parameters_at_256']:,}" in answer.out
    for key, default in cells.make(name).settings().items():
        assert f"{key}={default}" in facts["settings"]


def test_a_cell_that_is_none(charrnn):
    for options in ([], ["--json"]):
        answer = charrnn("cells", "lstn", *options)
        assert (answer.status, answer.out, answer.err.count("\n")) == (2, "", 1)
        assert "lstn" in answer.err and "did you mean 'lstm'?" in answer.err


def test_the_cache_may_be_deleted(scores, trained, monkeypatch):
    """Scoring the run's own part makes the encoded corpus again, with the same ids."""
    before = scores(trained)
    monkeypatch.setenv("CHARRNN_CACHE", str(Path("elsewhere").resolve()))
    assert scores(trained) == before and list(Path("elsewhere").glob("*.ids"))
