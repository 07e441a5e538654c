"""Cells of a person's own: README's example, what a checkpoint keeps of the file, what runs and what never does."""

import hashlib
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY

from charrnn import cells, checkpoint
from charrnn.cells import own
from charrnn.cells.base import Cell, tanh
from charrnn.cells.trace import formula
from charrnn.engine import bind, on_numpy, reference  # noqa: F401  (on_numpy teaches the operators numpy's arrays)
from charrnn.errors import CheckpointError, UsageError
from charrnn.model import Model

EXAMPLE = re.search(r"<!-- file: mycell.py -->\n```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)[1]
NAME, TYPED = "mycell.py:SlowMemory", "./mycell.py:SlowMemory"
QUICK = ("--steps", 5, "--threads", 1, "-q", *TINY)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def nothing_admitted(monkeypatch):
    """Each test is a process of its own as far as these cells go."""
    monkeypatch.setattr(own, "_admitted", {})


@pytest.fixture
def forget(monkeypatch):
    """forget() lets no cell be known any more, as in another process."""
    return lambda: monkeypatch.setattr(own, "_admitted", {})


@pytest.fixture
def mine() -> Path:
    Path("mycell.py").write_text(EXAMPLE)
    return Path("mycell.py")


@pytest.fixture
def slow(charrnn, corpus, mine, forget) -> str:
    """The folder of a run of README's cell."""
    answer = charrnn("train", corpus, "--cell", TYPED, "--out", "slow", *QUICK)
    assert answer == type(answer)(0, f"{Path('slow/best.pt')}\n", "")
    forget()
    return "slow"


def refused(answer, status: int, *words: str) -> bool:
    assert (answer.status, answer.out, answer.err.count("\n")) == (status, "", 1), answer
    assert answer.err.startswith("error: ") and [word for word in words if word not in answer.err] == [], answer.err
    return True


# ---- the example


def test_the_example_is_what_it_says(mine):
    """Its equations once more, for one unit, in plain Python."""
    cell = cells.make(cells.admit(TYPED), {"slow": "0.8"})
    w = {"W.g": 0.3, "b.g": -0.2, "W.k": 0.5, "b.k": 0.1, "U.g": 0.7, "U.k": -0.6}
    arrays = {name: np.full((1,) if name[0] == "b" else (1, 1), value) for name, value in w.items()}
    h, s = 0.4, -0.9
    state = {"h": np.array([[h]]), "s": np.array([[s]])}
    for x in (1.5, -0.3):
        up, state = reference.step(cell, bind(cell, arrays, 1), np.array([[x]]), {}, state)
        g = math.tanh(0.3 * x - 0.2 + 0.7 * h)
        k = 1 / (1 + math.exp(-(0.5 * x + 0.1 - 0.6 * s)))
        s = 0.8 * s + 0.2 * g
        h = k * s + (1 - k) * g
        assert [up["h"], state["h"], state["s"]] == [pytest.approx(value, abs=1e-12) for value in (h, h, s)]
    assert cell.settings() == {"slow": 0.8} and not any(isinstance(cell, kind) for kind in cells.classes().values())


COMMANDS = (["sample", "-n", 20], ["eval"], ["gates", "--text", "the fish"], ["inspect"])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_with_its_file_it_is_like_any_other(charrnn, slow, forget, command):
    """And without it the command ends with status 5; whether the file lies at hand makes no difference."""
    name, *options = command
    answer = charrnn(name, slow, "--cell", TYPED, *options)
    assert (answer.status, answer.err) == (0, "") and answer.out
    forget()
    needed = "needs the cell SlowMemory of mycell.py; name it with --cell PATH:SlowMemory"
    assert charrnn(name, slow, *options).err == f"error: {Path('slow/best.pt')}: {needed}\n"
    assert refused(charrnn(name, slow, *options), 5)


def test_gates_of_an_own_cell(charrnn, slow):
    answer = charrnn("gates", slow, "--cell", TYPED, "--text", "the fish", "--json")
    assert [list(json.loads(line)["values"]) for line in answer.out.splitlines()] == [["g", "k", "s", "h"]] * 16


def test_a_run_goes_on_with_its_file(charrnn, slow, forget):
    assert refused(charrnn("train", "--resume", slow, "--steps", 8, "-q"), 5, "last.pt: needs the cell SlowMemory")
    answer = charrnn("train", "--resume", slow, "--cell", TYPED, "--steps", 8, "-q")
    assert (answer.status, answer.err) == (0, "")
    _, record = checkpoint.load(Path("slow/last.pt"))
    assert record["training"]["step"] == 8 and record["config"]["cell"] == NAME
    forget()
    assert refused(charrnn("train", "--resume", slow, "--cell", "gru", "-q"), 5)


def test_another_run_starts_from_its_weights(charrnn, corpus, slow, forget):
    start = ("train", corpus, "--init-from", slow, "--out", "next", *QUICK)
    assert refused(charrnn(*start), 5, "best.pt: needs the cell SlowMemory")
    answer = charrnn(*start, "--cell", TYPED)
    assert answer.status == 0 and "symbols keep their rows" in answer.err
    assert checkpoint.load(Path("next/best.pt"))[1]["model"]["cell"] == NAME


def test_what_an_interrupted_run_says_to_type_works(charrnn, corpus, mine, forget, monkeypatch):
    from charrnn.cli import session

    with monkeypatch.context() as interrupted:
        interrupted.setattr(session.Stop, "signal", lambda self: 2)
        answer = charrnn("train", corpus, "--cell", TYPED, "--out", "cut", *QUICK)
    assert answer.status == 130
    again = answer.err.strip().rpartition("go on with: charrnn ")[2]
    assert again == f"train --resume cut --cell {TYPED}"
    forget()
    assert charrnn(*again.split(), "-q").status == 0


def test_config_toml_is_for_config(charrnn, corpus, slow):
    """It stays in the folder and keeps the path as it was typed; what is shared does not."""
    assert f'cell = "{TYPED}"' in Path("slow/config.toml").read_text()
    answer = charrnn("train", corpus, "--config", "slow/config.toml", "--out", "again", "-q")
    assert answer.status == 0
    first, again = (checkpoint.load(Path(folder, "best.pt"))[0] for folder in ("slow", "again"))
    assert all((first[name] == again[name]).all() for name in first)


def test_the_folder_of_a_run_is_named_after_the_class(charrnn, corpus, mine):
    answer = charrnn("train", corpus, "--cell", TYPED, *QUICK)
    assert answer.out == f"{Path('checkpoints/corpus-SlowMemory-1/best.pt')}\n"


# ---- what is kept, and what runs


def test_a_checkpoint_keeps_names_and_a_digest(charrnn, corpus):
    Path("hidden-place").mkdir()
    Path("hidden-place/mycell.py").write_text(EXAMPLE)
    assert charrnn("train", corpus, "--cell", "hidden-place/mycell.py:SlowMemory", "--out", "run", *QUICK).status == 0
    sha256 = hashlib.sha256(EXAMPLE.encode()).hexdigest()
    for path in (Path("run/best.pt"), Path("run/last.pt")):
        _, record = checkpoint.load(path)
        assert record["cell_file"] == {"file": "mycell.py", "class": "SlowMemory", "sha256": sha256}
        assert (record["model"]["cell"], record["config"]["cell"]) == (NAME, NAME)
        assert b"hidden-place" not in path.read_bytes() and b"tanh" not in path.read_bytes()
    page = charrnn("inspect", "run", "--cell", "hidden-place/mycell.py:SlowMemory").out
    assert f"SlowMemory of mycell.py, sha256 {sha256[:16]}" in page
    assert "layer 1: SlowMemory " in page and "…" not in page


def test_no_code_runs_from_a_checkpoint(charrnn, slow, mine):
    """Not the file of that name at hand, not one at a path that somebody wrote into the checkpoint."""
    Path("mycell.py").write_text(f"open('ran', 'w').close()\n{EXAMPLE}")
    tensors, record = checkpoint.load(Path("slow/last.pt"))
    for cell in (NAME, TYPED, f"{mine.resolve()}:SlowMemory"):
        for file in (record["cell_file"], None):
            forged = record | {"cell_file": file, "model": record["model"] | {"cell": cell}}
            forged["config"] = record["config"] | {"cell": cell}
            Path("forged").mkdir(exist_ok=True)
            for name in ("best.pt", "last.pt"):
                checkpoint.save(Path("forged", name), tensors, forged)
            for command in COMMANDS:
                assert refused(charrnn(command[0], "forged", *command[1:]), 5, "needs the cell SlowMemory of mycell.py")
            assert refused(charrnn("train", "--resume", "forged", "-q"), 5, "needs the cell SlowMemory of mycell.py")
            with pytest.raises(CheckpointError, match="needs the cell SlowMemory of mycell"):
                Model.from_record(forged["model"])
    assert not Path("ran").exists()
    assert charrnn("sample", slow, "--cell", TYPED, "-n", 1).status == 0 and Path("ran").exists()


def test_a_file_runs_once_in_a_command(charrnn, corpus, mine):
    mine.write_text(f"with open('ran', 'a') as file:\n    file.write('x')\n{EXAMPLE}")
    assert charrnn("train", corpus, "--cell", TYPED, "--out", "run", *QUICK).status == 0
    assert Path("ran").read_text() == "x"


def test_a_copy_elsewhere_is_the_same_cell(charrnn, slow):
    Path("elsewhere").mkdir()
    Path("elsewhere/copy.py").write_text(EXAMPLE)
    drawn = charrnn("sample", slow, "--cell", TYPED, "-n", 50)
    assert charrnn("sample", slow, "--cell", "elsewhere/copy.py:SlowMemory", "-n", 50) == drawn
    assert charrnn("train", "--resume", slow, "--cell", "elsewhere/copy.py:SlowMemory", "--steps", 6, "-q").status == 0
    assert checkpoint.load(Path("slow/last.pt"))[1]["model"]["cell"] == NAME


def test_a_file_that_has_changed(charrnn, slow, mine):
    """A note, on stderr; what it says now is used."""
    before = charrnn("sample", slow, "--cell", TYPED, "-n", 50)
    mine.write_text(EXAMPLE.replace("h = k * s + (1 - k) * g", "h = 3 * k * s"))
    after = charrnn("sample", slow, "--cell", TYPED, "-n", 50)
    note = f"note: {TYPED}: is not the file that {Path('slow/best.pt')} was trained with; its equations now are used\n"
    assert (after.status, after.err, before.err) == (0, note, "") and after.out != before.out
    resumed = charrnn("train", "--resume", slow, "--cell", TYPED, "--steps", 6, "-q")
    assert (resumed.status, resumed.err) == (0, note.replace("best", "last"))
    changed = hashlib.sha256(mine.read_bytes()).hexdigest()
    assert checkpoint.load(Path("slow/last.pt"))[1]["cell_file"]["sha256"] == changed


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("s @ U.k", "s @ U.other", ["layers.0.U.k", "is (24, 24) in the checkpoint", "is absent in the cell"]),
        ("x.g + h @ U.g", "x.g", ["layers.0.U.g", "is absent in the cell"]),
        ("slow: float", "slower: float", ["line 13: AttributeError", "no attribute 'slow'"]),
    ],
)
def test_a_file_that_no_longer_fits(charrnn, slow, mine, old, new, words):
    mine.write_text(EXAMPLE.replace(old, new).replace("self.slow", "self.slow"))
    answer = charrnn("sample", slow, "--cell", TYPED, "-n", 5)
    assert (answer.status, answer.out) == (5, "") and [word for word in words if word not in answer.err] == []


def test_states_that_a_run_cannot_go_on_with(charrnn, slow, mine):
    """The weights fit, and so a sample can be drawn; the states that a resumed run needs have other names."""
    mine.write_text(
        EXAMPLE.replace('"h s"', '"h m"')
        .replace("U, h, s", "U, h, m")
        .replace("        g =", "        s = m\n        g =")
    )
    assert charrnn("sample", slow, "--cell", TYPED, "-n", 5).status == 0
    answer = charrnn("train", "--resume", slow, "--cell", TYPED, "--steps", 6, "-q")
    assert answer.status == 5 and "state.0.m is absent in the checkpoint and is there in the cell" in answer.err


def test_the_wrong_name_for_a_checkpoint(charrnn, slow, trained, mine):
    mine.write_text(EXAMPLE + EXAMPLE.replace("SlowMemory", "Other"))
    assert refused(charrnn("sample", slow, "--cell", "mycell.py:Other"), 5, "--cell mycell.py:Other", "SlowMemory of")
    assert refused(
        charrnn("sample", slow, "--cell", "lstm"), 5, "--cell lstm", "needs the cell SlowMemory of mycell.py"
    )
    assert refused(charrnn("sample", trained, "--cell", TYPED), 2, f"--cell {TYPED}", "has the cell lstm", "no file")
    assert refused(charrnn("train", "--resume", trained, "--cell", TYPED), 2, f"--cell {TYPED}", "has the cell lstm")


# ---- what can be wrong with a file

HEAD = "from charrnn.cells.base import *\nfrom charrnn.cells.base import Cell\nfrom charrnn.cells.lstm import LSTM\n"
GOOD = f"""{HEAD}class C(Cell):
    gates = "g"
    def step(self, x, U, h):
        h = tanh(x.g + h @ U.g)
        return h
"""


def changed(*pairs):
    text = GOOD
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


def with_lines(*lines):
    return GOOD + "".join(f"    {line}\n" for line in lines)


WRONG = {
    "no class": (GOOD, "CC", ["no such class", "did you mean 'C'?", "cells in it: C"]),
    "imported": (GOOD, "LSTM", ["no such class", "cells in it: C"]),
    "no cell": ("class C: pass\n", "C", ["no cell", "charrnn.cells.base", "none"]),
    "empty": ("", "C", ["no such class", "none"]),
    "syntax": (changed(("return h", "return h h")), "C", ["line 8: SyntaxError"]),
    "indentation": (changed(("        return", "      return")), "C", ["line 8: IndentationError"]),
    "null": ("\0", "C", ["null bytes"]),
    "import": (GOOD + "import no_such_module\n", "C", ["line 9: ModuleNotFoundError", "no_such_module"]),
    "raises": (GOOD + "def f():\n    return 1 / 0\nf()\n", "C", ["line 10: ZeroDivisionError"]),
    "exits": (GOOD + "raise SystemExit(0)\n", "C", ["line 9: SystemExit"]),
    "no step": (changed(("def step", "def stop")), "C", ["has no step"]),
    "no default": (with_lines("rate: float"), "C", ["the setting rate", "int, float or str", "default"]),
    "unknown kind": (with_lines('rate: "Rate" = 1'), "C", ["Rate"]),
    "kind": (with_lines("sizes: tuple = (1, 2)"), "C", ["the setting sizes", "int, float or str"]),
    "branches": (changed(("    return", "    if h >= 0: pass\n        return")), "C", ["line 8: TypeError", "where("]),
    "compares": (changed(("tanh(x.g", "tanh((x.g > 0)")), "C", ["line 7: TypeError"]),
    "undeclared": (changed(("x.g", "x.q")), "C", ["gates ['g'], but step uses ['q']"]),
    "unused": (changed(('"g"', '"g k"')), "C", ["gates ['g', 'k'], but step uses ['g']"]),
    "one too few": (changed(("h):", "h, c):"), ("gates", 'state = "h c"; gates')), "C", ["must return h, c"]),
    "no array": (changed(("return h", "return 0")), "C", ["returns 0 for h"]),
    "no state": (changed(("h):", "h, c):")), "C", ["TypeError", "missing", "'c'"]),
    "shapes": (with_lines('def shapes(self, m, n): return {"U.q": (n, n)}'), "C", ["shapes speaks of U.q", "U.g"]),
    "shape": (with_lines('def shapes(self, m, n): return {"U.g": (n, n / 2)}'), "C", ["U.g", "(24, 12.0)", "(m, n)"]),
    "masks": (with_lines('def masks(self, n): return {"U.q": lambda a, b: a > b}'), "C", ["masks speaks of U.q"]),
    "constants": (with_lines('def constants(self, n): return {"v.q": abs}'), "C", ["constants speaks of v.q", "none"]),
    "init": (with_lines('init = {"b.q": 1.0}'), "C", ["init speaks of b.q", "b.g"]),
    "unbiased": (with_lines('unbiased = "q"'), "C", ["unbiased speaks of q"]),
    "carried": (with_lines('carried = "q"'), "C", ["carried speaks of q", "h"]),
    "initial": (with_lines('def initial(self): return {"q": 1.0}'), "C", ["initial speaks of q", "h"]),
    "check": (with_lines("def check(self, n): 1 / 0"), "C", ["line 9: ZeroDivisionError"]),
    "width": (with_lines('def shapes(self, m, n): return {"U.g": (n, 5)}'), "C", ["line 7: ValueError"]),
    "up": (changed(("U, h", "U, v, h"), ("@ U.g)", "@ U.g) @ v.q")), "C", ["h is (2,)", "not (2, 24)"]),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_file_is_one_line(charrnn, corpus, case):
    """With the name as it was typed and, where there is one, the line; nothing is made."""
    text, name, words = WRONG[case]
    Path("wrong.py").write_text(text)
    answer = charrnn("train", corpus, "--cell", f"./wrong.py:{name}", *QUICK)
    assert refused(answer, 2, "--cell ", f"wrong.py:{name}", *words) and not Path("checkpoints").exists()


def test_what_is_wrong_with_its_name(charrnn, corpus, mine):
    Path("folder.py").mkdir()
    for typed, words in (
        ("./mycell.py", ["PATH.py:CLASS"]),
        ("mycell:SlowMemory", ["PATH.py:CLASS"]),
        ("mycell.py:", ["PATH.py:CLASS"]),
        ("mycel.py:SlowMemory", ["no such file", "did you mean 'mycell.py'?"]),
        ("no/mycell.py:SlowMemory", ["no such file"]),
        ("folder.py:SlowMemory", ["cannot be read"]),
        ("mycell.py:SlowMemry", ["did you mean 'SlowMemory'?"]),
    ):
        assert refused(charrnn("train", corpus, "--cell", typed, *QUICK), 2, f"--cell {typed}: ", *words)
        assert refused(charrnn("cells", typed), 2, f"CELL {typed}: ", *words)


def test_settings_of_an_own_cell(charrnn, corpus, mine):
    train = ("train", corpus, "--cell", TYPED, *QUICK)
    assert refused(charrnn(*train, "--cell-opt", "slo=1"), 2, "--cell-opt slo", "did you mean 'slow'?", NAME)
    assert refused(charrnn(*train, "--cell-opt", "slow=x"), 2, "--cell-opt slow=x", NAME, "float")
    mine.write_text(f"from __future__ import annotations\n{EXAMPLE}")  # whose kinds are texts
    assert charrnn(*train, "--cell-opt", "slow=0.5", "--out", "run").status == 0
    assert checkpoint.load(Path("run/best.pt"))[1]["model"]["settings"] == {"slow": "0.5"}


def test_a_cell_that_says_nothing_of_itself(charrnn, corpus):
    """Neither what it is for, nor a paper, nor a name; with shapes of which no formula can be made of letters."""
    Path("bare.py").write_text(with_lines('def shapes(self, m, n): return {"W.g": (m, n), "U.g": (n, max(n, 3))}'))
    answer = charrnn("cells", "bare.py:C")
    assert (answer.status, answer.err) == (0, "")
    page = answer.out.splitlines()
    assert page[0] == "bare.py:C" and not [line for line in page if line.startswith("paper")]
    assert "parameters  no formula; 131,328 at m = n = 256" in answer.out and "h = tanh(x.g + h @ U.g)" in answer.out
    assert charrnn("train", corpus, "--cell", "bare.py:C", "--out", "run", *QUICK).status == 0
    assert charrnn("inspect", "run", "--cell", "bare.py:C").status == 0


def test_a_formula_has_every_term():
    class Odd(Cell):
        """Of which the built-in cells have none: a matrix m x m, a single number."""

        gates = "g"

        def step(self, x, U, v, h):
            h = tanh(x.g + x.raw @ U.q @ U.r) * v.k @ U.s
            return h

        def shapes(self, m, n):
            return {"x.raw": (m,), "U.q": (m, m), "U.r": (m, n), "v.k": (1,), "U.s": (n, 2 * n)}

    assert formula(Odd()) == "2nm + 2n² + n + 1 + m²"
    assert formula(cells.make("lstm")) == "4nm + 4n² + 4n"


def test_an_own_cell_is_printed_like_any_other(charrnn, mine):
    answer, told = charrnn("cells", TYPED), json.loads(charrnn("cells", TYPED, "--json").out)
    assert answer.status == 0 and answer.out.startswith(f"{NAME}: Shows, by a gate, ")
    assert told["equations"] in answer.out and "k = sigmoid(x.k + s @ U.k)" in told["equations"]
    assert (told["name"], told["formula"], told["settings"]) == (NAME, "2nm + 2n² + 2n", {"slow": 0.95})
    assert NAME not in [fact["name"] for fact in json.loads(charrnn("cells", "--json").out)]


def test_an_error_of_charrnn_is_not_blamed_on_the_file(mine):
    cells.admit(TYPED)
    with pytest.raises(ZeroDivisionError) as caught:
        1 / 0  # noqa: B018
    assert own.fault(caught.value) is None


def test_only_files_that_were_named_are_known():
    with pytest.raises(UsageError, match="no such file"):
        cells.admit("absent.py:C")
    with pytest.raises(CheckpointError):
        cells.make("absent.py:C")
    assert own.origin("lstm") is None and own.retyped("lstm") == [] and cells.admit("lstm") == "lstm"
    assert issubclass(cells.classes()["lstm"], Cell)
