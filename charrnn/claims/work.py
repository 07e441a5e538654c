"""The running of the parts, one after the other, each a process; an answer that is there is not asked for again."""

import json
import os
from pathlib import Path

from .. import run
from ..compare.work import launch
from ..errors import CheckpointError, Interrupted, UsageError
from .parts import Part

FORMAT = "charrnn claims 1"


class Work:
    """The parts at work in a folder. `say(event, **what)` is told of each: begin, watch, end."""

    def __init__(self, folder: Path, parts: list[Part], asked: dict, say, stop):
        self.folder, self.parts, self.say, self.stop = folder, parts, say, stop
        with run.written(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._lock = run.lock(folder)
        try:
            self._keep(asked)
        except BaseException:
            self.close()
            raise

    def _keep(self, asked):
        """Writes down what was asked; UsageError where the folder holds another set."""
        path, now = self.folder / "claims.json", {"format": FORMAT} | asked
        if path.exists():
            there = _read(path)
            for name in now:
                if there.get(name) != now[name]:
                    raise UsageError(
                        f"--out {self.folder}: holds other claims ({name}: {there.get(name)}, not {now[name]}); "
                        "take another name"
                    )
            return
        if foreign := [each.name for each in self.folder.iterdir() if each.name != ".lock"]:
            raise UsageError(f"--out {self.folder}: holds what is no part of claims ({foreign[0]}); take another name")
        _write(path, now)

    def run(self) -> dict[str, list]:
        """The answers of all parts by name, each a list of JSON objects; a part that failed has none, and is tried
        again by the next session. Raises Interrupted when asked to stop."""
        whole, spent, answers = sum(part.seconds for part in self.parts), 0.0, {}
        for number, part in enumerate(self.parts, 1):
            told = {"title": part.title, "number": number, "total": len(self.parts)}
            path = self.folder / f"{part.name}.json"
            if path.exists():
                answers[part.name] = _read(path)["answer"]
            else:
                self.say("begin", **told, done=spent / whole)
                answer, message, seconds = self._ask(part, spent, whole)
                if answer is not None:
                    answers[part.name] = answer
                    _write(path, {"command": part.command, "seconds": round(seconds, 1), "answer": answer})
                self.say("end", **told, message=message, seconds=seconds)
            spent += part.seconds
        return answers

    def _ask(self, part, spent, whole):
        """A part's answer, or why there is none, and the seconds that it took."""
        rows = self.folder / part.name / "rows.jsonl"

        def look():
            share = min(1.0, len(run.read_rows(rows)) / part.rows) if part.rows else 0.0
            self.say("watch", done=(spent + share * part.seconds) / whole)

        if not self.stop():
            ended = launch("charrnn", part.arguments, self.stop, look)
        if self.stop():
            made = sum((self.folder / f"{each.name}.json").exists() for each in self.parts)
            raise Interrupted(f"stopped with {made} of {len(self.parts)} parts done, all saved", self.stop())
        if ended.status:
            said = [line.removeprefix("error: ") for line in ended.err.splitlines() if line.strip()]
            return None, (said or [f"ended with status {ended.status}"])[-1], ended.seconds
        return [json.loads(line) for line in ended.out.splitlines()], None, ended.seconds

    def close(self) -> None:
        if self._lock:
            self._lock.close()


def _read(path):
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: is damaged ({error})") from None


def _write(path, content):
    """Writes a file beside and renames it: there is a whole one or none."""
    beside = path.with_suffix(".part")
    with run.written(path):
        beside.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        os.replace(beside, path)
