"""A small model trained on one task and tested on it: what a probe does over and over."""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ..engine import choose, on_torch  # noqa: F401  (the operators on tensors)
from ..evaluate import zeros
from ..model import Model
from ..optim import Optimizer
from ..stream import draws
from ..tasks.lines import Batch, Count, make
from .protocols import PROTOCOLS, tested
from .settings import LONG, Job, contender

BATCH = 64  # lines of an update
EMBED = 8  # numbers that a symbol is; few, so that a line is no noise of many units
CLIP = 1.0  # greatest norm of the gradient
EVERY = 25  # updates between two looks at how far it has come
HELD = 256  # lines that are looked at then
SOLVED = 0.99  # the share of them that must be all right for training to end
TESTED = 1024  # lines of the test
ROW = {
    "probe": "its name", "cell": "as typed, with its settings", "gap": "how far or how long, as the task counts it",
    "seed": "of weights and lines", "lr": "learning rate, the same all the way", "hidden": "units",
    "updates": "at most", "attention": "past outputs that the model sees; 0 for none",
    "status": "done, or diverged where the loss was no number any more", "made": "updates made",
    "solved": "whether training ended because more than 99 % of held-out lines were all right",
    "held": "nats that what is predicted in held-out lines costs, mean; the rate is chosen by it",
    "nats": "the same on the test", "accuracy": "share right of what is asked for in the test",
    "lines": "share of the test's lines in which all that is asked for is right",
    "parts": "by a number that tells answers apart: [right, asked]; distances and such by powers of two",
    "parameters": "trained numbers", "engine": "what unrolled the cell", "seconds": "taken",
}  # fmt: skip
KEY = tuple(ROW)[:8]  # what tells the rows of a folder apart: all that was asked for


@dataclass
class Learner:
    """A model with its weights on its way."""

    job: Job

    def __post_init__(self):
        who = contender(self.job.cell)
        self.protocol = PROTOCOLS[self.job.probe]
        self.task = make(self.protocol.task, self.job.gap)
        symbols, job = len(self.task.kind.symbols), self.job
        self.model = Model(who.cell, symbols, EMBED, job.hidden, 1, True, who.settings, attention=job.attention)
        weights = self.model.initial_weights(draws(job.seed, "weights"), np.full(symbols, 1 / symbols))
        if who.forget_bias is not None:
            remember(weights, who.forget_bias, job)
        self.weights = {name: torch.from_numpy(array).requires_grad_() for name, array in weights.items()}
        self.engine, self.run = choose("auto", self.model.stack[-1], self.weights["embedding"])
        self.optimizer = Optimizer(self.weights, 0.0)

    def logits(self, batch: Batch) -> torch.Tensor:
        """What the model expects after each character of a batch, from a fresh state: (T, B, V)."""
        state = self.model.initial_state(
            zeros(self.weights["embedding"].detach(), batch.inputs.shape[1], self.job.hidden)
        )
        return self.model.forward(self.model.bind(self.weights), torch.from_numpy(batch.inputs), state, self.run)[0]

    def cost(self, batch: Batch, logits: torch.Tensor) -> torch.Tensor:
        """The mean cost, in nats, of what is to be predicted."""
        counts = torch.from_numpy(batch.counts)
        return F.cross_entropy(logits[counts], torch.from_numpy(batch.targets)[counts])

    def update(self, number: int) -> bool:
        """One update; False, and the weights as they were, where the gradient is no number."""
        batch = self.task.batch(draws(self.job.seed, f"train {self.job.probe}", number), BATCH)
        loss = self.cost(batch, self.logits(batch))
        loss.backward()
        sound = math.isfinite(self.optimizer.clip(CLIP)) and math.isfinite(float(loss.detach()))
        if sound:
            self.optimizer.step(self.job.lr)
        self.optimizer.clear()
        return sound

    def copy(self) -> dict[str, torch.Tensor]:
        """The weights as they are now."""
        return {name: weight.detach().clone() for name, weight in self.weights.items()}

    @torch.no_grad()
    def look(self, batch: Batch) -> tuple[float, np.ndarray]:
        """The cost of a batch in nats, and what of that which is asked for is wrong, (T, B)."""
        logits = self.logits(batch)
        return float(self.cost(batch, logits)), (logits.argmax(-1).numpy() != batch.targets) & batch.asked


def remember(weights: dict[str, np.ndarray], start: str, job: Job) -> None:
    """Lets the forget gate start at a bias, or at biases whose memories last from 1 to `gap` characters, as many of
    each order of length, with input gates shut as far as they are open (Tallec & Ollivier 2018)."""
    forget = weights["layers.0.b.f"]
    if start != LONG:
        forget[...] = float(start)
        return
    forget[...] = np.log(draws(job.seed, "forget bias").uniform(1.0, max(2.0, job.gap), forget.shape))
    if "layers.0.b.i" in weights:
        weights["layers.0.b.i"][...] = -forget


def measure(job: Job, stop=lambda: None) -> dict:
    """Trains one model until its task is solved or its updates are made, and tests it: a row. `stop` is called between
    updates and may raise."""
    before, started = torch.get_num_threads(), time.monotonic()
    torch.set_num_threads(1)  # models so small gain nothing by more
    try:
        learner = Learner(job)
        made, solved, held = _trained(learner, stop)
        done = held is not None
        row = job.record() | {"status": "done" if done else "diverged", "made": made, "solved": solved, "held": held}
        row |= _tested(learner) if done else {}
    finally:
        torch.set_num_threads(before)
    row |= {"parameters": sum(learner.model.count().values()), "engine": learner.engine}
    return dict.fromkeys(ROW) | row | {"seconds": round(time.monotonic() - started, 3)}


def _trained(learner, stop):
    """Updates made, whether the task was solved, and what held-out lines cost: None where training diverged.

    The learner has the weights then with which they cost least.
    """
    job = learner.job
    held_out = learner.task.batch(draws(job.seed, f"held {job.probe}"), HELD)
    least, best, solved = math.inf, None, False
    for number in range(1, job.updates + 1):
        stop()
        if not learner.update(number):
            return number, False, None
        if number % EVERY == 0 or number == job.updates:
            nats, wrong = learner.look(held_out)
            if nats < least:
                least, best = nats, learner.copy()
                solved = bool((~wrong.any(0)).mean() > SOLVED)
            if solved and learner.protocol.stops:
                break
    if best is None:
        return number, False, None
    learner.weights = best
    return number, solved, least


def _tested(learner):
    """What a row says of the test."""
    nats, counts, right, asked, lines, parts = 0.0, 0, 0, 0, [], {}
    for batch in _tests(learner):
        cost, wrong = learner.look(batch)
        nats, counts = nats + cost * batch.counts.sum(), counts + batch.counts.sum()
        right, asked = right + int((batch.asked & ~wrong).sum()), asked + int(batch.asked.sum())
        lines.append(~wrong.any(0))
        for name, values in batch.kinds.items():
            _part(parts.setdefault(name, {}), values[batch.asked], wrong[batch.asked], name != "n")
    share = float(np.concatenate(lines).mean())
    return {"nats": float(nats / counts), "accuracy": right / asked, "lines": share, "parts": parts}


def _tests(learner):
    """The lines of the test, in batches: as they come, or of counting each number up to the last."""
    job, task = learner.job, learner.task
    if task.name == "count":
        more = Count(tested(job.gap))
        numbers = np.arange(1, more.gap + 1)
        return [more.of(more.written(some)) for some in np.array_split(numbers, -(-len(numbers) // HELD))]
    return [task.batch(draws(job.seed, f"test {job.probe}", number), HELD) for number in range(TESTED // HELD)]


def _part(found, values, wrong, octaves):
    """Adds answers to {value: [right, asked]}; of octaves each is told by its first value."""
    if octaves:
        values = 1 << np.frexp(values)[1] - 1
    for value in np.unique(values):
        here = found.setdefault(str(value), [0, 0])
        here[0] += int((~wrong[values == value]).sum())
        here[1] += int((values == value).sum())
