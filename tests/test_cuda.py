"""A GPU: every engine on it against the reference on the CPU, the commands, and runs that are the same bit for bit.

Where torch sees no CUDA device all of it is skipped.
"""

import json
import signal

import pytest
import torch
from conftest import TINY
from test_cells import arrays, cases, close, gradients, over, tensors, unrolled

from charrnn import checkpoint
from charrnn.cli.session import Stop
from charrnn.config import Config
from charrnn.engine import generic, native, reference, scan
from charrnn.model import Model
from charrnn.noise import Noise

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here")
ENGINES = {"native": native, "scan": scan, "generic": generic, "reference": reference}
NOISE = (
    "--dropout", 0.3, "--state-reset", 0.2, "--dropout-input", 0.2, "--ema", 0.1, "--cautious", "--members", 2,
)  # fmt: skip


def runs(case):
    like = torch.zeros(1, dtype=torch.float64, device="cuda")
    return [name for name, engine in ENGINES.items() if not engine.refuses(case.cell(), like)]


@over(cases())
def test_every_engine_equals_the_reference(case):
    drawn = tensors(arrays(case, 7), gradients=True)
    law = unrolled(reference, case.cell(), drawn, case.n)
    slopes = gradients(law, drawn)
    there = {name: a.detach().to("cuda").requires_grad_(a.requires_grad) for name, a in drawn.items()}
    assert runs(case)
    for name in runs(case):
        mine = {key: a.cpu() for key, a in unrolled(ENGINES[name], case.cell(), there, case.n).items()}
        close({k: a.detach() for k, a in mine.items()}, {k: a.detach() for k, a in law.items()}, 1e-10, name)
        close({k: a.cpu() for k, a in gradients(mine, there).items()}, slopes, 1e-10, name)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_cuda(charrnn, corpus, precision):
    given = ("--steps", 5, "--eval-every", 5, "-q", *TINY)
    for device in ("cpu", "cuda"):
        chosen = precision if device == "cuda" else "float32"
        answer = charrnn("train", corpus, "--device", device, "--precision", chosen, "--out", device, *given)
        assert (answer.status, answer.err) == (0, "")
    rows = {
        device: [json.loads(line) for line in (corpus.parent / device / "metrics.jsonl").read_text().splitlines()]
        for device in ("cpu", "cuda")
    }
    near = 2e-2 if precision == "bfloat16" else 2e-3  # bfloat16 has eight bits; cuDNN's float32 products have eleven
    for a, b in zip(rows["cpu"], rows["cuda"], strict=True):
        assert (a["event"], a["step"]) == (b["event"], b["step"])
        assert a["nats"] == pytest.approx(b["nats"], abs=near)
    assert charrnn("sample", "cuda", "-n", 20).status == 0
    scored = json.loads(charrnn("eval", "cuda", "--device", "cpu", "--json").out)
    assert scored["nats"] == pytest.approx(rows["cuda"][-1]["nats"], abs=near)
    for device, other in (("cuda", "cpu"), ("cpu", "cuda")):
        answer = charrnn("train", "--resume", device, "--device", other, "--steps", 8, "-q")
        assert (answer.status, answer.out) == (0, f"{device}/best.pt\n")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn", "mgu", "mogrifier", "minlstm"])
def test_a_run_that_is_stopped_goes_on_as_if_it_had_not_been(cell, precision, charrnn, corpus, monkeypatch):
    """The same numbers in every array, of two runs and of one in two sessions."""
    dropped = ("--weight-drop", 0.3) if cell != "minlstm" else ()  # which has no recurrent matrix
    kind = ("--cell", cell, "--precision", precision, "--device", "cuda", *NOISE, *dropped, *TINY)
    given = (*kind, "--steps", 12, "--eval-every", 4, "-q")
    for name in ("whole", "again"):
        assert charrnn("train", corpus, "--out", name, *given).status == 0
    looks = iter(range(10**9))
    monkeypatch.setattr(Stop, "signal", lambda stop: signal.SIGINT if next(looks) >= 12 else None)
    assert charrnn("train", corpus, "--out", "parts", *given).status == 130
    monkeypatch.undo()
    monkeypatch.chdir(corpus.parent)
    assert charrnn("train", "--resume", "parts", "-q").status == 0
    whole, again, parts = (checkpoint.load(corpus.parent / name / "last.pt")[0] for name in ("whole", "again", "parts"))
    for other in (again, parts):
        assert sorted(key for key in whole if whole[key].tobytes() != other[key].tobytes()) == []


@pytest.mark.parametrize("cell", ["lstm", "mgu", "minlstm"])
def test_scores_are_the_same_as_on_the_cpu(cell, charrnn, corpus):
    given = ("--cell", cell, "--steps", 20, "--members", 2, *TINY)
    assert charrnn("train", corpus, "--out", "run", "-q", *given).status == 0
    for options in ((), ("--windows", 16), ("--dynamic", "--dynamic-rate", 0.001), ("--ensemble", "run")):
        here, there = (
            json.loads(charrnn("eval", "run", "--device", device, "--json", *options).out)["nats"]
            for device in ("cpu", "cuda")
        )
        assert there == pytest.approx(here, abs=2e-3), options


def test_a_gpu_draws_its_own_noise():
    """Another at each step, of each purpose and member, and the same again; of the rate that is asked for."""
    model = Model("lstm", symbols=9, embed=8, hidden=200, layers=1)
    config = Config(hidden=200, layers=1, dropout=0.3, weight_drop=0.2)
    weights = {name: torch.ones(shape, device="cuda") for name, shape in model.shapes().items()}

    def drawn(step, member):
        noise = Noise(config, model, 64, torch.device("cuda"), step, member)
        return [noise.weights(weights)["layers.0.U.f"], noise.weights(weights)["layers.0.U.i"], noise.masks[0.3][0]]

    first, again, later, other = (drawn(*which) for which in ((3, 0), (3, 0), (4, 0), (3, 1)))
    for a, b, *rest in zip(first, again, later, other, strict=True):
        assert a.is_cuda and torch.equal(a, b) and not any(torch.equal(a, c) for c in rest)
    assert not torch.equal(first[0], first[1])
    assert [float((a == 0).float().mean()) for a in first] == pytest.approx([0.2, 0.2, 0.3], abs=0.02)
    assert [float(a.mean()) for a in first] == pytest.approx([1, 1, 1], abs=0.03)


def test_what_is_planned_for_a_gpu(charrnn, corpus):
    choices = json.loads(charrnn("plan", corpus, "--time", "20s", "--device", "cuda", "--json").out)["choices"]
    reasons = {choice["name"]: choice["reason"] for choice in choices}
    assert "fewer than 128" in reasons["batch_size"]
