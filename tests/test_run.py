"""A run's folder: its name is free, nothing in it is lost unasked, one process works in it, its logs fit the save."""

import builtins
import gc
import importlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import TINY
from hypothesis import given, settings
from hypothesis import strategies as st

from charrnn import checkpoint, run, yardstick
from charrnn.config import PLANNED, Config, read_toml
from charrnn.errors import CharrnnError, CheckpointError, UsageError
from charrnn.run import OWN, Run, latest

QUICK = ("--steps", 2, "--sample-length", 5, "-q", *TINY)
FILES = {"best.pt", "last.pt", "metrics.jsonl", "samples.jsonl", "config.toml"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One thread, for the arrays hold a few numbers; no waiting for the disk, for no power is cut; no xz, for its
    tables take longer than a run."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(yardstick, "lzma", SimpleNamespace(compress=lambda text, preset: text))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def inside(folder) -> dict:
    """What a folder holds, to the byte and the time of writing; the lock, which every opening touches, left out."""
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture
def copied(trained, tmp_path) -> Path:
    """A finished run that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "copied"))


def made(out=None, title="corpus-lstm", overwrite=False) -> Run:
    return Run.create(out, title, "", overwrite)


# ---- names


def test_numbers_are_free():
    folders = []
    for _ in range(3):
        run = made()
        folders.append(run.folder)
        run.close()
    assert folders == [Path(f"checkpoints/corpus-lstm-{n}") for n in (1, 2, 3)]
    shutil.rmtree(folders[1])
    run = made()
    assert run.folder == folders[1]
    run.close()
    other = made(title="corpus-gru")
    assert other.folder == Path("checkpoints/corpus-gru-1")
    other.close()


def test_a_number_that_is_taken_by_a_file_is_not_free():
    Path("checkpoints").mkdir()
    Path("checkpoints/corpus-lstm-1").write_text("mine")
    run = made()
    assert run.folder == Path("checkpoints/corpus-lstm-2")
    run.close()
    assert Path("checkpoints/corpus-lstm-1").read_text() == "mine"


def test_runs_are_named_after_corpus_and_cell(charrnn, corpus):
    answers = [charrnn("train", corpus, *QUICK), charrnn("train", corpus, *QUICK)]
    answers.append(charrnn("train", corpus, "--cell", "gru", *QUICK))
    named = ["corpus-lstm-1", "corpus-lstm-2", "corpus-gru-1"]
    assert [answer.out for answer in answers] == [f"checkpoints/{name}/best.pt\n" for name in named]
    assert [answer.err for answer in answers] == ["", "", ""]
    assert {path.name for path in Path("checkpoints").iterdir()} == set(named)
    for name in named:
        assert {path.name for path in Path("checkpoints", name).iterdir()} - {".lock"} == FILES


@pytest.mark.parametrize(
    ("file", "folder"),
    [
        ("War and Peace (1869).txt", "War-and-Peace-1869-lstm-1"),
        ("源氏物語.utf8.txt", "源氏物語.utf8-lstm-1"),
        (".hidden.txt", "hidden-lstm-1"),
        ("`rm -r ~`$HOME;.txt", "rm-r-HOME-lstm-1"),
        ("two\nlines.txt", "two-lines-lstm-1"),
        ("[bold]x[end].txt", "bold-x-end-lstm-1"),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="the system has no such file names")
def test_odd_names_of_files(charrnn, corpus, file, folder):
    odd = Path("texts", file)
    odd.parent.mkdir()
    odd.write_bytes(corpus.read_bytes())
    answer = charrnn("train", odd, *QUICK)
    assert (answer.status, answer.err) == (0, "")
    (run,) = Path("checkpoints").iterdir()
    assert re.sub("-+", "-", run.name) == folder
    assert answer.out == f"{run}/best.pt\n"
    assert charrnn("train", "--resume", run, "-q").out == answer.out


def test_a_folder_of_texts_gives_its_name(charrnn, corpus):
    Path("my texts").mkdir()
    shutil.copy(corpus, "my texts/a.txt")
    assert charrnn("train", "my texts/../my texts", *QUICK).out == "checkpoints/my-texts-lstm-1/best.pt\n"
    os.chdir("my texts")
    assert charrnn("train", ".", *QUICK).out == "checkpoints/my-texts-lstm-1/best.pt\n"


@settings(derandomize=True, deadline=None, max_examples=80)
@given(title=st.text(st.characters(codec=None), max_size=90))
def test_any_title_is_one_plain_folder(tmp_path_factory, title):
    root = tmp_path_factory.mktemp("names")
    os.chdir(root)
    run = made(title=title)
    run.close()
    (name,) = (path.name for path in Path("checkpoints").iterdir())
    assert run.folder == Path("checkpoints", name)
    assert [path.name for path in root.iterdir()] == ["checkpoints"]  # nothing beside, nothing above
    assert re.fullmatch(r"[\w.-]*-1", name)
    assert name[0] not in "-."
    assert len(os.fsencode(name)) < 255


@pytest.mark.parametrize("title", ["", "..", ".", "/", "///", "-", "..-..", " ", "\n", "\0", "../../etc/passwd"])
def test_titles_that_are_no_names(title):
    run = made(title=title)
    assert run.folder.resolve().parent == Path("checkpoints").resolve()
    assert run.folder.name in ("run-1", "etc-passwd-1")
    run.close()


def test_a_long_title_keeps_the_cell(charrnn, corpus):
    long = Path(f"{'long' * 20}.txt")
    shutil.copy(corpus, long)
    assert "-gru-1/" in charrnn("train", long, "--cell", "gru", *QUICK).out


# ---- nothing is lost unasked


def test_nothing_is_written_into_a_folder_that_holds_something(charrnn, corpus, copied):
    before = inside(copied)
    answer = charrnn("train", corpus, "--out", copied, *QUICK)
    assert (answer.status, answer.out) == (2, "")
    assert answer.err == (
        f"error: --out {copied}: already exists and is not empty; go on with it (--resume {copied}), "
        "replace it (--overwrite), or take another name\n"
    )
    assert inside(copied) == before


@pytest.mark.parametrize("name", ["notes.txt", "best.pt", ".hidden", "sub/a", "x.part"])
def test_any_content_keeps_a_folder(tmp_path, name):
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("mine")
    before = inside(out)
    with pytest.raises(UsageError, match="already exists and is not empty"):
        made(out)
    assert inside(out) == before
    assert not (out / ".lock").exists()


def test_an_empty_folder_is_taken(tmp_path):
    for out in (tmp_path / "there", tmp_path / "not" / "yet" / "there"):
        (tmp_path / "there").mkdir(exist_ok=True)
        run = made(out)
        assert run.folder == out
        assert {p.name for p in out.iterdir()} <= OWN
        run.close()


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["out.txt", "best.pt"])
def test_a_file_is_no_folder(tmp_path, overwrite, name):
    out = tmp_path / name
    out.write_text("mine")
    with pytest.raises(UsageError, match=re.escape(f"--out {out}: is a file")):
        made(out, overwrite=overwrite)
    assert out.read_text() == "mine"


@pytest.mark.parametrize("foreign", ["notes.txt", "best.pt.bak", "sub/best.pt", ".git/config", "model.onnx"])
def test_overwrite_refuses_what_is_no_part_of_a_run(charrnn, corpus, copied, foreign):
    (copied / foreign).parent.mkdir(exist_ok=True)
    (copied / foreign).write_text("mine")
    before = inside(copied)
    answer = charrnn("train", corpus, "--out", copied, "--overwrite", *QUICK)
    assert (answer.status, answer.out) == (2, "")
    assert answer.err.startswith("error: --overwrite: ") and answer.err.count("\n") == 1
    assert foreign.split("/")[0] in answer.err
    assert inside(copied) == before


def test_overwrite_replaces_a_run(charrnn, corpus, copied):
    (copied / "last.pt.123.part").write_text("half")
    old = inside(copied)
    answer = charrnn("train", corpus, "--out", copied, "--overwrite", *QUICK)
    assert (answer.status, answer.out) == (0, f"{copied}/best.pt\n")
    new = inside(copied)
    assert {path.name for path in new} == FILES
    assert all(new[path] != old[path] for path in new)
    rows = [json.loads(line) for line in (copied / "metrics.jsonl").read_text().splitlines()]
    assert max(row["step"] for row in rows) == 2  # the old run had 60
    assert sum(row["step"] == 0 for row in rows) == 1


def test_overwrite_of_nothing_is_a_new_run(charrnn, corpus):
    assert charrnn("train", corpus, "--out", "new", "--overwrite", *QUICK).out == "new/best.pt\n"


def test_a_refused_command_leaves_nothing_behind(charrnn, corpus):
    for wrong in (["--steps", 0], ["--cell", "lstn"], ["--lr", -1], ["absent.txt"], ["--steps", 5, "--time", "5m"]):
        assert charrnn("train", corpus, "-q", *wrong).status == 2
    assert not Path("checkpoints").exists()


def test_a_text_that_is_refused_leaves_nothing_behind(charrnn):
    Path("short.txt").write_text("ab")
    assert charrnn("train", "short.txt", "-q").status == 4
    assert not Path("checkpoints").exists()


@pytest.mark.parametrize("out", ["file/run", "file"])
def test_a_folder_that_cannot_be_made_is_said(out):
    Path("file").touch()
    with pytest.raises((CharrnnError, UsageError), match="file"):
        made(Path(out))


def test_checkpoints_that_cannot_be_made_is_said():
    Path("checkpoints").touch()
    with pytest.raises(CharrnnError, match=r"checkpoints: cannot be (made|written)"):
        made()


# ---- one process at a time


@pytest.fixture
def locks():
    pytest.importorskip("fcntl", reason="this system has no fcntl: nothing keeps a second process out of a run")


HOLDER = (
    "import sys, pathlib, charrnn.run; run = charrnn.run.Run(pathlib.Path(sys.argv[1])); print(1, flush=True); input()"
)


@pytest.fixture
def held(copied, locks):
    """A run at which another process is at work; that process."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, copied], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"1\n"
        yield copied, holder
        holder.kill()


def test_a_second_process_is_refused(charrnn, held):
    folder, holder = held
    (folder / "last.pt.99.part").write_text("the other is saving")
    before = inside(folder)
    answer = charrnn("train", "--resume", folder, "--steps", 90, "-q")
    assert (answer.status, answer.out) == (1, "")
    assert answer.err == f"error: {folder}: another charrnn is at work in this run; wait for it or stop it\n"
    assert inside(folder) == before
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    Run(folder).close()  # a process that was killed holds nothing


def test_overwrite_of_a_run_at_work_is_refused(charrnn, corpus, held):
    folder, _ = held
    before = inside(folder)
    answer = charrnn("train", corpus, "--out", folder, "--overwrite", *QUICK)
    assert "another charrnn is at work" in answer.err
    assert (answer.status, inside(folder)) == (1, before)


def test_a_run_at_work_can_be_looked_at(charrnn, held):
    folder, _ = held
    assert charrnn("inspect", folder, "--json").status == 0
    assert charrnn("sample", folder, "-n", 5).status == 0


def test_a_lock_ends_with_its_run(tmp_path, locks):
    first = made(tmp_path / "out")
    with pytest.raises(CharrnnError, match="another charrnn is at work"):
        Run(tmp_path / "out")
    first.close()
    Run(tmp_path / "out").close()


def test_a_lock_names_its_process(tmp_path, locks):
    run = made(tmp_path / "out")
    assert (tmp_path / "out" / ".lock").read_text() == str(os.getpid())
    run.close()


def test_without_fcntl_there_is_no_lock(tmp_path, monkeypatch):
    """As on Windows: no lock, but everything else."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(ImportError):
        importlib.import_module("fcntl")
    first = made(tmp_path / "out")
    second = Run(tmp_path / "out")
    second.log("metrics", {"a": 1})
    second.close()
    first.close()
    assert (tmp_path / "out" / "metrics.jsonl").read_text() == '{"a": 1}\n'


def test_orphans_are_swept(copied):
    """What a process that was killed left half written; nothing else."""
    orphans = ["last.pt.1234.part", "best.pt.99.part"]
    for name in [*orphans, "part", "x.part.txt"]:
        (copied / name).write_text("half")
    kept = inside(copied)
    Run(copied).close()
    after = inside(copied)
    assert {path.name for path in kept.keys() - after.keys()} == set(orphans)
    assert all(kept[path] == after[path] for path in after)


# ---- logs


ROWS = [{"step": 1, "text": "é\n\u2028猫"}, {"step": 2, "nats": 0.1}, {"step": 3}]


def test_a_row_is_a_line_and_there_at_once(tmp_path):
    run = made(tmp_path / "out")
    for row in ROWS:
        run.log("samples", row)
    raw = (tmp_path / "out" / "samples.jsonl").read_bytes()  # before anything is closed
    assert raw.count(b"\n") == len(ROWS)
    assert [json.loads(line) for line in raw.splitlines()] == ROWS
    assert "猫".encode() in raw
    assert run.lengths() == {"metrics": 0, "samples": len(raw)}
    run.close()


def test_half_a_character_is_kept_in_a_row(tmp_path):
    run = made(tmp_path / "out")
    run.log("samples", {"text": "\ud800"})
    run.close()
    line = (tmp_path / "out" / "samples.jsonl").read_bytes().decode("utf-8", "surrogatepass")
    assert json.loads(line) == {"text": "\ud800"}


def test_rows_after_the_save_are_dropped(tmp_path):
    out = tmp_path / "out"
    run = made(out)
    run.log("metrics", ROWS[0])
    run.log("samples", ROWS[0])
    saved = run.lengths()
    for name in ("metrics", "samples"):
        run.log(name, ROWS[1])
    run.close()
    with open(out / "metrics.jsonl", "ab") as file:
        file.write(b'{"step": 3, "na')  # a line that the killed process did not end
    run = Run(out)
    assert run.lengths()["metrics"] > saved["metrics"]
    assert run.cut(saved) == []
    assert run.lengths() == saved
    run.log("metrics", ROWS[2])
    run.close()
    assert [json.loads(line) for line in (out / "metrics.jsonl").read_bytes().splitlines()] == [ROWS[0], ROWS[2]]
    assert [json.loads(line) for line in (out / "samples.jsonl").read_bytes().splitlines()] == [ROWS[0]]


@pytest.fixture
def shortened(tmp_path):
    """A run whose metrics lost half of their last line after the save; the lengths of its logs then."""
    run = made(tmp_path / "out")
    for name, row in itertools.product(("metrics", "samples"), ROWS):
        run.log(name, row)
    saved = run.lengths()
    run.log("samples", {"step": 4})
    run.close()
    os.truncate(tmp_path / "out" / "metrics.jsonl", saved["metrics"] - 5)
    return tmp_path / "out", saved


def test_a_log_shorter_than_saved_is_said(shortened):
    folder, saved = shortened
    run = Run(folder)
    (note,) = run.cut(saved)
    assert note.startswith(f"{folder / 'metrics.jsonl'}: is shorter than when the run was saved")
    assert run.lengths()["samples"] == saved["samples"]  # the other log is cut back all the same
    run.close()


def test_a_log_that_is_gone_is_said(charrnn, copied):
    (copied / "metrics.jsonl").unlink()
    answer = charrnn("train", "--resume", copied, "-q")
    assert answer.status == 0
    assert f"{copied / 'metrics.jsonl'}: is shorter than when the run was saved" in answer.err


def test_after_a_shorter_log_every_new_row_is_a_line(shortened):
    folder, saved = shortened
    run = Run(folder)
    run.cut(saved)
    run.log("metrics", {"step": 9})
    run.close()
    assert json.loads((folder / "metrics.jsonl").read_bytes().splitlines()[-1]) == {"step": 9}


@pytest.fixture
def full(monkeypatch):
    """full("metrics.jsonl"): what is written to such a file of a run finds the disk full."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full, which is always full")

    def fill(name):
        def opened(path, mode="r", *rest, **named):
            return builtins.open("/dev/full" if Path(path).name == name else path, mode, *rest, **named)

        monkeypatch.setattr(run, "open", opened, raising=False)

    return fill


@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.jsonl"])
def test_a_full_disk_under_a_log_ends_in_one_line(charrnn, corpus, full, name):
    full(name)
    answer = charrnn("train", corpus, "--out", "run", *QUICK)
    assert (answer.status, answer.out) == (1, "")
    assert re.fullmatch(r"error: .*: cannot be written \(No space left on device\); .* (is )?kept\n", answer.err)
    assert json.loads(charrnn("inspect", "run/last.pt", "--json").out)["training"]["step"] == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_under_the_settings_is_said(tmp_path, monkeypatch):
    def fail(path, *_, **__):
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as broken:
        broken.setattr(Path, "write_text", fail)
        with pytest.raises(CharrnnError, match=r"cannot be written \(No space left on device\)"):
            made(tmp_path / "out")
    gc.collect()  # what was opened stays so until the process ends, which is now; its lock must not outlive it
    Run(tmp_path / "out").close()


# ---- what else is in the folder


def test_the_settings_stand_in_the_folder(trained):
    """With what was planned, so that nothing is left to be planned again."""
    values = read_toml(trained / "config.toml")
    assert Config(**values).record() == checkpoint.load(trained / "best.pt")[1]["config"]
    typed = dict(hidden=24, layers=2, embed=8, seq_len=16, batch_size=4, steps=60)
    assert typed.items() <= values.items() and set(PLANNED) <= values.keys()


def test_the_latest_run_is_the_one_saved_last(tmp_path):
    root = tmp_path / "checkpoints"
    for when, name in ((30, "a-1"), (50, "b-1"), (40, "c-1")):
        (root / name).mkdir(parents=True)
        (root / name / "last.pt").touch()
        os.utime(root / name / "last.pt", (when, when))
    (root / "d-1").mkdir()  # newer, but nothing was saved in it yet
    assert latest(root) == root / "b-1"


@pytest.mark.parametrize("there", [True, False])
def test_no_run_to_resume_is_said(tmp_path, there):
    root = tmp_path / "checkpoints"
    if there:
        (root / "a-1").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="holds no run to resume; name one: --resume FOLDER"):
        latest(root)
