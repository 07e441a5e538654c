"""Sampling: one step of the model and one pick per character, for any length, in constant memory, without torch.

Each stream draws from a generator of its own, so that what a seed draws does not depend on the streams beside it. The
first characters are drawn by calls of numpy, which can begin at once; when these have taken as long as it takes to make
code for the processor, such code goes on (`engine.loop`), where there is any.
"""

import math
import time
from dataclasses import dataclass
from functools import reduce
from itertools import islice
from operator import add

import numpy as np

from .cells.trace import Symbol
from .engine import machine, reference
from .engine.program import Program, leaves
from .model import Model
from .stream import draws
from .threads import threads

COLDEST = 1e-30  # a temperature under which nothing changes but that numbers overflow
DRAWN = 1024  # uniform numbers that a stream draws at a time
CALLS = 750_000  # multiplications that take as long as the calls of numpy for a step
PATIENCE = 8_000_000_000  # multiplications that take longer than code to be made: .3 s
SHORT, WARM, ALONE = 4, 3, 8  # how much shorter a trial is than a call; of one thread; calls between those of several
SORTED = 1000  # symbols from which on numpy finds the likeliest of them faster, by sorting


@dataclass(frozen=True)
class Picking:
    """How a symbol is picked from the logits. Temperature 0 takes the likeliest; top_k 0, top_p 1 and min_p 0 keep all.

    min_p keeps symbols at least that share as likely as the likeliest (Nguyen et al. 2024), top_p the likeliest ones
    that together reach that probability (Holtzman et al. 2020).
    """

    temperature: float = 0.8
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """What is drawn from: logits (B, V) -> probabilities (B, V), float64."""
        weights = self.weights(logits)
        return weights / weights.sum(-1, keepdims=True)

    def weights(self, logits: np.ndarray) -> np.ndarray:
        """The probabilities times a number for each stream, which drawing does not need to know."""
        if self.temperature == 0:
            return np.eye(logits.shape[-1])[logits.argmax(-1)]
        below = logits - np.maximum.reduce(logits, -1, keepdims=True)
        p = np.exp(np.divide(below, max(self.temperature, COLDEST), dtype=np.float64))
        if self.min_p:
            p[p < self.min_p * p.max(-1, keepdims=True)] = 0
        if self.top_k or self.top_p < 1:
            p = self._likeliest(p)
        return p

    def _likeliest(self, p):
        """Only the top_k likeliest, and of them only those that reach top_p together."""
        order = np.argsort(-p, axis=-1, kind="stable")
        ranked = np.take_along_axis(p, order, -1)
        if self.top_k:
            ranked[:, self.top_k :] = 0
        if self.top_p < 1:
            before = ranked.cumsum(-1) - ranked  # how much the likelier ones have together
            ranked[before >= self.top_p * ranked.sum(-1, keepdims=True)] = 0
        kept = np.empty_like(p)
        np.put_along_axis(kept, order, ranked, -1)
        return kept


class Sampler:
    """Models of the same symbols, each with its weights (numpy arrays by name), ready to be sampled on a CPU.

    The logits of several are averaged, as in ensemble.Ensemble; their state is that of all their layers.
    """

    def __init__(self, members: list[tuple[Model, dict]]):
        self.members, self.programs = [(model, model.bind(weights)) for model, weights in members], {}
        self.numbers = sum(array.size for _, own in members for array in own.values() if array.ndim > 1)

    def start(self) -> list[dict]:
        """The state before the first symbol, for one stream."""
        return [
            layer
            for model, _ in self.members
            for layer in model.initial_state(lambda width=model.hidden: np.zeros((1, width), np.float32))
        ]

    def step(self, ids: np.ndarray, state: list[dict]) -> tuple[np.ndarray, list[dict]]:
        """One symbol for each stream: ids (B,) -> logits (B, V) of the next, and the state.

        Both stand in buffers that the next step for as many streams overwrites.
        """
        if len(ids) not in self.programs:
            program, start = self.program(len(ids)), self.start()
            arrays = iter(program.state)
            self.programs[len(ids)] = program, [{name: next(arrays) for name in own} for own in start]
        program, own = self.programs[len(ids)]
        if state is not own:
            for mine, given in zip(own, state, strict=True):
                for name, array in given.items():
                    mine[name][...] = array
        return program.run(ids), own

    def patience(self, lanes: int) -> int:
        """After how many steps of so many streams code is made for them."""
        return max(1, PATIENCE // (CALLS + self.numbers * lanes))

    def loop(self, logits: np.ndarray, state: list[dict]):
        """What goes on from logits and a state by code for the processor; None where there is none."""
        if machine.trouble():
            return None
        from .engine.loop import Loop, refuses  # by way of llvmlite, which need not be there

        program, _ = self.programs[len(logits)]
        if refuses(program):
            return None
        loop = Loop(self.program, len(logits), threads())  # on which nothing depends that is drawn
        loop.begin(logits, [array for own in state for array in own.values()])
        del self.programs[len(logits)]
        return loop

    def program(self, lanes: int) -> Program:
        """The step of all models for so many streams."""
        fixed, ids, expected, states, shapes = {}, Symbol("leaf", "ids"), [], [], []
        layers = iter(self.start())
        for model, p in self.members:
            start = list(islice(layers, model.carried))
            before = [{name: Symbol("leaf", name) for name in own} for own in start]
            logits, after = model.forward(leaves(p, fixed), ids, before, reference.step)
            expected.append(logits)
            states += [(before[layer][name], own[name]) for layer, own in enumerate(after) for name in own]
            shapes += [array.shape[1:] for own in start for array in own.values()]
        mean = reduce(add, expected) / len(expected) if len(expected) > 1 else expected[0]
        return Program(mean, states, ids, fixed, shapes, lanes)


def generate(sampler, prompt: np.ndarray, picking: Picking, seed: int, streams: range, forbidden: int | None = None):
    """Yields the next symbol of every stream, (B,), without end; the prompt (N,), N >= 1, is not repeated.

    `sampler` has what Sampler has; stream k draws the same numbers whatever the others are. The symbol `forbidden` is
    never picked.
    """
    state = sampler.start()
    for symbol in prompt:
        logits, state = sampler.step(np.array([symbol]), state)
    state = [{name: np.repeat(array, len(streams), axis=0) for name, array in own.items()} for own in state]
    logits = np.repeat(logits, len(streams), axis=0)  # (B, V)
    generators = [draws(seed, "sample", k) for k in streams]
    drawn = lambda steps: np.stack([generator.random(steps) for generator in generators], axis=-1)  # noqa: E731  (T, B)
    sorts = picking.top_p < 1 and logits.shape[-1] > SORTED
    left, loop = math.inf if sorts else sampler.patience(len(streams)), None
    while loop is None:
        for u in drawn(min(DRAWN, left)):
            if forbidden is not None:
                logits[:, forbidden] = -np.inf
            ids = _pick(picking.weights(logits), u)
            yield ids
            logits, state = sampler.step(ids, state)
            left -= 1
        if not left:
            loop = sampler.loop(logits, state)
            left = math.inf
    rule = picking.temperature, picking.top_k, picking.top_p, picking.min_p, forbidden
    yield from _several(loop, lambda steps, threads: loop.draw(drawn(steps), threads, *rule))


def _several(loop, draw):
    """What draw(steps, threads) gives, without end: on several threads as long as those are faster than one, which they
    are not where others use the processors too."""

    def timed(steps, threads):
        start = time.perf_counter()
        found = draw(steps, threads)
        return found, (time.perf_counter() - start) / steps

    short, alone = -(-loop.chunk // SHORT), math.inf
    for _ in range(WARM):
        found, each = timed(short, 1)
        alone = min(alone, each)
        yield from found
    steps = short
    while True:
        found, each = timed(steps, loop.most)
        yield from found
        steps = loop.chunk
        if each > alone:
            for _ in range(ALONE):
                found, alone = timed(loop.chunk, 1)
                yield from found
            steps = short


def _pick(weights, u):
    """The symbol at the share u (B,), below 1, of the cumulated weights (B, V)."""
    sums, end = np.add.accumulate(weights, -1), weights.shape[-1]
    if len(u) == 1:  # one call is the faster for a row, counting for several
        found = sums[0].searchsorted(u * sums[0, -1:], "right")
    else:
        found = (sums <= u[:, None] * sums[:, -1:]).sum(-1)
    if end in found:  # rounding reached the very end: the last symbol that can come
        return np.minimum(found, end - 1 - (weights[:, ::-1] > 0).argmax(-1))
    return found


def opening(vocabulary, seed: int) -> np.ndarray:
    """What a sample without a prompt starts from: a line break (the start of a line), else a symbol drawn at random."""
    if "\n" in vocabulary.symbols:
        return np.array([vocabulary.symbols.index("\n")])
    return draws(seed, "opening").integers(len(vocabulary), size=1)


class Text:
    """The text of one stream as it grows: decoded, cut after `length` symbols or after one of the `stops`."""

    def __init__(self, vocabulary, length: int | None, stops: list[str]):
        self.decode, self.left, self.stops = vocabulary.decoder(), length, stops
        self.tail, self.done = "", length == 0
        self.reach = max((len(stop) for stop in stops), default=0)

    def add(self, symbol: int) -> str:
        """What the symbol adds to the text; sets `done` when it was the last."""
        if self.done:
            return ""
        if self.left is not None:
            self.left -= 1
            self.done = self.left == 0
        new = self.decode([symbol], self.done)
        if self.stops and new:
            self.tail = (self.tail + new)[-self.reach - len(new) :]
            if any(self.tail.endswith(stop) for stop in self.stops):
                self.done = True
        return new
