"""What a person sees: a live bar, Ctrl-C, 80 columns, colours only where they are wanted."""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, plain, too_wide, width

from charrnn import checkpoint

if os.name != "posix":
    pytest.skip("Windows has no pseudo-terminal that pexpect could use", allow_module_level=True)

import pexpect

ESCAPE = "\x1b"
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-79]|4[0-79]|9\d|10\d|[34]8;[\d;]+)(?:;\d+)*m")
SMALL = (*map(str, TINY), "--threads", "1")
TIMEOUT = 120


@pytest.fixture
def terminal():
    """terminal("sample", "run") runs the command on a pseudo-terminal of 80 x 24; `redirect` is a bit of shell."""
    children = []

    def run(*arguments, redirect="", columns=80, **environment):
        own = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "LINES")}
        own |= {"TERM": "xterm-256color", "OMP_NUM_THREADS": "1"} | environment
        script = f'exec "$0" -m charrnn "$@" {redirect}'
        child = pexpect.spawn(
            "sh", ["-c", script, sys.executable, *map(str, arguments)],
            encoding="utf-8", dimensions=(24, columns), env=own, timeout=TIMEOUT,
        )  # fmt: skip
        children.append(child)
        return child

    yield run
    for child in children:
        child.close(force=True)


def ended(child) -> tuple[int, str]:
    """The exit status, and everything that came to the screen."""
    screen = child.read()
    child.wait()
    return child.exitstatus, screen


# ---- training


def test_a_live_bar_and_then_the_path(terminal, corpus):
    """The bar goes to stderr, the path to stdout, here a file; when all is done the bar is gone."""
    command = ("train", "corpus.txt", "--steps", 300, "--eval-every", 100, *SMALL)
    status, screen = ended(terminal(*command, redirect="> path.txt"))
    assert (status, Path("path.txt").read_text()) == (0, "checkpoints/corpus-lstm-1/best.pt\n")
    assert "━" in screen and "best.pt" not in screen and too_wide(screen) == []
    assert "\x1b[2K" in screen and COLOUR.search(screen)  # drawn over itself
    assert re.findall(r"step +(\d+)  val ", plain(screen)) == ["0", "100", "200", "300"]
    assert "\x1b[?25l" in screen and screen.rindex("\x1b[?25h") > screen.rindex("\x1b[?25l")  # the cursor is back
    assert "━" not in screen[screen.rindex("result") :]


def test_ctrl_c_saves_and_says_how_to_go_on(terminal, charrnn, corpus):
    """And until then the bar tells step, loss, validation bits, characters per second and time left, in one line."""
    child = terminal("train", "corpus.txt", "--steps", 50_000, "--eval-every", 200, *SMALL)
    child.expect(r"step [\d,]+[^\r\n]*━[^\r\n]*val [\d.]+ [^\r\n]*left")
    bar = plain(child.after)
    for fact in (r"step [\d,]+", r"loss [\d.]+", r"val [\d.]+ bits", r"[\d.]+k?/s", r"[\d:.]+s? left"):
        assert re.search(fact, bar), bar
    child.sendintr()
    status, rest = ended(child)
    told = plain(rest).replace("\r", "\n")
    assert status == 130 and "Traceback" not in told and "best.pt" not in told
    assert too_wide(bar + rest[: rest.rindex("stopped")].replace("^C", "")) == []  # the last line is for copying
    again = re.search(r"stopped at step ([\d,]+), all saved; go on with: charrnn (train --resume \S+)\s*$", told)
    step = int(again[1].replace(",", ""))
    _, record = checkpoint.load(Path("checkpoints/corpus-lstm-1/last.pt"))
    assert 0 < step == record["training"]["step"]
    resumed = charrnn(*again[2].split(), "--steps", step + 2)
    assert (resumed.status, resumed.out) == (0, "checkpoints/corpus-lstm-1/best.pt\n")
    _, record = checkpoint.load(Path("checkpoints/corpus-lstm-1/last.pt"))
    assert record["training"]["step"] == step + 2


def test_a_quiet_training_shows_the_path_alone(terminal, corpus):
    status, screen = ended(terminal("train", "corpus.txt", "--steps", 3, "-q", *SMALL))
    assert (status, screen) == (0, "checkpoints/corpus-lstm-1/best.pt\r\n")


def test_piped_reports_are_plain_lines(charrnn, monkeypatch, corpus):
    """One line per evaluation where stderr is no terminal, whatever TERM says; nothing is drawn over."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR")
    said = charrnn("train", "corpus.txt", "--steps", 4, "--eval-every", 2, *SMALL).err
    assert ESCAPE not in said and "\r" not in said and "━" not in said
    reports = re.findall(r"^step +(\d+)\b.* nats .* bits.*$", said, re.MULTILINE)
    assert reports == ["0", "2", "4"] and too_wide(said) == []


# ---- colours


def test_colour_is_used_on_a_terminal(terminal):
    """Else the two tests after this one would pass for nothing."""
    status, screen = ended(terminal("--help"))
    assert status == 0 and COLOUR.search(screen)


@pytest.mark.parametrize("command", [["--help"], ["cells"], ["inspect"], ["train", "--hiden"], ["eval", "absent"]])
def test_no_color(terminal, trained, command):
    """NO_COLOR takes the colours away (no-color.org); a terminal that is dumb gets no escape code at all."""
    command = [*command, trained] if command == ["inspect"] else command
    status, coloured = ended(terminal(*command))
    for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        ended_with, screen = ended(terminal(*command, **environment))
        assert ended_with == status and not COLOUR.search(screen)
        assert ESCAPE not in screen or "NO_COLOR" in environment
        assert plain(screen).split() == plain(coloured).split()


def test_no_color_in_a_training(terminal, corpus):
    """The bar still moves; on a terminal that shows both streams the path is what stands there last."""
    status, screen = ended(terminal("train", "corpus.txt", "--steps", 50, *SMALL, NO_COLOR="1"))
    lines = [line for line in re.split(r"[\r\n]+", plain(screen)) if line.strip()]
    assert status == 0 and "━" in screen and not COLOUR.search(screen)
    assert lines[-1] == "checkpoints/corpus-lstm-1/best.pt" and too_wide(screen) == []


def test_a_dumb_terminal_gets_lines(terminal, corpus):
    command = ("train", "corpus.txt", "--steps", 50, "--eval-every", 25, *SMALL)
    status, screen = ended(terminal(*command, TERM="dumb", redirect="> path.txt"))
    assert status == 0 and ESCAPE not in screen
    assert re.findall(r"^step +(\d+)\b.* nats ", screen, re.MULTILINE) == ["0", "25", "50"]


def test_a_text_is_never_coloured(terminal, charrnn, trained):
    """What was drawn goes to a terminal as it goes to a pipe."""
    status, screen = ended(terminal("sample", trained, "-n", 100, "-p", "[red]", "--unknown", "skip"))
    assert status == 0
    assert screen.replace("\r\n", "\n") == charrnn("sample", trained, "-n", 100, "-p", "red").out


GROUND = re.compile(r"\x1b\[38;2;(\d+);\d+;\d+;48;2;(\d+);(\d+);(\d+)m(.)\x1b\[0m")


def test_the_colours_of_gates(terminal, charrnn, trained):
    """Each character on a ground that says its value: a gate from dark to bright, a signed one from blue to red."""
    typed = ("--text", "the fish", "--layer", 1, "--unit", 2)
    told = [json.loads(line)["values"] for line in charrnn("gates", trained, *typed, "--json").out.splitlines()]
    status, screen = ended(terminal("gates", trained, *typed, COLORTERM="truecolor"))
    assert status == 0 and too_wide(screen) == []
    tracks = {line[2]: GROUND.findall(line) for line in screen.split("\r\n") if re.match(r"1 \w  ", line)}
    assert list(tracks) == ["i", "f", "g", "o", "c", "h"]
    for name, found in tracks.items():
        assert "".join(character for *_, character in found) == "the fish"
        values = [row[name] for row in told]
        grounds = [tuple(map(int, numbers[1:4])) for numbers in found]
        scale = max(map(abs, values)) if name == "c" else 1
        for value, ground in zip(values, grounds, strict=True):
            low, middle, high = [(24, 24, 52), (36, 128, 140), (250, 230, 90)]
            share = value
            if name in "gch":
                low, middle, high, share = (40, 90, 210), (228, 228, 228), (214, 50, 44), (value / scale + 1) / 2
            ends = (low, middle) if share < 0.5 else (middle, high)
            exact = [a + (b - a) * (2 * share % 1 if share < 1 else 1) for a, b in zip(*ends, strict=True)]
            assert np.abs(np.array(exact) - ground).max() < 15, (name, value)  # one of 32 shades
        for (ink, *_), ground in zip(found, grounds, strict=True):
            assert abs(int(ink) - np.dot(ground, (0.299, 0.587, 0.114))) > 100  # it can be read
    legend = screen[: screen.index("1 i  ")]
    assert (
        " 0 " in plain(legend) and "-1 " in plain(legend) and f"1 c by {max(abs(r['c']) for r in told):.3g}" in legend
    )


def test_gates_without_colours_are_those_of_a_pipe(terminal, charrnn, trained):
    typed = ("gates", trained, "--text", "the fish")
    page = charrnn(*typed).out
    for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        status, screen = ended(terminal(*typed, **environment))
        assert status == 0 and plain(screen).replace("\r\n", "\n") == page
    coloured = ended(terminal(*typed))[1]
    assert ESCAPE in coloured and "tenths" not in coloured and plain(coloured).count("the fish") == 12


# ---- 80 columns


COMMANDS = [[], ["train"], ["sample"], ["eval"], ["inspect"], ["gates"], ["cells"], ["corpora"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command) or "charrnn")
def test_help_fits(charrnn, command):
    page = charrnn(*command, "--help").out
    assert too_wide(page) == [] and width(max(page.split("\n"), key=width)) > 60  # the room is used


def test_help_and_tables_fit_a_real_terminal(terminal, trained):
    """The room is used, and no name or number is cut off."""
    for command in (["train", "--help"], ["cells"], ["inspect", trained]):
        status, screen = ended(terminal(*command))
        assert status == 0 and too_wide(screen) == [] and "…" not in screen


def test_tables_fit(charrnn, trained):
    for command in (["cells"], ["inspect", trained], ["inspect", trained / "last.pt"]):
        assert too_wide(charrnn(*command).out) == []


def test_usage_errors_fit(charrnn):
    for command in (["trian"], ["train", "--hiden"], ["train", "x", "--hidden", "x"], ["sample"]):
        assert too_wide(charrnn(*command).err) == []
