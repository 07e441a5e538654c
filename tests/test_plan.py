"""The plan: what is chosen for a text and a length of training, that nothing typed is touched, and when it measures."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from conftest import sentences, too_wide
from hypothesis import given, settings
from hypothesis import strategies as st

from charrnn import checkpoint, train
from charrnn.cells import classes, make
from charrnn.cli import planning, session
from charrnn.config import PLANNED, Config, flag, read_toml
from charrnn.corpus import open_corpus
from charrnn.engine import products
from charrnn.model import Model
from charrnn.plan import MEMBERS, OFTEN, WIDTHS, Means, plan, reads, work

SHAKESPEARE = dict(characters=1_003_854, symbols=65)
TWO_CORES = 7e10  # multiplications a second, about, of a server of 2024
TYPED = dict(
    hidden=33,
    layers=1,
    members=3,
    batch_size=5,
    seq_len=9,
    lr=0.5,
    dropout=0.25,
    weight_drop=0.1,
    state_reset=0.2,
    softmax_temperature=1.3,
    cautious=False,
    precision="bfloat16",
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def chosen(typed=None, **means):
    """The settings of a run, those that were not typed as planned."""
    typed = typed or {}
    means = Means(**SHAKESPEARE | means)
    return Config(**typed | {choice.name: choice.value for choice in plan(typed, means)})


# ---- the function


def test_the_cost_of_a_character_is_the_weights_that_it_meets():
    """By hand, for an LSTM: 4 n (m + n) and 4 n biases in a layer; softmax n V + V; the embedding is a row."""
    model = Model("lstm", symbols=65, embed=64, hidden=256, layers=2)
    assert work(model) == 4 * 256 * (64 + 256 + 1) + 4 * 256 * (256 + 256 + 1) + (512 + 1) * 65


def test_what_a_run_reads():
    means = Means(**SHAKESPEARE, multiplications=1e9)
    cost = work(Model("lstm", symbols=65, embed=64, hidden=256, layers=2))
    for length, expected in (
        ({"steps": 7}, 7 * 32 * 64), ({"epochs": 2.5}, 2.5 * 1_003_854), ({"time": "1m40s"}, 1e11 / cost),
        ({"time": "1m40s", "members": 4}, 1e11 / cost / 4), ({"steps": 7, "members": 4}, 7 * 32 * 64),
        ({}, 5000 * 32 * 64),
    ):  # fmt: skip
        assert reads(Config(**length), means) == pytest.approx(expected)
    assert reads(Config(), Means(1000, 65)) == 60_000


@pytest.mark.parametrize("time", ["1m", "3m", "5m"])
def test_for_some_minutes_on_two_cores_it_is_what_is_known_to_be_good(time):
    config = chosen({"time": time}, multiplications=TWO_CORES, bfloat16=True)
    assert (config.layers, config.batch_size, config.seq_len, config.precision) == (2, 32, 64, "bfloat16")
    assert config.hidden in (256, 320, 384) and 3e-3 <= config.lr <= 4e-3 and config.dropout <= 0.1


def test_every_choice_has_a_reason_that_is_about_this_run():
    one, other = (
        {choice.name: choice.reason for choice in plan({}, Means(characters, 65))} for characters in (20_000, 10**7)
    )
    assert list(one) == list(other) and set(one) == set(PLANNED)
    assert all(len(reason) > 9 for reason in [*one.values(), *other.values()])
    assert all(one[name] != other[name] for name in ("hidden", "dropout", "batch_size"))


def test_a_gpu_reads_in_more_lanes_at_a_higher_rate():
    one, other = (chosen({"time": "5m", "hidden": 256}, multiplications=1e12, lanes=lanes) for lanes in (32, 128))
    assert (one.batch_size, other.batch_size) == (32, 128) and one.lr < other.lr <= 2 * one.lr
    choices = {c.name: c.reason for c in plan({"steps": 9}, Means(20_000, 65, lanes=128))}
    assert choices["batch_size"] == "fewer than 128, so that a pass over 20,000 characters has more steps"


lengths = st.sampled_from([{}, {"steps": 1}, {"steps": 10**6}, {"epochs": 0.1}, {"epochs": 900.0}])
lengths |= st.sampled_from([{"time": "1s"}, {"time": "1m"}, {"time": "30m"}, {"time": "900h"}])
means = st.builds(
    dict, characters=st.integers(64, 10**10), symbols=st.integers(2, 200_000), bfloat16=st.booleans(),
    multiplications=st.floats(1e6, 1e15), lanes=st.sampled_from([32, 128]),
)  # fmt: skip
some = st.sets(st.sampled_from(sorted(TYPED))).map(lambda names: {name: TYPED[name] for name in names})


@settings(derandomize=True, deadline=None, max_examples=100)
@given(length=lengths, means=means, typed=some)
def test_whatever_the_text_the_rest_is_planned_and_what_is_typed_is_taken(length, means, typed):
    choices = plan(typed | length, Means(**means))
    assert [choice.name for choice in choices if choice.name in typed] == []
    assert {choice.name for choice in choices} | typed.keys() == set(PLANNED)
    config = chosen(typed | length, **means)  # Config refuses what cannot be
    assert config.hidden in (*WIDTHS, typed.get("hidden"))
    assert choices == plan(typed | length, Means(**means))


@settings(derandomize=True, deadline=None, max_examples=50)
@given(characters=st.integers(1000, 10**8), speed=st.floats(1e8, 1e13))
def test_more_time_never_makes_a_model_smaller_and_a_faster_machine_is_more_time(characters, speed):
    def weights(time, multiplications):
        config = chosen({"time": time}, characters=characters, multiplications=multiplications)
        return config.members * config.hidden**2, config

    (few, _), (more, config), (most, _) = (weights(time, speed) for time in ("1m", "10m", "100m"))
    assert few <= more <= most
    assert config == replace(weights("1m", 10 * speed)[1], time="10m")


@settings(derandomize=True, deadline=None, max_examples=50)
@given(characters=st.integers(1000, 10**8), speed=st.floats(1e8, 1e13), width=st.sampled_from([None, 64, 256]))
def test_each_of_several_models_reads_the_text_often(characters, speed, width):
    """About as often as is asked for, since widths have steps; and where one more could do so, there is one more."""
    typed = {"time": "10m"} | ({"hidden": width} if width else {})
    means = Means(characters, 65, multiplications=speed)
    config = Config(**typed | {choice.name: choice.value for choice in plan(typed, means)})
    often = reads(config, means) / characters
    assert 1 <= config.members <= MEMBERS
    assert config.members == 1 or often >= OFTEN * (1 if width else 0.9)
    assert config.members == MEMBERS or often * config.members / (config.members + 1) < OFTEN * (1 if width else 3)


def test_several_models_only_where_a_time_is_given():
    assert chosen({"time": "30m"}, multiplications=TWO_CORES).members == MEMBERS
    assert [chosen(length).members for length in ({}, {"steps": 10**6}, {"epochs": 900})] == [1, 1, 1]
    assert chosen({"time": "1m"}, multiplications=TWO_CORES / 2).members == 1


def test_the_more_often_a_text_is_read_the_more_is_dropped():
    runs = [chosen({"epochs": epochs, "hidden": 256}) for epochs in (1.0, 9.5, 16.0, 25.0, 60.0, 140.0, 400.0)]
    assert [run.dropout for run in runs] == [0.0, 0.1, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert [run.weight_drop for run in runs] == [0.0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3]
    assert [run.state_reset for run in runs] == [0.0, 0.02, 0.02, 0.02, 0.02, 0.02, 0.02]
    assert [run.softmax_temperature for run in runs] == [1.0, 1.1, 1.15, 1.15, 1.2, 1.2, 1.2]


def test_of_several_models_fewer_weights_are_dropped_and_the_softmax_is_flattened_less():
    rates = {9.5: (0.1, 0.0), 16.0: (0.1, 0.0), 30.0: (0.2, 0.1), 80.0: (0.2, 0.2)}
    temperatures = {9.5: (1.1, 1.1), 16.0: (1.15, 1.1), 30.0: (1.2, 1.1), 80.0: (1.2, 1.15)}
    for epochs in rates:
        one, three = (chosen({"epochs": epochs, "hidden": 256, "members": members}) for members in (1, 3))
        assert (one.weight_drop, three.weight_drop) == rates[epochs]
        assert (one.softmax_temperature, three.softmax_temperature) == temperatures[epochs]
        own = {name: getattr(one, name) for name in ("members", "weight_drop", "softmax_temperature")}
        assert one == replace(three, **own)


def test_the_more_weights_there_are_for_a_character_the_more_is_dropped():
    rates = [chosen({"epochs": 12.0, "hidden": hidden}).dropout for hidden in (64, 256, 1024)]
    assert rates == sorted(set(rates))
    assert chosen({"cell": "sru", "epochs": 400.0}).weight_drop == 0  # it has no recurrent matrix


def test_a_text_bounds_the_model_whatever_the_time():
    widths = [chosen({"time": "99h"}, characters=n, multiplications=1e12).hidden for n in (20_000, 200_000, 2_000_000)]
    assert widths == sorted(set(widths)) and widths[0] <= 256


def test_many_symbols_leave_less_time_for_the_layers():
    few, many = (
        chosen({"time": "1m"}, characters=10**7, symbols=symbols, multiplications=TWO_CORES) for symbols in (65, 5000)
    )
    assert many.hidden < few.hidden


def test_what_is_typed_decides_the_rest():
    assert chosen({"hidden": 1024}).lr < chosen({"hidden": 256}).lr
    assert chosen({"steps": 5000, "batch_size": 64}).dropout > chosen({"steps": 5000}).dropout


@pytest.mark.parametrize("name", classes())
def test_every_cell_is_planned(name):
    config = chosen({"cell": name, "time": "5m"}, multiplications=1e9)
    make(name).check(config.hidden)


# ---- precision


@pytest.mark.parametrize(
    ("can", "does"),
    [
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"avx512_bf16": False, "avx2": True}, False),
        ({}, False),
    ],
)
def test_whether_a_processor_multiplies_in_bfloat16(monkeypatch, can, does):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can, raising=False)
    assert products.in_bfloat16() is does
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # an older torch cannot tell
    assert not products.in_bfloat16()


@pytest.mark.parametrize("does", [True, False])
@pytest.mark.parametrize(
    ("options", "known"),
    [
        ((), True), (("--cell", "gru", "--engine", "generic"), True), (("--cell", "mingru", "--engine", "scan"), True),
        (("--cell", "gru"), True), (("--zoneout", 0.1), True), (("--engine", "compiled"), True),
        (("--engine", "reference"), False), (("--engine", "native", "--cell", "gru"), False),
    ],
)  # fmt: skip
def test_it_is_chosen_where_it_is_known_to_be_faster(charrnn, corpus, monkeypatch, options, known, does):
    monkeypatch.setattr(products, "in_bfloat16", lambda: does)
    planned = json.loads(charrnn("plan", corpus, "--device", "cpu", "--json", *options).out)
    assert planned["config"]["precision"] == ("bfloat16" if known and does else "float32")


# ---- the measuring


def test_what_is_measured_is_the_quickest_step(monkeypatch):
    """Steps of 3, 2, 2.5 seconds, on a clock that they move on."""
    clock, took = [100.0], iter([3.0, 2.0, 2.5, 9.0])

    def step(trainer):
        assert trainer.stream.lanes == 4
        clock[0] += (took_now := next(took))
        return took_now

    monkeypatch.setattr(planning.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(train, "step_seconds", step)
    model = Model("gru", symbols=9, embed=3, hidden=5, layers=1)
    config = Config(cell="gru", embed=3, hidden=5, layers=1, batch_size=4, seq_len=6)
    assert planning.multiplications(config, model, "cpu", 7.0) == pytest.approx(work(model) * 4 * 6 / 2.0)
    assert next(took) == 9.0


@pytest.mark.parametrize(("typed", "hidden", "lanes"), [({}, 512, 128), ({"hidden": 64, "batch_size": 16}, 64, 16)])
def test_a_gpu_is_measured_with_what_it_will_have_to_do(typed, hidden, lanes, monkeypatch, corpus):
    """A wide model, many lanes and noise; no GPU is there, so another tensor stands for those on it."""
    measured = []

    def multiplications(config, model, device):
        measured.append((model.hidden, config.batch_size, config.dropout, config.weight_drop, device))
        return 1e12

    monkeypatch.setattr(session, "_device", lambda name: "cuda")
    monkeypatch.setattr(torch, "zeros", lambda size, device: torch.ones(size))
    monkeypatch.setattr(planning, "multiplications", multiplications)
    text = open_corpus([corpus], [], corpus.parent / "cache")
    config, _ = planning.planned({"time": "1m", "cell": "minlstm"} | typed, text)
    assert measured == [(hidden, lanes, 0.1, 0.1, "cuda")]
    assert (config.weight_drop, config.precision, config.batch_size) == (0.0, "float32", typed.get("batch_size", 8))


@pytest.fixture
def probe(monkeypatch):
    """Stands in for the measuring, and keeps what was to be measured."""
    asked = []

    def measured(config, model, device):
        asked.append(model)
        return 1e9

    monkeypatch.setattr(planning, "multiplications", measured)
    return asked


@pytest.mark.parametrize("length", [(), ("--steps", 9), ("--epochs", 2)])
def test_without_a_time_nothing_is_measured_and_the_plan_is_always_the_same(charrnn, corpus, probe, length):
    answers = {charrnn("plan", corpus, "--json", *length) for _ in range(3)}
    assert len(answers) == 1 and probe == []


def test_with_a_time_the_cell_that_was_typed_is_measured(charrnn, corpus, probe):
    assert charrnn("plan", corpus, "--time", "5m", "--cell", "gru", "--hidden", 48, "--json").status == 0
    assert [(model.cell, model.hidden) for model in probe] == [("gru", 48)]


# ---- the command, and train


def test_the_plan_for_a_person_and_for_a_script(charrnn, corpus):
    told = charrnn("plan", corpus, "--dropout", 0.15)
    answer = json.loads(charrnn("plan", corpus, "--dropout", 0.15, "--json").out)
    assert (told.status, told.err) == (0, "") and told.out.startswith("plan")
    names = [choice["name"] for choice in answer["choices"]]
    assert names == [name for name in PLANNED if name != "dropout"]
    for choice in answer["choices"]:
        value = "" if choice["value"] is True else f" {choice['value']}"
        row = next(row for row in told.out.splitlines() if flag(choice["name"]) + value in row)
        assert row.rstrip().endswith(f": {choice['reason']}")
        assert answer["config"][choice["name"]] == choice["value"]
    assert answer["config"]["dropout"] == 0.15
    assert (answer["characters"], answer["symbols"]) == (
        len(corpus.read_text()) * 9 // 10,
        len(set(corpus.read_text())),
    )


def test_on_a_terminal_the_plan_fits_it(process, corpus):
    """rich folds what is too wide for one; FORCE_COLOR makes it take a pipe for a terminal."""
    told = process("plan", corpus, FORCE_COLOR="1", COLUMNS="80").stdout.decode()
    assert "bfloat16" in told and too_wide(told) == []


def test_train_does_what_the_plan_says_and_keeps_it(charrnn, corpus):
    typed = ("--steps", 2, "--sample-length", 0, "--hidden", 16, "--seed", 3)
    answer = json.loads(charrnn("plan", corpus, "--json", *typed[:2], *typed[4:]).out)
    trained = charrnn("train", corpus, "--out", "run", *typed)
    assert trained.status == 0
    record = checkpoint.load(Path("run/best.pt"))[1]
    assert record["config"] == answer["config"] | {"sample_length": 0}
    assert read_toml(Path("run/config.toml")).items() <= record["config"].items()
    assert f"--lr {answer['config']['lr']}: for 16 units" in " ".join(trained.err.split())


def test_a_run_that_goes_on_is_not_planned_again(charrnn, corpus, monkeypatch):
    assert charrnn("train", corpus, "--out", "run", "--steps", 2, "--hidden", 16, "-q").status == 0
    before = checkpoint.load(Path("run/last.pt"))[1]["config"]
    monkeypatch.setattr("charrnn.plan.plan", None)
    resumed = charrnn("train", "--resume", "run", "--steps", 400_000 // 100_000)
    assert resumed.status == 0 and "--lr" not in resumed.err
    assert checkpoint.load(Path("run/last.pt"))[1]["config"] == before | {"steps": 4}


@pytest.mark.parametrize("length", [(), ("--time", "1m")])
@pytest.mark.parametrize(
    "text",
    [
        "".join(map(chr, range(0x4E00, 0x4E00 + 5000))) * 2,
        "\n".join(sentences(900).split()),
        "ab" * 40,
        sentences(4),
    ],
    ids=["5000 symbols", "a word a line", "two symbols", "four lines"],
)
def test_any_text_can_be_planned(charrnn, text, length, probe):
    Path("text.txt").write_text(text, encoding="utf-8")
    answer = charrnn("plan", "text.txt", "--json", *length)
    assert (answer.status, answer.err) == (0, "")
    assert json.loads(answer.out)["symbols"] == len(set(text))


def test_what_is_wrong_is_said_before_anything_is_planned(charrnn, corpus):
    for arguments, said in (
        (["plan"], "CORPUS: name a text"),
        (["plan", "absent.txt"], "absent.txt"),
        (["plan", corpus, "--cell", "lstn"], "did you mean 'lstm'?"),
        (["plan", corpus, "--time", "soon"], "--time soon"),
        (["plan", corpus, "--steps", 5, "--time", "5m"], "give one of"),
    ):
        answer = charrnn(*arguments)
        assert (answer.status, answer.out) == (2, "") and said in answer.err
    Path("empty.txt").touch()
    assert charrnn("plan", "empty.txt").status == 4


def test_choices_are_plain_data():
    assert json.loads(json.dumps([asdict(choice) for choice in plan({}, Means(1000, 9))]))
