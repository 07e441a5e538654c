"""Probes on synthetic tasks: verdicts, measures, what is learned and kept, what is printed."""

import csv
import json
import math
import os
import signal
import statistics
from pathlib import Path

import numpy as np
import pytest

from charrnn.errors import Interrupted, UsageError
from charrnn.probe import learn, work
from charrnn.probe.learn import KEY, ROW, Learner, measure
from charrnn.probe.measures import counted, far, memoryless, reached, result
from charrnn.probe.protocols import COUNTING, NOT_COUNTING, PROTOCOLS
from charrnn.probe.settings import Job, Settings, contender
from charrnn.probe.verdict import Prediction, Result, judge

TINY = ("--cells", "rnn,lstm", "--seeds", 2, "--gaps", "2,3", "--lrs", 0.01, "--updates", 2, "--hidden", 6, "--jobs", 1)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No waiting for the disk, and short tests."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(learn, "TESTED", 256)


def job(**more):
    usual = dict(probe="recall", cell="lstm", gap=3, seed=1, lr=0.02, hidden=6, updates=3, attention=0)
    return Job(**usual | more)


def row(**more):
    """A row of a model that came to its end."""
    usual = dict.fromkeys(ROW) | job().record()
    return usual | dict(status="done", held=0.1, nats=0.1, accuracy=1.0, lines=1.0, parts={}, solved=True) | more


# ---- verdicts


def judged(prediction, *values, most=1000):
    return judge(prediction, "H90", {"lstm": dict(enumerate(values))}, most)


def test_the_interval_decides():
    """Of 60, 70, 80: 70 +- 4.3027 * 10 / sqrt(3), from 45.2 to 94.8 (Student's t, two degrees of freedom)."""
    inside = judged(Prediction("lstm", 45), 60, 70, 80)
    assert (inside.effect, inside.seeds, inside.verdict) == (70, 3, "supported")
    assert inside.interval == pytest.approx(
        [70 - 4.30265 * 10 / 3**0.5, 70 + 4.30265 * 10 / 3**0.5], abs=1e-4
    )  # digits
    assert judged(Prediction("lstm", 46), 60, 70, 80).verdict == "inconclusive"
    assert judged(Prediction("lstm", 95), 60, 70, 80).verdict == "not supported"
    assert judged(Prediction("lstm", high=95), 60, 70, 80).verdict == "supported"
    assert judged(Prediction("lstm", high=94), 60, 70, 80).verdict == "inconclusive"
    assert judged(Prediction("lstm", high=45), 60, 70, 80).verdict == "not supported"
    assert judged(Prediction("lstm", 45, 95), 60, 70, 80).verdict == "supported"
    assert judged(Prediction("lstm", 45, 94), 60, 70, 80).verdict == "inconclusive"
    assert judged(Prediction("lstm", 64), 64, 64, 64).verdict == "supported"


def test_too_little_is_inconclusive():
    one, none = judged(Prediction("lstm", 45), 60), judged(Prediction("lstm", 45))
    assert (one.verdict, one.effect, one.interval, one.reason) == (
        "inconclusive",
        60,
        None,
        "one seed gives no interval",
    )
    assert (none.verdict, none.effect, none.reason) == ("inconclusive", None, "no run came to its end")
    for untried in (Prediction("lstm", 65), Prediction("lstm", high=64)):
        found = judged(untried, 64, 64, 64, most=64)
        assert (found.verdict, found.reason) == ("inconclusive", "nothing above 64 was tried")


def test_cells_are_compared_seed_by_seed():
    found = {"lstm": {1: 10.0, 2: 20.0, 3: 33.0}, "rnn": {2: 11.0, 3: 23.0, 4: 99.0}}
    finding = judge(Prediction("lstm", 5, over="rnn"), "far", found, 1000)
    assert (finding.effect, finding.seeds, finding.prediction) == (9.5, 2, "lstm over rnn: far at least 5")


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        (["supported", "supported"], "supported"),
        (["supported", "inconclusive"], "inconclusive"),
        (["inconclusive", "not supported", "supported"], "not supported"),
        ([], "inconclusive"),
    ],
)
def test_the_verdict_on_the_whole(verdicts, whole):
    values = {"supported": (70, 70), "not supported": (1, 1), "inconclusive": (70,)}
    findings = [judged(Prediction("lstm", 45), *values[verdict]) for verdict in verdicts]
    made = Result("recall", "", "", "", "", "", [], [], findings)
    assert made.verdict == whole
    assert (made.effect, made.interval) == next(
        ((f.effect, f.interval) for f in findings if f.verdict == whole), (None, None)
    )


# ---- measures


def test_the_longest_gap_that_is_bridged():
    rows = [row(gap=8, accuracy=0.99), row(gap=16, accuracy=0.9), row(gap=32, accuracy=0.89)]
    assert reached(rows) == 16 and reached(rows[2:]) == 0
    assert reached([*rows, row(gap=64, status="diverged", accuracy=None)]) == 16


def test_counting_ends_before_the_first_number_that_is_wrong():
    right = {str(n): [n, n] for n in range(1, 13)}
    assert counted([row(parts={"n": right})]) == 12
    assert counted([row(parts={"n": right | {"10": [9, 10]}})]) == 9
    assert counted([row(parts={"n": right | {"1": [0, 1]}})]) == 0
    assert counted([row(status="diverged", parts=None)]) is None


def test_far_is_sixteen_and_more():
    parts = {"distance": {"8": [0, 50], "16": [3, 10], "32": [6, 10]}, "depth": {"1": [0, 70]}}
    assert far([row(parts=parts)]) == 9 / 20


def test_the_baseline_of_copying():
    """Of T + 20 characters ten cost ln 8, the others nothing, for one who knows when but not what."""
    assert memoryless(100) == pytest.approx(statistics.fmean([0.0] * 110 + [math.log(8)] * 10), abs=1e-12)


def test_the_rate_is_chosen_by_what_was_held_out():
    """Not by the test; and a diverged model has lost against any other."""
    settings = Settings(("lstm",), seeds=1, gaps=(8,), lrs=(0.1, 0.2, 0.3)).complete(PROTOCOLS["recall"])
    tried = [(0.1, None, None, "diverged"), (0.2, 0.5, 0.2, "done"), (0.3, 0.6, 1.0, "done")]
    rows = [row(gap=8, lr=lr, held=held, accuracy=share, status=status) for lr, held, share, status in tried]
    made = result(PROTOCOLS["recall"], settings, rows)
    assert made.table[0]["accuracy"] == {8: 0.2} and made.rows == rows
    assert made.notes[0] == "one seed gives no interval; ask for --seeds 3 or more"


def test_diverged_models_are_rows():
    settings = Settings(("lstm",), seeds=2, gaps=(32,), lrs=(0.1,)).complete(PROTOCOLS["brackets"])
    bad = row(probe="brackets", gap=32, seed=1, status="diverged", held=None, accuracy=None, parts=None, nats=None)
    good = row(probe="brackets", gap=32, seed=2, parts={"distance": {"16": [1, 2]}})
    made = result(PROTOCOLS["brackets"], settings, [bad, good])
    assert (made.table[0]["diverged"], made.table[0]["measure"], made.verdict) == (1, 0.5, "inconclusive")
    assert made.notes == ["lstm: 1 of 2 models diverged"]
    assert result(PROTOCOLS["brackets"], settings, [bad, bad | {"seed": 2}]).table[0]["measure"] is None


def test_counting_is_foretold_of_the_numbers_seen():
    foretold = {each.cell: (each.low, each.high) for each in PROTOCOLS["count"].foretold(20, 0)}
    assert foretold == dict.fromkeys(COUNTING, (40, None)) | dict.fromkeys(NOT_COUNTING, (None, 30))


def test_what_looks_back_is_foretold_to_find_pairs():
    protocol = PROTOCOLS["recall-pairs"]
    assert {each.low for each in protocol.foretold(16, 32)} == {16} != {each.low for each in protocol.foretold(16, 0)}


# ---- one model


def test_an_lstm_learns_to_recall(one_thread):
    done = measure(job(hidden=24, updates=300))
    assert list(done) == list(ROW)
    assert (done["status"], done["solved"], done["engine"]) == ("done", True, "native")
    assert done["accuracy"] > 0.9 and done["made"] < 300 and done["nats"] < math.log(8) / 2


@pytest.mark.parametrize("probe", PROTOCOLS)
def test_every_probe_gives_a_row(probe, one_thread):
    """Twice the same, and another with another seed; what was asked for adds up."""
    gap = max(10, PROTOCOLS[probe].least)
    first, again, other = (measure(job(probe=probe, gap=gap, seed=seed)) for seed in (1, 1, 2))
    assert {**first, "seconds": 0} == {**again, "seconds": 0} and first["nats"] != other["nats"]
    assert first["made"] == 3 and not first["solved"]
    for parts in first["parts"].values():
        right, asked = (sum(part[k] for part in parts.values()) for k in (0, 1))
        assert right / asked == pytest.approx(first["accuracy"], abs=1e-12)
    assert list(first["parts"]) == {"count": ["n"], "brackets": ["distance", "depth"]}.get(probe, [])
    if probe == "count":
        assert {int(n): part[1] for n, part in first["parts"]["n"].items()} == {n: n for n in range(1, 52)}


def test_attention_is_part_of_the_model(one_thread):
    plain, looking = (measure(job(probe="recall-pairs", gap=4, attention=n)) for n in (0, 8))
    assert looking["parameters"] == plain["parameters"] + 6 * 6 + 3 * 6 and looking["nats"] != plain["nats"]


def test_a_model_that_diverges_is_a_row(one_thread):
    done = measure(job(cell="rnn:activation=relu", lr=1e30))
    assert (done["status"], done["accuracy"], done["held"], done["solved"]) == ("diverged", None, None, False)
    json.dumps(done, allow_nan=False)


def biases(cell):
    learner = Learner(job(cell=cell, gap=50, hidden=400))
    return [learner.weights[f"layers.0.b.{gate}"].detach().numpy() for gate in "fi"]


def test_where_the_forget_gate_starts():
    assert (biases("lstm")[0] == 1).all() and (biases("lstm:forget_bias=-2.5")[0] == -2.5).all()
    forget, write = biases("lstm:forget_bias=log-uniform")
    assert (write == -forget).all()
    memories = np.exp(forget)  # a gate at sigmoid(log m) remembers for about m characters
    assert 1 <= memories.min() < 3 and 47 < memories.max() <= 50 and abs(np.median(memories) - 25.5) < 5


def test_a_cell_comes_with_its_settings():
    who = contender("clockwork:modules=4")
    assert (who.cell, who.settings, who.forget_bias) == ("clockwork", {"modules": "4"}, None)
    assert contender("lstm:forget_bias=0").forget_bias == "0"


# ---- the running


def run(folder=None, stop=lambda: None, name="recall", **more):
    said = []
    usual = dict(cells=("rnn", "lstm"), seeds=2, gaps=(2, 3), lrs=(0.01,), updates=2, hidden=6, jobs=1)
    made = work.run(name, Settings(**usual | more), lambda event, **what: said.append((event, what)), folder, stop)
    return made, said


def unhurried(rows):
    return [one | {"seconds": 0} for one in rows]


def test_processes_of_their_own_give_the_same_rows(one_thread):
    """TESTED is the room's own there, so the test lines are more; what was trained is the same."""
    here, there = run(gaps=(2,), seeds=1)[0], run(gaps=(2,), seeds=1, jobs=2)[0]
    for name in ("cell", "held", "made", "parameters", "engine"):
        assert [one[name] for one in here.rows] == [one[name] for one in there.rows]


def test_rows_that_are_there_are_not_computed_again(monkeypatch, one_thread):
    whole, said = run(Path("out"))
    assert [what["number"] for event, what in said if event == "end"] == list(range(1, 9))
    asked = []
    monkeypatch.setattr(work, "measure", lambda job, stop: asked.append(job) or measure(job))
    assert unhurried(run(Path("out"))[0].rows) == unhurried(whole.rows) and not asked
    more, _ = run(Path("out"), cells=("rnn", "lstm", "gru"))
    assert {job.cell for job in asked} == {"gru"} and len(more.rows) == 12
    run(Path("out"), updates=3, gaps=(2,))
    assert len(asked) == 8  # another number of updates, another model
    lines = Path("out/rows.jsonl").read_text().splitlines()
    assert len(lines) == 16 and all(list(json.loads(line)) == list(ROW) for line in lines)


def test_half_a_row_is_no_row(one_thread):
    whole, _ = run(Path("out"))
    path = Path("out/rows.jsonl")
    path.write_bytes(path.read_bytes()[:-30])
    again, said = run(Path("out"))
    assert sum(event == "end" for event, _ in said) == 1 and unhurried(again.rows) == unhurried(whole.rows)
    assert len(path.read_text().splitlines()) == 8


def test_an_interruption_keeps_what_is_done(one_thread):
    path, signals = Path("out/rows.jsonl"), []
    enough = lambda: signal.SIGINT if path.exists() and path.read_text().count("\n") == 3 else None  # noqa: E731
    with pytest.raises(Interrupted, match="stopped with 3 of 8 models done, all kept"):
        run(Path("out"), enough)
    assert len(run(Path("out"))[0].rows) == 8 and not signals
    with pytest.raises(Interrupted, match="stopped with 0 of 8 models done, nothing is kept without --out"):
        run(None, lambda: signal.SIGTERM)


def solving(at):
    """Stands for measure: a model solves its task at one rate."""
    parts = {"n": {"1": [1, 1]}}
    return lambda job, stop: row(**job.record(), parts=parts, solved=job.lr == at, accuracy=float(job.lr == at))


def test_rates_are_tried_until_one_solves(monkeypatch):
    for at, tried in ((0.1, 4), (0.2, 8), (0.7, 12)):
        monkeypatch.setattr(work, "measure", solving(at))
        made, said = run(lrs=(0.1, 0.2, 0.3), gaps=(2,))
        assert len(made.rows) == tried == sum(event == "end" for event, _ in said)
        assert said[-1][1]["number"] == said[-1][1]["total"] == 12
    assert len(run(lrs=(0.1, 0.2), gaps=(9,), name="count")[0].rows) == 8  # to have learned them is not to count


# ---- the command


def test_everything_is_left_in_the_folder(charrnn):
    answer = charrnn("probe", "recall", *TINY, "--out", "out", "--json", "-q")
    assert answer.status == 0, answer.err
    told = json.loads(answer.out)
    names = "probe question measure expectation source baseline rows table findings notes effect interval verdict"
    assert " ".join(told) == names
    assert told == json.loads(Path("out/recall.json").read_text()) and told["verdict"] == "inconclusive"
    assert [line["cell"] for line in told["table"]] == ["rnn", "lstm"] and told["baseline"] == "chance 12.5%, one of 8"
    with open("out/recall.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == [*(name for name in ROW if name != "parts"), "part", "value", "right", "asked"]
    assert len(lines) == 8 and {line["gap"] for line in lines} == {"2", "3"}
    assert Path("out/recall.png").read_bytes().startswith(b"\x89PNG")
    assert "distractors" in Path("out/recall.svg").read_text()
    before = Path("out/rows.jsonl").read_bytes()
    again = charrnn("probe", "recall", *TINY, "--out", "out", "--json", "-q")
    assert (again.out, Path("out/rows.jsonl").read_bytes()) == (answer.out, before)


@pytest.mark.parametrize("probe", ["count", "brackets"])
def test_parts_are_lines_of_the_csv_and_curves(charrnn, probe):
    gap = 10 if probe == "count" else 32
    typed = ("--cells", "lstm", "--seeds", 1, "--updates", 2, "--hidden", 4, "--lrs", 0.01, "--jobs", 1)
    answer = charrnn("probe", probe, "--gaps", gap, *typed, "--out", "out")
    assert answer.status == 0, answer.err
    with open(f"out/{probe}.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    (kept,) = [json.loads(line) for line in Path("out/rows.jsonl").read_text().splitlines()]
    found = {}
    for line in lines:
        found.setdefault(line["part"], {})[line["value"]] = [int(line["right"]), int(line["asked"])]
    assert found == kept["parts"] and kept["gap"] == gap
    assert "one seed gives no interval" in answer.err and "verdict: inconclusive" in answer.out
    for picture in ("png", "svg"):
        assert Path(f"out/{probe}.{picture}").stat().st_size > 1000
    assert ("trained up to 10" in Path(f"out/{probe}.svg").read_text()) == (probe == "count")


def test_the_table_tells_all_and_stderr_the_way(charrnn):
    answer = charrnn("probe", "recall", *TINY)
    lines = answer.out.splitlines()
    assert lines[0] == PROTOCOLS["recall"].question and lines[-1] == "verdict: inconclusive"
    assert [line.split()[0] for line in lines[4:6]] == ["rnn", "lstm"]
    assert answer.err.count(" updates") == 8 and "8 of 8  lstm, 3, seed 2, rate 0.01" in answer.err
    assert max(map(len, lines)) <= 80
    assert not os.listdir()


@pytest.mark.parametrize(
    ("probe", "typed", "said"),
    [
        ("recall", ["--cells", "lstn"], "--cells lstn: no such cell (did you mean 'lstm'?)"),
        ("recall", ["--cells", "rnn,rnn"], "--cells rnn,rnn: names one of them twice"),
        ("recall", ["--cells", "gru:forget_bias=1"], "--cells gru:forget_bias=1: gru has no forget gate f"),
        ("recall", ["--cells", "lstm:forget_bias=low"], "forget_bias=low: must be a number or log-uniform"),
        ("recall", ["--cells", "clockwork:module=4"], "--cell-opt module: no such setting (did you mean 'modules'?)"),
        ("recall", ["--gaps", "0"], "--gaps 0: recall takes from 1 to 100,000 distractors"),
        ("recall", ["--gaps", "8,x"], "--gaps 8,x: must be whole numbers with commas between"),
        ("recall", ["--gaps", "8,8"], "--gaps 8,8: names one of them twice"),
        ("recall", ["--lrs", "0"], "--lrs 0: must be a number greater than 0"),
        ("recall", ["--lrs", "nan"], "--lrs nan: must be a number greater than 0"),
        ("recall", ["--seeds", 0], "--seeds 0: must be at least 1"),
        ("recall", ["--jobs", -1], "--jobs -1: must be at least 0"),
        ("recall", ["--updates", 0], "--updates 0: must be at least 1"),
        ("recall", ["--attention", -1], "--attention -1: must be at least 0"),
        ("recall", ["--hidden", 47, "--cells", "slstm"], "--cell-opt heads"),
        ("recall", ["--out", "file"], "--out file: is a file; take another name"),
        ("order", ["--gaps", "9"], "--gaps 9: order takes from 10 to 100,000 characters"),
        ("recall-pairs", ["--gaps", "106"], "--gaps 106: pairs takes from 2 to 104 characters of pairs"),
        ("brackets", ["--gaps", "20"], "--gaps 20: must be at least 32, to measure the share right at distances of 16"),
        ("count", ["--gaps", "20,30"], "--gaps 20,30: count takes one"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(charrnn, probe, typed, said):
    Path("file").touch()
    answer = charrnn("probe", probe, *typed)
    assert (answer.status, answer.out) == (2, "")
    assert said in answer.err and answer.err.startswith("error: ") and answer.err.count("\n") == 1


def test_a_probe_that_is_not_there():
    with pytest.raises(UsageError, match=r"PROBE recal: no such probe \(did you mean 'recall'\?\)"):
        work.run("recal", Settings(), lambda event, **what: None)


def test_an_interrupted_command_says_how_to_go_on(charrnn, monkeypatch):
    monkeypatch.setattr("charrnn.cli.session.Stop.signal", lambda self: signal.SIGINT)
    answer = charrnn("probe", "recall", *TINY, "--out", "out")
    assert (answer.status, answer.out) == (130, "")
    assert "stopped with 0 of 8 models done, all kept; go on with: charrnn probe recall --cells" in answer.err


def test_what_tells_rows_apart_is_what_was_asked():
    assert set(KEY) == set(job().record())
