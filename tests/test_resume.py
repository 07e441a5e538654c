"""Resume: a run that was interrupted, however and how often, equals one that was not, bit for bit."""

import itertools
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import fields, replace
from io import BytesIO, TextIOWrapper
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TINY, sentences
from hypothesis import given, settings
from hypothesis import strategies as st

from charrnn import checkpoint, evaluate, yardstick
from charrnn.cli.session import Stop
from charrnn.config import Config, flag, read_toml, resumed, to_toml
from charrnn.errors import UsageError
from charrnn.model import Model
from charrnn.stream import draws
from charrnn.vocab import Vocabulary

CAMPAIGN = int(os.environ.get("CHARRNN_CAMPAIGN", "0"))
CLOCKS = ("elapsed", "chars_per_second")
STEPS = 30  # one epoch and a third
RUN = ("--steps", STEPS, "--dropout", 0.3, "--ema", 0, "--sample-length", 9, "--seed", 5, "--eval-every", 6, *TINY)
AROUND = (  # all that can stand around the cells, all the noise there is, and two models at once
    "--residual", "--norm", "--attention", 20, "--zoneout", 0.2, "--dropout-input", 0.2, "--dropout-output", 0.4,
    "--weight-drop", 0.3, "--state-reset", 0.2, "--ema", 0.1, "--members", 2,
)  # fmt: skip
posix = pytest.mark.skipif(os.name != "posix", reason="the system has no such signals")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One thread, for the arrays hold a few numbers; no waiting for the disk, for no power is cut; no xz, for its
    tables take longer than a run."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(yardstick, "lzma", SimpleNamespace(compress=lambda text, preset: text))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small(tmp_path) -> Path:
    """A text of which a run sees a little more than all."""
    path = tmp_path / "small.txt"
    path.write_bytes(sentences(72).encode())
    return path


def rows(folder, *without):
    lines = (Path(folder) / "metrics.jsonl").read_text().splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in without} for line in lines]


def outcome(folder) -> dict:
    """All that must be the same: every number of both checkpoints, every row but for clocks, the samples."""
    made = {"metrics": rows(folder, *CLOCKS), "samples": (Path(folder) / "samples.jsonl").read_bytes()}
    for name in ("best", "last"):
        tensors, record = checkpoint.load(Path(folder) / f"{name}.pt")
        made |= {f"{name} {key}": (a.dtype.str, a.shape, a.tobytes()) for key, a in tensors.items()}
        made |= {f"{name} {key}": record[key] for key in ("result", "training", "config", "corpus", "vocabulary")}
        for counters in ("counters", "good") if name == "last" else ():
            made[f"{name} {counters}"] = record[counters] | {"elapsed": 0, "evaluating": 0}
    return made


def differences(folder, whole):
    """The names of what is not the same in two runs."""
    a, b = outcome(folder), outcome(whole)
    return sorted(name for name in a.keys() | b.keys() if name not in a or name not in b or a[name] != b[name])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """whole(charrnn, text, ..) is the folder of a run that was not interrupted; each is made once."""
    made = {}

    def run(charrnn, text, *options):
        kind = (evaluate.CHUNK, *options)
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("whole") / "run"
            assert charrnn("train", text, "--out", made[kind], "-q", *options).status == 0
        return made[kind]

    return run


class Asked:
    """Stands in for the signals: asks the training to stop after it has looked so many times."""

    def __init__(self, monkeypatch):
        self.monkeypatch, self.places = monkeypatch, []

    def after(self, looks, number=signal.SIGINT):
        self.places, left = [], itertools.count(looks, -1)

        def look(stop):
            frame, path = sys._getframe(1), []
            while frame and frame.f_code.co_name != "train":
                path.append(frame.f_code.co_name)
                frame = frame.f_back
            self.places.append(path)
            return number if next(left) <= 0 else None

        self.monkeypatch.setattr(Stop, "signal", look)

    def never(self):
        self.after(10**9)


@pytest.fixture
def asked(monkeypatch):
    monkeypatch.setattr(evaluate, "CHUNK", (33 + 4 * 24 * 2) * 40)  # an evaluation looks several times
    return Asked(monkeypatch)


def stopped(answer, folder, number=signal.SIGINT):
    """Checks how a run that was asked to stop says so."""
    assert (answer.status, answer.out) == (128 + number, "")
    assert answer.err.startswith("stopped at step ")
    assert answer.err.endswith(f", all saved; go on with: charrnn train --resume {folder}\n")
    assert answer.err.count("\n") == 1


# ---- bit for bit


def test_the_run_of_these_tests_has_something_to_lose(charrnn, small, whole):
    """More than an epoch, dropout that matters, evaluations and samples on the way."""
    made = rows(whole(charrnn, small, *RUN))
    assert made[-2]["event"] == "eval"
    assert [row["epoch"] for row in made if row["event"] == "train"][-1] > 1.2
    assert [row["step"] for row in made if row["event"] == "eval"] == list(range(0, 31, 6))
    assert len((whole(charrnn, small, *RUN) / "samples.jsonl").read_bytes().splitlines()) == 6
    dry = charrnn("train", small, "--out", "dry", "-q", *RUN, "--dropout", 0)
    assert dry.status == 0
    assert "metrics" in differences("dry", whole(charrnn, small, *RUN))


def test_stopped_anywhere_and_resumed_it_is_the_same(charrnn, small, whole, asked):
    asked.never()
    target = whole(charrnn, small, *RUN)
    asked.never()
    assert charrnn("train", small, "--out", "again", "-q", *RUN).status == 0
    assert differences("again", target) == []
    places = asked.places
    evaluating = [k for k, path in enumerate(places) if "_evaluate" in path]
    finishing = [k for k, path in enumerate(places) if "_finish" in path]
    between = [k for k, path in enumerate(places) if len(path) == 1]
    assert len(between) == STEPS
    assert len(evaluating) == 6 * len(finishing)
    assert len(finishing) >= 3
    chosen = {0, between[0], between[8], between[24], between[-1], evaluating[5], evaluating[-1], *finishing[::2]}
    for k in sorted(chosen | set(random.Random(8).sample(range(len(places)), 1 + CAMPAIGN))):
        folder = Path(f"stopped-{k}")
        asked.after(k)
        stopped(charrnn("train", small, "--out", folder, "-q", *RUN), folder)
        asked.never()
        answer = charrnn("train", "--resume", folder, "-q")
        assert (answer.status, answer.out, answer.err) == (0, f"{folder}/best.pt\n", "")
        assert differences(folder, target) == [], k


@pytest.mark.parametrize(("looks", "options"), [(3, ()), (8, ("--eval-every", 0))], ids=["often", "tenths"])
def test_stopped_again_and_again_it_is_the_same(charrnn, small, whole, asked, looks, options):
    asked.never()
    target = whole(charrnn, small, *RUN, *options)
    asked.after(looks)
    stopped(charrnn("train", small, "--out", "run", "-q", *RUN, *options), "run")
    for sessions in itertools.count(2):
        asked.after(looks + sessions % 3)
        answer = charrnn("train", "--resume", "run", "-q")
        if answer.status == 0:
            break
        stopped(answer, "run")
    assert sessions > 6
    assert differences("run", target) == []


def test_with_everything_around_the_cells_and_all_noise_it_is_the_same(charrnn, small, whole, asked):
    """The attention remembers more than a step reads, so that its memory holds what was said steps before."""
    options = (*RUN, *AROUND, "--steps", 12, "--eval-every", 9)
    asked.never()
    target = whole(charrnn, small, *options)
    asked.after(36)
    stopped(charrnn("train", small, "--out", "run", "-q", *options), "run")
    memory = checkpoint.load(Path("run/last.pt"))[0]["state.2.memory"]
    assert memory.shape == (4, 20, 25) and (memory[..., -1] == 1).all(1).any()  # but for lanes that forgot
    asked.never()
    assert charrnn("train", "--resume", "run", "-q").status == 0
    assert differences("run", target) == []


@pytest.mark.parametrize("cell", ["gru", "slstm"])
def test_other_cells_and_engines_resume_as_well(charrnn, small, whole, asked, cell):
    options = (*RUN, "--cell", cell, "--steps", 8, "--eval-every", 3, "--save-every", 2)
    asked.never()
    target = whole(charrnn, small, *options)
    asked.after(12)
    stopped(charrnn("train", small, "--out", "run", "-q", *options), "run")
    asked.never()
    assert charrnn("train", "--resume", "run", "-q").status == 0
    assert differences("run", target) == []


def test_stopped_before_anything_it_keeps_what_to_go_on_from(charrnn, small, asked):
    """Asked at its very first look, within the first evaluation, and never getting further."""
    for _ in range(3):
        asked.after(0)
        arguments = ["--resume", "run"] if Path("run").exists() else [small, "--out", "run", *RUN]
        stopped(charrnn("train", *arguments, "-q"), "run")
        assert rows("run") == []
        assert checkpoint.load(Path("run/last.pt"))[1]["counters"]["step"] == 0
        assert not Path("run/best.pt").exists()


def test_best_pt_of_a_resumed_run_says_what_that_of_another_says(charrnn, small, whole, asked):
    asked.never()
    target = checkpoint.load(whole(charrnn, small, *RUN) / "best.pt")[1]
    asked.after(20)
    charrnn("train", small, "--out", "run", "-q", *RUN)
    asked.never()
    charrnn("train", "--resume", "run", "-q")
    best = checkpoint.load(Path("run/best.pt"))[1]
    assert best.keys() == target.keys()
    assert best | {"created": 0} == target | {"created": 0}


# ---- signals


PAUSED = """
    import pathlib, time
    from charrnn import cli, train
    update = train.Trainer.update
    def paused(self):
        update(self)
        if self.counters.step == 13:
            pathlib.Path("ready").touch()
            while not pathlib.Path("go").exists():
                time.sleep(0.01)
    train.Trainer.update = paused
    cli.main()
"""


@pytest.fixture
def paused(small):
    """A real process in training that waits after its 13th step until there is a file `go`."""
    command = [sys.executable, "-c", textwrap.dedent(PAUSED), "train", small, "--out", "a run", "-q", *RUN]
    with subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while not Path("ready").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        assert any(row["event"] == "train" and row["step"] == 13 for row in rows("a run"))
        yield process
        process.kill()


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_says_how_to_go_on_and_loses_nothing(charrnn, small, whole, paused, number):
    paused.send_signal(number)
    Path("go").touch()
    out, err = paused.communicate(timeout=60)
    assert (paused.returncode, out) == (128 + number, "")
    said = err.removesuffix("\n")
    assert said == "stopped at step 13, all saved; go on with: charrnn train --resume 'a run'"
    words = shlex.split(said.split("go on with: ")[1])
    answer = charrnn(*words[1:], "-q")
    assert (answer.status, answer.out) == (0, "a run/best.pt\n")
    assert differences("a run", whole(charrnn, small, *RUN)) == []


@posix
def test_a_second_signal_ends_it_at_once(charrnn, small, whole, paused):
    """It waits for ever, and the first signal does not change that; what was saved before is whole."""
    paused.send_signal(signal.SIGINT)
    while paused.poll() is None:
        paused.send_signal(signal.SIGINT)
        time.sleep(0.05)
    out, err = paused.communicate()
    assert (paused.returncode, out, err) == (130, "", "")
    assert checkpoint.load(Path("a run/last.pt"))[1]["counters"]["step"] == 12  # that of the last evaluation
    assert charrnn("train", "--resume", "a run", "-q").status == 0
    assert differences("a run", whole(charrnn, small, *RUN)) == []


@posix
@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(2 + CAMPAIGN))
def test_kill_at_any_time_and_resume_it_is_the_same(charrnn, small, whole, seed):
    """SIGKILL, where nothing can be saved; rows after the last save are not doubled. Every other round the run that
    goes on is killed as well."""
    pick, command = random.Random(seed), [sys.executable, "-m", "charrnn", "train", "-q"]
    begin = [*map(str, RUN), "--out", "run", "--save-every", "4"]
    for arguments in ([small, *begin], ["--resume", "run"])[: 1 + seed % 2]:
        with subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL) as process:
            while process.poll() is None and not (Path("run/last.pt").exists() and rows_there("run")):
                time.sleep(0.01)
            time.sleep(pick.uniform(0, 0.25))
            process.kill()
    answer = charrnn("train", "--resume", "run", "-q")
    assert (answer.status, answer.out) == (0, "run/best.pt\n")
    assert differences("run", whole(charrnn, small, *RUN, "--save-every", 4)) == []
    assert not list(Path("run").glob("*.part"))


def rows_there(folder):
    return (Path(folder) / "metrics.jsonl").exists() and (Path(folder) / "metrics.jsonl").stat().st_size


# ---- what is resumed, and from where


@pytest.fixture
def interrupted(charrnn, small, asked):
    """interrupted("run") is a run stopped on its way, with these options."""

    def make(folder="run", *options, looks=20, text=small):
        asked.after(looks)
        out = ["--out", folder] if folder else []
        assert charrnn("train", text, *out, "-q", *RUN, *options).status == 130
        asked.never()

    return make


def inside(folder):
    return {p.name: p.read_bytes() for p in Path(folder).iterdir() if p.name != ".lock"}


def test_without_a_name_the_latest_run_goes_on(charrnn, small, interrupted):
    for _ in range(3):
        interrupted(None)
    for when, name in ((30, "small-lstm-1"), (50, "small-lstm-2"), (40, "small-lstm-3")):
        os.utime(Path("checkpoints", name, "last.pt"), (when, when))
    others = [inside(f"checkpoints/small-lstm-{n}") for n in (1, 3)]
    answer = charrnn("train", "--resume")
    assert (answer.status, answer.out) == (0, "checkpoints/small-lstm-2/best.pt\n")
    assert "checkpoints/small-lstm-2, resumed at step" in " ".join(answer.err.split())
    assert [inside(f"checkpoints/small-lstm-{n}") for n in (1, 3)] == others


def test_a_run_is_named_by_its_folder_or_a_checkpoint_in_it(charrnn, interrupted):
    interrupted("run")
    for name, steps in (("run/", 31), ("run/last.pt", 32), ("./run/best.pt", 33)):
        assert charrnn("train", "--resume", name, "-q", "--steps", steps).status == 0
        assert rows("run")[-2]["step"] == steps


def test_a_run_in_a_folder_called_pt_can_be_resumed_as_it_says(charrnn, interrupted):
    interrupted("model.pt")
    assert charrnn("train", "--resume", "model.pt", "-q").status == 0


def test_no_run_to_resume_is_said(charrnn):
    for arguments, line in (
        ([], "error: checkpoints: holds no run to resume; name one: --resume FOLDER\n"),
        (["absent"], "error: absent/last.pt: no such checkpoint\n"),
    ):
        answer = charrnn("train", "--resume", *arguments)
        assert (answer.status, answer.out, answer.err) == (5, "", line)


def test_a_damaged_save_is_said(charrnn, interrupted):
    interrupted("run")
    whole_ = Path("run/last.pt").read_bytes()
    Path("run/last.pt").write_bytes(whole_[: len(whole_) // 2])
    answer = charrnn("train", "--resume", "run")
    assert (answer.status, answer.out) == (5, "")
    assert answer.err.startswith("error: run/last.pt: is damaged")


def test_the_corpus_is_remembered_from_elsewhere(charrnn, small, interrupted, whole, monkeypatch):
    """A relative name, resumed from another folder."""
    interrupted("run", text="small.txt")
    target = whole(charrnn, small, *RUN)
    Path("deeper").mkdir()
    monkeypatch.chdir("deeper")
    assert charrnn("train", "--resume", "../run", "-q").status == 0
    assert differences("../run", target) == []


def test_a_corpus_that_changed_is_refused(charrnn, small, interrupted):
    interrupted("run")
    before = inside("run")
    raw = small.read_bytes()
    small.write_bytes(raw.replace(b"cat", b"tac", 1))
    answer = charrnn("train", "--resume", "run", "-q")
    assert (answer.status, answer.out) == (4, "")
    assert answer.err.startswith(f"error: {small}: ") and answer.err.count("\n") == 1
    assert "changed since" in answer.err
    assert inside("run") == before
    small.write_bytes(raw)
    assert charrnn("train", "--resume", "run", "-q").status == 0


def test_a_corpus_that_changed_by_a_new_character_is_said_to_have_changed(charrnn, small, interrupted):
    interrupted("run")
    small.write_bytes(small.read_bytes() + b"Q")
    answer = charrnn("train", "--resume", "run", "-q")
    assert answer.status == 4
    assert answer.err.startswith(f"error: {small}: ")
    assert "changed since" in answer.err


def test_a_corpus_that_is_gone_is_said(charrnn, small, interrupted):
    interrupted("run")
    before = inside("run")
    small.unlink()
    answer = charrnn("train", "--resume", "run", "-q")
    assert (answer.status, answer.out) == (4, "")
    assert answer.err == f"error: {small}: cannot be read (No such file or directory)\n"
    assert inside("run") == before


def test_standard_input_can_be_resumed(charrnn, small, whole, asked, monkeypatch):
    asked.never()
    target = whole(charrnn, small, *RUN)
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(small.read_bytes())))
    asked.after(25)
    answer = charrnn("train", "-", "-q", *RUN)
    stopped(answer, "checkpoints/stdin-lstm-1")
    asked.never()
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"")))
    small.unlink()
    assert charrnn("train", "--resume", "-q").out == "checkpoints/stdin-lstm-1/best.pt\n"
    assert set(differences("checkpoints/stdin-lstm-1", target)) <= {"best corpus", "last corpus"}  # its name


@pytest.mark.parametrize(
    "options",
    [("--val", "val.txt"), ("--cell", "slstm", "--cell-opt", "heads=2"), ("--bytes",), ("--min-count", "5"),
     ("--val-fraction", "0.3"), ("--no-skips",), ("--encoding", "latin-1"), ("--engine", "reference"),
     ("--precision", "bfloat16"), (*AROUND, "--cell", "depth-gated"), (*AROUND, "--precision", "bfloat16"),
     ("--clip", "0", "--patience", "9", "--epochs", "0.5")],
    ids=lambda options: " ".join(map(str, options)),
)  # fmt: skip
def test_every_kind_of_run_can_be_resumed(charrnn, small, asked, options):
    Path("val.txt").write_bytes(sentences(12, seed=3).encode())
    options = [*RUN, *options, "--eval-every", 4]
    options[1] = 8
    options = options[2:] if "--epochs" in options else options
    asked.never()
    assert charrnn("train", small, "--out", "whole", "-q", *options).status == 0
    asked.after(9)
    stopped(charrnn("train", small, "--out", "run", "-q", *options), "run")
    asked.never()
    answer = charrnn("train", "--resume", "run", "-q")
    assert (answer.status, answer.out) == (0, "run/best.pt\n")
    assert differences("run", "whole") == []


# ---- what a resumed run may change


OTHER = dict(
    cell="gru", cell_opt=["a=1"], hidden=25, layers=3, embed=9, skips=False, dropout=0.2, dropout_input=0.1,
    dropout_output=0.3, weight_drop=0.4, zoneout=0.2, state_reset=0.1, ema=0.3, residual=True, norm=True, attention=7,
    members=3, orthogonal=False, unigram=False, forget_bias=0.5, offsets=False, bytes=True, encoding="latin-1",
    errors="replace", min_count=2, val=["x"], val_fraction=0.2, seq_len=17, batch_size=5, warmup=0.1, seed=6,
    engine="reference", lr=0.1, clip=2.0, weight_decay=0.1, softmax_temperature=1.3, cautious=True, steps=9,
    epochs=2.0, time="9s", patience=3, device="cpu", precision="bfloat16", threads=2, eval_every=3, save_every=4,
    sample_length=6,
)  # fmt: skip


@pytest.mark.parametrize("f", fields(Config), ids=lambda f: f.name)
def test_what_a_resumed_run_may_change(f):
    """A new setting must be put into OTHER: whether it is free is thought of once."""
    saved = Config(steps=5).record()
    value = OTHER[f.name]
    assert value != saved[f.name]
    assert resumed(saved, {f.name: saved[f.name]}) == Config(**saved)
    if f.metadata["free"]:
        assert getattr(resumed(saved, {f.name: value}), f.name) == value
    else:
        with pytest.raises(UsageError) as refused:
            resumed(saved, {f.name: value})
        assert str(refused.value).startswith(f"{flag(f.name)} {value}: a resumed run cannot change it (it has ")
        assert str(saved[f.name]) in str(refused.value)


def test_what_decides_the_numbers_is_not_free():
    free = {f.name for f in fields(Config) if f.metadata["free"]}
    shape = {"cell", "cell_opt", "hidden", "layers", "embed", "skips", "zoneout", "residual", "norm", "attention"}
    text = {"bytes", "encoding", "errors", "min_count", "val", "val_fraction"}
    assert not free & (shape | text | {"seq_len", "batch_size", "seed"})


@pytest.mark.parametrize(
    ("option", "had"),
    [(("--hidden", 25), 24), (("--cell", "gru"), "lstm"), (("--seed", 6), 5), (("--bytes",), False),
     (("--seq-len", 8), 16), (("--val", "small.txt"), []), (("--no-skips",), True)],
    ids=str,
)  # fmt: skip
def test_an_option_that_cannot_change_is_refused_by_name(charrnn, interrupted, option, had):
    interrupted("run")
    before = inside("run")
    answer = charrnn("train", "--resume", "run", "-q", *option)
    assert (answer.status, answer.out) == (2, "")
    assert answer.err.startswith(f"error: {option[0].replace('no-', '')} ")
    assert f"a resumed run cannot change it (it has {had})" in answer.err
    assert "--init-from" in answer.err
    assert inside("run") == before


def test_options_typed_as_they_are_change_nothing(charrnn, small, interrupted, whole):
    interrupted("run")
    assert charrnn("train", "--resume", "run", "-q", *RUN).status == 0
    assert differences("run", whole(charrnn, small, *RUN)) == []


def test_more_steps_go_on_with_a_finished_run(charrnn, small):
    assert charrnn("train", small, "--out", "run", "-q", *RUN, "--steps", 10, "--eval-every", 0).status == 0
    before = rows("run")
    answer = charrnn("train", "--resume", "run", "-q", "--steps", 20)
    assert (answer.status, answer.out) == (0, "run/best.pt\n")
    after = rows("run")
    assert after[: len(before) - 1] == before[:-1]  # all but the final score
    assert [row["step"] for row in after if row["event"] == "train"] == list(range(1, 21))
    assert [row["step"] for row in after if row["event"] == "eval"] == [*range(11), 12, 14, 16, 18, 20]  # the tenths
    assert [row["event"] for row in after].count("final") == 1
    rates = [row["lr"] for row in after if row["event"] == "train"]
    assert rates[10] > rates[9]  # the schedule is that of 20 steps now
    _, record = checkpoint.load(Path("run/last.pt"))
    assert (record["config"]["steps"], record["counters"]["step"]) == (20, 20)
    assert record["counters"]["best_nats"] == min(row["nats"] for row in after if row["event"] == "eval")


def test_another_length_takes_the_place_of_the_old(charrnn, small, interrupted):
    interrupted("run", "--steps", 8, looks=12)
    answer = charrnn("train", "--resume", "run", "-q", "--epochs", 0.5)
    assert answer.status == 0
    config = checkpoint.load(Path("run/last.pt"))[1]["config"]
    assert (config["steps"], config["epochs"]) == (None, 0.5)


def test_a_run_by_time_says_that_it_is_not_repeatable(charrnn, small, interrupted):
    interrupted("run")
    answer = charrnn("train", "--resume", "run", "--time", "0.2s")
    assert answer.status == 0
    assert "repeatable" in answer.err


def test_a_finished_run_resumed_reports_and_changes_nothing(charrnn, small, whole):
    folder = Path(shutil.copytree(whole(charrnn, small, *RUN), "run"))
    before, files = outcome(folder), inside(folder)
    for _ in range(2):
        answer = charrnn("train", "--resume", folder)
        assert (answer.status, answer.out) == (0, "run/best.pt\n")
        final = rows(folder)[-1]
        assert f"{final['nats']:.4f} nats = {final['bits']:.4f} bits per character" in answer.err
        assert outcome(folder) == before
        for name in ("metrics.jsonl", "samples.jsonl", "config.toml"):
            assert inside(folder)[name] == files[name]
    told = json.loads(charrnn("train", "--resume", folder, "-q", "--json").out)
    assert told["steps"] == STEPS
    assert told["result"] == {name: final[name] for name in told["result"]}


def test_resume_does_not_go_with_what_begins_a_run(charrnn, interrupted):
    interrupted("run")
    for wrong in (["--out", "other"], ["--overwrite"], ["--init-from", "run"]):
        answer = charrnn("train", "--resume", "run", *wrong)
        assert (answer.status, answer.out) == (2, "")
        assert "--resume" in answer.err and wrong[0] in answer.err
    assert charrnn("train", "--resume", "run", "other").status == 2
    assert not Path("other").exists()


# ---- checkpoints of before some settings came


YOUNG = {  # settings that the first checkpoints did not know, and what they do not say of the model
    "config": (
        "dropout_input", "dropout_output", "weight_drop", "zoneout", "residual", "norm", "attention", "state_reset",
        "ema",
    ),
    "model": ("zoneout", "residual", "norm", "attention"),
}  # fmt: skip


@pytest.fixture
def old_run(charrnn, small, interrupted):
    """A run that was interrupted, as it would have been written before the settings of YOUNG were there."""
    interrupted("run")
    for path in Path("run").glob("*.pt"):
        tensors, record = checkpoint.load(path)
        for part, names in YOUNG.items():
            for name in names:
                del record[part][name]
        checkpoint.save(path, tensors, record)
    return Path("run")


def test_an_old_run_goes_on_with_the_defaults(charrnn, small, old_run, whole):
    assert charrnn("train", "--resume", "run", "-q").status == 0
    assert differences("run", whole(charrnn, small, *RUN)) == []
    config = checkpoint.load(Path("run/last.pt"))[1]["config"]
    assert all(config[name] == getattr(Config(), name) for name in YOUNG["config"])


def test_an_old_checkpoint_is_scored_sampled_and_started_from(charrnn, small, old_run):
    for command in (
        ["eval", "run", small],
        ["sample", "run", "-n", 9],
        ["inspect", "run"],
        ["inspect", "run", "--json"],
    ):
        answer = charrnn(*command)
        assert (answer.status, answer.err) == (0, ""), command
    tuned = ("train", small, "--init-from", "run", "--steps", 1, "--seq-len", 16, "--batch-size", 4, "-q")
    assert charrnn(*tuned, "--out", "tuned").status == 0
    now = checkpoint.load(Path("tuned/best.pt"))[1]
    assert all(now["model"][name] == getattr(Config(), name) for name in YOUNG["model"])


# ---- --init-from


OLD, NEW = "abcdefgh xyz.\n", "zyx fedcba0é.\n"  # g and h go, 0 and é come


@pytest.fixture
def tuned(charrnn):
    """A model of one alphabet, and the weights that one of another alphabet starts from."""
    pick = random.Random(3)
    Path("old.txt").write_text("".join(pick.choice(OLD) for _ in range(1500)), encoding="utf-8")
    Path("new.txt").write_text("".join(pick.choice(NEW) for _ in range(1500)), encoding="utf-8")
    assert charrnn("train", "old.txt", "--out", "old", "-q", *RUN, "--steps", 5).status == 0
    return charrnn("train", "new.txt", "--init-from", "old", "--out", "new", "--steps", 1, "--lr", 1e-30, "-q", *TINY)


def test_characters_keep_their_rows_by_identity(tuned):
    assert tuned.status == 0
    old, before = checkpoint.load(Path("old/best.pt"))
    tensors, now = checkpoint.load(Path("new/last.pt"))
    weights, old = checkpoint.weights(tensors), checkpoint.weights(old)
    then, symbols = Vocabulary(before["vocabulary"]).symbols, Vocabulary(now["vocabulary"]).symbols
    assert set(then) == set(OLD)
    assert set(symbols) == set(NEW)
    shifted = 0
    for i, symbol in enumerate(symbols):
        if symbol in then:
            j = then.index(symbol)
            shifted += i != j
            for name, axis in (("embedding", 0), ("head.W", -1), ("head.b", -1)):
                assert np.array_equal(weights[name].take(i, axis), old[name].take(j, axis)), (symbol, name)
    assert shifted >= 5
    for name in weights.keys() - {"embedding", "head.W", "head.b"}:
        assert np.array_equal(weights[name], old[name])
    assert now["init_from"] == before["corpus"]["digest"]
    assert now["counters"]["step"] == 1


def test_new_characters_have_fresh_rows(tuned):
    tensors, now = checkpoint.load(Path("new/last.pt"))
    weights, symbols = checkpoint.weights(tensors), Vocabulary(now["vocabulary"]).symbols
    text = Path("new.txt").read_text(encoding="utf-8")[: now["corpus"]["parts"]["train"][1]]
    counts = np.array([text.count(symbol) + 1 for symbol in symbols])
    fresh = Model.from_record(now["model"]).initial_weights(draws(1, "weights"), counts / counts.sum())
    for symbol in "0é":
        i = symbols.index(symbol)
        assert np.array_equal(weights["embedding"][i], fresh["embedding"][i])
        assert np.array_equal(weights["head.W"][:, i], fresh["head.W"][:, i])
        assert np.array_equal(weights["head.b"][i], fresh["head.b"][i])


def test_the_difference_of_the_alphabets_is_printed(tuned):
    assert (
        "note: --init-from: 12 symbols keep their rows, 2 (0 new, é new), 2 (g gone, h gone)"
        in tuned.err.replace("'", "")
        or "12 symbols keep their rows, 2 ('0' (U+0030 DIGIT ZERO), 'é' (U+00E9 LATIN SMALL LETTER E WITH ACUTE)) new, "
        "2 ('g' (U+0067 LATIN SMALL LETTER G), 'h' (U+0068 LATIN SMALL LETTER H)) gone"
        in tuned.err
    )


def test_the_model_comes_with_its_weights(charrnn, tuned):
    """What is not typed is the other model's, whatever the defaults are."""
    config = checkpoint.load(Path("new/last.pt"))[1]["config"]
    assert (config["hidden"], config["layers"], config["embed"]) == (24, 2, 8)
    short = ("--steps", 1, "-q", "--seq-len", 16, "--batch-size", 4)
    assert charrnn("train", "new.txt", "--init-from", "old/last.pt", "--out", "other", *short).status == 0
    assert checkpoint.load(Path("other/last.pt"))[1]["model"]["hidden"] == 24
    gru = ("--cell", "gru", "--no-skips", "--hidden", 12)
    assert charrnn("train", "old.txt", "--out", "gru", *short, *gru).status == 0
    assert charrnn("train", "new.txt", "--init-from", "gru", "--out", "gru-new", *short).status == 0
    model = checkpoint.load(Path("gru-new/last.pt"))[1]["model"]
    assert (model["cell"], model["hidden"], model["skips"]) == ("gru", 12, False)


def test_zoneout_comes_with_the_weights_and_may_be_changed(charrnn, small):
    short = ("-q", *RUN, "--steps", 1)
    assert charrnn("train", small, "--out", "zoned", *short, "--zoneout", 0.3).status == 0
    for options, rate in (((), 0.3), (("--zoneout", 0.1), 0.1)):
        answer = charrnn("train", small, "--init-from", "zoned", "--out", f"by-{rate}", *short, *options)
        assert (answer.status, checkpoint.load(Path(f"by-{rate}/last.pt"))[1]["model"]["zoneout"]) == (0, rate)


@pytest.mark.parametrize(
    ("option", "fits"),
    [
        (("--hidden", 25), 24),
        (("--cell", "gru"), "lstm"),
        (("--layers", 1), 2),
        (("--bytes",), False),
        (("--norm",), False),
        (("--attention", 9), 0),
    ],
)
def test_what_contradicts_the_weights_is_refused(charrnn, tuned, option, fits):
    answer = charrnn("train", "new.txt", "--init-from", "old", "--out", "x", "-q", *option)
    assert (answer.status, answer.out) == (2, "")
    assert answer.err.startswith(f"error: {option[0]} ")
    assert answer.err.endswith(f"the weights of old fit only {fits}\n")
    assert not Path("x").exists()


def test_a_fine_tuned_run_resumes_by_itself(charrnn, tuned, asked):
    arguments = ("train", "new.txt", "--init-from", "old", "-q", *RUN, "--steps", 8)
    asked.never()
    assert charrnn(*arguments, "--out", "whole").status == 0
    asked.after(13)
    assert charrnn(*arguments, "--out", "run").status == 130
    shutil.rmtree("old")
    asked.never()
    assert charrnn("train", "--resume", "run", "-q").status == 0
    assert differences("run", "whole") == []


def test_nothing_to_start_from_is_said(charrnn, small):
    answer = charrnn("train", small, "--init-from", "absent.pt", "-q")
    assert (answer.status, answer.err) == (5, "error: absent.pt: no such checkpoint\n")


# ---- --config and --print-config


words = st.text(st.characters(codec="utf-8") | st.just("\x7f"), max_size=8)
configs = st.builds(
    Config,
    cell=words, cell_opt=st.lists(words, max_size=2), encoding=words, hidden=st.integers(1, 10**9),
    skips=st.booleans(), seed=st.integers(0, 2**63 - 1),
    lr=st.floats(0, 1e9, exclude_min=True), dropout=st.floats(0, 1, exclude_max=True), clip=st.floats(0, 1e300),
    epochs=st.none() | st.floats(0, 1e9, exclude_min=True),
    patience=st.none() | st.integers(1, 99), precision=st.sampled_from(["float32", "bfloat16"]),
)  # fmt: skip
kinds = st.sampled_from([{}, {"bytes": True, "encoding": "utf-8"}])
kinds |= st.builds(lambda val: {"val": val}, st.lists(words, max_size=2))
kinds |= st.builds(lambda share: {"val_fraction": share}, st.floats(0.01, 0.99))


@settings(derandomize=True, deadline=None, max_examples=100)
@given(config=st.builds(lambda config, kind: replace(config, **kind), configs, kinds))
def test_settings_go_through_toml_unchanged(tmp_path_factory, config):
    path = tmp_path_factory.getbasetemp() / "settings.toml"
    path.write_text(to_toml(config), encoding="utf-8", newline="\n")
    assert Config(**read_toml(path)) == config


def test_print_config_prints_what_config_reads(charrnn):
    typed = ["--hidden", 33, "--no-skips", "--val", "a b.txt", "--val", "c.txt", "--time", "5m", "--lr", 1e-5]
    printed = charrnn("train", "--print-config", "corpus.txt", *typed)
    assert (printed.status, printed.err) == (0, "")
    Path("run.toml").write_text(printed.out, encoding="utf-8")
    expected = Config(hidden=33, skips=False, val=["a b.txt", "c.txt"], time="5m", lr=1e-5)
    assert Config(**read_toml(Path("run.toml"))) == expected
    again = charrnn("train", "--print-config", "--config", "run.toml", "corpus.txt")
    assert again.out == printed.out
    other = charrnn("train", "--print-config", "--config", "run.toml", "--hidden", 44, "corpus.txt")
    Path("other.toml").write_text(other.out, encoding="utf-8")
    assert Config(**read_toml(Path("other.toml"))) == replace(expected, hidden=44)  # what is typed wins
    for f in fields(Config):
        assert f"# {f.metadata['help']}\n" in printed.out
        assert f"\n{f.name} = " in f"\n{printed.out}" or f"\n# {f.name} =" in printed.out


def test_a_run_from_a_file_is_the_run_from_options(charrnn, small, whole):
    Path("run.toml").write_text(charrnn("train", small, "--print-config", *RUN).out, encoding="utf-8")
    assert charrnn("train", small, "--config", "run.toml", "--out", "run", "-q").status == 0
    assert differences("run", whole(charrnn, small, *RUN)) == []
    again = charrnn("train", small, "--config", "run/config.toml", "--out", "again", "-q")
    assert again.status == 0
    assert differences("again", "run") == []


def test_a_file_may_write_names_as_options_are_typed(charrnn, small):
    Path("run.toml").write_text('seq-len = 16\nbatch_size = 4\nlr = 1\n"hidden" = 24\n', encoding="utf-8")
    assert read_toml(Path("run.toml")) == {"seq_len": 16, "batch_size": 4, "lr": 1.0, "hidden": 24}
    assert isinstance(read_toml(Path("run.toml"))["lr"], float)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("hiden = 3", "no setting 'hiden' (did you mean 'hidden'?)"),
        ("zzz = 3", "no setting 'zzz'"),
        ("[model]\nhidden = 3", "no setting 'model'"),
        ('hidden = "3"', "hidden = '3': must be of type int"),
        ("hidden = 3.0", "hidden = 3.0: must be of type int"),
        ("hidden = true", "hidden = True: must be of type int"),
        ("skips = 1", "skips = 1: must be of type bool"),
        ('lr = "fast"', "lr = 'fast': must be of type float"),
        ("epochs = true", "epochs = True: must be of type float"),
        ("time = 90", "time = 90: must be of type str"),
        ('val = "x"', "val = 'x': must be of type list"),
        ("hidden = ", "is not TOML"),
        ("hidden = 3\nhidden = 4", "is not TOML"),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_words(charrnn, small, written, said):
    Path("run.toml").write_text(written, encoding="utf-8")
    answer = charrnn("train", small, "--config", "run.toml", "-q")
    assert (answer.status, answer.out) == (2, "")
    assert answer.err.startswith("error: --config run.toml: ")
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert not Path("checkpoints").exists()


@pytest.mark.parametrize("written", ["val = [3]", "cell_opt = [3]"])
def test_a_list_of_the_wrong_things_is_refused_in_words(charrnn, small, written):
    Path("run.toml").write_text(written, encoding="utf-8")
    assert charrnn("train", small, "--config", "run.toml", "-q").status == 2


def test_a_file_that_cannot_be_read_is_said(charrnn, small):
    Path("latin.toml").write_bytes('time = "5m" # é'.encode("latin-1"))
    for path, said in (("absent.toml", "cannot be read (No such file or directory)"), ("latin.toml", "is not TOML")):
        answer = charrnn("train", small, "--config", path, "-q")
        assert answer.status == 2
        assert answer.err.startswith(f"error: --config {path}: {said}")


def test_two_lengths_are_refused(charrnn, small):
    Path("run.toml").write_text("steps = 5\nepochs = 1.0", encoding="utf-8")
    for wrong in (["--steps", 5, "--time", "5m"], ["--steps", 5, "--epochs", 1], ["--config", "run.toml"]):
        answer = charrnn("train", small, "-q", *wrong)
        assert (answer.status, answer.out) == (2, "")
        assert "--steps and --" in answer.err
        assert "give one of --steps, --epochs, --time" in answer.err


def test_a_length_that_is_typed_replaces_that_of_the_file(charrnn):
    Path("run.toml").write_text("steps = 5", encoding="utf-8")
    told = charrnn("train", "--config", "run.toml", "--time", "5m", "--print-config").out
    assert 'time = "5m"' in told and "# steps =" in told
