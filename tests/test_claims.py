"""Claims: what is run, that it goes on, what is made of the answers, and the page."""

import json
import re
import shlex
import signal
from pathlib import Path

import pytest
from conftest import sentences, too_wide

from charrnn.claims import judge, parts, work
from charrnn.cli import session
from charrnn.compare.grid import Asked
from charrnn.compare.plan import Entry, Plan
from charrnn.compare.work import Ended, jobs
from charrnn.errors import DataError

CELLS = {"width": ["lstm", "gru"], "variants": ["lstm", "peephole", "cifg"]}
SIZES = [1000, 4000]
BITS = {"lstm": 2.0, "gru": 2.05, "peephole": 2.001, "cifg": 2.3}


def row(job, size):
    """A run that is done; the GRU is the smaller, and the slower in scoring."""
    gru, seed = job.entry.cell == "gru", job.seed
    known = {
        "run": job.name, "label": job.entry.label, "purpose": "result", "cell": job.entry.cell, "size": size,
        "seed": seed, "status": "done", "message": None,
        "bits": BITS[job.entry.cell] + seed * 1e-3 + gru * (size or 0) / 1e5,
        "nats": 1.4, "accuracy": 0.5, "parameters": 75 if gru else 100, "memory": (80 if gru else 100) + seed,
        "train_per_second": 100 + 50 * gru + seed, "evaluate_per_second": 100 - 50 * gru + seed,
        "generate_per_second": 100 + seed * (-1) ** seed * gru, "engine": "generic" if gru else "native", "lr": 0.004,
        "elapsed": 1.0, "seconds": 2.0, "characters": 9, "blocks": [9.0], "corpus": "c", "notes": [],
    }  # fmt: skip
    return known


def comparison(folder, cells, sizes=(None,)):
    """A comparison as it is when all its runs are done."""
    entries = [
        Entry(
            f"{cell}, {size // 1000}k" if size else cell, cell, {}, size, 100, 0.0, ["x"], "c",
            {"cell": cell, "hidden": 8, "lr": 0.004},
        )
        for size in sizes for cell in cells
    ]  # fmt: skip
    asked = Asked(cells, seeds=3, sizes=[s for s in sizes if s], settings={}).record()
    made = Plan(asked, "corpus", "c", {}, {"uniform": 5.0}, {"val": 9}, entries)
    folder.mkdir(parents=True)
    made.save(folder)
    lines = [json.dumps(row(job, job.entry.size)) for job in jobs(made, {})]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")


def finding(prediction, verdict="supported"):
    ends = {"effect": 1.0, "interval": [0.5, 1.5], "seeds": 3}
    return {"prediction": prediction, **ends, "verdict": verdict, "reason": "so"}


RECALL = [finding("rnn: H90 10 to 30"), finding("lstm over lstm:forget_bias=0: H90 at least 8", "not supported")]
ANSWERS = {
    "recall": [{"findings": RECALL, "notes": ["a note"]}],
    "count": [{"findings": [finding("lstm: N at least 100", "inconclusive")], "notes": []}],
    **{
        f"gradient-{seed}": [
            {"cell": cell, "step": step, "half_life": half + (cell == "gru") * (-1) ** seed}
            for cell, half in (("rnn", 2.0), ("gru", 3.0), ("lstm", 5.0)) for step in (0, 100, 150)
        ]
        for seed in (1, 2, 3)
    },
}  # fmt: skip


@pytest.fixture
def launched(monkeypatch):
    """Parts answer at once; `launched` lists what was run."""
    made = []

    def run(module, arguments, stop, watch=lambda: None):
        made.append(arguments)
        watch()
        folder = Path(arguments[arguments.index("--out") + 1])
        if arguments[0] == "probe":
            answer = ANSWERS[folder.name]
        else:
            answer = [{}]
            if not folder.exists():
                comparison(folder, CELLS.get(folder.name, ["lstm", "gru"]), SIZES if folder.name == "data" else (None,))
        return Ended(0, "".join(json.dumps(each) + "\n" for each in answer), "", 1.0)

    monkeypatch.setattr(work, "launch", run)
    return made


@pytest.fixture
def text():
    Path("text.txt").write_text(sentences(1200), encoding="utf-8")
    return "text.txt"


def claims(charrnn, text, *more):
    return charrnn("claims", "--quick", "--corpus", text, "--out", "out", *more)


def test_from_beginning_to_end_and_again(charrnn, text, launched):
    answer = claims(charrnn, text)
    assert answer.status == 0, answer.err
    names = ["width", "params", "data", "variants", "recall", "count", "gradient-1", "gradient-2", "gradient-3"]
    assert [Path(each[each.index("--out") + 1]).name for each in launched] == names
    assert "part 9 of 9  gradients by lag, seed 3  done" in answer.err
    assert "A GRU has fewer parameters than an LSTM of the same width: supported" in answer.out
    assert answer.out.endswith("out/claims.md\n") and not too_wide(answer.out)
    written = Path("out/claims.md").read_text(encoding="utf-8")
    for each in launched:
        assert shlex.join(["charrnn", *each]) in written
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", written):
        assert Path("out", picture).read_bytes()[:4] == b"\x89PNG"
    assert {"variants/parameters.png", "data/data.png"} <= set(re.findall(r"\]\((.*?)\)", written))
    launched.clear()
    again = claims(charrnn, text, "--json")
    told = json.loads(again.out)
    assert launched == [] and told["claims"] == json.loads(Path("out/result.json").read_text())
    assert Path("out/claims.md").read_text(encoding="utf-8") == written


def test_verdicts(charrnn, text, launched):
    told = {each["title"]: each for each in json.loads(claims(charrnn, text, "--json").out)["claims"]}
    verdicts = [each["verdict"] for each in told.values()]
    yes, no, open_ = "supported", "not supported", "inconclusive"
    #        parameters, memory, speed, memory, speed, data, gru as good, variants, gaps, gradients, bias, counting
    assert verdicts == [yes, yes, no, yes, no, open_, open_, open_, yes, open_, no, open_]
    answers = {part.name: ANSWERS.get(part.name, [{}]) for part in parts.parts(True, [text], 30_000, "out")}
    whole = [claim.verdict for claim in judge.judged(Path("out"), answers, False)]
    assert whole == [yes, yes, no, yes, no, yes, no, no, yes, open_, no, open_]  # no claim is left open
    assert [bool(each["open"]) for each in told.values()] == [False] * 5 + [True] * 3 + [False, True, False, False]
    first = told["A GRU has fewer parameters than an LSTM of the same width"]
    assert (first["effect"], first["interval"]) == (0.75, [0.75, 0.75])
    speeds = told["A GRU is faster than an LSTM of the same width"]
    assert [each["verdict"] for each in speeds["findings"]] == [yes, no, open_]
    assert speeds["findings"][0]["effect"] == pytest.approx((151 / 101 * 152 / 102 * 153 / 103) ** (1 / 3), rel=1e-12)
    assert "the engines differ (lstm on native, gru on generic)" in speeds["notes"][0]
    grows = told["An LSTM is more accurate than a GRU on larger data"]["findings"]
    assert grows[0]["effect"] == pytest.approx(0.09) and grows[1]["effect"] == pytest.approx(0.015)
    alike = told["The variants of the LSTM are all about the same"]["findings"]
    assert [each["verdict"] for each in alike] == [yes, no] and alike[0]["prediction"].startswith("peephole over lstm")
    bias = told["The bias of the forget gate matters"]
    assert [each["prediction"] for each in bias["findings"]] == ["lstm over lstm:forget_bias=0: H90 at least 8"]
    fades = told["Gradients fade sooner in a plain RNN than in GRU and LSTM"]["findings"]
    assert [each["effect"] for each in fades] == pytest.approx([2 / 3, 3.0])


def test_a_part_that_fails_is_told_and_tried_again(charrnn, text, launched, monkeypatch):
    good = work.launch

    def failing(module, arguments, stop, watch=lambda: None):
        ended = good(module, arguments, stop, watch)
        return Ended(1, "", "error: no memory\n", 1.0) if arguments[1] in ("count", text) else ended

    monkeypatch.setattr(work, "launch", failing)
    answer = claims(charrnn, text, "--json")
    assert answer.status == 0 and "note: counting beyond what was seen: no memory" in answer.err
    told = json.loads(answer.out)["claims"]
    assert [each["verdict"] for each in told[:8]] == ["inconclusive"] * 8 and told[8]["verdict"] == "supported"
    assert told[-1]["findings"] == [] and "failed, no memory" in Path("out/claims.md").read_text(encoding="utf-8")
    monkeypatch.setattr(work, "launch", good)
    launched.clear()
    assert json.loads(claims(charrnn, text, "--json").out)["claims"][0]["verdict"] == "supported"
    assert len(launched) == 5


def test_an_interruption_says_how_to_go_on(charrnn, text, launched, monkeypatch):
    asked = []
    good = work.launch

    def stopped(module, arguments, stop, watch=lambda: None):
        if "recall" in arguments:
            asked.append(signal.SIGINT)
        return good(module, arguments, stop, watch)

    monkeypatch.setattr(session.Stop, "signal", lambda self: asked[0] if asked else None)
    monkeypatch.setattr(work, "launch", stopped)
    answer = claims(charrnn, text)
    assert (answer.status, answer.out) == (130, "")
    again = f"charrnn claims --corpus {text} --quick --out out"
    assert answer.err.endswith(f"stopped with 4 of 9 parts done, all saved; go on with: {again}\n")
    monkeypatch.setattr(work, "launch", good)
    asked.clear()
    launched.clear()
    assert charrnn(*shlex.split(again)[1:]).status == 0 and len(launched) == 5


def test_other_claims_are_not_mixed_in(charrnn, text, launched):
    assert claims(charrnn, text).status == 0
    answer = charrnn("claims", "--corpus", text, "--out", "out")
    assert answer.status == 2 and "--out out: holds other claims (quick: True, not False)" in answer.err
    Path("else").mkdir()
    Path("else/mine").touch()
    answer = charrnn("claims", "--corpus", text, "--out", "else")
    assert answer.status == 2 and "--out else: holds what is no part of claims (mine)" in answer.err
    Path("out/width.json").write_text("{]")
    answer = claims(charrnn, text)
    assert answer.status == 5 and "out/width.json: is damaged" in answer.err


def test_a_text_that_is_too_short_is_refused(charrnn, corpus):
    answer = claims(charrnn, corpus)
    assert (answer.status, answer.out) == (4, "")
    assert "corpus.txt: its training part has 7,937 characters; at least 20,000 are needed" in answer.err
    assert charrnn("claims", "--corpus", "absent").status == 2


@pytest.mark.parametrize("quick", [True, False])
def test_every_part_is_a_command_that_can_be_meant(quick, charrnn, text, monkeypatch):
    """Its own checks let it pass; where it would begin to work, it is stopped."""
    begun = []

    def stopped(name):
        def begin(*_):
            begun.append(name)
            raise DataError("enough")

        return begin

    places = {"compare": "cli.compare._planned", "probe": "probe.work.run", "look": "cli.session._corpus"}
    for name, where in places.items():
        monkeypatch.setattr(f"charrnn.{where}", stopped(name))
    for part in parts.parts(quick, [text], 30_000, "out"):
        assert charrnn(*part.arguments).err == "error: enough\n", part.command
    assert begun == ["compare"] * 4 + ["probe"] * 2 + ["look"] * (3 if quick else 5)


def test_sizes_go_up_to_a_million():
    (found,) = [part for part in parts.parts(False, ["x"], 9_000_000, "out") if part.name == "data"]
    assert found.arguments[found.arguments.index("--sizes") + 1] == "62500,250000,500000,1000000"
    with pytest.raises(DataError):
        parts.parts(True, ["x"], 100, "out")
