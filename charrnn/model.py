"""The model: embedding, a stack of recurrent layers and what stands around them, skips from every layer to the softmax.

`forward` is written once and runs on torch tensors over whole sequences (training, evaluation), on numpy arrays one
step at a time (sampling), and on anything else that a cell's `step` runs on. A model is plain data (`Model`) and its
weights are a plain dict of arrays by name: `embedding`, `layers.0.U.f`, `head.W`, `norms.0.gain`, `attention.W`.
"""

from dataclasses import asdict, dataclass, field
from functools import cached_property

import numpy as np

from . import cells
from .cells.base import Names, affine, attend, constant, join, normalise, remember, take
from .cells.trace import parameters, trace
from .cells.zoneout import Zoneout
from .engine import bind
from .errors import UsageError


class Quiet:
    """What is done to a model in evaluation and sampling: nothing. noise.Noise is what training does."""

    def input(self, x):
        """What enters the first layer of the embeddings x (T, B, D)."""
        return x

    def zoneout(self, layer, x):
        """What cells.Zoneout is told beside what comes from below, of a layer with the input x (T, B, m)."""
        return {}

    def output(self, layer, y):
        """What goes up and what the softmax sees of the output y (T, B, n) of a layer."""
        return y, y


QUIET = Quiet()


@dataclass(frozen=True)
class Model:
    """What a model is made of. V symbols, embeddings of D, `layers` layers of n units, attention over N positions."""

    cell: str
    symbols: int
    embed: int
    hidden: int
    layers: int
    skips: bool = True
    settings: dict = field(default_factory=dict)
    zoneout: float = 0.0
    residual: bool = False
    norm: bool = False
    attention: int = 0

    def __post_init__(self):
        for name in ("embed", "hidden", "layers"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} {getattr(self, name)}: must be at least 1")
        cells.make(self.cell, self.settings).check(self.hidden)

    @classmethod
    def from_record(cls, record: dict) -> "Model":
        return cls(**record)

    def record(self) -> dict:
        return asdict(self)

    @cached_property
    def stack(self):
        """The cell of each layer."""
        cell = cells.make(self.cell, self.settings)
        stack = [cell.at(layer) for layer in range(self.layers)]
        return [Zoneout(cell, self.zoneout) for cell in stack] if self.zoneout else stack

    def widths(self) -> list[int]:
        """The width of what enters each layer."""
        return [self.embed] + [self.hidden] * (self.layers - 1)

    @cached_property
    def passes(self) -> list[bool]:
        """For each layer, whether what enters it passes by and is added to what it gives (He et al. 2016)."""
        return [self.residual and m == self.hidden for m in self.widths()]

    @cached_property
    def recurrent(self) -> set[str]:
        """The names of the matrices that a state passes through on its way to the next."""
        stages = [(layer, stage) for layer, cell in enumerate(self.stack) for stage in trace(cell).stages]
        return {f"layers.{layer}.U.{name}" for layer, stage in stages for name in stage}

    def layer_shapes(self) -> list[dict]:
        """For each layer, the shapes of its arrays by name."""
        return [parameters(cell, m, self.hidden) for cell, m in zip(self.stack, self.widths(), strict=True)]

    def shapes(self) -> dict[str, tuple]:
        """Name and shape of every trained array."""
        shapes = {"embedding": (self.symbols, self.embed)}
        for layer, own in enumerate(self.layer_shapes()):
            shapes |= {f"layers.{layer}.{name}": shape for name, shape in own.items()}
        top = self.hidden * (self.layers if self.skips else 1)
        shapes |= {"head.W": (top, self.symbols), "head.b": (self.symbols,)}
        for layer in range(self.layers) if self.norm else ():
            shapes |= {f"norms.{layer}.gain": (self.hidden,), f"norms.{layer}.bias": (self.hidden,)}
        if self.attention:
            shapes |= {"attention.W": (self.hidden, self.hidden)} | {f"attention.{v}": (self.hidden,) for v in "bkv"}
        return shapes

    def count(self) -> dict[str, int]:
        """The number of trained parameters of each part; what a mask hides does not count."""
        around = ["norms"] * self.norm + ["attention"] * bool(self.attention)
        counts = dict.fromkeys(["embedding", *(f"layer {layer}" for layer in range(self.layers)), *around, "head"], 0)
        for name, shape in self.shapes().items():
            part, *rest = name.split(".", 2)
            size = int(np.prod(shape))
            if part == "layers":
                part, own = f"layer {rest[0]}", rest[1]
                size = mask_count(self.stack[int(rest[0])], own, self.hidden, size)
            counts[part] += size
        return counts

    @property
    def forget_biases(self) -> list[str]:
        """The names of the biases of forget gates f; of cells without, a vector f that they start themselves."""
        kinds = [".b.f"] + [".v.f"] * ("v.f" in self.stack[-1].init)
        return [name for name in self.shapes() if name.endswith(tuple(kinds))]

    def initial_weights(
        self,
        random: np.random.Generator,
        unigram: np.ndarray,
        orthogonal: bool = True,
        forget_bias: float | None = None,
    ) -> dict[str, np.ndarray]:
        """Fresh weights (float32): recurrent matrices orthogonal (Saxe et al. 2014) or, as those of inputs, uniform
        within 1/sqrt(m), embeddings normal, gains 1, the softmax bias at the log-frequencies `unigram` (V,), forget
        gates where the cell says or, with a `forget_bias`, there."""
        weights = {}
        for name, shape in self.shapes().items():
            family = name.rsplit(".", 2)[-2] if "." in name else name
            weights[name] = _draw("W" if family == "U" and not orthogonal else family, shape, random)
        for layer, cell in enumerate(self.stack):
            for name, start in cell.init.items():
                target = weights[f"layers.{layer}.{name}"]
                target[...] = random.uniform(*start, target.shape) if isinstance(start, tuple) else start
            if self.norm:
                weights[f"norms.{layer}.gain"][...] = 1
        for name in self.forget_biases if forget_bias is not None else ():
            weights[name][...] = forget_bias
        if self.attention:
            weights["attention.k"][...] = 1
        weights["head.b"][...] = np.log(unigram)
        return weights

    @property
    def carried(self) -> int:
        """How many parts the state has: one for each layer, and one for the memory of the attention."""
        return self.layers + bool(self.attention)

    def initial_state(self, zeros) -> list[dict]:
        """The state before the first character, of each layer and then of the attention; zeros() makes zeros (B, n)."""
        state = [{name: zeros() + cell.initial().get(name, 0.0) for name in cell.states} for cell in self.stack]
        if self.attention:
            nothing = constant(zeros(), np.zeros((self.attention, self.hidden + 1)))
            state.append({"memory": zeros()[:, :1, None] + nothing})  # (B, N, n + 1)
        return state

    @staticmethod
    def states(state: list[dict]) -> list[list[dict]]:
        """The state of each member, as Ensemble.states: a model is the only one."""
        return [state]

    def bind(self, weights: dict) -> Names:
        """The weights, flat by name, as `forward` uses them."""
        layers, norms = [], []
        for layer, own in enumerate(self.layer_shapes()):
            arrays = {name: weights[f"layers.{layer}.{name}"] for name in own}
            layers.append(bind(self.stack[layer], arrays, self.hidden))
            if self.norm:
                norms.append(Names(gain=weights[f"norms.{layer}.gain"], bias=weights[f"norms.{layer}.bias"]))
        attention = Names(**{name: weights[f"attention.{name}"] for name in ("Wbkv" if self.attention else "")})
        W, b = weights["head.W"], weights["head.b"]
        return Names(embedding=weights["embedding"], layers=layers, norms=norms, attention=attention, W=W, b=b)

    def forward(self, p: Names, ids, state: list[dict], run, noise: Quiet = QUIET):
        """The logits of the next symbol: ids (T, B) -> (T, B, V), and the state after the last of them.

        `run` is an engine's unroll, or reference.step with ids (B,); `noise` is that of a training step.
        """
        x = take(p.embedding, ids)  # (T, B, D)
        x = noise.input(x)
        below, tops, after = {}, [], []
        for layer, cell in enumerate(self.stack):
            up, new = run(cell, p.layers[layer], x, below | noise.zoneout(layer, x), state[layer])
            y = up[cell.ups[0]]  # (T, B, n)
            if self.norm:
                y = normalise(y) * p.norms[layer].gain + p.norms[layer].bias
            if self.attention and layer == self.layers - 1:
                y, memory = _attended(p.attention, y, state[self.layers]["memory"])
            rising, seen = noise.output(layer, y)
            if self.passes[layer]:
                rising, seen = x + rising, x + seen
            x, below = rising, {name: up[name] for name in cell.ups[1:]}
            tops.append(seen)
            after.append(new)
        if self.attention:
            after.append({"memory": memory})
        top = join(*tops) if self.skips else seen
        return affine(top, p.W, p.b), after


def _attended(p, y, memory):
    """The outputs y (.., B, n) of the top layer with what one head finds in them and the N before, and the new memory.

    After the single-headed attention of Merity 2019, Stop Thinking With Your Head: rows are normalised outputs, only
    the query has a matrix. Each sees what came before it in the text and no position: m = norm(y), q = k norm(m W + b),
    y + v sum_j softmax_j(q m_j / sqrt(n)) m_j. v starts at 0: a model begins as it would without.
    """
    m = normalise(y)
    query = normalise(m @ p.W + p.b) * p.k
    return y + attend(query, m, memory) * p.v, remember(memory, m)


def joined(members: list[dict]) -> dict:
    """The weights of several models as those of one: `0.embedding`, .., `1.head.b`; of one alone as they are."""
    if len(members) == 1:
        return members[0]
    return {f"{number}.{name}": array for number, own in enumerate(members) for name, array in own.items()}


def apart(weights: dict, members: int) -> list[dict]:
    """The weights of each of the models that were `joined`."""
    if members == 1:
        return [weights]
    found = [{} for _ in range(members)]
    for name, array in weights.items():
        number, own = name.split(".", 1)
        found[int(number)][own] = array
    return found


def tempered(weights: dict, temperature: float) -> dict:
    """The weights of one model or several with all their logits divided by a temperature."""
    heads = ("head.W", "head.b")
    return {name: array / temperature if name.endswith(heads) else array for name, array in weights.items()}


def rounded(weights: dict) -> dict:
    """The weights of one model or several with all matrices but the embedding rounded to 8 bits: in each column they
    are whole numbers, up to 127, times a number."""
    return {name: _rounded(array) if _is_matrix(name, array) else array for name, array in weights.items()}


def _is_matrix(name, array):
    return array.ndim > 1 and not name.endswith("embedding")


def _rounded(matrix):
    largest = np.abs(matrix).max(-2, keepdims=True)
    step = np.where(largest > 0, largest, 1) / 127
    return (np.rint(matrix / step) * step).astype(matrix.dtype)


def mask_count(cell, name, n, size):
    """How many of an array's `size` numbers are there once the cell's mask is laid over it."""
    mask = cell.masks(n).get(name)
    return size if mask is None else int(np.sum(mask(np.arange(n)[:, None], np.arange(n)[None, :])))


def _draw(family, shape, random):
    """A fresh array of one family: W, U, b, v of a cell, the embedding, or those of the head or the attention."""
    if family == "U":
        return _orthogonal(shape, random)
    if family == "embedding":
        return random.normal(0.0, 1.0, shape).astype(np.float32)
    if family in ("W", "head", "attention") and len(shape) > 1:
        bound = shape[-2] ** -0.5
        return random.uniform(-bound, bound, shape).astype(np.float32)
    return np.zeros(shape, np.float32)


def _orthogonal(shape, random):
    *blocks, a, b = shape
    normal = random.normal(0.0, 1.0, (*blocks, max(a, b), min(a, b)))
    q, r = np.linalg.qr(normal)
    q = q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]
    return np.ascontiguousarray(q if a >= b else q.swapaxes(-1, -2), dtype=np.float32)
