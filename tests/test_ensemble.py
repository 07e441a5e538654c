"""Ensembles: logits averaged symbol by symbol, vocabularies matched by what their symbols are, text drawn."""

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
from charrnn.sample import Picking, Sampler, generate
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
    sampler, rows = Sampler([(model, weights)]), []
    for place, symbol in enumerate(vocabulary.encode(text)[:-1]):
        if place == 0 or (every and place % every == 0):
            state = sampler.start()
        logits, state = sampler.step(np.array([symbol]), state)
        p = np.exp(logits[0].astype(np.float64))
        rows.append(p / p.sum())
    return np.array(rows)


def pooled(paths, text, every=None):
    """The geometric mean of the models' probabilities, made to sum to one."""
    mean = np.prod([probabilities(path, text, every) for path in paths], axis=0) ** (1 / len(paths))
    return mean / mean.sum(-1, keepdims=True)


def expected(paths, text, first, every=None):
    """Nats and accuracy of the models together."""
    mean = pooled(paths, text, every)
    mean = mean[: len(mean) // every * every] if every else mean
    following = opened(first)[2].encode(text)[1 : len(mean) + 1]
    return -np.log(mean[np.arange(len(mean)), following]).mean(), (mean.argmax(-1) == following).mean()


# ---- scores


def test_logits_are_averaged(charrnn, trained, other):
    path = write("text.txt", LINES)
    (row,) = scores(charrnn, trained, path, "--ensemble", other)
    nats, right = expected([trained, other], LINES, trained)
    assert row["nats"] == pytest.approx(nats, abs=1e-6) and row["accuracy"] == right
    assert row["bits"] == pytest.approx(row["nats"] / math.log(2), rel=1e-12)
    assert row["ensemble"] == [str(trained), str(other)] and row["characters"] == len(LINES) - 1
    (turned,) = scores(charrnn, other, path, "--ensemble", trained)
    assert turned["nats"] == pytest.approx(nats, abs=1e-6)
    alone = [scores(charrnn, member, path)[0]["nats"] for member in (trained, other)]
    assert row["nats"] < sum(alone) / 2  # geometric means sum to less than one


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
    assert said == f"ensemble of 2: the logits of {trained}, {other} averaged"


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


def test_logits_are_averaged_where_text_is_drawn(trained, other):
    """The members' own softmaxes in float64, over 60 steps; 1e-5: float32."""
    mean = pooled([trained, other], LINES[:60])
    both = Sampler([opened(path)[:2] for path in (trained, other)])
    state = both.start()
    for row, symbol in zip(mean, opened(trained)[2].encode(LINES[:60]), strict=False):
        logits, state = both.step(np.array([symbol]), state)
        found = Picking(1.0).probabilities(logits)[0]
        np.testing.assert_allclose(found, row, rtol=1e-5, atol=1e-7)


def test_streams_of_an_ensemble(trained, other):
    def drawn(streams):
        both = Sampler([opened(path)[:2] for path in (trained, other)])
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


# ---- models trained side by side

STEPS = ("--steps", 24, "--eval-every", 12, "--sample-length", 12, "--seed", 5)
NOISE = ("--dropout", 0.3, "--dropout-input", 0.2, "--weight-drop", 0.3, "--state-reset", 0.3, "--ema", 0.1)


@pytest.fixture
def three(charrnn, corpus):
    """A run of three members, hardly trained."""
    answer = charrnn("train", corpus, "--members", 3, "--out", "three", "-q", *STEPS, *NOISE, *TINY)
    assert answer.status == 0, answer.err
    return Path("three")


def lone(source, number, path):
    """One member of a checkpoint as a checkpoint of its own."""
    tensors, record = checkpoint.load(source / "best.pt")
    weights = checkpoint.members(tensors, record)[number]
    record = record | {"config": record["config"] | {"members": 1}}
    checkpoint.save(Path(path), {f"weights.{name}": array for name, array in weights.items()}, record)
    return path


@pytest.mark.parametrize("around", [(), ("--attention", 5, "--residual", "--norm", "--zoneout", 0.2)])
def test_the_first_member_is_the_model_that_would_be_trained_alone(charrnn, corpus, around):
    """Bit for bit, its state and its optimizer too: members do not touch each other. The others are other models."""
    for members in (1, 3):
        options = ("--members", members, "--out", f"of-{members}", "-q", *STEPS, *NOISE, *TINY, *around)
        assert charrnn("train", corpus, *options).status == 0
    alone, record = checkpoint.load(Path("of-1/last.pt"))
    together, other = checkpoint.load(Path("of-3/last.pt"))
    for kind in ("weights", "average", "optimizer.exp_avg", "optimizer.exp_avg_sq"):
        names = [name.removeprefix(f"{kind}.") for name in alone if name.startswith(f"{kind}.")]
        assert len(names) > 9
        for name in names:
            assert (alone[f"{kind}.{name}"] == together[f"{kind}.0.{name}"]).all(), name
    states = [name for name in alone if name.startswith("state.")]
    assert all((alone[name] == together[name]).all() for name in states)
    assert sum(name.startswith("state.") for name in together) == 3 * len(states)
    for name in ("embedding", "layers.0.U.f", "head.W"):
        assert not (together[f"weights.1.{name}"] == together[f"weights.2.{name}"]).any()
    assert other["model"] == record["model"] and other["config"] == record["config"] | {"members": 3}


def test_a_member_disturbs_no_other_where_its_gradient_is_large(charrnn, corpus, monkeypatch):
    """Gradients are clipped one by one: with a second member a thousand times as steep the first learns as alone."""
    from charrnn import train

    cost = train.Trainer._cost

    def steep(self, x, y, member, *states):
        value, state = cost(self, x, y, member, *states)
        return value + 999 * member * (value - value.detach()), state

    monkeypatch.setattr(train.Trainer, "_cost", steep)
    for members in (1, 2):
        options = ("--members", members, "--clip", 0.1, "--out", f"of-{members}", "-q", *STEPS, *TINY)
        assert charrnn("train", corpus, *options).status == 0
    alone, together = (checkpoint.load(Path(f"of-{members}/last.pt"))[0] for members in (1, 2))
    assert (alone["weights.head.W"] == together["weights.0.head.W"]).all()


def test_members_are_scored_and_drawn_from_as_an_ensemble(charrnn, three):
    """As their checkpoints one by one would be with --ensemble; the run's own result is that score."""
    paths, text = [lone(three, number, f"{number}.pt") for number in range(3)], write("text.txt", LINES)
    others = ("--ensemble", paths[1], "--ensemble", paths[2])
    (own,), (apart,) = scores(charrnn, three, text), scores(charrnn, paths[0], text, *others)
    assert own["nats"] == apart["nats"] == pytest.approx(expected(paths, LINES, paths[0])[0], abs=1e-6)
    assert "ensemble" not in own
    assert checkpoint.load(three / "best.pt")[1]["result"]["nats"] == scores(charrnn, three)[0]["nats"]
    (own,), (apart,) = (scores(charrnn, *which, text, "--windows", 16) for which in ((three,), (paths[0], *others)))
    assert own["nats"] == apart["nats"]
    drawn = charrnn("sample", three, "-n", 120, "--seed", 3)
    assert drawn.status == 0 and drawn == charrnn("sample", paths[0], *others, "-n", 120, "--seed", 3)
    samples = [json.loads(line) for line in (three / "samples.jsonl").read_text().splitlines()]
    assert [row["step"] for row in samples] == [0, 12, 24] and all(len(row["text"]) == 12 for row in samples)


def test_members_and_another_checkpoint(charrnn, three, trained):
    paths, text = [lone(three, number, f"{number}.pt") for number in range(3)], write("text.txt", LINES)
    (row,) = scores(charrnn, three, text, "--ensemble", trained)
    assert row["nats"] == pytest.approx(expected([*paths, trained], LINES, paths[0])[0], abs=1e-6)
    assert row["ensemble"] == ["three", str(trained)]


def test_members_adapt_together(charrnn, three):
    (row,) = scores(charrnn, three, write("text.txt", LINES), "--dynamic", "--dynamic-rate", 2e-3)
    assert row["dynamic"]["nats"] < row["nats"]


def test_members_are_told_of(charrnn, three, corpus):
    shown = json.loads(charrnn("inspect", three, "--json").out)
    one = json.loads(charrnn("inspect", lone(three, 0, "0.pt"), "--json").out)
    assert (shown["members"], one["members"]) == (3, 1) and shown["parts"] == one["parts"]
    assert shown["parameters"] == 3 * one["parameters"] == 3 * sum(one["parts"].values())
    rows = {line.split("  ")[0].strip(): line.split() for line in charrnn("inspect", three).out.splitlines()}
    assert f"{one['parameters']:,}" in rows["one member"] and f"{shown['parameters']:,}" in rows["all"]
    assert "one member" not in charrnn("inspect", "0.pt").out
    answer = charrnn("train", corpus, "--members", 3, "--out", "again", "--json", *STEPS, *TINY)
    assert json.loads(answer.out)["parameters"] == shown["parameters"]
    assert f"3 models of lstm, 2 x 24, embedding 8: {shown['parameters']:,} parameters" in " ".join(answer.err.split())


def test_gates_of_a_member(charrnn, three):
    for number in range(3):
        own = charrnn("gates", three, "--member", number, "--text", LINES, "--json")
        alone = charrnn("gates", lone(three, number, "0.pt"), "--text", LINES, "--json")
        assert own.status == 0 and own.out == alone.out and alone.err == ""
        assert own.err == f"note: three: what is shown is member {number} of 3, counted from 0\n"
    for wrong in (3, -1):
        answer = charrnn("gates", three, f"--member={wrong}", "--text", LINES)
        assert (answer.status, answer.out) == (2, "") and f"--member {wrong}: must be from 0 to 2" in answer.err


def test_a_run_that_starts_from_members_has_as_many(charrnn, three, corpus):
    corpus.write_bytes(corpus.read_bytes() + "½".encode() * 40)
    answer = charrnn("train", corpus, "--init-from", three, "--out", "more", "--steps", 1, "--lr", 1e-9, *TINY[:6])
    assert answer.status == 0, answer.err
    before, after = (checkpoint.members(*checkpoint.load(checkpoint.find(Path(run)))) for run in ("three", "more"))
    assert len(before) == len(after) == 3
    for old, new in zip(before, after, strict=True):
        np.testing.assert_allclose(new["layers.1.U.f"], old["layers.1.U.f"], atol=1e-8)
        assert len(new["embedding"]) == len(old["embedding"]) + 1
    answer = charrnn("train", corpus, "--init-from", three, "--members", 2, "--steps", 1)
    assert answer.status == 2 and "--members 2: the weights of three fit only 3" in answer.err
    answer = charrnn("train", "--resume", three, "--members", 2)
    assert answer.status == 2 and "--members 2: a resumed run cannot change it" in answer.err


def test_no_members(charrnn, corpus):
    answer = charrnn("train", corpus, "--members", 0)
    assert (answer.status, answer.out) == (2, "") and "--members 0: must be at least 1" in answer.err
