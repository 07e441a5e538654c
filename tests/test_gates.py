"""Gates at work: values against equations written out here, counts against whole arrays, the page, the errors."""

import json
import math
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, sentences, too_wide, width
from test_cells import SETTINGS, arrays, bound, every_cell, every_size, part

from charrnn import cells, checkpoint
from charrnn.cells.base import Cell, exp, log_sigmoid, maximum, relu, sigmoid, softplus, sqrt, tanh, where
from charrnn.cells.interval import ANY, intervals
from charrnn.cells.trace import trace
from charrnn.engine import observe, reference
from charrnn.gates import Quantity, Tally, Watch, quantities
from charrnn.model import Model
from charrnn.vocab import Vocabulary

TEXT = "A dog sees the fish.\nZoë eats a bone.\n"
pytestmark = pytest.mark.usefixtures("one_thread")


def logistic(a):
    return 1 / (1 + np.exp(-a))


def lstm(weights, layers, ids):
    """The LSTM's equations in float64: for each layer {name: (T, n)}."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    n, rows = w["layers.0.U.i"].shape[0], [[] for _ in range(layers)]
    h, c = np.zeros((layers, n)), np.zeros((layers, n))
    for symbol in ids:
        x = w["embedding"][symbol]
        for k in range(layers):
            a = {q: x @ w[f"layers.{k}.W.{q}"] + w[f"layers.{k}.b.{q}"] + h[k] @ w[f"layers.{k}.U.{q}"] for q in "ifgo"}
            i, f, g, o = logistic(a["i"]), logistic(a["f"]), np.tanh(a["g"]), logistic(a["o"])
            c[k] = f * c[k] + i * g
            x = h[k] = o * np.tanh(c[k])
            rows[k].append({"i": i, "f": f, "g": g, "o": o, "c": c[k].copy(), "h": x.copy()})
    return [{name: np.stack([row[name] for row in own]) for name in own[0]} for own in rows]


# ---- a step, watched


def locals_of(step, cell, *arguments):
    """What the locals of a cell's own `step` held when it returned, in a run on numpy arrays."""
    found = {}

    def watch(frame, event, _):
        if event == "return" and frame.f_code is type(cell).step.__code__:
            found.update(frame.f_locals)

    before = sys.getprofile()
    sys.setprofile(watch)
    step(cell, *arguments)
    sys.setprofile(before)
    return found


@every_size
def test_a_watched_step_is_the_step(case):
    """What goes up and the states equal the reference's to the last bit, every quantity the local of that name."""
    cell, drawn = case.cell(), arrays(case, 4)
    p, state = bound(cell, drawn, case.n), part(drawn, "state")
    for t in range(4):
        below = {name: array[t] for name, array in part(drawn, "below").items()}
        given = p, drawn["x"][t], below, state
        up, after = reference.step(cell, *given)
        seen = locals_of(reference.step, cell, *given)
        my_up, my_after, named = observe.step(cell, *given)
        for mine, other in ((my_up, up), (my_after, after), (named, {name: seen[name] for name in named})):
            assert list(mine) == list(other)
            for name, value in mine.items():
                np.testing.assert_array_equal(value, other[name], err_msg=f"{case} {name}")
        constant = {"u"} if case.name == "indrnn" else set()  # made of weights alone
        assert set(named) == set(trace(cell).named) - constant
        state = after


def test_quantities_come_as_the_equations_go():
    assert observe.quantities(cells.make("lstm")) == ["i", "f", "g", "o", "c", "h"]
    assert observe.quantities(cells.make("rnn")) == ["h"]
    assert observe.quantities(cells.make("gru-cho")) == ["r", "z", "n", "h"]
    assert observe.quantities(cells.make("slstm")) == ["z", "o", "m_now", "i", "f", "c", "n", "h"]


class Decay(Cell):
    """A memory that fades at a rate of each unit's own: `rate` never changes, so it is no quantity of a text."""

    gates, state = "g", "c"

    def step(self, x, U, v, c):
        rate = sigmoid(v.rate)
        c = rate * c + (1 - rate) * tanh(x.g)
        return c


def test_what_never_changes_is_no_quantity():
    assert set(trace(Decay()).named) == {"rate", "c"} and observe.quantities(Decay()) == ["c"]


# ---- between which numbers


@every_size
def test_intervals_hold(case):
    """Whatever comes in; and what is told to lie between two numbers comes near both."""
    cell, drawn, reached = case.cell(), arrays(case, 60), {}
    told = intervals(cell)
    assert set(told) == set(trace(cell).named)
    random, state = np.random.default_rng(3), part(drawn, "state")
    p = bound(cell, {name: 30 * array for name, array in drawn.items()}, case.n)
    for t in range(60):
        below = {name: array[t] for name, array in part(drawn, "below").items()}
        _, state, named = observe.step(cell, p, drawn["x"][t] * random.uniform(0, 9), below, state)
        for name, value in named.items():
            low, high = reached.get(name, (math.inf, -math.inf))
            reached[name] = min(low, value.min()), max(high, value.max())
    for name, (low, high) in reached.items():
        assert told[name].low <= low and high <= told[name].high, f"{case} {name}: {low} {high} {told[name]}"


@pytest.mark.parametrize(
    ("name", "settings", "bounded"),
    [
        ("lstm", {}, dict(i=(0, 1), f=(0, 1), g=(-1, 1), o=(0, 1), h=(-1, 1))),
        ("gru", {}, dict(r=(0, 1), z=(0, 1), n=(-1, 1))),
        ("rnn", {}, dict(h=(-1, 1))),
        ("rnn", {"activation": "relu"}, {}),
        ("clockwork", {}, dict(due=(0, 1))),
        ("slstm", {}, dict(z=(-1, 1), o=(0, 1))),
        ("sru", {}, dict(f=(0, 1), r=(0, 1))),
    ],
)
def test_which_quantities_are_gates(name, settings, bounded):
    told = quantities(Model(name, symbols=5, embed=3, hidden=8, layers=2, settings=settings))
    for layer in (0, 1):
        assert {q.name: (q.low, q.high) for q in told if q.layer == layer and q.bounded} == bounded


def test_the_rules_of_intervals():
    a, b, h = sigmoid(ANY), tanh(ANY), ANY
    fading = exp(-8 * softplus(h) * a)
    for interval, low, high in (
        (1 - a, 0, 1), (-1 * b * a, -1, 1), (2 * a - 1, -1, 1), (b / 4 + 0.5, 0.25, 0.75), (b - a, -2, 1),
        (a / (a + softplus(h)), 0, 1), (a / (softplus(h) + a), 0, 1), (a / (a + b), -math.inf, math.inf),
        (1 / (1 + a), 0.5, 1), (1 / a, -math.inf, math.inf), (a / 2, 0, 0.5), (a / sigmoid(ANY), -math.inf, math.inf),
        (fading, 0, 1), (sqrt(1 - fading * fading), 0, 1), (exp(log_sigmoid(h)), 0, 1), (exp(h), 0, math.inf),
        (where(a >= b, a, b), -1, 1), (where(a == 0, a, 3), 0, 3), (maximum(b, a), 0, 1), (relu(b), 0, 1),
        (relu(h), 0, math.inf), (h @ 1, -math.inf, math.inf), (h % 2, -math.inf, math.inf), (a >= b, 0, 1),
        (0 * h, 0, 0), (h * h, -math.inf, math.inf),
    ):  # fmt: skip
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-9)


# ---- a model, watched


def drawn_model(name, layers=2, hidden=8):
    settings = SETTINGS.get(name, [{}])[0]
    model = Model(name, symbols=7, embed=3, hidden=hidden, layers=layers, settings=settings)
    random = np.random.default_rng(4)
    return model, {name: random.normal(size=shape) for name, shape in model.shapes().items()}


@every_cell
def test_a_watched_model_is_the_model(name):
    """Read in pieces or at once, it ends in the state that the whole model's own unroll ends in."""
    model, weights = drawn_model(name)
    ids = np.random.default_rng(5).integers(0, 7, 12)
    _, state = model.forward(
        model.bind(weights), ids[:, None], model.initial_state(lambda: np.zeros((1, 8))), reference.unroll
    )
    once, pieces = Watch(model, weights), Watch(model, weights)
    whole, parts = once.read(ids), [pieces.read(ids[:5]), pieces.read(ids[5:6]), pieces.read(ids[6:])]
    for layer, cell in enumerate(model.stack):
        assert list(whole[layer]) == observe.quantities(cell)
        for name, values in whole[layer].items():
            assert values.shape[0] == 12
            np.testing.assert_array_equal(values, np.concatenate([part[layer][name] for part in parts]))
        for name in cell.states:
            np.testing.assert_allclose(once.state[layer][name], state[layer][name], rtol=0, atol=1e-12)
            np.testing.assert_array_equal(once.state[layer][name], pieces.state[layer][name])


def test_the_gates_of_the_lstm():
    model, weights = drawn_model("lstm", layers=3)
    ids = np.random.default_rng(6).integers(0, 7, 20)
    for mine, other in zip(Watch(model, weights).read(ids), lstm(weights, 3, ids), strict=True):
        assert set(mine) == set(other)
        for name in mine:
            np.testing.assert_allclose(mine[name], other[name], rtol=0, atol=1e-12)


def test_a_tally_is_a_count_over_everything():
    values = np.random.default_rng(7).uniform(-1, 1, (50, 6))
    values[:, 0], values[:, 1], values[:40, 2] = 0.05, -0.95, 0.09
    tally = Tally(Quantity(1, "q", -1.0, 1.0))
    for piece in np.split(values, [7, 8, 30]):
        tally.add(piece)
    told, size = tally.summary(), np.abs(values)
    assert (told["layer"], told["quantity"], told["range"]) == (1, "q", [-1.0, 1.0])
    assert told["mean"] == pytest.approx(values.mean()) and told["largest"] == size.max()
    assert told["shut"] == pytest.approx((size < 0.1).mean()) and told["open"] == pytest.approx((size > 0.9).mean())
    assert told["units_shut"] == (size < 0.1).mean(0).tolist() and told["units_shut"][0] == 1
    assert told["units_open"] == (size > 0.9).mean(0).tolist() and told["units_open"][1] == 1
    free = Tally(Quantity(0, "c", -math.inf, math.inf))
    free.add(np.array([[1.0, -5.0], [math.nan, math.inf]]))
    told = free.summary()
    assert told["range"] == [None, None] and told["largest"] == 5
    assert {told[name] for name in ("shut", "open", "units_shut", "units_open")} == {None}


# ---- the command


@pytest.fixture
def rows(charrnn):
    """rows("run", "--text", "a") is what `charrnn gates --json` printed, a dict per line."""

    def run(*arguments, notes=""):
        answer = charrnn("gates", *arguments, "--json")
        assert answer.status == 0 and re.fullmatch(notes, answer.err), answer
        return [json.loads(line) for line in answer.out.splitlines()]

    return run


@pytest.fixture(scope="module")
def expected(trained):
    """The quantities of TEXT under the trained model, from the equations above, as text says them."""
    tensors, record = checkpoint.load(trained / "best.pt")
    symbols = Vocabulary(record["vocabulary"]).symbols
    return lstm(checkpoint.weights(tensors), 2, [symbols.index(character) for character in TEXT])


def test_json_lines(rows, trained, expected):
    """A line per character and layer; the mean, one unit, or all. 1e-5 since the model runs in float32."""
    for options, take in (([], np.mean), (["--unit", 5], lambda a: a[5]), (["--unit", "all"], lambda a: a)):
        told = rows(trained, "--text", TEXT, *options)
        assert [(row["index"], row["layer"]) for row in told] == [(i, k) for i in range(len(TEXT)) for k in (0, 1)]
        for row in told:
            own, place = expected[row["layer"]], row["index"]
            assert row["symbol"] == TEXT[place] and list(row["values"]) == ["i", "f", "g", "o", "c", "h"]
            for name, value in row["values"].items():
                np.testing.assert_allclose(value, take(own[name][place]), rtol=0, atol=1e-5)


def test_files_pipes_and_typed_texts_are_read_alike(rows, process, trained):
    Path("text.txt").write_bytes(TEXT.encode())
    typed = rows(trained, "--text", TEXT)
    assert rows(trained, "text.txt") == typed
    done = process("gates", trained, "-", "--json", input=TEXT.encode())
    assert [json.loads(line) for line in done.stdout.splitlines()] == typed and done.stderr == b""


def test_layers_and_quantities_are_chosen(rows, trained):
    everything = rows(trained, "--text", "the fish")
    for row in rows(trained, "--text", "the fish", "--layer", 1, "--gate", "f", "--gate", "c"):
        whole = everything[2 * row["index"] + 1]
        assert row == whole | {"values": {name: whole["values"][name] for name in "fc"}}
    assert len(rows(trained, "--text", "the fish", "--layer", 0, "--layer", 1)) == 16


def test_the_summary_counts_every_value(charrnn, rows, trained, expected):
    told = rows(trained, "--text", TEXT, "--summary")
    assert [(row["layer"], row["quantity"]) for row in told] == [(k, q) for k in (0, 1) for q in "ifgoch"]
    for row in told:
        values = expected[row["layer"]][row["quantity"]]
        assert row["mean"] == pytest.approx(values.mean(), abs=1e-5)
        assert row["largest"] == pytest.approx(np.abs(values).max(), abs=1e-5)
        for name, there in (("shut", np.abs(values) < 0.1), ("open", np.abs(values) > 0.9)):
            if row["quantity"] == "c":
                assert row[name] is None
            else:
                assert row[name] == pytest.approx(there.mean()) and row[f"units_{name}"] == there.mean(0).tolist()
    page = charrnn("gates", trained, "--text", TEXT, "--summary").out
    assert charrnn("gates", trained, "--text", TEXT).out.endswith(page)
    for row in told:
        line = next(
            line.split() for line in page.splitlines() if line.split()[:2] == [str(row["layer"]), row["quantity"]]
        )
        shares = [f"{row['shut']:.1%}", f"{row['open']:.1%}"] if row["quantity"] != "c" else ["-", "-"]
        always = [
            str(sum(u >= 0.9 for u in row[f"units_{n}"])) if row[n] is not None else "-" for n in ("shut", "open")
        ]
        assert line[-6:] == [f"{row['mean']:.3f}", f"{row['largest']:.3f}", *shares, *always]


def digit(value):
    """A value between -1 and 1 as the plain page writes it."""
    tenth = min(int(abs(value) * 10), 9)
    return str(tenth) if value >= 0 or not tenth else "abcdefghi"[tenth - 1]


def test_the_plain_page(charrnn, rows, trained):
    """Where there are no colours: the text, and a digit under each character for each quantity."""
    told = rows(trained, "--text", TEXT, "--unit", 3)
    answer = charrnn("gates", trained, "--text", TEXT, "--unit", 3)
    assert (answer.status, answer.err) == (0, "") and "\x1b" not in answer.out and too_wide(answer.out) == []
    page = answer.out.splitlines()
    assert page[0].startswith("unit 3 of 24") and "tenths" in page[1]
    assert [line.strip() for line in page if "⏎" in line] == [f"{line}⏎" for line in TEXT.splitlines()]
    first = page.index("     A dog sees the fish.⏎")
    for track, line in zip([(k, q) for k in (0, 1) for q in "ifgoch"], page[first + 1 :], strict=False):
        layer, name = track
        values = [row["values"][name] for row in told if row["layer"] == layer]
        scale = max(map(abs, values)) if name == "c" else 1
        assert line == f"{layer} {name}  " + "".join(digit(value / scale) for value in values[:21])
        if name == "c":
            assert f"{layer} c by {scale:.3g}" in page[2]


def test_what_has_no_shape_gets_one(charrnn, trained):
    """Every symbol stands in columns of its own, wide ones in two, and its digits under it."""
    text = "a\t猫\r\u0301 \u200b\u00a0\x7fé\nthe fish\n\n" + "some bread " * 20
    answer = charrnn("gates", trained, "--text", text, "--unknown", "replace", "--layer", 0, "--gate", "f")
    assert answer.status == 0 and too_wide(answer.out) == []
    page = answer.out.splitlines()
    assert page[2] == "" and page[3] == "     a⇥猫␍◌\u0301 ▯␣▯é⏎"
    assert [page[6], page[9]] == ["     the fish⏎", "     ⏎"]
    assert width(page[12]) == 80 and page[12].strip() == ("some bread " * 7)[:75].strip()
    wide = charrnn("gates", trained, "--text", "猫" * 50, "--gate", "f").out
    assert too_wide(wide) == [] and wide.splitlines()[3] == "     " + "猫" * 37
    for text_line, digits in zip(page[3:-1:3], page[4::3], strict=False):
        if digits.startswith("0 f"):
            assert width(digits) == width(text_line)
    assert answer.err == "note: --text: 6 characters the model never saw, replaced\n"


def test_a_character_never_seen(charrnn, rows, trained):
    answer = charrnn("gates", trained, "--text", "the 犬")
    assert (answer.status, answer.out) == (4, "") and "'犬' (U+72AC" in answer.err and "character 5" in answer.err
    told = rows(trained, "--text", "the 犬", "--unknown", "replace", notes="note: .* 1 characters .*, replaced\n")
    assert told[-1]["symbol"] == "犬"
    assert told[-1]["values"] == rows(trained, "--text", "the  ")[-1]["values"]  # the space stands for it


@pytest.mark.parametrize("cell", ["rnn", "mogrifier", "grid", "clockwork", "slstm"])
def test_other_cells(charrnn, rows, corpus, cell):
    """Those without gates too, or with names as wide as the input; with bytes, of which some make half a character."""
    quick = ("--bytes", "--cell", cell, "--steps", 1, "--threads", 1, "-q", "--out", "own", *TINY)
    assert charrnn("train", corpus, *quick).status == 0
    told = rows("own", "--text", "Zoë", "--unit", "all")
    assert [row["symbol"] for row in told[::2]] == ["Z", "o", "", "ë"]
    model = Model.from_record(checkpoint.load(Path("own/best.pt"))[1]["model"])
    for row in told:
        assert list(row["values"]) == observe.quantities(model.stack[row["layer"]])
    answer = charrnn("gates", "own", "--text", "Zoë", "--unit", 23)
    assert (answer.status, answer.err) == (0, "") and too_wide(answer.out) == [] and "Zo·ë" in answer.out
    if cell == "mogrifier":  # the first layer's input is 8 wide
        assert rows("own", "--text", "Z", "--unit", 23)[0]["values"]["x"] is None
        assert re.search(r"^0 x +\?{4}$", answer.out, re.MULTILINE)


def test_what_is_no_number(charrnn, rows):
    model, vocabulary = Model("rnn", 256, 4, 8, 1, settings={"activation": "relu"}), Vocabulary.bytes()
    weights = {f"weights.{name}": np.full(shape, 3e38, np.float32) for name, shape in model.shapes().items()}
    checkpoint.save(Path("wild.pt"), weights, {"model": model.record(), "vocabulary": vocabulary.document})
    assert [row["values"] for row in rows("wild.pt", "--text", "ab")] == [{"h": None}] * 2
    answer = charrnn("gates", "wild.pt", "--text", "ab")
    assert (answer.status, answer.err) == (0, "") and "\n0 h  ??\n" in answer.out


def test_a_long_text_is_read_in_pieces(rows, trained):
    """Longer than what is read at a time; the places go on."""
    text = sentences(40, seed=8)
    Path("long.txt").write_bytes(text.encode())
    told = rows(trained, "long.txt", "--layer", 1, "--gate", "o", "--unit", 0)
    assert [row["index"] for row in told] == list(range(len(text))) and len(text) > 800
    assert "".join(row["symbol"] for row in told) == text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], ["TEXT", "--text"]),
        (["a.txt", "--text", "a"], ["TEXT", "--text", "one of them"]),
        (["--text", ""], ["--text ''"]),
        (["the fish"], ["TEXT the fish", "--text"]),
        (["--text", "a", "--layer", 2], ["--layer 2", "0 to 1"]),
        (["--text", "a", "--layer", -1], ["--layer -1", "0 to 1"]),
        (["--text", "a", "--gate", "ff"], ["--gate ff", "did you mean 'f'?", "i, f, g, o, c, h"]),
        (["--text", "a", "--unit", 24], ["--unit 24", "0 to 23"]),
        (["--text", "a", "--unit", "maen"], ["--unit maen", "did you mean 'mean'?"]),
        (["--text", "a", "--unit", "all"], ["--unit all", "--json"]),
        (["--text", "a", "--unit", 3, "--summary"], ["--unit 3", "--summary"]),
        (["--text", "a", "--unknown", "skip"], ["--unknown skip", "error or replace"]),
        (["--text", "a", "--encoding", "utf-88"], ["--encoding utf-88", "utf-8"]),
        (["folder"], ["TEXT folder", "2 files"]),
    ],
)
def test_what_cannot_be_meant(charrnn, trained, options, words):
    Path("folder").mkdir()
    for name in ("folder/a", "folder/b", "a.txt"):
        Path(name).write_text("the fish")
    answer = charrnn("gates", trained, *options)
    assert (answer.status, answer.out, answer.err.count("\n")) == (2, "", 1)
    assert answer.err.startswith(f"error: {words[0]}") and [word for word in words if word not in answer.err] == []


def test_bad_texts(charrnn, trained):
    Path("empty.txt").write_bytes(b"")
    Path("latin.txt").write_bytes("Zoë".encode("latin-1"))
    for name, words in (("empty.txt", "empty.txt: is empty"), ("latin.txt", "byte offset 2")):
        for options in ([], ["--summary"]):
            answer = charrnn("gates", trained, name, *options)
            assert (answer.status, answer.out, answer.err.count("\n")) == (4, "", 1) and words in answer.err
    answer = charrnn("gates", trained, "latin.txt", "--json")  # whose lines come as the text is read
    assert (answer.status, answer.out.count("\n"), answer.err.count("\n")) == (4, 4, 1)
    answer = charrnn("gates", trained, "latin.txt", "--encoding", "latin-1")
    assert (answer.status, answer.err) == (0, "") and "Zoë" in answer.out


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX pipes")
def test_a_reader_who_goes(trained):
    import subprocess

    Path("long.txt").write_bytes(sentences(60).encode())
    for options in ("", "--json"):
        script = f'set -o pipefail; "$0" -m charrnn gates "$1" long.txt {options} | head -n 1'
        done = subprocess.run(["bash", "-c", script, sys.executable, trained], capture_output=True, text=True)
        assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
