"""Comparisons: the grid and its order, widths that match, prefixes that are exact, runs that are gone on with, numbers
that equal those made by hand."""

import contextlib
import csv
import io
import json
import math
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import sentences

from charrnn import cells, checkpoint, cli, seeds
from charrnn.cli import compare as compare_cli
from charrnn.cli import session
from charrnn.compare import data, evaluation, generation, grid, outcome, plan, work
from charrnn.compare.grid import Asked
from charrnn.compare.match import CLOSE, matched, size
from charrnn.compare.plan import Entry, Plan, Texts, cut, make
from charrnn.compare.work import ROW, Ended, jobs, launch, read_rows, total
from charrnn.corpus import Reading, open_corpus
from charrnn.errors import UsageError
from charrnn.model import Model

SPEEDS = ("train", "evaluate", "generate")
TINY = ("--hidden", 8, "--steps", 3, "--embed", 4, "--seq-len", 16, "--batch-size", 4)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No waiting for the disk, and not long for how fast a model draws."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(generation, "SECONDS", 0.01)
    monkeypatch.setattr(evaluation, "SECONDS", 0.01)


class Stream(io.TextIOWrapper):
    """What a process would have written."""

    def __init__(self):
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def text(self):
        return self.buffer.getvalue().decode()


@pytest.fixture
def here(monkeypatch):
    """Runs are made in this process, which spares torch's import; `here` lists what was asked of them."""
    made = []

    def run(module, arguments, stop, watch, poll, world):
        made.append((module, arguments))
        yield
        if module == "charrnn.compare.generation":
            return Ended(0, f"{generation.speed(Path(arguments[0]))}\n", "", 0.1)
        if module == "charrnn.compare.evaluation":
            return Ended(0, f"{evaluation.speed(Path(arguments[0]))}\n", "", 0.1)
        out, err = Stream(), Stream()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as end:
            monkeypatch.setattr(sys, "argv", ["charrnn", *arguments])
            cli.main()
            sys.exit(0)
        watch()
        return Ended(end.value.code or 0, out.text(), err.text(), 1.0)

    monkeypatch.setattr(work, "launching", run)
    threads = torch.get_num_threads()
    yield made
    torch.set_num_threads(threads)


def trained(made) -> list[str]:
    """The folders of the runs that were trained, in order."""
    return [Path(arguments[arguments.index("--out") + 1]).name for module, arguments in made if "--out" in arguments]


# ---- the grid


def test_cells_vary_fastest():
    asked = Asked(["rnn", "gru"], vary={"dropout": [0.0, 0.5], "layers": [1, 2]}, sizes=[100, 2000], settings={})
    labels = [point.label for point in asked.points()]
    assert labels[:4] == [f"{cell}, dropout 0, layers {n}, 100" for n in (1, 2) for cell in ("rnn", "gru")]
    assert labels[4] == "rnn, dropout 0.5, layers 1, 100"
    assert labels[8] == "rnn, dropout 0, layers 1, 2k"
    assert len(set(labels)) == 16


def test_all_is_every_cell_that_is_not_named():
    assert cells.listed("lstm,all")[0] == "lstm"
    assert sorted(cells.listed("lstm,all")) == sorted(cells.listed("all")) == sorted(cells.classes())


def test_a_cell_may_come_with_its_settings():
    asked = Asked(["clockwork:modules=4", "mogrifier:rounds=3:rank=8"], settings={"hidden": 8})
    first, second = (asked.config(point) for point in asked.points())
    assert (first.cell, first.cell_opt) == ("clockwork", ["modules=4"])
    assert (second.cell, second.cell_opt) == ("mogrifier", ["rounds=3", "rank=8"])
    assert grid.parted("./mine.py:Mine:a=1") == ("./mine.py:Mine", {"a": "1"})


def test_any_setting_is_an_axis():
    given = ["dropout=0,.2", "skips=on,off", "batch-size=4,8", "encoding=utf-8"]
    axes = {"dropout": [0.0, 0.2], "skips": [True, False], "batch_size": [4, 8], "encoding": ["utf-8"]}
    assert grid.axes(given) == axes
    asked = Asked(["rnn"], vary=axes, settings={})
    assert {(c.dropout, c.skips, c.batch_size) for c in map(asked.config, asked.points())} == {
        (d, s, b) for d in (0.0, 0.2) for s in (True, False) for b in (4, 8)
    }


def test_settings_are_ablated_one_at_a_time():
    asked = Asked(["rnn"], ablate=grid.axes(["dropout=0,.3", "skips=off"], "--ablate"), settings={"dropout": 0.2})
    assert [p.label for p in asked.points()] == ["rnn", "rnn, dropout 0", "rnn, dropout 0.3", "rnn, skips off"]
    found = [(c.dropout, c.skips) for c in map(asked.config, asked.points())]
    assert found == [(0.2, True), (0.0, True), (0.3, True), (0.2, False)]
    both = Asked(["rnn", "gru"], vary={"layers": [1, 2]}, ablate={"dropout": [0.0]}, settings={})
    assert [p.label for p in both.points()][2:5] == [
        "rnn, layers 1, dropout 0",
        "gru, layers 1, dropout 0",
        "rnn, layers 2",
    ]


def test_a_length_on_an_axis_replaces_another():
    asked = Asked(["rnn"], vary={"steps": [3, 5]}, settings={"time": "9s"})
    assert [(c.steps, c.time) for c in map(asked.config, asked.points())] == [(3, None), (5, None)]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["--cells", "lstn"], "--cells lstn: no such cell (did you mean 'lstm'?)"),
        (["--cells", "rnn,rnn"], "--cells rnn,rnn: names one of them twice"),
        (["--cells", "rnn,"], "--cells rnn,: must be values with commas between"),
        (["--cells", "clockwork:module=4"], "--cell-opt module: no such setting (did you mean 'modules'?)"),
        (["--match", "param"], "--match param: must be one of params, hidden, time (did you mean 'params'?)"),
        (["--match", "time"], "--match time: gives every run the same time; say which with --time-each"),
        (["--match", "hidden", "--params", "5k"], "--params 5000: has no effect with --match hidden"),
        (["--params", "5x"], "--params 5x: must be a number such as 500, 62k or 1.5M"),
        (["--seeds", 0], "--seeds 0: must be at least 1"),
        (["--jobs", -1], "--jobs -1: must be at least 0"),
        (["--lrs", "fast"], "--lrs lr=fast: must be a number"),
        (["--lrs", "0,1"], "--lr 0.0: must be a number greater than 0"),
        (["--lrs", ".1,.2", "--lr", ".1"], "--lrs: chooses the rates; leave out --lr and --vary lr"),
        (["--lrs", ".1,.2", "--vary", "lr=.1"], "--lrs: chooses the rates; leave out --lr and --vary lr"),
        (["--sizes", "1k,1000"], "--sizes 1000,1000: names one of them twice"),
        (["--sizes", "9k", "--min-count", 2], "--sizes: texts of several sizes fold other characters away"),
        (["--time-each", "soon"], "--time-each soon: must be a length of time"),
        (["--time-each", "5s", "--steps", 3], "--steps and --time-each: give one of --steps, --epochs, --time-each"),
        (["--vary", "dropout"], "--vary dropout: must be name=value,value,.."),
        (["--vary", "drop=1"], "--vary drop: no such setting (did you mean 'dropout'?)"),
        (["--vary", "dropout=0,2"], "--dropout 2.0: must be from 0 to below 1"),
        (["--vary", "layers=1,two"], "--vary layers=two: must be a whole number"),
        (["--vary", "skips=maybe"], "--vary skips=maybe: must be on or off"),
        (["--ablate", "dropout"], "--ablate dropout: must be name=value,value,.."),
        (["--ablate", "ema=x"], "--ablate ema=x: must be a number"),
        (["--ablate", "seed=2"], "--ablate seed: is no axis of its own; use --seeds"),
        (["--ablate", "dropout=.1,.2"], "--ablate dropout=0.1: is what all others have; name another value"),
        (["--ablate", "ema=.1", "--vary", "ema=0"], "--ablate ema: is an axis already (--vary); leave one of them out"),
        (["--ablate", "dropout=0,.3,0"], "--ablate dropout=0,0.3,0: names one of them twice"),
        (["--vary", "layers=1,1"], "--vary layers=1,1: names one of them twice"),
        (["--ablate", "hidden=8"], "--ablate hidden: --match params chooses the widths; add --match hidden"),
        (["--lrs", ".1,.2", "--ablate", "lr=.1"], "--lrs: chooses the rates; leave out --lr and --ablate lr"),
        (["--vary", "cell=rnn"], "--vary cell: is no axis of its own; use --cells"),
        (["--vary", "seed=1,2"], "--vary seed: is no axis of its own; use --seeds"),
        (["--vary", "hidden=8,16"], "--vary hidden: --match params chooses the widths; add --match hidden"),
        (["--match", "hidden", "--cells", "clockwork", "--hidden", 9], "clockwork needs --hidden 9 to be a multiple"),
        (["--resume"], "--resume: goes on with a comparison as it is; name its folder and nothing else"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(charrnn, corpus, typed, said):
    steps = [] if {"--time-each", "--resume"} & set(typed) else ["--steps", 3]
    more = ["--out", "out"] if "--resume" in typed else []
    answer = charrnn("compare", corpus, *typed, *steps, *more)
    assert (answer.status, answer.out) == (2, "")
    assert said in answer.err.replace("\n", " ") and answer.err.count("\n") == 1
    assert not Path("checkpoints").exists() and not Path("out").exists()


# ---- widths that match


def model_of(cell, symbols=50, layers=2, **settings):
    return lambda width: Model(cell, symbols, 16, width, layers, True, settings)


def widths(model, upto):
    """The number of parameters at each width that the cell can have."""
    found = {}
    for width in range(1, upto):
        with contextlib.suppress(UsageError):
            found[width] = size(model(width))
    return found


@pytest.mark.parametrize("cell", cells.classes())
def test_the_width_that_matches_is_the_nearest_of_all(cell):
    model = model_of(cell, layers=1)
    counts, pick = widths(model, 90), random.Random(cell)
    targets = [1, *pick.sample(range(2000, max(counts.values()) * 9 // 10), 6), *pick.sample(list(counts.values()), 2)]
    for target in targets:
        found = matched(model, target)
        assert abs(size(found) - target) == min(abs(count - target) for count in counts.values())
        assert counts[found.hidden] == size(found)


@pytest.mark.parametrize("cell", cells.classes())
def test_wide_models_match_to_one_percent_or_as_near_as_they_come(cell):
    model = model_of(cell)
    target = size(model_of("lstm")(128))
    found = matched(model, target)
    if abs(size(found) / target - 1) > CLOSE:
        near = widths(model, 3 * found.hidden)
        assert min(abs(count - target) for count in near.values()) == abs(size(found) - target)


@pytest.mark.parametrize(
    ("cell", "settings", "multiple"), [("clockwork", {"modules": 12}, 12), ("slstm", {"heads": 7}, 7)]
)
def test_widths_that_a_cell_cannot_have_are_left_out(cell, settings, multiple):
    found = matched(model_of(cell, **settings), 60_000)
    assert found.hidden % multiple == 0


def test_settings_that_no_width_suits_are_refused():
    with pytest.raises(UsageError, match="slstm takes a number that divides"):
        matched(model_of("slstm", heads=100_000), 60_000)


def planned(asked, *paths):
    return make(asked, "corpus", Texts([Path(path) for path in paths], Path("cache")), lambda corpus: {"uniform": 5.0})


def test_the_first_cell_sets_what_the_others_match(corpus):
    made = planned(Asked(["gru", "rnn", "lstm"], settings={"hidden": 100, "dropout": 0.3}), corpus)
    assert made.target == {"None": made.entries[0].parameters}
    assert made.entries[0].config["hidden"] == 100 and made.entries[0].off == 0
    for entry in made.entries:
        config = entry.config
        model = Model(config["cell"], 33, config["embed"], config["hidden"], config["layers"], True, {})
        assert entry.parameters == size(model)
        assert abs(entry.parameters / made.entries[0].parameters - 1) <= CLOSE and not entry.missed()
        assert (config["dropout"], config["embed"]) == (0.3, 64)
    assert len(open_corpus([corpus], [], Path("cache")).vocabulary) == 33


def test_params_set_what_all_match(corpus):
    made = planned(Asked(["gru", "rnn"], params=90_000, vary={"layers": [1, 3]}, settings={}), corpus)
    assert all(abs(entry.parameters / 90_000 - 1) <= CLOSE for entry in made.entries)
    assert len({entry.config["hidden"] for entry in made.entries}) == 4


def test_members_share_the_parameters(charrnn, corpus):
    """Two models of as many parameters together as one; each line tells what it is, and how fast."""
    one, two = planned(Asked(["gru"], vary={"members": [1, 2]}, settings={"hidden": 60}), corpus).entries
    assert two.config["hidden"] < one.config["hidden"] and abs(two.parameters / one.parameters - 1) <= CLOSE
    each = Model("gru", 33, 64, two.config["hidden"], 2, True, {})
    assert two.parameters == 2 * size(each) and two.off == two.parameters / one.parameters - 1
    vary = ("--cells", "gru", "--vary", "members=1,2", "--hidden", 16, "--steps", 2, "--seeds", 1, "--out", "out")
    answer = charrnn("compare", corpus, *vary, "--json")
    assert answer.status == 0, answer.err
    rows = [json.loads(line) for line in Path("out/rows.jsonl").read_text().splitlines()]
    made = planned(Asked(["gru"], vary={"members": [1, 2]}, settings={"hidden": 16}), corpus)
    assert [row["parameters"] for row in rows] == [entry.parameters for entry in made.entries]
    assert all(row["evaluate_per_second"] > 0 and row["generate_per_second"] > 0 for row in rows)


def test_equal_widths_match_nothing(corpus):
    made = planned(Asked(["gru", "rnn"], match="hidden", settings={"hidden": 24}), corpus)
    assert [entry.config["hidden"] for entry in made.entries] == [24, 24]
    assert [entry.off for entry in made.entries] == [None, None]


# ---- texts of several sizes


def prefixes(sizes, *paths, **settings):
    asked, texts = Asked(["rnn"], sizes=sizes, settings=settings), Texts([Path(path) for path in paths], Path("cache"))
    made = make(asked, "corpus", texts, lambda corpus: {})
    os.makedirs("out", exist_ok=True)
    return cut(made, texts, Path("out")), texts.open(asked.config(asked.points()[0]).record())


@pytest.mark.parametrize(
    "content",
    [
        sentences(60), "\ufeff" * 50 + sentences(60), ("ab\r\n\ufeff" * 500), "é" + "a\0\x1c\x85b猫😀" * 300,
        "".join(map(chr, [*range(32, 0x3000, 3), 10])),
    ],
    ids=["plain", "marks at the start", "marks", "odd", "many symbols"],
)  # fmt: skip
@pytest.mark.parametrize("settings", [{}, {"bytes": True}, {"val_fraction": 0.3}, {"encoding": "utf-16"}], ids=str)
def test_a_prefix_ends_where_validation_begins(content, settings):
    Path("text").write_bytes(content.encode(settings.get("encoding", "utf-8")))
    made, whole = prefixes([100, 900], "text", **settings)
    whole_text, (_, end) = whole.vocabulary.raw(whole.ids[:]), whole.parts["train"]
    for entry in made.entries:
        ready = plan.resolved(entry, Path("out"))
        config, paths = ready.config, [Path(path) for path in ready.texts]
        read = Reading(config["bytes"], config["encoding"], config["errors"])
        corpus = open_corpus(paths, [Path(path) for path in config["val"]], Path("cache"), read)
        raw = corpus.vocabulary.raw
        assert raw(corpus.part("train")[:]) == whole.vocabulary.raw(whole.ids[end - entry.size : end])
        assert (
            raw(corpus.part("val")[:])
            == whole.vocabulary.raw(whole.part("val")[:])
            == whole_text[-len(raw(corpus.part("val")[:])) :]
        )
        assert corpus.digest == entry.corpus
        model = Model("rnn", len(corpus.vocabulary), 64, config["hidden"], 2)
        assert entry.parameters == size(model)


def test_prefixes_of_several_files_and_of_a_text_to_validate_on():
    for k, name in enumerate("ab"):
        Path(name).write_text(sentences(20, k), encoding="utf-8", newline="\n")
    Path("held").write_text(sentences(5, 9), encoding="cp1252", errors="replace", newline="\n")
    joined = f"{sentences(20, 0)}\x1c{sentences(20, 1)}"
    made, _ = prefixes([400], "a", "b")
    kept, held = (
        Path("out", path).read_bytes().decode() for path in (made.entries[0].texts[0], made.entries[0].config["val"][0])
    )
    assert joined.endswith(kept + held) and len(kept) == 400
    Path("a").write_text(sentences(20, 0), encoding="cp1252", errors="replace", newline="\n")
    made, _ = prefixes([400], "a", val=["held"], encoding="cp1252")
    kept, held = (
        Path("out", path).read_bytes().decode() for path in (made.entries[0].texts[0], made.entries[0].config["val"][0])
    )
    assert Path("a").read_bytes().decode("cp1252").endswith(kept) and held == Path("held").read_bytes().decode("cp1252")


def test_a_size_that_the_text_does_not_have_is_refused(charrnn, corpus):
    answer = charrnn("compare", corpus, "--sizes", "1k,1M", "--steps", 3)
    assert (answer.status, answer.out) == (2, "")
    assert answer.err.startswith("error: --sizes 1M: must be from 64 to 7,937, the length of the training part")
    assert not Path("checkpoints").exists()


# ---- which runs, in which order


def entry(label="rnn", **more) -> Entry:
    given = dict(cell=label, varied={}, size=None, parameters=1000, off=0.0, texts=["x"], corpus="c" * 64)
    return Entry(label, **given | {"config": {"cell": label, "hidden": 8, "lr": 0.004}} | more)


def plan_of(*labels, **asked) -> Plan:
    record = Asked(["rnn"], **{"settings": {}} | asked).record()
    return Plan(
        record, "corpus", "c" * 64, {"None": 1000}, {"uniform": 5.0}, {"val": 9}, [entry(label) for label in labels]
    )


def row(job, bits=2.0, **more) -> dict:
    """A row as a run that is done leaves it."""
    known = dict(
        run=job.name, label=job.entry.label, purpose=job.purpose, seed=job.seed, lr=job.lr, status="done", bits=bits,
        accuracy=0.5, characters=9, blocks=[9.0], engine="native", memory=1000, train_per_second=5.0,
        generate_per_second=None, elapsed=2.0, seconds=3.0, corpus="c" * 64,
    )  # fmt: skip
    return dict.fromkeys(ROW) | known | more


def test_seeds_are_interleaved_over_cells():
    made = jobs(plan_of("rnn", "gru"), {})
    assert [job.name for job in made] == [
        "01-rnn-seed1",
        "02-gru-seed1",
        "01-rnn-seed2",
        "02-gru-seed2",
        "01-rnn-seed3",
        "02-gru-seed3",
    ]
    assert all(job.lr == 0.004 and job.purpose == "result" for job in made)
    assert total(plan_of("rnn", "gru")) == 6


def test_rates_come_first_on_a_seed_of_their_own_and_the_best_is_taken():
    asked = plan_of("rnn", "gru", lrs=[0.1, 0.2, 0.3], seeds=2)
    first = jobs(asked, {})
    assert [job.name for job in first] == [f"{k}-lr{lr}-seed0" for lr in (0.1, 0.2, 0.3) for k in ("01-rnn", "02-gru")]
    bits = dict(zip([job.name for job in first], [2.5, 2.0, 1.9, None, None, 2.1], strict=True))
    rows = {job.name: row(job, bits[job.name]) for job in first}
    assert jobs(asked, {name: rows[name] for name in list(rows)[:5]}) == first
    then = jobs(asked, rows)[6:]
    assert [(job.name, job.lr) for job in then] == [
        ("01-rnn-seed1", 0.2), ("02-gru-seed1", 0.1), ("01-rnn-seed2", 0.2), ("02-gru-seed2", 0.1)
    ]  # fmt: skip
    assert total(asked) == 10
    lost = {name: each | {"bits": None} for name, each in rows.items()}
    assert {job.lr for job in jobs(asked, lost)[6:]} == {0.1}


def test_odd_labels_are_plain_folders():
    names = [job.name for job in jobs(plan_of("./a b.py:Mine, val /x/y", "源 [b]", seeds=1), {})]
    assert names == ["01-a-b.py-Mine-val--x-y-seed1", "02-源--b-seed1"]


# ---- a comparison


def compare(charrnn, corpus, *more):
    return charrnn("compare", corpus, "--cells", "rnn,lstm", "--seeds", 2, *TINY, *more)


def same_but_for_clocks(rows):
    """Rows without what no two runs have in common."""
    clocks = ("elapsed", "seconds", "memory", *(f"{name}_per_second" for name in SPEEDS), "resumed", "at_once")
    return {name: {k: v for k, v in each.items() if k not in clocks} for name, each in rows.items()}


@pytest.fixture
def done(charrnn, corpus, here):
    """The folder of a finished comparison and what was printed."""
    answer = compare(charrnn, corpus, "--out", "done")
    assert answer.status == 0, answer.err
    return Path("done"), answer


def test_a_comparison_from_beginning_to_end(charrnn, corpus, here, done):
    folder, answer = done
    names = ["01-rnn-seed1", "02-lstm-seed1", "01-rnn-seed2", "02-lstm-seed2"]
    assert trained(here) == list(read_rows(folder)) == names
    for name, made in read_rows(folder).items():
        assert made.keys() == ROW.keys()
        final = json.loads((folder / "runs" / name / "metrics.jsonl").read_text().splitlines()[-1])
        assert final["event"] == "final" and {k: made[k] for k in final.keys() & ROW.keys()} == {
            k: final[k] for k in final.keys() & ROW.keys()
        }
        assert (made["status"], made["steps"], made["lr"]) == ("done", 3, 0.004)
        assert made["engine"] == checkpoint.load(folder / "runs" / name / "best.pt")[1]["engine"]
        assert made["hidden"] == {"rnn": 8, "lstm": made["hidden"]}[made["cell"]] and made["resumed"] is False
        assert min(made[k] for k in (*(f"{name}_per_second" for name in SPEEDS), "elapsed", "parameters")) > 0
    assert not (folder / "runs" / names[0] / "samples.jsonl").read_text()
    told = {entry.label: entry.parameters for entry in Plan.load(folder).entries}
    assert all(made["parameters"] == told[made["label"]] for made in read_rows(folder).values())
    for said in (
        "run 1 of 4  rnn, seed 1  ",
        "run 4 of 4  lstm, seed 2  ",
        "rate 0.004, the default, was used for all",
    ):
        assert said in answer.err
    for said in ("bits more than rnn", "drawing/s", "scoring/s", "spread", "yardsticks uniform", "verdict"):
        assert said in answer.out

    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.pt")}
    again = compare(charrnn, corpus, "--out", "done", "--json")
    told, written = json.loads(again.out), list(csv.DictReader(io.StringIO((folder / "table.csv").read_text())))
    assert len(trained(here)) == 4 and before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.pt")}
    assert "run 1 of" not in again.err
    bits = [made["bits"] for made in read_rows(folder).values()]
    assert [line["bits"] for line in told["table"]] == pytest.approx([(bits[0] + bits[2]) / 2, (bits[1] + bits[3]) / 2])
    assert told["table"][1]["against"]["pairs"] == 2
    assert [float(line["bits"]) for line in written] == [line["bits"] for line in told["table"]]
    assert [line["over_seeds_low"] for line in written] == ["", str(told["table"][1]["against"]["over_seeds"][0])]
    assert charrnn("compare", "--resume", folder, "-q").out == answer.out
    assert len(trained(here)) == 4


def test_a_comparison_that_was_interrupted_goes_on(charrnn, corpus, here, done, monkeypatch):
    """Asked to stop when its second run has begun: that one saves, and is the first to go on."""
    inside, asked = work.launching, []

    def interrupted(module, arguments, *more):
        if "part/runs/02-lstm-seed1" in arguments:
            asked.append(signal.SIGINT)
        return inside(module, arguments, *more)

    monkeypatch.setattr(session.Stop, "signal", lambda self: asked[0] if asked else None)
    monkeypatch.setattr(work, "launching", interrupted)
    answer = compare(charrnn, corpus, "--out", "part")
    assert (answer.status, answer.out) == (130, "")
    assert answer.err.endswith("stopped with 1 of 4 runs done, all saved; go on with: charrnn compare --resume part\n")
    assert list(read_rows(Path("part"))) == ["01-rnn-seed1"]
    monkeypatch.setattr(work, "launching", inside)
    asked.clear()
    here.clear()
    answer = charrnn("compare", "--resume", "part")
    assert answer.status == 0 and "1 of its runs are there" in answer.err and "run 2 of 4" in answer.err
    assert here[0][1][:3] == ["train", "--resume", "part/runs/02-lstm-seed1"] and len(trained(here)) == 2
    rows = read_rows(Path("part"))
    assert [made["resumed"] for made in rows.values()] == [False, True, False, False]
    assert same_but_for_clocks(rows) == same_but_for_clocks(read_rows(Path("done")))


def test_runs_side_by_side_are_those_of_one_after_the_other(charrnn, corpus, here, monkeypatch):
    for module in (cli, compare_cli):
        monkeypatch.setattr(module, "processors", lambda: 4)
    more = ("--cells", "rnn,lstm,gru", "--seeds", 1, "--lrs", ".001,.01", *TINY)
    assert charrnn("compare", corpus, *more, "--threads", 2, "--out", "one").status == 0
    here.clear()
    answer = charrnn("compare", corpus, *more, "--jobs", 2, "--out", "two")
    assert answer.status == 0, answer.err
    assert "at once    2 runs, 2 threads each" in answer.err
    assert "2 runs were made at once: their speeds are those of runs side by side" in answer.err
    assert [f"run {n} of 9" in answer.err for n in range(1, 11)] == [True] * 9 + [False]
    cells_of_rates = [name.split("-")[1] for name in trained(here)[:6]]
    assert cells_of_rates == ["rnn", "lstm", "gru"] * 2
    begun = [arguments[0] == "train" for _, arguments in here]
    assert begun[:2] == [True, True]
    assert sum(begun[:6]) == 2  # both are scored and drawn from before others begin
    one, two = (same_but_for_clocks(read_rows(Path(name))) for name in ("one", "two"))
    assert one == two
    answer = charrnn("compare", corpus, *more, "--jobs", 0, "--out", "two")
    assert answer.status == 2 and "--out two: holds another comparison (" in answer.err


@pytest.mark.parametrize(
    ("visible", "jobs", "device", "names"),
    [
        (None, 2, "auto", ["0", "1", "0", "1"]), ("GPU-a,GPU-b", 2, "auto", ["GPU-a", "GPU-b", "GPU-a", "GPU-b"]),
        (None, 3, "auto", ["0", "1", "0"]), (None, 1, "auto", [None] * 4), (None, 2, "cpu", [None] * 4),
    ],
)  # fmt: skip
def test_runs_side_by_side_are_dealt_out_to_the_gpus(charrnn, corpus, here, monkeypatch, visible, jobs, device, names):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    inside, worlds = work.launching, []

    def told(module, arguments, stop, watch, poll, world):
        worlds.append((arguments, world.get("CUDA_VISIBLE_DEVICES")))
        return inside(module, arguments, stop, watch, poll, world)

    monkeypatch.setattr(work, "launching", told)
    more = ("--jobs", jobs, "--threads", 1, "--device", device, "--out", "dealt")
    answer = compare(charrnn, corpus, *more)
    assert answer.status == 0 and (" thread each, on 2 GPUs" in answer.err) == (jobs > 1 and device == "auto")
    assert [gpu for arguments, gpu in worlds if arguments[0] == "train"][: len(names)] == names
    assert {gpu for arguments, gpu in worlds if arguments[0] != "train"} == set(names)


def test_a_process_has_the_environment_that_is_asked_for():
    Path("tells.py").write_text("import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['PATH'])")
    process = work.launching("tells", [], lambda: None, world={"CUDA_VISIBLE_DEVICES": "GPU-b"})
    with pytest.raises(StopIteration) as ended:
        while True:
            next(process)
    assert ended.value.value.out == f"GPU-b {os.environ['PATH']}\n"


def test_runs_side_by_side_are_all_saved_when_interrupted(charrnn, corpus, here, monkeypatch):
    assert compare(charrnn, corpus, "--threads", 1, "--out", "whole").status == 0
    inside, asked = work.launching, []

    def interrupted(module, arguments, *more):
        if any("02-lstm-seed1" in each for each in arguments):
            asked.append(signal.SIGTERM)
        return inside(module, arguments, *more)

    monkeypatch.setattr(session.Stop, "signal", lambda self: asked[0] if asked else None)
    monkeypatch.setattr(work, "launching", interrupted)
    answer = compare(charrnn, corpus, "--jobs", 2, "--threads", 1, "--out", "part")
    assert (answer.status, answer.out) == (143, "")
    assert "stopped with 0 of 4 runs done, all saved; go on with: charrnn compare --resume part" in answer.err
    assert [path.parent.name for path in sorted(Path("part/runs").glob("*/last.pt"))] == [
        "01-rnn-seed1",
        "02-lstm-seed1",
    ]
    monkeypatch.setattr(work, "launching", inside)
    asked.clear()
    assert charrnn("compare", "--resume", "part").status == 0
    rows = read_rows(Path("part"))
    assert {name: made["resumed"] for name, made in rows.items() if made["resumed"]}.keys() == {
        "01-rnn-seed1", "02-lstm-seed1"
    }  # fmt: skip
    assert same_but_for_clocks(rows) == same_but_for_clocks(read_rows(Path("whole")))


def test_what_was_begun_alone_goes_on_side_by_side(charrnn, corpus, here, done, monkeypatch):
    for module in (cli, compare_cli):
        monkeypatch.setattr(module, "processors", lambda: 2)
    assert compare(charrnn, corpus, "--threads", 1, "--out", "part").status == 0
    whole, path = read_rows(Path("part")), Path("part/rows.jsonl")
    plan = Path("part/plan.json").read_bytes()
    path.write_text(path.read_text().splitlines(keepends=True)[0])
    for name in [*whole][1:]:
        shutil.rmtree(Path("part/runs", name))
    here.clear()
    answer = charrnn("compare", "--resume", "part", "--jobs", 0)
    assert answer.status == 0 and "at once    2 runs, 1 thread each" in answer.err
    assert "2 runs were made at once: their speeds are those of runs side by side" in answer.err
    rows = read_rows(Path("part"))
    assert [rows[name]["at_once"] for name in whole] == [1, 2, 2, 2]
    assert same_but_for_clocks(rows) == same_but_for_clocks(whole)
    assert Path("part/plan.json").read_bytes() == plan  # for this time alone
    assert "2 runs were made at once" in charrnn("compare", "--resume", "part").err

    answer = charrnn("compare", "--resume", "done", "--jobs", 2)
    assert (answer.status, answer.out) == (2, "")
    assert "--jobs 2: these runs have 2 threads each, on 2 processors; at most 1" in answer.err
    asked = json.loads(Path("done/plan.json").read_text())
    for entry in asked["entries"]:
        entry["config"] |= {"time": "5s", "steps": None, "threads": 1}
    Path("done/plan.json").write_text(json.dumps(asked))
    answer = charrnn("compare", "--resume", "done", "--jobs", 2)
    assert answer.status == 2 and "--jobs 2: what is trained by time gets more of it alone" in answer.err


def test_another_comparison_is_not_mixed_in(charrnn, corpus, done):
    answer = compare(charrnn, corpus, "--out", "done", "--lr", 0.1)
    assert (answer.status, answer.out) == (2, "")
    assert answer.err.startswith("error: --out done: holds another comparison (settings: ")
    Path("else").mkdir()
    Path("else/mine").touch()
    answer = compare(charrnn, corpus, "--out", "else")
    assert answer.status == 2 and "--out else: already exists and is not empty" in answer.err
    for folder, said in (("else", "else: holds no comparison"), ("absent", "absent: holds no comparison")):
        answer = charrnn("compare", "--resume", folder)
        assert (answer.status, answer.out) == (5, "") and said in answer.err


def test_a_text_that_has_changed_is_told(charrnn, corpus, done):
    corpus.write_text(sentences(401), encoding="utf-8")
    answer = charrnn("compare", "--resume", "done")
    assert (answer.status, answer.out) == (4, "")
    assert "is not the text that the comparison began with" in answer.err
    answer = compare(charrnn, corpus, "--out", "done")
    assert answer.status == 2 and "holds another comparison (text: " in answer.err


def test_half_a_row_and_a_run_that_failed_are_made_again(charrnn, corpus, here, done):
    rows, path = read_rows(Path("done")), Path("done/rows.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    failed = json.dumps(json.loads(lines[1]) | {"status": "failed", "message": "no memory", "bits": None}) + "\n"
    path.write_text(lines[0] + failed + lines[2] + lines[3][:100])
    here.clear()
    assert charrnn("compare", "--resume", "done").status == 0
    assert [each[1][2] for each in here if "--resume" in each[1]] == [
        f"done/runs/{n}" for n in ("02-lstm-seed1", "02-lstm-seed2")
    ]
    assert same_but_for_clocks(read_rows(Path("done"))) == same_but_for_clocks(rows)
    assert all(json.loads(line) for line in path.read_text().splitlines())


@pytest.mark.parametrize("name", ["plan.json", "rows.jsonl"])
def test_damage_is_told(charrnn, done, name):
    Path("done", name).write_text("{]\n")
    answer = charrnn("compare", "--resume", "done")
    assert (answer.status, answer.out) == (5, "") and f"done/{name}: is damaged" in answer.err


def test_a_run_that_diverges_is_a_row(charrnn, corpus, here):
    vary = ("--cells", "rnn", "--vary", "lr=.01,1e9", "--seeds", 1, *TINY, "--steps", 40, "--out", "out")
    answer = charrnn("compare", corpus, *vary)
    assert answer.status == 0
    good, bad = read_rows(Path("out")).values()
    assert (good["status"], bad["status"], bad["bits"], bad["label"]) == ("done", "diverged", None, "rnn, lr 1e+09")
    assert bad["message"].startswith("diverged at step ") and bad["message"] in answer.err
    assert "rnn, lr 1e+09: 1 diverged of 1 runs, not in its numbers" in answer.err
    assert "one seed gives no interval over seeds" in answer.err
    here.clear()
    assert json.loads(charrnn("compare", "--resume", "out", "--json").out)["table"][1]["diverged"] == 1
    assert here == []  # it is finished


def test_a_cell_that_cannot_be_matched_says_by_how_much(charrnn, corpus, here):
    more = ("--cells", "rnn,clockwork:modules=23", "--seeds", 1, *TINY, "--layers", 1)
    answer = charrnn("compare", corpus, *more)
    assert answer.status == 0
    made = planned(Asked(["rnn", "clockwork:modules=23"], settings=dict(hidden=8, embed=4, layers=1)), corpus).entries[
        1
    ]
    assert made.off > CLOSE and made.config["hidden"] == 23
    assert f"clockwork:modules=23: {made.parameters:,} parameters at 23 units are {made.off:.1%} more" in answer.err
    assert f"{made.off:+.1%}" in answer.out
    assert [path.name for path in Path("checkpoints").iterdir()] == ["compare-corpus-1"]


def test_the_rate_is_chosen_and_sizes_are_run(charrnn, corpus, here):
    more = ("--cells", "rnn", "--lrs", "1e-5,.01", "--sizes", "1k,3k", "--seeds", 1, *TINY, "--out", "out", "--json")
    answer = charrnn("compare", corpus, *more)
    table = json.loads(answer.out)["table"]
    assert [(line["label"], line["lr"], line["size"]) for line in table] == [
        ("rnn, 1k", 0.01, 1000),
        ("rnn, 3k", 0.01, 3000),
    ]
    rows = list(read_rows(Path("out")).values())
    assert [made["purpose"] for made in rows] == ["rate"] * 4 + ["result"] * 2
    assert {made["characters"] for made in rows} == {881}
    assert len({made["corpus"] for made in rows}) == 2
    (line,) = json.loads(answer.out)["data"]
    assert (line["label"], line["sizes"], line["exponent"], line["slope"]) == ("rnn", [1000, 3000], None, None)
    (written,) = csv.DictReader(io.StringIO(Path("out/data.csv").read_text()))
    assert (written["sizes"], written["slope_interval_low"]) == ("1000 3000", "")
    config = Path("out/runs/02-rnn-3k-seed1/config.toml").read_text()
    assert "lr = 0.01\n" in config and "seed = 1\n" in config


def test_axes_at_equal_widths(charrnn, corpus, here):
    """Every table fits 80 columns where the names are short, and a text has its words with their true plural."""
    more = ("--cells", "rnn", "--match", "hidden", "--vary", "layers=1,2", "--seeds", 1, *TINY)
    answer = charrnn("compare", corpus, *more)
    assert answer.status == 0
    assert "runs       2: 2 lines of the table, each with 1 seed" in answer.err
    assert "equal: widths; parameters are not" in answer.out and "rnn, layers 2" in answer.out
    assert max(len(line.rstrip()) for line in answer.out.splitlines()) <= 80
    rows = read_rows(next(Path("checkpoints").iterdir())).values()
    assert [made["varied"] for made in rows] == [{"layers": 1}, {"layers": 2}]
    assert rows and len({made["parameters"] for made in rows}) == 2 and {made["hidden"] for made in rows} == {8}


def test_what_train_would_plan_for_the_first_cell_holds_for_all(charrnn, corpus, here):
    asked = ("--steps", 3, "--seq-len", 16)
    told = json.loads(charrnn("plan", corpus, "--cell", "gru", *asked, "--json").out)["config"]
    more = ("--cells", "gru,rnn", "--seeds", 1, *asked, "--plan", "--ablate", "dropout=.37", "--lrs", "1e-3")
    answer = charrnn("compare", corpus, *more, "--out", "out")
    assert answer.status == 0 and f"plan       --precision {told['precision']}: " in answer.err
    assert "--lr " not in answer.err
    own = {"cell", "dropout", "hidden", "lr", "sample_length", "seed"}
    entries = Plan.load(Path("out")).entries
    assert all(entry.config[name] == told[name] for entry in entries for name in told.keys() - own)
    assert entries[0].config["hidden"] == told["hidden"] == entries[2].config["hidden"]
    assert [entry.config["dropout"] for entry in entries] == [told["dropout"]] * 2 + [0.37] * 2
    assert {made["lr"] for made in read_rows(Path("out")).values()} == {0.001}
    here.clear()
    assert charrnn("compare", corpus, *more, "--out", "out").status == 0 and not here
    same = charrnn("compare", corpus, "--cells", "gru", "--plan", *asked, "--ablate", f"dropout={told['dropout']}")
    assert same.status == 2 and f"--ablate dropout={told['dropout']:g}: is what all others have" in same.err


def test_runs_of_equal_time(charrnn, corpus, here):
    more = ("--cells", "rnn,lstm", "--match", "time", "--time-each", "0.2s", "--hidden", 8, "--seeds", 1, "--json")
    answer = charrnn("compare", corpus, *more)
    table = json.loads(answer.out)["table"]
    assert [(line["hidden"], line["off"]) for line in table] == [(8, None), (8, None)]
    assert all(0.2 <= line["elapsed"] < 10 for line in table)
    assert "widths, and 0.2s each; parameters are not" in answer.err and "over 0.4s, 0.2s for each run" in answer.err


# ---- processes


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the children of a process")
@pytest.mark.skipif(sys.platform != "linux", reason="the processes of a process are looked up in /proc")
def test_a_comparison_that_was_killed_goes_on_where_it_was(charrnn, corpus, here):
    """A real one, with a process for each run, killed in its second run; then gone on with in this process."""
    asked = ("compare", corpus, "--cells", "rnn,lstm", "--seeds", 1, *TINY)
    command = [sys.executable, "-m", "charrnn", *map(str, asked), "--out", "killed"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8") as process:
        while not process.stderr.readline().startswith("run 1 of 2  rnn, seed 1  "):
            assert process.poll() is None
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
    (first,) = read_rows(Path("killed")).values()
    assert first["memory"] > 1e6 and first["seconds"] > 0.1
    answer = charrnn("compare", "--resume", "killed", "--json")
    assert answer.status == 0 and len(json.loads(answer.out)["table"]) == 2
    assert charrnn(*asked, "--out", "whole").status == 0
    assert read_rows(Path("killed"))["01-rnn-seed1"] == first
    assert same_but_for_clocks(read_rows(Path("killed"))) == same_but_for_clocks(read_rows(Path("whole")))


WAITING = """
import signal, pathlib
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
pathlib.Path("ready").touch()
print("heard", signal.sigwait([signal.SIGINT]), signal.sigpending())
raise SystemExit(7)
"""


@pytest.mark.skipif(os.name != "posix", reason="the system has no such signals")
def test_a_process_that_is_not_waited_for_is_ended():
    Path("waiting.py").write_text(WAITING)
    process = work.launching("waiting", [], lambda: None, poll=0.01)
    while not Path("ready").exists():
        next(process)
    child = process.gi_frame.f_locals["process"]
    process.close()
    assert child.returncode == -signal.SIGTERM


@pytest.mark.skipif(os.name != "posix", reason="the system has no such signals")
def test_a_signal_is_handed_on_once():
    Path("waiting.py").write_text(WAITING)
    looked = []
    ended = launch("waiting", [], lambda: signal.SIGTERM if Path("ready").exists() else None, lambda: looked.append(1))
    assert (ended.status, ended.out, ended.err) == (7, "heard 2 set()\n", "")
    assert looked and ended.seconds > 0


def test_a_second_process_is_kept_out(charrnn, done):
    pytest.importorskip("fcntl", reason="this system has no fcntl: nothing keeps a second process out")
    held = work.Work(Path("done"), Plan.load(Path("done")), None, None)
    answer = charrnn("compare", "--resume", "done")
    held.close()
    assert answer.status == 1 and "done: another charrnn is at work" in answer.err


# ---- what the numbers say


def test_the_t_interval_is_that_of_the_tables():
    assert outcome.t_interval([1.0, 2.0, 3.0], 0.95) == pytest.approx([2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5])
    assert outcome.t_interval([1.0, 3.0], 0.95) == pytest.approx([2 - 12.706205, 2 + 12.706205])
    assert outcome.t_interval([5.0, 5.0], 0.9) == [5.0, 5.0]
    assert outcome.t_interval([1.0], 0.95) is None and outcome.t_interval([], 0.95) is None
    low, high = seeds.ratio_interval([1.0, math.e])
    assert (math.log(low), math.log(high)) == pytest.approx((0.5 - 12.706205 / 2, 0.5 + 12.706205 / 2))
    assert low * high == pytest.approx(math.e) and seeds.ratio_interval([2.0]) is None


def sized(bits, seeds=2, sizes=(1000, 2000, 4000, 8000)):
    """A comparison of rnn and gru over sizes, whose runs have bits(cell, size, seed)."""
    record = Asked(["rnn", "gru"], seeds=seeds, sizes=list(sizes), settings={}).record()
    short = {1000: "1k", 2000: "2k", 4000: "4k", 8000: "8k"}
    entries = [
        replace(entry(cell), label=f"{cell}, {short[size]}", size=size) for size in sizes for cell in ("rnn", "gru")
    ]
    asked = Plan(record, "corpus", "c" * 64, {}, {"uniform": 5.0}, {"val": 9}, entries)
    return asked, {j.name: row(j, bits(j.entry.cell, j.entry.size, j.seed)) for j in jobs(asked, {})}


def test_the_curve_is_that_of_the_numbers():
    def bits(cell, size, seed):
        return 1.5 + 40 * size**-0.5 + (0.2 - 0.01 * seed if cell == "gru" else 0.1 * seed)

    first, second = data.worth(*sized(bits))
    assert [first[name] for name in ("floor", "scale", "exponent")] == pytest.approx([1.65, 40, 0.5], rel=1e-3)
    assert second["floor"] == pytest.approx(1.685, rel=1e-3) and second["residual"] < 1e-6  # where the search ends
    assert data.worth(*sized(bits, sizes=(1000, 2000, 4000)))[0]["floor"] is None
    assert data.worth(plan_of("rnn"), {}) == []


def test_the_slope_of_the_gap_is_over_seeds():
    """The gap grows by .02 bits a doubling with seed 1 and by .04 with seed 2; a missing run spoils nothing."""
    asked, rows = sized(lambda cell, size, seed: 2 + (cell == "gru") * (0.02 * seed * math.log2(size) - 0.1))
    first, second = data.worth(asked, rows)
    assert (first["slope"], first["against"], second["against"]) == (None, None, "rnn")
    assert second["slope"] == pytest.approx(0.03) and second["seeds"] == 2
    assert second["slope_interval"] == pytest.approx([0.03 - 12.7062 * 0.01, 0.03 + 12.7062 * 0.01], rel=1e-4)
    rows["01-rnn-1k-seed1"] |= {"status": "diverged", "bits": None}
    assert data.worth(asked, rows)[1]["slope"] == pytest.approx(0.03)


def test_equivalence_is_that_of_the_tables():
    """The interval of 90 %, by the table of t with two degrees of freedom, touches the margin at a p-value of 5 %."""
    values = [0.001, 0.002, 0.003]
    edge = 0.002 + 2.91999 * 0.001 / 3**0.5
    assert seeds.equivalence(values, edge) == pytest.approx(0.05, rel=1e-4)
    assert seeds.equivalence([-v for v in values], edge) == pytest.approx(0.05, rel=1e-4)
    assert seeds.equivalence(values, 2 * edge) < 0.05 < seeds.equivalence(values, edge / 2)
    assert (seeds.equivalence([0.5, 0.5], 0.1), seeds.equivalence([0.0, 0.0], 0.1)) == (1.0, 0.0)
    assert seeds.equivalence([0.0], 0.1) is None


def pair(blocks, others, characters=None, **more):
    job = jobs(plan_of("rnn"), {})[0]
    count = characters or 1000 * len(blocks)
    return row(job, blocks=list(blocks), characters=count), row(job, blocks=list(others), characters=count, **more)


def test_the_interval_over_text_is_that_of_a_plain_bootstrap():
    random_ = np.random.default_rng(3)
    nats = random_.normal(1400, 60, (4, 40))
    pairs = [pair(nats[0], nats[1]), pair(nats[2], nats[3])]
    low, high = outcome.text_interval(pairs)
    difference = (nats[0] - nats[1] + nats[2] - nats[3]) / 2
    pick = random.Random(5)
    means = sorted(statistics.fmean(pick.choices(list(difference), k=40)) for _ in range(4000))
    expected = [means[100] / 1000 / math.log(2), means[-100] / 1000 / math.log(2)]
    assert [low, high] == pytest.approx(expected, abs=0.1 * (expected[1] - expected[0]))  # both are drawn at random
    assert outcome.text_interval(pairs) == [low, high]


def test_a_last_block_that_is_shorter_weighs_less():
    """The difference is .1 nats everywhere, so whatever is drawn it is .1 nats."""
    blocks = np.array([1400.0] * 12 + [140.0])
    less = blocks - np.array([100.0] * 12 + [10.0])
    low, high = outcome.text_interval([pair(blocks, less, 12_100)])
    assert (low, high) == pytest.approx((0.1 / math.log(2), 0.1 / math.log(2)))


def test_texts_that_differ_or_are_short_have_no_interval():
    blocks = [1400.0] * 12
    assert outcome.text_interval([pair(blocks, blocks)]) is not None
    assert outcome.text_interval([pair(blocks[:9], blocks[:9])]) is None
    assert outcome.text_interval([pair(blocks, blocks, corpus="d" * 64)]) is None
    assert outcome.text_interval([]) is None


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [([0.1, 0.11, 0.12], "worse"), ([-0.1, -0.11, -0.12], "better"), ([0.001, -0.001, 0.0], "equal"),
     ([0.1, -0.1, 0.0], "open"), ([0.1], None)],
)  # fmt: skip
def test_a_verdict_is_by_the_intervals(differences, verdict):
    asked = plan_of("rnn", "gru", seeds=len(differences))
    rows = {j.name: row(j, 2.0 + (differences[j.seed - 1] if j.number == 2 else 0)) for j in jobs(asked, {})}
    first, second = outcome.summary(asked, rows)
    assert first["against"] is None
    assert second["against"]["verdict"] == verdict
    assert second["against"]["difference"] == pytest.approx(statistics.fmean(differences))


def test_a_summary_is_that_of_its_runs():
    asked, rows = plan_of("rnn", "gru", seeds=3), {}
    for job in jobs(asked, {}):
        rows[job.name] = row(job, 1.0 + job.seed, memory=job.seed * 100, train_per_second=None)
    rows["02-gru-seed3"] |= {"status": "diverged", "bits": None, "engine": None, "seconds": 9.0}
    first, second = outcome.summary(asked, rows)
    assert (first["bits"], first["spread"], first["done"], first["memory"]) == (3.0, 1.0, 3, 200)
    assert first["nats"] == pytest.approx(3 * math.log(2)) and first["perplexity"] == pytest.approx(8.0)
    assert (second["bits"], second["done"], second["diverged"], second["seconds"]) == (2.5, 2, 1, 3.0)
    assert second["spread"] == pytest.approx(0.5**0.5) and second["train_per_second"] is None
    assert second["against"]["pairs"] == 2 and second["against"]["difference"] == 0.0
    empty = outcome.summary(asked, {})
    assert [line["bits"] for line in empty] == [None, None] and empty[1]["against"]["pairs"] == 0


def test_without_scipy_it_is_said_before_anything_is_run(charrnn, corpus, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    answer = compare(charrnn, corpus)
    assert (answer.status, answer.out) == (1, "")
    assert answer.err == "error: compare: needs scipy; install it with: pip install scipy\n"
    assert not Path("checkpoints").exists()
