"""Training: stateful truncated backpropagation through time, evaluated, saved, and resumable to the bit.

Everything random is a function of the seed and the step; everything else that the future depends on is in
`Trainer.export` and `Counters`. So a run that was interrupted any number of times equals one that was not.
"""

import math
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
import torch.nn.functional as F

from . import checkpoint
from .config import Config, seconds
from .corpus import Corpus
from .engine import choose, on_numpy, on_torch  # noqa: F401  (both teach the operators their arrays)
from .ensemble import Ensemble
from .errors import Diverged, Interrupted
from .evaluate import LANES, score, zeros
from .model import Model, apart, tempered
from .noise import Noise
from .optim import Optimizer, schedule
from .plan import EPOCHS, STEPS
from .run import Run
from .stream import Stream

EVALUATIONS = 10  # in a run, where --eval-every does not say otherwise
ROWS = 100  # of the training loss in a run scheduled by steps; one scheduled by time has one every ROW_STEPS
ROW_STEPS = 50
EVALUATING = 0.05  # the share of a run by time that evaluations may take; where they would take more they are fewer
SAVE_SECONDS = 60.0
TOLERATED = 5  # updates in a row that may be skipped before the run rolls back
ROLLBACKS = 3
EXPLODED = 3.0  # a loss so many times that of a uniform guess counts as lost


@dataclass
class Counters:
    """Where a run stands."""

    step: int = 0
    elapsed: float = 0.0  # seconds spent so far, in all sessions
    evaluating: float = 0.0  # of them, in evaluations
    milestone: int = -1  # the last tenth of the run that was evaluated
    evaluated: int = -1  # the last step that was
    best_nats: float = math.inf
    best_step: int = 0
    stale: int = 0  # evaluations since the best
    loss_sum: float = 0.0  # over the updates since the last row
    loss_count: int = 0
    skipped: int = 0  # updates whose loss or gradient was not finite, in all
    in_a_row: int = 0
    rollbacks: int = 0
    rate_scale: float = 1.0  # halved at each rollback


class Trainer:
    """A model in training, or several of its kind side by side, each for itself (config.members): they read the same,
    but begin and are disturbed differently, and are scored as an ensemble (Lakshminarayanan, Pritzel & Blundell 2017).

    `say(kind, **what)` is told everything; `stop()` gives the signal that asks it to end.
    """

    def __init__(self, config: Config, model: Model, corpus: Corpus, stream: Stream, device: str, say, stop, preview):
        self.config, self.model, self.corpus, self.stream = config, model, corpus, stream
        self.whole = Ensemble([model] * config.members) if config.members > 1 else model  # what is scored
        self.device, self.say, self.stop, self.preview = torch.device(device), say, stop, preview
        self.counters, self._started = Counters(), None  # the clock runs only within train()
        self.seconds = seconds(config.time) if config.time else None
        self.steps = None if self.seconds else planned_steps(config, stream)

    # ---- where the numbers come from

    def begin(self, weights: dict[str, np.ndarray]) -> None:
        """Starts from these weights, those of the members `joined`."""
        self.weights = {k: torch.from_numpy(w.copy()).to(self.device).requires_grad_() for k, w in weights.items()}
        self.members = apart(self.weights, self.config.members)
        self.engine, self.run = self._chosen(self.stream.lanes, precision=self.config.precision)
        self.optimizer = Optimizer(self.weights, self.config.weight_decay, self.members, self.config.cautious)
        self.average = {k: w.detach().clone() for k, w in self.weights.items()} if self.config.ema else {}
        self.state = self._fresh()
        self.good, self._rate_clock = None, (time.monotonic(), 0)
        self._remember()

    def _chosen(self, lanes, **more):
        """The engine for so many lanes: its name, and what unrolls."""
        return choose(self.config.engine, self.model.stack[-1], self.members[0]["embedding"], lanes, **more)

    def export(self) -> dict[str, torch.Tensor]:
        """Everything but the counters that the next update depends on."""
        state = {f"state.{layer}.{name}": array for layer, own in enumerate(self.state) for name, array in own.items()}
        optimizer = {f"optimizer.{k}": v for k, v in self.optimizer.export().items()}
        average = {f"average.{k}": w for k, w in self.average.items()}
        return {f"weights.{k}": w.detach() for k, w in self.weights.items()} | average | optimizer | state

    def restore(self, tensors: dict[str, np.ndarray], counters: Counters) -> None:
        """Goes back to what `export` gave."""
        held = {name: torch.from_numpy(np.array(array)) for name, array in tensors.items()}
        with torch.no_grad():
            for kind, arrays in (("weights", self.weights), ("average", self.average)):
                for name, array in arrays.items():
                    array.copy_(held[f"{kind}.{name}"])
        prefix = "optimizer."
        self.optimizer.restore({k.removeprefix(prefix): v for k, v in held.items() if k.startswith(prefix)})
        for layer, own in enumerate(self.state):
            self.state[layer] = {name: held[f"state.{layer}.{name}"].to(self.device) for name in own}
        self.counters = counters

    def _fresh(self):
        like = self.members[0]["embedding"].detach()
        return self.whole.initial_state(zeros(like, self.stream.lanes, self.model.hidden))

    def _remember(self):
        """Keeps the present as the last good state, to roll back to."""
        arrays = {name: tensor.to("cpu", torch.float32, copy=True).numpy() for name, tensor in self.export().items()}
        self.good = arrays, Counters(**asdict(self.counters))

    # ---- the run

    def progress(self) -> float:
        """The share of the run that is done, from 0 to 1."""
        done = self._elapsed() / self.seconds if self.seconds else self.counters.step / self.steps
        return min(1.0, done)

    @property
    def parameters(self) -> int:
        """How many numbers are trained, of all members."""
        return self.config.members * sum(self.model.count().values())

    def finished(self) -> bool:
        patience = self.config.patience
        return self.progress() >= 1 or (patience is not None and self.counters.stale >= patience)

    def train(self, folder: Run, record: dict) -> dict[str, float]:
        """Trains to the end and returns the score of the best weights.

        Raises Interrupted, after saving, when asked to stop; Diverged when nothing helped.
        """
        self.folder, self.record = folder, record
        self._started = time.monotonic() - self.counters.elapsed
        self._saved, self._rate_clock = time.monotonic(), (time.monotonic(), self.counters.step)
        if not folder.last.exists():
            self.save()
        try:
            while True:
                if self._evaluation_due():
                    self._evaluate()
                if self.finished():
                    break
                if self._save_due():
                    self.save()
                self._stop_if_asked()
                self.update()
            self.save()
            return self._finish()
        except Interrupted:
            self.save()
            raise

    def _elapsed(self):
        return self.counters.elapsed if self._started is None else time.monotonic() - self._started

    def _stop_if_asked(self):
        if signal := self.stop():
            raise Interrupted(f"stopped at step {self.counters.step:,}, all saved", signal)

    def _evaluation_due(self):
        c = self.counters
        if c.evaluated == c.step:
            return False
        if self.config.eval_every and not self.finished():
            return c.step % self.config.eval_every == 0
        if self.seconds and not self.finished() and c.evaluating > EVALUATING * self._elapsed():
            return False
        return self.finished() or int(EVALUATIONS * self.progress()) > c.milestone

    def _save_due(self):
        if self.config.save_every:
            return self.counters.step % self.config.save_every == 0
        return self.counters.evaluated == self.counters.step or time.monotonic() - self._saved > SAVE_SECONDS

    def update(self) -> None:
        """One step of training: forward, backward, clip, AdamW; or none, where the numbers went bad."""
        c, config = self.counters, self.config
        x, y, fresh = self.stream.batch(c.step)
        x, y = (torch.from_numpy(a.astype(np.int64)).to(self.device) for a in (x, y))  # (T, B)
        if fresh:
            self.state = self._fresh()
        rate = config.lr * c.rate_scale * schedule(self.progress(), config.warmup)
        costs, state = self._learn(x, y)
        norm = self.optimizer.clip(config.clip)
        value = float(costs.mean())
        c.step += 1
        if math.isfinite(norm) and self._sound(float(costs.max())):
            self.optimizer.step(rate)
            self._follow()
            kind = self.members[0]["embedding"].dtype  # also where mixed precision made the state coarser
            self.state = [{name: array.detach().to(kind) for name, array in own.items()} for own in state]
            c.loss_sum, c.loss_count, c.in_a_row = c.loss_sum + value, c.loss_count + 1, 0
            self._row(rate, norm)
        else:
            self._skip(value, norm)
        self.optimizer.clear()

    def _follow(self):
        """Moves the average toward the weights, so that it is one over about the last share `ema` of the steps so far:
        a share and no number of them, so that it suits runs of any length (Karras et al. 2024, appendix C)."""
        nearer = 1 / (1 + self.config.ema * self.counters.step)
        for name, array in self.average.items():
            array.lerp_(self.weights[name].detach(), nearer)

    def _sound(self, nats):
        """Whether a loss is one that a model which learns can have."""
        return math.isfinite(nats) and nats < EXPLODED * math.log(self.model.symbols)

    def _learn(self, x, y):
        """The gradients of a batch; what it costs each member, in nats, under noise (M,), and the state after it."""
        costs, after = [], []
        states = zip(self.whole.states(self.state), self.whole.states(self._fresh()), strict=True)
        for number, (state, fresh) in enumerate(states):
            cost, new = self._cost(x, y, number, state, fresh)
            cost.backward()  # at once: what one member keeps for it need not wait for the others
            costs.append(cost.detach())
            after += new
        return torch.stack(costs), after

    def _cost(self, x, y, member, state, fresh):
        """The mean cost of a batch for a member in nats, under noise, and its state after it."""
        bfloat16 = self.config.precision == "bfloat16"
        noise = Noise(self.config, self.model, self.stream.lanes, self.device, self.counters.step, member)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
            p = self.model.bind(noise.weights(self.members[member]))
            logits, after = self.model.forward(p, x, noise.state(state, fresh), self.run, noise)
        return F.cross_entropy(logits.float().flatten(0, 1), y.flatten()), after

    def _skip(self, loss, norm):
        """Leaves the weights alone, forgets the state; too often in a row, goes back to the last good state."""
        c = self.counters
        c.skipped, c.in_a_row = c.skipped + 1, c.in_a_row + 1
        self.state = self._fresh()
        self._log("skip", loss=loss, grad_norm=norm, skipped=c.skipped)
        if c.in_a_row < TOLERATED:
            return
        if c.rollbacks == ROLLBACKS:
            raise Diverged(
                f"diverged at step {c.step:,} after {ROLLBACKS} attempts at a lower rate; "
                f"the best checkpoint, of step {c.best_step:,}, is kept; try --lr {self.config.lr * c.rate_scale / 4:g}"
            )
        arrays, past = self.good
        kept = {name: getattr(c, name) for name in ("elapsed", "evaluating", "best_nats", "best_step", "skipped")}
        again = {"rollbacks": c.rollbacks + 1, "rate_scale": c.rate_scale / 2}
        at = c.step
        self.restore(arrays, Counters(**asdict(past) | kept | again))
        self._log("rollback", at=at, rate_scale=self.counters.rate_scale)

    def _row(self, rate, norm):
        """A row of the training loss, now and then."""
        c = self.counters
        every = max(1, self.steps // ROWS) if self.steps else ROW_STEPS
        self.say("step", step=c.step, progress=self.progress(), elapsed=self._elapsed())
        if c.step % every:
            return
        nats = c.loss_sum / c.loss_count
        (then, step), now = self._rate_clock, time.monotonic()
        speed = (c.step - step) * self.stream.lanes * self.stream.length / max(now - then, 1e-9)
        self._rate_clock = now, c.step
        c.loss_sum, c.loss_count = 0.0, 0
        epoch = c.step / self.stream.steps_per_epoch
        self._log(
            "train", epoch=round(epoch, 4), nats=nats, bits=nats / math.log(2), perplexity=math.exp(nats),
            lr=rate, grad_norm=norm, chars_per_second=round(speed),
        )  # fmt: skip

    def _log(self, event, **what):
        row = {"event": event, "step": self.counters.step} | what | {"elapsed": round(self._elapsed(), 3)}
        self.folder.log("metrics", {name: _plain(value) for name, value in row.items()})
        self.say(**row)

    def _evaluate(self):
        """Scores the whole validation part; keeps the best weights, and this moment as a good one."""
        c, began = self.counters, time.monotonic()
        candidates = self._candidates()
        scored = {name: self._scored(weights) for name, weights in candidates.items()}
        chosen = min(scored, key=lambda name: scored[name]["nats"])
        result, weights = scored[chosen], candidates[chosen]
        sample = self._sample(weights) if self._sound(result["nats"]) else None
        c.evaluated, c.milestone = c.step, int(EVALUATIONS * self.progress())
        better = result["nats"] < c.best_nats
        c.stale = 0 if better else c.stale + 1
        if better:
            c.best_nats, c.best_step = result["nats"], c.step
            self.save_best(weights, result)
        both = {name: each["nats"] for name, each in scored.items()} if len(scored) > 1 else {}
        self._log("eval", **result, best=better, **both)
        if c.in_a_row == 0 and self._sound(scored["raw"]["nats"]):
            self._remember()
        if sample is not None:
            self.folder.log("samples", {"step": c.step, "text": sample})
            self.say("sample", step=c.step, text=sample)
        self._rate_clock = time.monotonic(), c.step
        c.evaluating += time.monotonic() - began

    def _candidates(self):
        """The weights that an evaluation chooses from: as they are and, once that is another thing, averaged; both with
        the temperature of the softmax in them (Guo, Pleiss, Sun & Weinberger 2017)."""
        found = {"raw": self.weights} | ({"averaged": self.average} if self.average and self.counters.step else {})
        return {name: tempered(weights, self.config.softmax_temperature) for name, weights in found.items()}

    def _scored(self, weights):
        part = self.corpus.part("val")
        return score(self.whole, weights, part, self._chosen(LANES)[1], LANES, between=self._stop_if_asked).summary()

    def _finish(self):
        """The best weights scored exactly, the validation part read once from end to end; best.pt keeps the result."""
        if not self.folder.best.exists():
            raise Diverged("no evaluation gave a number; there is no best checkpoint; try a lower --lr")
        tensors, _ = checkpoint.load(self.folder.best)
        weights = {k: torch.from_numpy(a).to(self.device) for k, a in checkpoint.weights(tensors).items()}
        part = self.corpus.part("val")
        scored = score(self.whole, weights, part, self._chosen(1, scoring=True)[1], between=self._stop_if_asked)
        result, step = scored.summary(), self.counters.best_step
        checkpoint.save(self.folder.best, tensors, self._record("best", result, step))
        detail = {"characters": len(scored.nats), "blocks": scored.blocks()}
        self.folder.log("metrics", {"event": "final", "step": step} | result | detail)
        return result

    def _sample(self, weights):
        if not self.config.sample_length:
            return None
        weights = {name: weight.detach().cpu().numpy() for name, weight in weights.items()}
        return self.preview(self.model, apart(weights, self.config.members), self.counters.step)

    # ---- what is kept

    def save_best(self, weights: dict[str, torch.Tensor], result: dict) -> None:
        arrays = {f"weights.{name}": weight.detach().cpu().numpy() for name, weight in weights.items()}
        checkpoint.save(self.folder.best, arrays, self._record("best", result))

    def save(self) -> None:
        """last.pt: the present, the last good state if that is another, the counters, the length of the logs."""
        self.counters.elapsed = self._elapsed()
        arrays = {name: tensor.float().cpu().numpy() for name, tensor in self.export().items()}
        good, past = self.good
        if past.step != self.counters.step:
            arrays |= {f"good.{name}": array for name, array in good.items()}
        extra = {"counters": _finite(asdict(self.counters)), "good": _finite(asdict(past))}
        checkpoint.save(self.folder.last, arrays, self._record("last", None) | extra | {"logs": self.folder.lengths()})
        self._saved = time.monotonic()

    def _record(self, kind, result, step=None):
        step = self.counters.step if step is None else step
        training = {"step": step, "epoch": step / self.stream.steps_per_epoch}
        record = self.record | {"kind": kind, "engine": self.engine, "result": result, "training": training}
        return record if kind == "last" else checkpoint.shareable(record)

    def resume(self, tensors: dict[str, np.ndarray], record: dict) -> None:
        """Goes on from the content of a last.pt, by the engine of before."""
        lanes, precision = self.stream.lanes, self.config.precision
        self.engine, self.run = self._chosen(lanes, precision=precision, before=record["engine"])
        counters, past = (Counters(**_infinite(record[name])) for name in ("counters", "good"))
        good = {k.removeprefix("good."): v for k, v in tensors.items() if k.startswith("good.")}
        present = {k: v for k, v in tensors.items() if not k.startswith("good.")}
        self.restore(present, counters)
        self.good = good or present, past
        counters.milestone = min(counters.milestone, int(EVALUATIONS * self.progress()))


def planned_steps(config: Config, stream: Stream) -> int:
    """How many steps a run has that is not scheduled by time."""
    if config.steps:
        return config.steps
    if config.epochs:
        return max(1, round(config.epochs * stream.steps_per_epoch))
    return min(STEPS, EPOCHS * stream.steps_per_epoch)


def step_seconds(trainer: Trainer) -> float:
    """How long one forward and backward pass takes here, from three of them; nothing of the run is touched."""
    x, y, _ = trainer.stream.batch(0)
    x, y = (torch.from_numpy(a.astype(np.int64)).to(trainer.device) for a in (x, y))
    times = []
    for _ in range(3):
        start = time.monotonic()
        trainer._learn(x, y)
        trainer.optimizer.clip(trainer.config.clip)  # needs the gradients, so that what a GPU still does is waited for
        times.append(time.monotonic() - start)
        trainer.optimizer.clear()
    return min(times)


def _plain(value):
    """A number as JSON has it: those that are not finite as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _finite(counters):
    return {name: None if value == math.inf else value for name, value in counters.items()}


def _infinite(counters):
    return {name: math.inf if value is None else value for name, value in counters.items()}
