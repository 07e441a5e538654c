"""A run's folder: named without overwriting, locked while in use, its logs cut back to the last save on resume."""

import contextlib
import json
import os
import re
from pathlib import Path

from .errors import CharrnnError, CheckpointError, UsageError

BLOCK = 1000  # characters whose cost together is one number of the final row; two models are compared by them


class Run:
    """The folder of one run: best.pt, last.pt, metrics.jsonl, samples.jsonl, config.toml."""

    def __init__(self, folder: Path, anew: bool = False):
        self.folder = folder
        self.best, self.last = folder / "best.pt", folder / "last.pt"
        with written(folder):
            self._lock = lock(folder)
            for path in folder.iterdir() if anew else folder.glob("*.part"):  # left by a process killed while it saved
                if path.name != ".lock":
                    path.unlink()
            self._logs = {name: open(folder / f"{name}.jsonl", "ab") for name in ("metrics", "samples")}

    @classmethod
    def create(cls, out: Path | None, title: str, config: str, overwrite: bool = False) -> "Run":
        """A new folder: `out`, or under checkpoints/ named `title` and the first free number."""
        if out is None:
            folder = free(Path("checkpoints"), title)
        else:
            refuse(out, overwrite)
            folder = _made(out)
        run = cls(folder, anew=True)
        try:
            with written(folder / "config.toml"):
                (folder / "config.toml").write_text(config, encoding="utf-8")
        except CharrnnError:
            run.close()
            raise
        return run

    def log(self, name: str, row: dict) -> None:
        """Appends a row to metrics.jsonl or samples.jsonl and gives it to the system at once."""
        file = self._logs[name]
        with written(file.name):
            file.write((json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass"))
            file.flush()

    def lengths(self) -> dict[str, int]:
        """The bytes that each log has; a save keeps them, so that resume knows which rows came after it."""
        return {name: file.tell() for name, file in self._logs.items()}

    def cut(self, lengths: dict[str, int]) -> list[str]:
        """Drops the rows written after the save that a run goes on from; says where a log is shorter than it was."""
        notes = []
        for name, length in lengths.items():
            file = self._logs[name]
            if file.tell() < length:
                notes.append(f"{file.name}: is shorter than when the run was saved; its rows are gone")
                length = Path(file.name).read_bytes().rfind(b"\n") + 1  # no row goes on in half of another
            file.truncate(length)
            file.seek(length)
        return notes

    def close(self) -> None:
        for file in self._logs.values():
            with contextlib.suppress(OSError):  # what could not be written has been told
                file.close()
        if self._lock:
            self._lock.close()


def latest(root: Path) -> Path:
    """The run under `root` that was saved last."""
    saved = sorted(root.glob("*/last.pt"), key=lambda path: path.stat().st_mtime)
    if not saved:
        raise CheckpointError(f"{root}: holds no run to resume; name one: --resume FOLDER")
    return saved[-1].parent


def free(root: Path, title: str) -> Path:
    """A new folder under `root`, named `title` as far as it makes a name, and the first free number."""
    title = re.sub(r"[^\w.-]+", "-", title).strip("-.")[:60] or "run"
    _made(root)
    number = 1
    while True:
        folder = root / f"{title}-{number}"
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1


def _made(folder):
    with written(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def written(path: Path):
    """A context in which whatever the system says against writing becomes one line."""
    try:
        yield
    except OSError as error:
        raise CharrnnError(f"{path}: cannot be written ({error.strerror}); what was saved is kept") from None


OWN = {"best.pt", "last.pt", "metrics.jsonl", "samples.jsonl", "config.toml", ".lock"}


def refuse(out: Path | None, overwrite: bool) -> None:
    """Raises UsageError where `out` must not be written: it holds something, or something that is no part of a run."""
    if out is None or not out.exists():
        return
    if not out.is_dir():
        raise UsageError(f"--out {out}: is a file; take another name")
    inside = [path.name for path in out.iterdir()]
    if inside and not overwrite:
        raise UsageError(
            f"--out {out}: already exists and is not empty; go on with it (--resume {out}), "
            "replace it (--overwrite), or take another name"
        )
    foreign = [name for name in inside if name not in OWN and not name.endswith(".part")]
    if foreign:
        raise UsageError(f"--overwrite: {out} holds what is no part of a run ({foreign[0]}); take another --out")


def read_rows(path: Path) -> list[dict]:
    """The rows of a JSONL file, none where it is not there; half a row at its end, as a kill leaves it, is no row."""
    try:
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        rows = [json.loads(line) for line in lines if line.endswith(b"\n")]
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: is damaged ({type(error).__name__}: {error})") from None
    if not all(isinstance(row, dict) for row in rows):
        raise CheckpointError(f"{path}: is damaged (a row is no object)")
    return rows


def mend_rows(path: Path) -> None:
    """Cuts half a row off the end, so that the next one does not go on in it."""
    with written(path), open(path, "ab") as file:
        file.truncate(path.read_bytes().rfind(b"\n") + 1)


def add_row(path: Path, row: dict) -> None:
    """Appends a row that is on the disk when this returns."""
    with written(path), open(path, "ab") as file:
        file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())


def lock(folder: Path):
    """Keeps a second process out of a folder while the file returned is open; where the system has no such lock
    (Windows), nothing does."""
    try:
        import fcntl
    except ImportError:
        return None
    file = open(folder / ".lock", "w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise CharrnnError(f"{folder}: another charrnn is at work in this run; wait for it or stop it") from None
    file.write(str(os.getpid()))
    file.flush()
    return file
