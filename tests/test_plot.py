"""Pictures: made from rows that are known, of the size they should have, the same bytes each time, with their words."""

import json
import re
import shutil
import struct
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from charrnn.errors import CheckpointError
from charrnn.progress import GridReporter
from charrnn.report import picture, runs, sketch
from charrnn.report.runs import Band, Curve, History

NAMES = ("lstm", "gru", "rnn, dropout 0.2")


def band(x, *series) -> Band:
    values = np.array(series, float)
    return Band(np.array(x, float), values.mean(0), values.min(0), values.max(0))


def curve(label, shift, seeds=3) -> Curve:
    x = range(0, 1100, 100)
    bits = [4.5 - 2 * (k / 10) ** 0.5 + shift for k in range(11)]
    return Curve(label, seeds, band(x, bits), band(x, bits, [b + 0.1 for b in bits]))


def points(count=3):
    return [
        dict(
            label=f"cell {k}", cell=f"cell {k}", parameters=1000 * 2**k, size=500 * 2**k, bits=2 + 0.1 * k, spread=0.02
        )
        for k in range(count)
    ]


def drawn(name, path):
    """One of the pictures, made from known numbers."""
    if name == "curves":
        picture.draw_curves([curve(label, k / 10) for k, label in enumerate(NAMES)], "characters", path)
    elif name == "parameters":
        picture.draw_parameters(points(), path)
    else:
        series = {label: [p | {"bits": p["bits"] + k} for p in points()] for k, label in enumerate(NAMES)}
        curve_through = dict(label=NAMES[0], sizes=[500, 2000], floor=1.5, scale=20.0, exponent=0.5)
        picture.draw_data(series, [curve_through, dict.fromkeys(curve_through) | {"label": NAMES[1]}], path)
    return path


WORDS = {
    "curves": [*(f"{name} (3 seeds)" for name in NAMES), "characters seen", "bits per character", "1k"],
    "parameters": ["cell 0", "cell 2", "parameters", "bits per character", "1k", "4k"],
    "data": [f"{NAMES[0]}: 1.50 + 20 size^-0.50", *NAMES[1:], "training characters", "bits per character", "500", "2k"],
}


@pytest.mark.parametrize("name", WORDS)
def test_an_svg_holds_its_words_and_is_always_the_same(name):
    text = drawn(name, Path("a.svg")).read_text(encoding="utf-8")
    said = re.findall(r"<text[^>]*>([^<]*)</text>", text)
    assert set(WORDS[name]) <= set(said)
    assert drawn(name, Path("b.svg")).read_bytes() == Path("a.svg").read_bytes()


@pytest.mark.parametrize("name", WORDS)
def test_a_png_has_its_size_and_is_always_the_same(name):
    raw = drawn(name, Path("a.png")).read_bytes()
    assert raw[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", raw[16:24]) == (1050, 645)
    assert drawn(name, Path("b.png")).read_bytes() == raw
    assert b"matplotlib" not in raw.lower()


def test_time_is_told_as_time_and_training_is_not_cut_off():
    picture.draw_curves([replace(curve("lstm", 0), training=band([0, 900], [4.0, 0.5]))], "seconds", Path("a.svg"))
    said = re.findall(r"<text[^>]*>([^<]*)</text>", Path("a.svg").read_text(encoding="utf-8"))
    assert {"time", "0", "5:00", "15:00", "0.5"} <= set(said)


def test_many_curves_have_a_picture_that_is_tall_enough():
    picture.draw_curves([curve(f"cell {k}", k / 10) for k in range(40)], "steps", Path("a.png"))
    width, height = struct.unpack(">II", Path("a.png").read_bytes()[16:24])
    assert width == 1050 and height > 1200
    picture.draw_parameters(points(40), Path("b.png"))
    picture.draw_curves([Curve("none yet", 1, band([], []), band([], []))], "seconds", Path("c.png"))


@pytest.mark.parametrize(
    ("seen", "many"),
    [(("color", "linestyle", "marker"), 252), (("color", "linestyle"), 28), (("linestyle", "marker"), 36)],
)
def test_no_two_of_many_series_look_alike(seen, many):
    looks = {tuple(picture.style(k)[name] for name in seen) for k in range(many)}
    assert len(looks) == many  # where markers are too small to be told apart, and in print without colour


def test_names_keep_their_distance():
    placed = picture._spread_out([0.1, 0.1, 0.11, 0.9, 0.99, 1.0], 0.05)
    assert placed == pytest.approx([0.1, 0.15, 0.2, 0.9, 0.95, 1.0])


def test_a_sketch_is_text():
    lines = sketch.sketch([("up", [0, 1], [0, 15]), ("down", [0, 1], [15, 0])], "steps", "bits", 40).splitlines()
    assert lines[0] == "bits" and lines[1].startswith(" 15.00|b") and lines[1].endswith("a")
    assert lines[16].startswith("  0.00|a") and lines[16].endswith("b") and len(lines[16]) == 39
    assert lines[17] == "      +" + "-" * 32 and re.fullmatch(r" {7}0 +steps +1", lines[18])
    assert lines[19:] == ["a up", "b down"]
    assert max(map(len, lines)) <= 40
    assert sketch.sketch([("one", [3], [2])], "steps", "bits", 40).count("a") == 1 + 1  # the point and its key
    assert sketch.sketch([("same", [1, 2], [1, 2]), ("too", [1, 2], [1, 2])], "x", "y", 30).count("*") > 10
    assert sketch.sketch([], "x", "y") == "nothing to show yet"
    straight = sketch.sketch([("one", [1, 10, 100], [1, 0.1, 0.01])], "x", "y", 40, "xy").splitlines()
    places = [(row, line.index("a")) for row, line in enumerate(straight[1:17]) if "a" in line]
    assert places[-1][0] - places[0][0] == 15 and places[-1][1] > 30  # from corner to corner, and straight between
    assert abs(dict(places)[7] - (places[0][1] + places[-1][1]) / 2) < 4
    assert [straight[1][:6], straight[16][:6]] == [" 1e+00", " 1e-02"] and straight[18].split()[-1] == "100"
    assert sketch.sketch([("none", [0, 1], [0, -1])], "x", "y", 40, "y") == "nothing to show yet"
    many = sketch.sketch([(f"cell {k}", [0, 1], [k, k + 1]) for k in range(60)], "x", "y")
    assert many.splitlines()[-1] == "h cell 59"


# ---- learning curves


@pytest.fixture
def copied(trained) -> list[Path]:
    """Three runs: one, the same with another seed and half a bit more, and one of another cell."""
    folders = [Path(shutil.copytree(trained, name)) for name in ("one", "two", "three")]
    for folder in folders[1:]:
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        changed = [line | {"bits": line["bits"] + 0.5} for line in lines]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in changed))
    return folders


@pytest.fixture
def changed(copied, monkeypatch):
    """`copied`, the second told to have another seed and the third another cell."""
    load = runs.checkpoint.load
    other = {"two": {"seed": 2}, "three": {"cell": "gru"}}

    def told(path):
        tensors, record = load(path)
        return tensors, record | {"config": record["config"] | other.get(path.parent.name, {})}

    monkeypatch.setattr(runs.checkpoint, "load", told)
    return copied


def test_runs_that_differ_only_in_their_seed_are_a_band(changed):
    first, second = runs.curves(dict.fromkeys(changed), "steps")
    assert (first.label, first.runs, second.label, second.runs) == ("lstm", 2, "gru", 1)
    rows = [json.loads(line) for line in (changed[0] / "metrics.jsonl").read_text().splitlines()]
    evals = [row for row in rows if row["event"] == "eval"]
    assert first.validation.x.tolist() == [row["step"] for row in evals]
    assert first.validation.low == pytest.approx([row["bits"] for row in evals])
    assert first.validation.mean == pytest.approx([row["bits"] + 0.25 for row in evals])
    assert first.validation.high == pytest.approx([row["bits"] + 0.5 for row in evals])
    assert first.training.x.tolist() == [row["step"] for row in rows if row["event"] == "train"]
    assert second.validation.mean == pytest.approx(second.validation.low)
    for axis, factor in (("characters", 4 * 16), ("seconds", None)):
        (again, _) = runs.curves(dict.fromkeys(changed), axis)
        if factor:
            assert again.validation.x == pytest.approx(first.validation.x * factor)
        else:
            assert 0 < again.validation.x[-1] <= evals[-1]["elapsed"]


def test_curves_of_different_lengths_meet_where_both_are():
    series = [
        {"seconds": np.array([0.0, 2.0, 4.0]), "bits": np.array([4.0, 2.0, 1.0])},
        {"seconds": np.array([1.0, 3.0]), "bits": np.array([4.0, 2.0])},
    ]
    made = runs._band(series, "seconds")
    assert made.x.tolist() == [1.0, 2.0, 3.0]
    assert made.mean.tolist() == [3.5, 2.5, 1.75]


def test_what_a_rollback_undid_and_what_is_no_number_is_left_out():
    steps = [(1, 4.0), (2, 3.0), (3, "nan"), (2, 3.5), (3, 3.2)]
    rows = [{"event": "eval", "step": step, "bits": bits, "elapsed": k} for k, (step, bits) in enumerate(steps)]
    made = runs._series(rows, "eval", 10)
    assert made["bits"].tolist() == [4.0, 3.5, 3.2] and made["characters"].tolist() == [10, 20, 30]
    assert made["seconds"].tolist() == [0, 3, 4]


def test_labels_say_what_tells_runs_apart():
    def history(corpus="c", **settings):
        return History({"cell": "lstm", "hidden": 8, "lr": 0.1, "val": [], "seed": 1} | settings, corpus * 9, {}, {})

    one, other = history(), history(cell="gru", hidden=9)
    assert runs.told([one, other]) == ["lstm", "gru"]
    assert runs.told([one, history(hidden=9)]) == ["lstm, hidden 8", "lstm, hidden 9"]
    assert runs.told([one, history(lr=0.2), other]) == ["lstm, lr 0.1", "lstm, lr 0.2", "gru, lr 0.1"]
    assert runs.told([one, history(val=["x", "y"])]) == ["lstm, val ", "lstm, val x y"]
    assert runs.told([one, history("d")]) == ["lstm, corpus cccccccc", "lstm, corpus dddddddd"]


# ---- the command


def test_runs_in_text_and_as_a_picture(charrnn, trained):
    answer = charrnn("plot", trained)
    assert (answer.status, answer.err) == (0, "")
    assert answer.out.startswith("validation, bits per character\n") and "\na lstm\n" in answer.out
    assert max(map(len, answer.out.splitlines())) <= 80
    for axis, said in (("characters", "characters seen"), ("seconds", "seconds")):
        assert said in charrnn("plot", trained, "--x", axis).out
    answer = charrnn("plot", trained, "-o", "a.svg")
    assert (answer.status, answer.out, answer.err) == (0, "a.svg\n", "")
    assert ">lstm</text>" in Path("a.svg").read_text()
    assert "already exists" in charrnn("plot", trained, "-o", "a.svg").err
    assert charrnn("plot", trained, "-o", "a.svg", "--overwrite").status == 0


def test_a_comparison_in_text_and_as_pictures(charrnn, corpus, monkeypatch, trained):
    """Its folder made by hand from the folder of a run: the plan, the rows, the runs."""
    from charrnn.compare import plan as planning
    from charrnn.compare.grid import Asked
    from charrnn.compare.work import ROW, jobs

    asked = Asked(["rnn", "lstm"], sizes=[1000, 3000], seeds=2, settings={"hidden": 8})
    made = planning.make(asked, "corpus", planning.Texts([corpus], Path("cache")), lambda _: {"uniform": 5.0})
    Path("grid/runs").mkdir(parents=True)
    made.save(Path("grid"))
    assert planning.Plan.load(Path("grid")) == made
    rows = []
    for job in jobs(made, {}):
        shutil.copytree(trained, Path("grid/runs", job.name))
        known = dict(
            run=job.name, status="done", seed=job.seed, lr=job.lr, purpose="result", bits=2.0 + job.number / 10,
            accuracy=0.5, characters=10, blocks=[14.0], engine="native", corpus=job.entry.corpus,
        )  # fmt: skip
        rows.append(dict.fromkeys(ROW) | known)
    Path("grid/rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    labels = ["rnn, 1k", "lstm, 1k", "rnn, 3k", "lstm, 3k"]
    assert [f"{letter} {label}" for letter, label in zip("abcd", labels, strict=True)] == charrnn(
        "plot", "grid"
    ).out.splitlines()[-4:]
    assert charrnn("plot", "grid", "--of", "parameters").out.splitlines()[-4:] == [
        f"{k} {v}" for k, v in zip("abcd", labels, strict=True)
    ]
    assert charrnn("plot", "grid", "--of", "data").out.splitlines()[-2:] == ["a rnn", "b lstm"]
    for of, words in (
        ("curves", [f"{k} (2 seeds)" for k in labels]),
        ("parameters", labels),
        ("data", ["rnn", "lstm", "1k"]),
    ):
        assert charrnn("plot", "grid", "--of", of, "-o", f"{of}.svg").out == f"{of}.svg\n"
        said = re.findall(r"<text[^>]*>([^<]*)</text>", Path(f"{of}.svg").read_text())
        assert set(words) <= set(said)


@pytest.mark.parametrize(
    ("typed", "status", "said"),
    [
        (["absent"], 5, "absent: no such checkpoint"),
        (["run", "--of", "curve"], 2, "--of curve: must be curves, parameters, data (did you mean 'curves'?)"),
        (["run", "--x", "step"], 2, "--x step: must be steps, characters, seconds (did you mean 'steps'?)"),
        (["run", "-o", "a.gif"], 2, "--out a.gif: must end in .png or .svg"),
        (["run", "-o", "absent/a.png"], 1, "absent/a.png: cannot be written (No such file or directory)"),
        (["run", "--of", "data"], 5, "run: holds no comparison"),
        (["run", "run", "--of", "data"], 2, "--of data: takes one comparison, not 2 folders"),
    ],
    ids=str,
)
def test_what_cannot_be_drawn_is_said(charrnn, trained, typed, status, said):
    Path("run").symlink_to(trained)
    answer = charrnn("plot", *typed)
    assert (answer.status, answer.out) == (status, "")
    assert said in answer.err and answer.err.count("\n") == 1


def test_damaged_metrics_are_told(copied):
    (copied[0] / "metrics.jsonl").write_text('{"event": "eval"}\n')
    with pytest.raises(CheckpointError, match=r"one/metrics\.jsonl: is damaged"):
        runs.read(copied[0])
    (copied[1] / "metrics.jsonl").unlink()
    with pytest.raises(CheckpointError, match=r"two/metrics\.jsonl: cannot be read"):
        runs.read(copied[1])


def test_without_matplotlib_it_is_said(charrnn, trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    answer = charrnn("plot", trained, "-o", "a.png")
    assert (answer.status, answer.err) == (
        1, "error: plot: needs matplotlib for pictures; install it with: pip install matplotlib\n"
    )  # fmt: skip
    assert charrnn("plot", trained).status == 0  # in text it is not needed


# ---- the display over a grid

FAILED = {"status": "failed", "message": "no memory", "seconds": 1.0}


def test_the_bar_over_the_grid_says_where_it_stands(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # what makes rich take stderr for a terminal
    clock = iter([100.0, 100.0, 110.0, 130.0])
    monkeypatch.setattr("charrnn.progress.time.monotonic", lambda: next(clock))
    report = GridReporter()
    report.say("begin", title="gru, seed 1", number=2, total=4)
    (task,) = report.bar.tasks
    assert (task.description, task.fields["facts"], task.completed) == ("run 2 of 4: gru, seed 1", "", 0.25)
    report.say("watch", title="gru, seed 1", done=0.5, bits=2.345)
    assert (task.fields["facts"], task.completed) == ("val 2.35 bits 0:50 left", 0.375)
    report.say("end", title="gru, seed 1", number=2, total=4, row=FAILED)
    report.say("begin", title="rnn, seed 1", number=3, total=4)
    assert (task.description, task.fields["facts"]) == ("run 3 of 4: rnn, seed 1", "1:00 left")
    assert task.completed == 0.5


def test_the_bar_over_runs_side_by_side_says_how_many_are_at_work(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    clock = iter([100.0, 100.0, 100.0, 120.0, 130.0, 140.0])
    monkeypatch.setattr("charrnn.progress.time.monotonic", lambda: next(clock))
    report = GridReporter()
    (task,) = report.bar.tasks
    for number, cell in ((1, "gru"), (2, "rnn")):
        report.say("begin", title=cell, number=number, total=4)
    assert (task.description, task.completed) == ("0 of 4 runs done, 2 at work", 0.0)
    report.say("watch", title="gru", done=0.25, bits=2.5)
    report.say("watch", title="rnn", done=0.75, bits=None)
    assert (task.fields["facts"], task.completed) == ("1:30 left", 0.25)
    report.say("end", title="rnn", number=1, total=4, row=FAILED)
    report.say("watch", title="gru", done=0.5, bits=2.5)
    assert (task.description, task.fields["facts"]) == ("run 2 of 4: gru", "val 2.50 bits 1:07 left")
    assert task.completed == 0.375
