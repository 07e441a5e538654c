"""`charrnn bench encode`: from the bytes of a file to ids, beside the peers' way, with the memory that it takes."""

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from ..corpus import Reading, Survey
from ..vocab import Vocabulary
from . import Settings, work
from .rows import compared, row
from .timing import interleave
from .worker import Worker

SLOW = 10  # the peers read only so great a part of the text


def rows(characters: int, settings: Settings, say):
    """For a text in ASCII and one in many scripts a row for our encoding, for all that happens to a corpus before it is
    trained on, and for each way of the peers."""
    with TemporaryDirectory(prefix="charrnn-bench-") as folder:
        cases = [(script, characters) for script in work.SCRIPTS]
        yield from compared(cases, lambda *case: _passes(*case, Path(folder), settings, say), say)


def _passes(script, characters, folder, settings, say):
    whole, part = folder / f"{script}.txt", folder / f"{script}-part.txt"
    text, few = work.prose(script, characters), max(1, characters // SLOW)
    whole.write_bytes(text.encode())
    part.write_bytes(text[:few].encode())
    known = Vocabulary.learn(Survey([whole], Reading(), []).counts)
    with ExitStack() as ends:

        def start(title, ours, way, path=whole, count=characters, **more):
            job = {"path": str(path), "vocabulary": known.document, "characters": count}
            return ends.enter_context(Worker(title, "encode", settings.threads, ours, way, **job, **more))

        contenders = [
            start("charrnn", True, "charrnn"),
            start("charrnn, all of it", True, "corpus", folder=str(folder / "cache")),
            start("tokenizers", False, "tokenizers", part, few),
            start("dict", False, "dict", part, few),
        ]
        for each in contenders:
            each.ready()
        say(f"encode {script}: {', '.join(each.title for each in contenders)}")
        series = interleave(contenders, settings.limit)
    for contender, own in zip(contenders, series, strict=True):
        facts = contender.facts
        case = {"script": script, "characters": facts["units"], "symbols": len(known)}
        yield row(
            "encode", case, contender, own, None if own is series[0] else series[0],
            characters_per_second=asdict(own.speed()), memory=facts["memory"], ids_bytes=facts["ids_bytes"],
        )  # fmt: skip
