"""Corpora known by name: made or downloaded once, checked, never overwritten, listed; a slip is understood."""

import contextlib
import dataclasses
import hashlib
import json
import os
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from pydoc_data.topics import topics

import pytest
from conftest import TINY, sentences

from charrnn.corpus import Reading, Survey, known
from charrnn.errors import CharrnnError, DataError, UsageError

PLAYS = sentences(300, seed=7).encode()
DATA, CACHE = Path("data"), Path("cache")


@dataclass
class Server:
    """A web server on this machine that answers every request with `answer`."""

    answer: bytes
    status: int = 200
    headers: dict = field(default_factory=dict)
    raw: bool = False  # the answer goes out as it is, no line of HTTP before it
    requests: int = 0


@pytest.fixture
def serve(monkeypatch):
    """serve(bytes, ..) starts a server from which tinyshakespeare comes; its sha256 is that of PLAYS."""
    running = []
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def start(answer: bytes = PLAYS, **more) -> Server:
        server = Server(answer, **more)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.requests += 1
                if not server.raw:
                    self.send_response(server.status)
                    for name, value in ({"Content-Length": len(server.answer)} | server.headers).items():
                        if value is not None:
                            self.send_header(name, str(value))
                    self.end_headers()
                self.wfile.write(server.answer)

            def log_message(self, *_):
                pass

        listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((listening, thread))
        point_at(monkeypatch, listening.server_port)
        return server

    yield start
    for listening, thread in running:
        listening.shutdown()
        thread.join()
        listening.server_close()


def point_at(monkeypatch, port: int) -> None:
    """tinyshakespeare comes from a port of this machine."""
    url, sha256 = f"http://127.0.0.1:{port}/input.txt", hashlib.sha256(PLAYS).hexdigest()
    ours = dataclasses.replace(known.KNOWN["tinyshakespeare"], url=url, sha256=sha256)
    monkeypatch.setitem(known.KNOWN, "tinyshakespeare", ours)


def left_in_data() -> list[str]:
    return sorted(path.name for path in DATA.iterdir()) if DATA.exists() else []


# ---- those that Python carries


@pytest.mark.parametrize("name", ["pydocs", "pycode"])
def test_a_corpus_that_python_carries_is_made_once_and_reused(name):
    (path,) = known.find([name], DATA, CACHE)
    assert path == DATA / f"{name}.txt" and left_in_data() == [path.name]
    made = path.stat()
    assert made.st_size > {"pydocs": 300_000, "pycode": 3_000_000}[name]
    assert known.find([name], DATA, CACHE) == [path]
    again = path.stat()
    assert (again.st_ino, again.st_mtime_ns, again.st_size) == (made.st_ino, made.st_mtime_ns, made.st_size)


def test_what_lies_in_data_is_what_is_read():
    DATA.mkdir()
    (DATA / "pydocs.txt").write_text("mine")
    assert known.find(["pydocs"], DATA, CACHE)[0].read_text() == "mine"


def test_pydocs_is_the_language_reference_and_pycode_the_library():
    docs, code = (path.read_text(encoding="utf-8") for path in known.find(["pydocs", "pycode"], DATA, CACHE))
    assert all(topics[title].strip("\n") in docs for title in topics)
    assert docs.count("\n\n") >= len(topics) and "\r" not in docs + code
    assert Path(dataclasses.__file__).read_text(encoding="utf-8") in code
    assert known.find(["pydocs"], Path("elsewhere"), CACHE)[0].read_text(encoding="utf-8") == docs, "the same each time"


def test_pydocs_can_be_trained_on(charrnn):
    done = charrnn("train", "pydocs", *TINY, "--steps", 1, "--val", "pydocs-short.txt", "-q")
    assert done.status == 2, "the validation text is not there"
    Path("pydocs-short.txt").write_text("The language reference.\n" * 4)
    done = charrnn("train", "pydocs", *TINY, "--steps", 1, "--val", "pydocs-short.txt", "-q")
    assert (done.status, done.out) == (0, str(Path("checkpoints/pydocs-lstm-1/best.pt")) + "\n")
    assert left_in_data() == ["pydocs.txt"]


# ---- the one that is downloaded


def test_a_download_is_checked_kept_and_not_repeated(charrnn, serve):
    server = serve()
    for _ in range(2):
        done = charrnn("train", "tinyshakespeare", *TINY, "--steps", 1, "-q")
        assert done.status == 0 and done.out.endswith("best.pt\n")
    assert (DATA / "tinyshakespeare.txt").read_bytes() == PLAYS
    assert left_in_data() == ["tinyshakespeare.txt"] and server.requests == 1


def test_progress_is_told_up_to_the_whole(serve):
    serve()
    told = []
    known.find(["tinyshakespeare"], DATA, CACHE, lambda done, total: told.append((done, total)))
    assert told[-1] == (len(PLAYS), len(PLAYS)) and told == sorted(told)


def test_the_sha256_is_the_one_the_field_quotes():
    ours = known.KNOWN["tinyshakespeare"]
    assert ours.sha256 == "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
    assert ours.url.startswith("https://")


def test_another_file_than_the_right_one_is_not_kept(charrnn, serve):
    server = serve(PLAYS[:-1] + b"?")
    done = charrnn("train", "tinyshakespeare", *TINY, "--steps", 1)
    assert (done.status, done.out) == (4, "") and done.err.count("\n") == 1
    assert "127.0.0.1" in done.err and "sha256" in done.err and "nothing was kept" in done.err
    assert left_in_data() == []
    server.answer = PLAYS
    assert known.find(["tinyshakespeare"], DATA, CACHE)[0].read_bytes() == PLAYS, "the next attempt begins anew"


def test_half_a_file_is_not_kept(charrnn, serve):
    serve(PLAYS[:4000], headers={"Content-Length": len(PLAYS)})
    done = charrnn("train", "tinyshakespeare", *TINY, "--steps", 1)
    assert done.status in (1, 4) and done.err.startswith("error: ") and done.err.count("\n") == 1
    assert left_in_data() == []


def test_offline_is_one_clear_line_and_status_1(charrnn, monkeypatch, serve):
    with socket.socket() as taken:  # bound, not listening: whoever connects is refused
        taken.bind(("127.0.0.1", 0))
        point_at(monkeypatch, taken.getsockname()[1])
        done = charrnn("train", "tinyshakespeare", *TINY, "--steps", 1)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("error: tinyshakespeare: could not be downloaded from http://127.0.0.1:")
    assert "refused" in done.err and "get the file yourself" in done.err and done.err.count("\n") == 1
    assert left_in_data() == [] and not Path("checkpoints").exists()


def test_a_page_that_is_not_there_is_told(serve):
    serve(b"gone", status=404)
    with pytest.raises(CharrnnError, match=r"could not be downloaded from .*Not Found") as told:
        known.find(["tinyshakespeare"], DATA, CACHE)
    assert told.value.status == 1 and left_in_data() == []
    told.value.__context__.close()  # see the next test


def test_an_answer_that_is_not_the_file_is_closed(serve):
    serve(b"gone", status=404)
    with pytest.raises(CharrnnError) as told:
        known.find(["tinyshakespeare"], DATA, CACHE)
    with contextlib.closing(told.value.__context__) as answer:
        assert answer.closed


def test_a_download_that_stops_in_the_middle_is_told(serve):
    serve(b"1000\r\n" + PLAYS[:100], headers={"Transfer-Encoding": "chunked", "Content-Length": None})
    with pytest.raises(CharrnnError, match="tinyshakespeare"):
        known.find(["tinyshakespeare"], DATA, CACHE)
    assert left_in_data() == []


def test_what_does_not_speak_http_is_told(serve):
    serve(b"login please\r\n\r\n", raw=True)
    with pytest.raises(CharrnnError, match="could not be downloaded"):
        known.find(["tinyshakespeare"], DATA, CACHE)
    assert left_in_data() == []


def test_a_file_of_that_name_that_is_another_is_neither_used_nor_overwritten(charrnn, serve):
    server = serve()
    DATA.mkdir()
    (DATA / "tinyshakespeare.txt").write_bytes(PLAYS[:500])
    done = charrnn("train", "tinyshakespeare", *TINY, "--steps", 1)
    assert (done.status, done.out) == (4, "")
    assert done.err.startswith(f"error: {DATA / 'tinyshakespeare.txt'}: is not the tinyshakespeare that it should be")
    assert "move it away" in done.err
    assert (DATA / "tinyshakespeare.txt").read_bytes() == PLAYS[:500] and server.requests == 0


def test_a_folder_that_cannot_be_made_is_told():
    DATA.write_text("a file stands here")
    with pytest.raises(CharrnnError, match=r"pydocs\.txt: cannot be written"):
        known.find(["pydocs"], DATA, CACHE)
    assert DATA.read_text() == "a file stands here"


# ---- those that the user brings


@pytest.mark.parametrize("name", ["enwik8", "text8"])
def test_what_is_not_downloaded_says_what_to_do(charrnn, name):
    done = charrnn("train", name, *TINY, "--steps", 1)
    assert (done.status, done.out) == (2, "") and name in done.err and "give its path" in done.err


def test_a_file_that_the_list_shows_can_be_named(charrnn):
    DATA.mkdir()
    (DATA / "text8.txt").write_bytes(PLAYS)
    assert str(DATA / "text8.txt") in charrnn("corpora").out
    assert known.find(["text8"], DATA, CACHE) == [DATA / "text8.txt"]


# ---- the list


def test_the_list_names_every_corpus(charrnn):
    done = charrnn("corpora")
    assert (done.status, done.err) == (0, "")
    for each in known.KNOWN.values():
        assert f"{each.name}: {each.about}" in done.out and f"split {each.split}" in done.out
        assert all(line in done.out for line in each.published)
    assert not DATA.exists(), "listing makes nothing"


def test_the_list_is_json_too(charrnn):
    known.find(["pydocs"], DATA, CACHE)
    done = charrnn("corpora", "--json")
    rows = {row["name"]: row for row in json.loads(done.out)}
    assert list(rows) == list(known.KNOWN) == ["pydocs", "pycode", "tinyshakespeare", "enwik8", "text8"]
    text = (DATA / "pydocs.txt").read_text(encoding="utf-8")
    assert rows["pydocs"]["characters"] == len(text) and rows["pydocs"]["symbols"] == len(set(text))
    assert rows["pydocs"]["where"] == str(DATA / "pydocs.txt")
    assert rows["pycode"]["characters"] is None and rows["pycode"]["where"] == "on first use"
    assert rows["enwik8"]["split"] == "90/5/5" and rows["enwik8"]["published"] and "own" in rows["enwik8"]["where"]
    survey = Survey([DATA / "pydocs.txt"], Reading(), [])
    assert (survey.length, len(survey.counts)) == (rows["pydocs"]["characters"], rows["pydocs"]["symbols"])


@pytest.mark.parametrize("content", [b"", b"\xff\xfe"])
def test_a_spoiled_file_does_not_hide_the_others(charrnn, content):
    DATA.mkdir()
    (DATA / "text8.txt").write_bytes(content)
    done = charrnn("corpora")
    assert done.status == 0 and all(name in done.out for name in known.KNOWN)
    assert f"{DATA / 'text8.txt'}: " in done.out, "and what is wrong with it"
    rows = json.loads(charrnn("corpora", "--json").out)
    assert rows[-1]["name"] == "text8" and rows[-1]["characters"] is None


# ---- slips


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("tinyshakespear", "tinyshakespeare"), ("pydoc", "pydocs"), ("pycodes", "pycode"), ("enwiki8", "enwik8")],
)
def test_a_slip_in_a_name_suggests_the_nearest(charrnn, typed, meant):
    done = charrnn("train", typed)
    assert (done.status, done.out) == (2, "") and done.err.count("\n") == 1
    assert done.err.startswith(f"error: CORPUS {typed}: no such file or folder (did you mean {meant!r}?)")
    assert all(name in done.err for name in known.KNOWN), "and all that are known"


def test_a_slip_in_a_files_name_suggests_the_file(charrnn):
    Path("notes").mkdir()
    Path("notes/sonnets.txt").write_text("x")
    done = charrnn("train", "notes/sonets.txt")
    assert done.status == 2 and f"did you mean {str(Path('notes/sonnets.txt'))!r}?" in done.err
    assert "did you mean" not in charrnn("train", "qqqq").err


def test_a_text_typed_where_a_name_belongs_is_told():
    with pytest.raises(UsageError, match="CORPUS"):
        known.find(["To be, or not to be, that is the question. " * 10], DATA, CACHE)


def test_a_file_beats_a_known_name():
    Path("pydocs").write_text("mine")
    assert known.find(["pydocs"], DATA, CACHE) == [Path("pydocs")]


def test_a_damaged_file_is_a_data_error():
    DATA.mkdir()
    (DATA / "tinyshakespeare.txt").write_bytes(b"x")
    with pytest.raises(DataError):
        known.find(["tinyshakespeare"], DATA, CACHE)


def test_a_pipe_is_read_once_and_whole(charrnn):
    os.mkfifo("pipe")
    writer = threading.Thread(target=Path("pipe").write_bytes, args=(PLAYS,))
    writer.start()
    (path,) = known.find(["pipe"], DATA, CACHE)
    writer.join()
    assert path.read_bytes() == PLAYS
