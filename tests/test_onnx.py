"""A second oracle, which shares no code with us either: onnxruntime's LSTM, GRU and RNN for the cells they can compute.

The operators know float32 only. They lay gates on top of each other as (out, in), keep with z in the GRU as we do, and
add two biases. A gate that a cell lacks, because it is always 1, is one whose bias is large and whose weights are 0.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from test_cells import B, arrays, cases, close, over, unrolled

from charrnn.engine import reference

onnx = pytest.importorskip("onnx", reason="onnx has no wheel here")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime has no wheel here")

OPEN = 100.0  # s(100) is 1 in float32
IDENTITY = {"activation_alpha": [1.0], "activation_beta": [0.0]}  # Affine: alpha a + beta


@dataclass(frozen=True)
class Operator:
    """An operator with its order of gates, the gates that are always 1, and its attributes."""

    name: str
    order: str
    attributes: dict
    open_gates: str = ""
    peepholes: bool = False


def lstm(open_gates="", peepholes=False, squash=("Tanh", "Tanh"), **more):
    """LSTM; `squash` is what is done to the candidate, and to the memory on its way out."""
    return Operator("LSTM", "iofg", {"activations": ["Sigmoid", *squash], **IDENTITY, **more}, open_gates, peepholes)


def gru(**more):
    return Operator("GRU", "zrn", more)


def rnn(activation):
    return Operator("RNN", "h", {"activations": [activation.capitalize()]})


EXPRESSED = {  # with the cell's settings
    "rnn": rnn,
    "gru": lambda: gru(linear_before_reset=1),
    "gru-cho": lambda: gru(linear_before_reset=0),
    "lstm": lstm,
    "lstm-1997": lambda: lstm("f"),
    "peephole": lambda: lstm(peepholes=True),
    "cifg": lambda peepholes: lstm(peepholes=bool(peepholes), input_forget=1),
    "np": lstm,
    "nig": lambda: lstm("i", peepholes=True),
    "nfg": lambda: lstm("f", peepholes=True),
    "nog": lambda: lstm("o", peepholes=True),
    "niaf": lambda: lstm(peepholes=True, squash=("Affine", "Tanh")),
    "noaf": lambda: lstm(peepholes=True, squash=("Tanh", "Affine")),
}


def inputs(case, kind, drawn):
    """The operator's inputs by name, in its order; what the cell does not have is 0."""
    start = {f"initial_{name}": drawn[f"state.{name}"][None] for name in case.cell().states}  # (1, B, n)

    def own(name, *shape):
        return drawn.get(name, np.zeros(shape))

    bias = [OPEN * np.ones(case.n) if gate in kind.open_gates else own(f"b.{gate}", case.n) for gate in kind.order]
    found = {
        "X": drawn["x"],
        "W": np.concatenate([own(f"W.{gate}", case.m, case.n).T for gate in kind.order])[None],  # (1, G n, m)
        "R": np.concatenate([own(f"U.{gate}", case.n, case.n).T for gate in kind.order])[None],  # (1, G n, n)
    }
    second = [own("v.n", case.n) if (kind.name, gate) == ("GRU", "n") else np.zeros(case.n) for gate in kind.order]
    found |= {"B": np.concatenate(bias + second)[None]} | start  # (1, 2 G n)
    if kind.peepholes:
        found["P"] = np.concatenate([own(f"v.{gate}", case.n) for gate in "iof"])[None]  # (1, 3 n)
    return {name: array.astype(np.float32) for name, array in found.items()}


def run(kind, given, n):
    """The operator on these inputs: all outputs Y (T, 1, B, n) and the last states (1, B, n)."""
    helper, kept = onnx.helper, ["Y", "Y_h", "Y_c"][: 3 if kind.name == "LSTM" else 2]
    names = list(given)
    names.insert(4, "")  # sequence_lens: all of one length
    node = helper.make_node(kind.name, names, kept, hidden_size=n, **kind.attributes)
    known = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, a.shape) for name, a in given.items()]
    made = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (1, B, n)) for name in kept]
    made[0] = helper.make_tensor_value_info("Y", onnx.TensorProto.FLOAT, (len(given["X"]), 1, B, n))
    graph = helper.make_graph([node], kind.name, known, made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(kept, given)


@over([case for case in cases() if case.name in EXPRESSED])
def test_onnxruntime_computes_the_same(case):
    kind, drawn = EXPRESSED[case.name](**dict(case.settings)), arrays(case, 7)
    y, *states = run(kind, inputs(case, kind, drawn), case.n)
    assert y.shape == (7, 1, B, case.n)
    theirs = {"up.h": y[:, 0]} | {f"state.{name}": a[0] for name, a in zip("hc", states, strict=False)}
    close(theirs, unrolled(reference, case.cell(), drawn, case.n), 1e-5, str(case))  # theirs is float32
