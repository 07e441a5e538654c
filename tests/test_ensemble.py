"""Ensembles: probabilities averaged symbol by symbol, vocabularies matched by what their symbols are, text drawn."""

import json
import math
import shutil
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, sentences

from charrnn import checkpoint
from charrnn.model import Model
from charrnn.sample import Picking, Sampler, SamplerEnsemble, generate
from charrnn.vocab import Vocabulary

LINES = sentences(12, seed=5)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def other(charrnn, trained):
    """A run on the same corpus with another cell, other sizes and a memory, hardly trained."""
    options = (
        "--cell",
        "gru",
        "--hidden",
        9,
        "--layers",
        1,
        "--embed",
        5,
        "--attention",
        6,
        "--seq-len",
        16,
        "--batch-size",
        4,
    )
    answer = charrnn("train", trained.parent / "corpus.txt", *options, "--steps", 20, "-q", "--out", "other")
    assert answer.status == 0
    return Path("other")


def opened(path):
    tensors, record = checkpoint.load(checkpoint.find(Path(path)))
    return Model.from_record(record["model"]), checkpoint.weights(tensors), Vocabulary(record["vocabulary"])


def saved(path, weights, record, vocabulary):
    """A checkpoint of these weights whose symbols have the numbers of this dict."""
    document = json.loads(record["vocabulary"])
    document["model"]["vocab"] = vocabulary
    record = record | {"vocabulary": json.dumps(document)}
    checkpoint.save(Path(path), {f"weights.{name}": array for name, array in weights.items()}, record)
    return path


def reversed_symbols(source, path="reversed.pt"):
    """The same model with its symbols numbered the other way round."""
    tensors, record = checkpoint.load(checkpoint.find(source))
    weights, symbols = checkpoint.weights(tensors), Vocabulary(record["vocabulary"]).symbols[::-1]
    turned = {"embedding": weights["embedding"][::-1], "head.W": weights["head.W"][:, ::-1]}
    turned |= {"head.b": weights["head.b"][::-1]}
    return saved(path, weights | turned, record, {symbol: i for i, symbol in enumerate(symbols)})


def write(name, content):
    Path(name).write_bytes(content.encode())
    return name


def scores(charrnn, *arguments):
    answer = charrnn("eval", *arguments, "--json")
    assert (answer.status, answer.err) == (0, ""), answer
    return [json.loads(line) for line in answer.out.splitlines()]


def probabilities(path, text, every=None):
    """What a model alone expects of each character but the first: (N - 1, V) in float64, V as in `trained`."""
    model, weights, vocabulary = opened(path)
    sampler, rows = Sampler(model, weights), []
    for place, symbol in enumerate(vocabulary.encode(text)[:-1]):
        if place == 0 or (every and place % every == 0):
            state = sampler.start()
        logits, state = sampler.step(np.array([symbol]), state)
        p = np.exp(logits[0].astype(np.float64))
        rows.append(p / p.sum())
    return np.array(rows)


def expected(paths, text, first, every=None):
    """Nats and accuracy of the mean of the models' probabilities."""
    mean = sum(probabilities(path, text, every) for path in paths) / len(paths)
    mean = mean[: len(mean) // every * every] if every else mean
    following = opened(first)[2].encode(text)[1 : len(mean) + 1]
    return -np.log(mean[np.arange(len(mean)), following]).mean(), (mean.argmax(-1) == following).mean()


# ---- scores


def test_probabilities_are_averaged(charrnn, trained, other):
    path = write("text.txt", LINES)
    (row,) = scores(charrnn, trained, path, "--ensemble", other)
    nats, right = expected([trained, other], LINES, trained)
    assert row["nats"] == pytest.approx(nats, abs=1e-6) and row["accuracy"] == right
    assert row["bits"] == pytest.approx(row["nats"] / math.log(2), rel=1e-12)
    assert row["ensemble"] == [str(trained), str(other)] and row["characters"] == len(LINES) - 1
    (turned,) = scores(charrnn, other, path, "--ensemble", trained)
    assert turned["nats"] == pytest.approx(nats, abs=1e-6)
    alone = [scores(charrnn, member, path)[0]["nats"] for member in (trained, other)]
    assert row["nats"] < sum(alone) / 2  # the logarithm is concave


def test_three(charrnn, trained, other):
    path = write("text.txt", LINES)
    last = trained / "last.pt"
    (row,) = scores(charrnn, trained, "--ensemble", other, path, "--ensemble", last)
    assert row["nats"] == pytest.approx(expected([trained, other, last], LINES, trained)[0], abs=1e-6)


def test_windows(charrnn, trained, other):
    (row,) = scores(charrnn, trained, write("text.txt", LINES), "--ensemble", other, "--windows", 16)
    nats, right = expected([trained, other], LINES, trained, 16)
    assert row["nats"] == pytest.approx(nats, abs=1e-6) and row["accuracy"] == right


def test_per_char(charrnn, trained, other):
    answer = charrnn("eval", trained, write("text.txt", LINES), "--ensemble", other, "--per", "char")
    nats = [json.loads(line)["nats"] for line in answer.out.splitlines()][1:]
    assert sum(nats) / len(nats) == pytest.approx(expected([trained, other], LINES, trained)[0], abs=1e-6)


def test_a_model_with_itself(charrnn, trained):
    path = write("text.txt", LINES)
    (one,), (two,) = scores(charrnn, trained, path), scores(charrnn, trained, path, "--ensemble", trained)
    assert {name: two[name] for name in one} == one | {
        name: pytest.approx(one[name], rel=1e-6) for name in ("nats", "bits", "perplexity", "bits_per_byte")
    }


def test_the_table(charrnn, trained, other):
    path = write("text.txt", LINES)
    answer = charrnn("eval", trained, path, "--ensemble", other)
    head, line, said = answer.out.splitlines()
    (row,) = scores(charrnn, trained, path, "--ensemble", other)
    assert f"{row['nats']:.4f}" in line.split() and head.split()[0] == "text"
    assert said == f"ensemble of 2: the probabilities of {trained}, {other} averaged"


# ---- vocabularies


def test_symbols_are_matched_by_what_they_are(charrnn, trained, other):
    path, turned = write("text.txt", LINES), reversed_symbols(other)
    (row,), (same,) = (scores(charrnn, trained, path, "--ensemble", member) for member in (turned, other))
    assert row["nats"] == pytest.approx(same["nats"], rel=1e-6) and row["accuracy"] == same["accuracy"]
    texts = [charrnn("sample", trained, "--ensemble", member, "-n", 150).out for member in (turned, other)]
    assert texts[0] == texts[1]


def test_other_symbols_are_named(charrnn, trained):
    """For eval and for sample, and nothing is scored or drawn."""
    tensors, record = checkpoint.load(trained / "best.pt")
    ids = json.loads(record["vocabulary"])["model"]["vocab"]
    changed = {"é" if symbol == "Z" else "∂" if symbol == "é" else symbol: i for symbol, i in ids.items()}
    member = saved("changed.pt", checkpoint.weights(tensors), record, changed)
    for command in (["eval", trained, write("text.txt", LINES)], ["sample", trained]):
        answer = charrnn(*command, "--ensemble", member)
        assert (answer.status, answer.out, answer.err.count("\n")) == (5, "", 1)
        assert "--ensemble changed.pt" in answer.err
        assert "lacks 'Z' (U+005A LATIN CAPITAL LETTER Z)" in answer.err
        assert "adds '∂' (U+2202 PARTIAL DIFFERENTIAL)" in answer.err


def test_a_vocabulary_that_is_a_part_of_the_other(charrnn, trained):
    charrnn("train", write("ascii.txt", "A dog sees the fish.\n" * 30), "--steps", 1, "-q", *TINY, "--out", "own")
    answer = charrnn("eval", trained, write("text.txt", "A dog\n"), "--ensemble", "own")
    assert answer.status == 5 and " more; " in answer.err and "adds" not in answer.err
    answer = charrnn("eval", "own", "text.txt", "--ensemble", trained)
    assert answer.status == 5 and " more; " in answer.err and "lacks" not in answer.err


def test_bytes_and_characters(charrnn, trained, corpus):
    charrnn("train", corpus, "--bytes", "--steps", 1, "-q", *TINY, "--out", "own")
    path = write("text.txt", LINES)
    answer = charrnn("eval", trained, path, "--ensemble", "own")
    assert answer.status == 5 and "its symbols are bytes" in answer.err
    answer = charrnn("eval", "own", path, "--ensemble", trained)
    assert answer.status == 5 and "its symbols are characters" in answer.err
    (row,) = scores(charrnn, "own", path, "--ensemble", "own/last.pt")
    assert row["bits"] == pytest.approx(row["bits_per_byte"], rel=1e-12)


@pytest.mark.parametrize("command", ["eval", "sample"])
def test_no_checkpoint(charrnn, trained, command):
    answer = charrnn(command, trained, "--ensemble", "absent.pt")
    assert (answer.status, answer.out) == (5, "") and "absent.pt: no such checkpoint" in answer.err
    answer = charrnn(command, trained, "--ensemble", write("text.txt", LINES))
    assert answer.status == 5 and "text.txt: is damaged or no checkpoint" in answer.err


# ---- texts, and adapting


def test_without_a_text_it_is_the_corpus_of_the_first(charrnn, trained, other):
    (row,) = scores(charrnn, trained, "--ensemble", other)
    assert row["text"] == "val part of corpus.txt"
    shutil.copy(trained / "best.pt", "shared.pt")
    answer = charrnn("eval", "shared.pt", "--ensemble", trained)
    assert answer.status == 2 and "shared.pt: there is no last.pt" in answer.err


def test_a_member_that_read_another_corpus_is_named(charrnn, trained):
    """It may have learned from the text that is scored."""
    charrnn("train", write("two.txt", sentences(400, seed=1)), "--steps", 1, "-q", *TINY, "--out", "own")
    assert opened("own")[2] == opened(trained)[2]
    answer = charrnn("eval", trained, "--ensemble", "own")
    assert answer.status == 0 and "note: own: was trained on another corpus" in answer.err
    assert charrnn("eval", trained, "--ensemble", trained).err == ""


def test_an_ensemble_adapts(charrnn, trained, other):
    path = write("text.txt", sentences(60, seed=8).replace("eats", "aets").replace("the ", "de "))
    options = (trained, path, "--ensemble", other, "--dynamic", "--dynamic-rate")
    (still,), (moving,) = scores(charrnn, *options, 0), scores(charrnn, *options, 2e-3)
    assert still["dynamic"]["nats"] == pytest.approx(still["nats"], abs=1e-6)  # float32, in pieces and in one
    assert moving["nats"] == still["nats"] > moving["dynamic"]["nats"] + 0.05
    answer = charrnn("eval", *options, 2e-3)
    assert "dynamic nats" in answer.out and answer.out.splitlines()[-1].startswith("ensemble of 2")


# ---- drawing text


def test_sampled_probabilities_are_averaged(trained, other):
    """The members' own softmaxes in float64, over 60 steps; 1e-5: float32."""
    mean = (probabilities(trained, LINES[:60]) + probabilities(other, LINES[:60])) / 2
    samplers = [Sampler(*opened(path)[:2]) for path in (trained, other)]
    both = SamplerEnsemble(samplers)
    state = both.start()
    for row, symbol in zip(mean, opened(trained)[2].encode(LINES[:60]), strict=False):
        logits, state = both.step(np.array([symbol]), state)
        found = Picking(1.0).probabilities(logits)[0]
        np.testing.assert_allclose(found, row, rtol=1e-5, atol=1e-7)


def test_streams_of_an_ensemble(trained, other):
    def drawn(streams):
        both = SamplerEnsemble([Sampler(*opened(path)[:2]) for path in (trained, other)])
        return np.array(list(islice(generate(both, np.array([3, 5]), Picking(1.0), 4, streams), 80)))  # (T, B)

    together = drawn(range(3))
    for k in range(3):
        assert (drawn(range(k, k + 1))[:, 0] == together[:, k]).all()


def test_sampling_from_an_ensemble(charrnn, trained, other):
    alone = charrnn("sample", trained, "-n", 120, "--seed", 3)
    assert charrnn("sample", trained, "--ensemble", trained, "-n", 120, "--seed", 3) == alone
    answer = charrnn("sample", trained, "--ensemble", other, "-p", "The ", "-n", 120, "--seed", 3)
    assert (answer.status, answer.err) == (0, "") and answer.out.startswith("The ") and len(answer.out) >= 124
    assert answer == charrnn("sample", other, "--ensemble", trained, "-p", "The ", "-n", 120, "--seed", 3)
    two = charrnn("sample", other, "--ensemble", trained, "-p", "The ", "-n", 120, "--seed", 3, "--count", 2, "--json")
    texts = [json.loads(line)["text"] for line in two.out.splitlines()]
    assert answer.out.removesuffix("\n") == "The " + texts[0].removesuffix("\n") and texts[0] != texts[1]
