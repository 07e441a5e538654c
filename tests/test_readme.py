"""The README's commands, run as they stand; only the length of a training is shortened, by its own options."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, sentences

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?:<!-- command: (\w+) -->\n)?```sh\n(.*?)```", README, flags=re.S)
COMMANDS = [line for mark, block in BLOCKS if not mark for line in block.strip().splitlines()]
FILES = re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", README, flags=re.S)
MAIN = next(block for mark, block in BLOCKS if mark == "main")
SHORT = "--steps 5 --hidden 16"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with the texts that the README speaks of, shared by its commands because one builds on the other."""
    folder = tmp_path_factory.mktemp("readme")
    for seed, name in enumerate(("corpus.txt", "other.txt")):
        (folder / name).write_text(sentences(400, seed), encoding="utf-8")
    for name, content in FILES:
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def run(command: str, folder: Path) -> subprocess.CompletedProcess:
    """Runs a line of shell as a reader would, with this interpreter's charrnn first on the path."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def shortened(command: str) -> str:
    command = command.replace("--cells lstm,gru,rnn --sizes A,B", "--cells sru --sizes tiny --rounds 1")
    command = command.replace("--quick", "--quick --updates 2 --seeds 1 --gaps 4")
    return re.sub(r"--time \w+", SHORT, command).replace("--steps 400", "--steps 8 --hidden 16").replace("500", "10")


def test_the_main_command(folder):
    """All but the installation, which .ci/run does with the same words."""
    command = MAIN.strip().split(" && ")[-1]
    assert "charrnn train pydocs --time 2m" in command
    done = run(shortened(command), folder)
    assert done.returncode == 0, done.stderr
    assert [f"temperature {t}" in done.stdout for t in ("0.5", "0.8", "1")] == [True] * 3


def test_the_commands_one_after_the_other(folder):
    assert len(COMMANDS) >= 10
    for command in COMMANDS:
        done = run(shortened(command), folder)
        assert done.returncode == 0, (command, done.stderr)
        assert done.stdout.strip(), command


def test_every_cell_and_exit_status_is_told():
    from charrnn.cells import classes

    for name in classes():
        assert f"| `{name}` |" in README, name
    for status in ("0 done", "1 failed", "2 usage", "3 diverged", "4 bad data", "5 bad or incompatible"):
        assert status in README
