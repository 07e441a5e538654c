"""The command line: help, defaults, near names, exit statuses, and what stands on which stream."""

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import typer
from conftest import TINY, sentences

from charrnn import checkpoint, cli
from charrnn.cells import classes
from charrnn.cli import scoring
from charrnn.corpus.known import KNOWN

COMMANDS = typer.main.get_command(cli.app).commands
OPTIONS = [(name, option) for name, command in COMMANDS.items() for option in command.params]
QUICK = ("--steps", 2, "--threads", 1, *TINY)


def words(text: str) -> str:
    """What a box says, without the box."""
    return " ".join("".join(" " if "\u2500" <= c <= "\u257f" else c for c in text).split())


def complaint(answer, status: int) -> str:
    """The one line of an error, after checking that it is one and stands alone."""
    assert (answer.status, answer.out) == (status, "")
    line, end, rest = answer.err.partition("\n")
    assert line.startswith("error: ") and end and not rest, answer.err
    return line.removeprefix("error: ")


def boxed(answer) -> str:
    """What Typer's own box says of a usage error."""
    assert (answer.status, answer.out) == (2, "")
    assert "Traceback" not in answer.err and answer.err.startswith("Usage: charrnn")
    return words(answer.err)


# ---- help


def test_the_commands():
    assert " ".join(COMMANDS) == "train plan sample eval inspect gates compare claims plot cells probe bench corpora"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_typed_is_there_alone(name, process):
    """No other one is imported but what it needs itself, and nothing is missing."""
    done = process(name, "--help")
    assert done.returncode == 0 and f"Usage: charrnn {name} [OPTIONS]" in done.stdout.decode()


def test_where_commands_are():
    assert set(cli.ROOMS) == set(COMMANDS)


def test_alone_it_prints_its_help(charrnn):
    alone, asked = charrnn(), charrnn("--help")
    assert (alone.status, alone.err) == (0, "") and alone.out.strip() == asked.out.strip()
    assert asked == charrnn("-h")
    for name, command in COMMANDS.items():
        assert name in asked.out and words(command.help).split(". ")[0].split(";")[0] in words(asked.out)
    for status in ("0 done", "1 failed", "2 usage", "3 diverged", "4 bad data", "130 or 143"):
        assert status in words(asked.out)


@pytest.mark.parametrize(("command", "parameter"), OPTIONS, ids=lambda value: getattr(value, "name", value))
def test_every_option_has_help(charrnn, command, parameter):
    """And it stands on the command's page with all its names."""
    assert parameter.help and parameter.help[0].isalnum() | (parameter.help[0] in "-") and not parameter.hidden
    page = charrnn(command, "--help")
    assert (page.status, page.err) == (0, "")
    told = parameter.help.replace("\\[", "[").replace("[]", "")
    assert told.split()[0] in words(page.out).split()
    for name in parameter.opts + parameter.secondary_opts:
        assert name in page.out or parameter.param_type_name == "argument"


@pytest.mark.parametrize(("command", "parameter"), OPTIONS, ids=lambda value: getattr(value, "name", value))
def test_help_says_defaults(charrnn, command, parameter):
    from charrnn.config import PLANNED, Config

    trains, default = command in ("train", "plan", "compare"), parameter.default
    default = getattr(Config(), parameter.name, default) if trains else default
    default = "planned" if command in ("train", "plan") and parameter.name in PLANNED else default
    page = charrnn(command, "--help").out
    if parameter.param_type_name == "option":
        page = page[page.index(f"│ {max(parameter.opts, key=len)} ") :]  # from the option's row
        page = page[: page.find("│ --", 3)]  # to the next
        told = "on" if default is True else default
        assert ("[default: " in page) == (default is not None and default is not False and default != [])
        assert "[default: " not in page or f"[default: {told}]" in words(page)


def test_version(charrnn):
    answer = charrnn("--version")
    assert (answer.status, answer.out, answer.err) == (0, f"charrnn {metadata.version('charrnn')}\n", "")
    assert answer == charrnn("-V")


def test_python_m_charrnn_is_the_command(process):
    done = process("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"charrnn {metadata.version('charrnn')}\n".encode(), b"")
    usage = process("sample", "--help").stdout.decode()
    assert "Usage: charrnn sample [OPTIONS]" in usage and "__main__" not in usage


def test_the_script_is_the_same_function():
    (script,) = metadata.entry_points(group="console_scripts", name="charrnn")
    assert script.load() is cli.main


# ---- near names


@pytest.mark.parametrize(
    ("typed", "meant"), [("trian", "train"), ("sampel", "sample"), ("inspct", "inspect"), ("corpus", "corpora")]
)
def test_near_commands(charrnn, typed, meant):
    said = boxed(charrnn(typed))
    assert f"'{typed}'" in said and f"'{meant}'" in said


@pytest.mark.parametrize(
    ("command", "typed", "meant"),
    [
        ("train", "--hiden", "--hidden"),
        ("train", "--batchsize", "--batch-size"),
        ("sample", "--tempreature", "--temperature"),
        ("sample", "--topk", "--top-k"),
        ("eval", "--window", "--windows"),
    ],
)
def test_near_options(charrnn, command, typed, meant):
    said = boxed(charrnn(command, "x", typed, "3"))
    assert f"No such option: {typed} " in said and meant in said


@pytest.mark.parametrize(("typed", "meant"), [("lstn", "lstm"), ("gru_cho", "gru-cho"), ("mogrifer", "mogrifier")])
def test_near_cells(charrnn, typed, meant):
    for arguments in (["train", "pydocs", "--cell", typed], ["cells", typed]):
        line = complaint(charrnn(*arguments), 2)
        assert typed in line and f"did you mean '{meant}'?" in line and ", ".join(classes()) in line


@pytest.mark.parametrize(
    ("typed", "meant"), [("pydoc", "pydocs"), ("tinyshakespear", "tinyshakespeare"), ("corpus.tx", "corpus.txt")]
)
def test_near_corpora(charrnn, corpus, typed, meant):
    for arguments in (["train", typed], ["train", corpus, typed]):
        line = complaint(charrnn(*arguments), 2)
        assert line.startswith(f"CORPUS {typed}: ") and f"did you mean '{meant}'?" in line
        assert ", ".join(KNOWN) in line
    assert not Path("data").exists() and not Path("checkpoints").exists()


def test_near_settings(charrnn, corpus):
    assert "did you mean 'heads'?" in complaint(charrnn("train", corpus, "--cell", "slstm", "--cell-opt", "head=2"), 2)
    assert "lstm has no settings" in complaint(charrnn("train", corpus, "--cell-opt", "heads=2"), 2)
    assert "did you mean 'native'?" in complaint(charrnn("train", corpus, *QUICK, "--engine", "nativ"), 2)
    assert "did you mean 'float32'?" in complaint(charrnn("train", corpus, "--precision", "float23"), 2)
    assert "did you mean 'utf-8'?" in complaint(charrnn("train", corpus, "--encoding", "utf_88"), 2)
    Path("run.toml").write_text("hiden = 3\n")
    assert "did you mean 'hidden'?" in complaint(charrnn("train", corpus, "--config", "run.toml"), 2)


# ---- values that cannot be meant


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--hidden", "0"), ("--hidden", "-3"), ("--layers", "0"), ("--embed", "0"),
        ("--dropout", "1"), ("--dropout", "-0.1"), ("--dropout", "nan"), ("--dropout-input", "1"),
        ("--dropout-output", "-1"), ("--weight-drop", "1"), ("--zoneout", "1"), ("--attention", "-1"),
        ("--lr", "-1"), ("--lr", "0"), ("--lr", "nan"),
        ("--lr", "inf"),
        ("--warmup", "1"), ("--warmup", "-0.5"), ("--clip", "-1"), ("--weight-decay", "-1"),
        ("--steps", "0"), ("--steps", "-5"), ("--epochs", "0"), ("--epochs", "-1"),
        ("--epochs", "inf"),
        ("--time", "0"), ("--time", "soon"), ("--time", "5 minutes"), ("--time", "-3s"),
        ("--patience", "0"), ("--seed", "-1"), ("--threads", "-1"), ("--eval-every", "-1"), ("--save-every", "-1"),
        ("--sample-length", "-1"), ("--seq-len", "0"), ("--batch-size", "0"), ("--min-count", "0"),
        ("--val-fraction", "0"), ("--val-fraction", "1"), ("--val-fraction", "nan"),
        ("--precision", "float16"), ("--errors", "ignore"), ("--encoding", "utf-9"), ("--engine", "fast"),
        ("--device", "gpu"), ("--cell", "transformer"), ("--cell-opt", "heads"),
    ],
)  # fmt: skip
def test_training_refuses(charrnn, corpus, option, value):
    """The line names the option and the value and says what is allowed, before anything is made."""
    length = () if option in ("--epochs", "--time") else ("--steps", 2)
    line = complaint(charrnn("train", corpus, *TINY, *length, option, value), 2)
    assert names(line, option, value)
    assert not Path("checkpoints").exists()


def names(line: str, option: str, value: str) -> bool:
    """Whether a complaint begins with the option and its value (0 may read 0.0) and goes on to say what is allowed."""
    told, _, allowed = line.partition(": ")
    name, _, shown = told.partition(" ")
    return name == option and len(allowed) > 10 and shown in (value, f"{value}.0", repr(value))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--length", "-2"), ("--temperature", "abc"), ("--temperature", "-1"), ("--temperature", ".5,"),
        ("--temperature", "nan"), ("--temperature", "inf"), ("--top-k", "-1"), ("--top-p", "0"), ("--top-p", "2"),
        ("--top-p", "nan"), ("--min-p", "-0.5"), ("--min-p", "2"), ("--min-p", "nan"), ("--count", "0"),
        ("--seed", "-1"), ("--unknown", "drop"),
        ("--stop", ""),
    ],
)  # fmt: skip
def test_sampling_refuses(charrnn, trained, option, value):
    assert names(complaint(charrnn("sample", trained, "-n", 5, option, value), 2), option, value)


def test_sampling_refuses_what_cannot_go_together(charrnn, trained):
    assert complaint(charrnn("sample", trained, "-n", "-2"), 2).startswith("--length -2: ")
    for options in (["--count", 2], ["--json"], ["-t", "0.5,1"]):
        assert complaint(charrnn("sample", trained, "-n", "-1", *options), 2).startswith("--length -1: ")
    twice = complaint(charrnn("sample", trained, "--prompt", "a", "--prompt-file", "b"), 2)
    assert "--prompt" in twice and "--prompt-file" in twice and "once" in twice
    assert "b" in complaint(charrnn("sample", trained, "--prompt-file", "b"), 2)
    assert complaint(charrnn("sample", trained, "hello"), 2).startswith("hello: a prompt is given with --prompt")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--per", "word"), ("--windows", "1"), ("--windows", "-5"), ("--unknown", "drop"), ("--encoding", "utf-9"),
        ("--errors", "ignore"), ("--device", "gpu"), ("--windows", "100000"), ("--part", "val"),
    ],
)  # fmt: skip
def test_scoring_refuses(charrnn, trained, option, value):
    """The last two could be meant, but not with this text."""
    text = trained.parent / "corpus.txt"
    assert names(complaint(charrnn("eval", trained, text, option, value), 2), option, value)


def test_scoring_refuses_what_cannot_go_together(charrnn, trained):
    line = complaint(charrnn("eval", trained, "--per", "char", "--windows", 16), 2)
    assert "--per" in line and "--windows" in line
    line = complaint(charrnn("eval", trained, "--part", "valid"), 2)
    assert line.startswith("--part valid: ") and "train, val" in line


@pytest.mark.parametrize(
    ("command", "option", "value", "kind"),
    [
        ("train", "--hidden", "many", "integer"),
        ("train", "--steps", "2.5", "integer"),
        ("train", "--lr", "fast", "number"),
        ("sample", "--count", "x", "integer"),
        ("sample", "--top-p", "most", "number"),
        ("eval", "--windows", "wide", "integer"),
    ],
)
def test_what_is_no_number(charrnn, command, option, value, kind):
    said = boxed(charrnn(command, "x", option, value))
    assert f"'{option}'" in said and kind in said


def test_what_is_no_number_is_quoted(charrnn):
    assert "manifold" in boxed(charrnn("train", "x", "--hidden", "manifold"))


def test_cells_names_its_own_argument(charrnn):
    assert "--cell" not in complaint(charrnn("cells", "lstn"), 2)


def test_a_missing_validation_text_names_its_option(charrnn, corpus):
    assert "--val absent.txt" in complaint(charrnn("train", corpus, "--val", "absent.txt"), 2)


def test_options_against_each_other(charrnn, corpus, trained):
    line = complaint(charrnn("train", corpus, "--steps", 3, "--epochs", 1), 2)
    assert "--steps and --epochs" in line
    for options in (["--out", "x"], ["--overwrite"], ["--init-from", trained]):
        line = complaint(charrnn("train", "--resume", trained, *options), 2)
        assert line.startswith("--resume: ") and str(options[0]) in line
    assert complaint(charrnn("train"), 2).startswith("CORPUS: name a text")
    assert "takes one run" in complaint(charrnn("train", "--resume", "a", "b"), 2)
    assert complaint(charrnn("train", "--resume", trained, "--hidden", 32), 2).startswith("--hidden 32: ")
    assert "24" in complaint(charrnn("train", corpus, "--init-from", trained, "--hidden", 32), 2)
    for start in (["--no-orthogonal"], ["--forget-bias", 0]):
        line = complaint(charrnn("train", corpus, "--init-from", trained, *start), 2)
        assert line.startswith(f"{start[0]}: has no effect on the weights of ")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--cell", "sru", "--weight-drop", 0.5), "--weight-drop 0.5: sru has no recurrent matrix"),
        (("--cell", "mingru", "--no-orthogonal"), "--no-orthogonal: mingru has no recurrent matrix"),
        (("--cell", "gru", "--forget-bias", 0), "--forget-bias 0: gru has no forget gate f"),
        (("--forget-bias", "nan"), "--forget-bias nan: must be a number"),
        (
            ("--layers", 1, "--residual"),
            "--residual: has no effect on one layer where --embed 8 is not --hidden 24",
        ),
    ],
)
def test_options_that_would_do_nothing(charrnn, corpus, options, said):
    """What has no effect on this model is refused, before a run is made."""
    assert complaint(charrnn("train", corpus, *TINY, "--steps", 1, *options), 2).startswith(said)
    assert not Path("checkpoints").exists()


def test_settings_from_a_file_are_checked_like_typed_ones(charrnn, corpus):
    Path("run.toml").write_text("hidden = 0\n")
    assert names(complaint(charrnn("train", corpus, "--config", "run.toml"), 2), "--hidden", "0")
    Path("run.toml").write_text("hidden = 'wide'\n")
    line = complaint(charrnn("train", corpus, "--config", "run.toml"), 2)
    assert "run.toml" in line and "hidden" in line and "wide" in line and "int" in line
    Path("run.toml").write_text("hidden = \n")
    assert "run.toml" in complaint(charrnn("train", corpus, "--config", "run.toml"), 2)
    assert "--config absent.toml" in complaint(charrnn("train", corpus, "--config", "absent.toml"), 2)


def test_a_gpu_that_is_not_there(charrnn, corpus, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert names(complaint(charrnn("train", corpus, *QUICK, "--device", "cuda"), 2), "--device", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    line = complaint(charrnn("train", corpus, *QUICK, "--device", "cuda:7"), 2)
    assert names(line, "--device", "cuda:7") and "has 2" in line


def test_a_gpu_without_a_number(charrnn, trained, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert names(complaint(charrnn("eval", trained, "--device", "cuda:first"), 2), "--device", "cuda:first")


# ---- exit statuses


def test_status_0_and_the_streams_of_a_training(charrnn, corpus):
    """stdout is the path of the best checkpoint and nothing else; people read stderr."""
    answer = charrnn("train", corpus, *QUICK)
    assert (answer.status, answer.out) == (0, f"{Path('checkpoints/corpus-lstm-1/best.pt')}\n")
    assert Path(answer.out.strip()).is_file()
    told = words(answer.err)
    for fact in ("train 7,937", "val 882", "seed 1", "2 steps", "2 x 24", "nats", "bits", "perplexity", "yardsticks"):
        assert fact in told, fact


def test_a_quiet_training(charrnn, corpus):
    answer = charrnn("train", corpus, *QUICK, "-q")
    assert answer == (type(answer))(0, f"{Path('checkpoints/corpus-lstm-1/best.pt')}\n", "")
    assert answer.out != charrnn("train", corpus, *QUICK, "--quiet").out  # a folder of its own, nothing overwritten


def test_training_prints_one_json_object(charrnn, corpus):
    answer = charrnn("train", corpus, *QUICK, "--json", "-q", "--out", "run", "--seed", 5)
    assert (answer.status, answer.err, answer.out.count("\n")) == (0, "", 1)
    told = json.loads(answer.out)
    tensors, record = checkpoint.load(Path(told["best"]))
    assert Path(told["best"]) == Path("run/best.pt") and Path(told["last"]) == Path("run/last.pt")
    assert told["result"] == record["result"] and set(told["result"]) >= {"nats", "bits", "perplexity", "accuracy"}
    assert (told["steps"], told["seed"], told["skipped"]) == (2, 5, 0)
    assert told["parameters"] == sum(array.size for array in checkpoint.weights(tensors).values())
    assert told["yardsticks"] == record["yardsticks"] and told["corpus"] == record["corpus"]["digest"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells and forgets the most that was held")
def test_memory_that_was_given_up_is_not_held():
    code = """if True:
        from charrnn.engine.allocator import held, held_anew, keep_buffers
        keep_buffers()
        large = [bytearray(b"x" * 1_000_000) for _ in range(200)]
        del large
        stale, (now, most) = held(), held_anew()
        print(stale[0] - now, most - now)
    """
    given_back, over = map(
        int, subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.split()
    )
    assert given_back > 100e6 and over < 10e6


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system tells less")
def test_training_tells_the_memory_that_it_took(process, corpus):
    """A wider model takes more, and about as much as its arrays have numbers."""
    taken = []
    for hidden in (8, 512):
        given = ("--device", "cpu", "--steps", 1, "--hidden", hidden)
        told = json.loads(process("train", corpus, *given, "--json", "-q").stdout)
        assert 50e6 < told["memory"]["before"] < told["memory"]["peak"] < 2e9
        taken.append(told["memory"]["peak"] - told["memory"]["before"])
    assert taken[1] - taken[0] > 16 * told["parameters"] > 40e6  # weights, gradients, two moments


def test_warnings_are_told_in_quiet_too(charrnn):
    Path("short.txt").write_bytes(sentences(30).encode())
    answer = charrnn("train", "short.txt", "--steps", 2, "--hidden", 8, "-q", "--batch-size", 64)
    assert answer.status == 0 and answer.err.startswith("note: ") and "instead of 64 x 64" in answer.err


def test_status_1_what_failed(charrnn, corpus):
    """The folder of a run cannot be made, since its parent is a file."""
    assert "corpus.txt" in complaint(charrnn("train", corpus, *QUICK, "-q", "--out", corpus / "run"), 1)
    assert corpus.is_file()


def test_status_2_what_is_there_already(charrnn, corpus, trained):
    before = {path: path.read_bytes() for path in trained.iterdir()}
    line = complaint(charrnn("train", corpus, *QUICK, "--out", trained), 2)
    assert f"--out {trained}" in line and "--resume" in line and "--overwrite" in line
    assert {path: path.read_bytes() for path in trained.iterdir()} == before


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", ["text.txt", "empty"]),
        (b"abc\ndef\xff\n", ["text.txt", "byte offset 7", "line 2", "0xff", "--encoding", "--errors replace"]),
        (b"a" * 500, ["text.txt", "one distinct character", "U+0061"]),
        (b"abcd" * 5, ["text.txt", "at least 64"]),
    ],
    ids=["empty", "not UTF-8", "one character", "short"],
)
def test_status_4_bad_data(charrnn, content, why):
    Path("text.txt").write_bytes(content)
    line = complaint(charrnn("train", "text.txt", *QUICK), 4)
    assert [word for word in why if word not in line] == []
    assert not Path("checkpoints").exists()


def test_status_4_an_empty_folder(charrnn):
    Path("texts").mkdir()
    assert complaint(charrnn("train", "texts", *QUICK), 4) == "texts: the folder holds no files"


@pytest.mark.parametrize("command", ["sample", "eval", "inspect"])
def test_status_5_bad_checkpoints(charrnn, trained, corpus, command):
    assert complaint(charrnn(command, "absent.pt"), 5) == "absent.pt: no such checkpoint"
    Path("empty").mkdir()
    assert "neither best.pt nor last.pt" in complaint(charrnn(command, "empty"), 5)
    assert f"{corpus}: is damaged or no checkpoint" in complaint(charrnn(command, corpus), 5)
    content = bytearray((trained / "best.pt").read_bytes())
    content[len(content) // 2] ^= 1
    Path("rotten.pt").write_bytes(content)
    assert complaint(charrnn(command, "rotten.pt"), 5).startswith("rotten.pt: ")


def test_status_5_nothing_to_go_on_with(charrnn, corpus):
    assert "holds no run to resume" in complaint(charrnn("train", "--resume"), 5)
    assert "absent" in complaint(charrnn("train", "--resume", "absent"), 5)
    assert "absent" in complaint(charrnn("train", corpus, "--init-from", "absent"), 5)


def test_errors_of_a_real_process(process, corpus):
    """The same as in-process: the status reaches the shell, and stdout stays empty for $(...)."""
    for status, arguments in {2: ["train", "absent.txt"], 5: ["sample", "absent"]}.items():
        done = process(*arguments)
        assert (done.returncode, done.stdout) == (status, b"")
        assert done.stderr.startswith(b"error: ") and done.stderr.count(b"\n") == 1


# ---- what stands on stdout


def test_corpora(charrnn):
    answer = charrnn("corpora", "--json")
    rows = {row["name"]: row for row in json.loads(answer.out)}
    assert answer.err == "" and list(rows) == list(KNOWN)
    assert [row["characters"] for row in rows.values()] == [None] * len(rows)
    Path("data").mkdir()
    Path("data/pydocs.txt").write_text("äbc\n" * 5, encoding="utf-8", newline="")
    row = json.loads(charrnn("corpora", "--json").out)[list(KNOWN).index("pydocs")]
    assert (row["characters"], row["symbols"], row["where"]) == (20, 4, str(Path("data/pydocs.txt")))
    listed = charrnn("corpora").out
    assert f"20 characters, 4 symbols, {Path('data/pydocs.txt')}, split 90/10" in listed
    for known in KNOWN.values():
        assert f"{known.name}: {known.about}." in listed
        assert all(f"    {line}\n" in listed for line in known.published)
    assert os.environ["CHARRNN_CACHE"] in listed


def test_print_config_is_a_config(charrnn, corpus):
    """What --print-config prints, --config takes, and nothing is trained."""
    printed = charrnn("train", corpus, "--print-config", "--hidden", 17, "--cell", "gru", "--lr", 0.5)
    assert (printed.status, printed.err) == (0, "") and not Path("checkpoints").exists()
    Path("run.toml").write_text(printed.out, encoding="utf-8")
    assert charrnn("train", "--print-config", "--config", "run.toml").out == printed.out
    typed = charrnn("train", "--print-config", "--config", "run.toml", "--hidden", 18).out
    assert typed == printed.out.replace("hidden = 17", "hidden = 18") != printed.out


def test_a_command_leaves_nothing_else(charrnn, trained):
    """Looking, sampling and scoring write no file where they are called."""
    for command in (
        ["cells"],
        ["corpora"],
        ["inspect", trained],
        ["sample", trained, "-n", 5],
        ["eval", trained],
        ["gates", trained, "--text", "the"],
    ):
        assert charrnn(*command).status == 0
        assert os.listdir() == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here: a full disk cannot be had")
def test_a_full_disk_is_one_line(process, trained):
    import subprocess
    import sys

    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "charrnn", "sample", str(trained), "-n", "5"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1 and done.stderr.startswith(b"error: ") and done.stderr.count(b"\n") == 1


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX pipes")
@pytest.mark.parametrize(
    ("stream", "status", "command"),
    [
        ("stdout", 0, ["--help"]), ("stdout", 0, ["train", "--help"]), ("stdout", 0, ["--version"]), ("stdout", 0, []),
        ("stdout", 0, ["cells"]), ("stdout", 0, ["corpora"]), ("stdout", 0, ["inspect", "{trained}"]),
        ("stderr", 2, ["trian"]), ("stderr", 2, ["train", "--hiden", "1"]), ("stderr", 5, ["inspect", "absent"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)  # fmt: skip
def test_a_reader_that_has_gone_changes_nothing(trained, stream, status, command):
    """`charrnn --help | head -1`: quiet and no failure; and a failure stays one though nobody hears of it."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "charrnn", *(word.format(trained=trained) for word in command)]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writer}
    done = subprocess.run(command, timeout=120, **streams)
    os.close(writer)
    assert (done.returncode, done.stdout or b"", done.stderr or b"") == (status, b"", b"")


def test_a_text_too_large_for_the_memory_is_one_line(charrnn, trained, corpus, monkeypatch):
    def score(*_, **__):
        return np.empty(2**50)

    monkeypatch.setattr(scoring, "score", score)
    done = charrnn("eval", trained, corpus)
    assert complaint(done, 1).startswith("there is not enough memory for this (Unable to allocate 8.00 PiB")
