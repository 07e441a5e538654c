"""A program as code for the processor: a symbol is picked and the step goes on from it, as often as is asked for.

The operations and their order are the program's; what it calls numpy for stands here in one function. Lanes go through
it by blocks, each in a thread. A single lane of many weights is shared out among threads: each computes some of the
rows of every product, and all of the rest for itself, so that they wait for each other at products only.
"""

import os
from functools import partial

import numpy as np
from llvmlite import ir

from ..machine import processor
from ..machine.code import Code
from ..machine.threads import at_once
from .step import Step, aligned

FEW = 3  # lanes for each thread that are faster one by one than side by side
SHARED = 1 << 18  # numbers in matrices from which on one more thread shares a lane
MOST_THREADS = 8  # that share one
COLDEST = 1e-300  # a temperature at which any difference of two floats is beyond all exponents
AHEAD = 1_000_000_000  # multiplications of what is drawn in one call: some hundredths of a second
MOST = 1024  # steps in one call


def refuses(program) -> str:
    """Which operations of a program there is no code for, in words; an empty string where there is for all."""
    names = {each.name for each in program.operations} - {"@", "normalise"}
    return ", ".join(sorted(name for name in names if not Code.knows(name)))


class Loop:
    """Draws for so many lanes by the step that `program(lanes)` makes, on up to so many threads.

    Whatever their number, the symbols are the same. `most` is how many may share a single lane.
    """

    def __init__(self, program, lanes: int, threads: int):
        self.lanes, self.threads = lanes, threads
        few = -(-lanes // threads) <= FEW
        self.kind = processor.kind_alone() if few else processor.kind_for(lanes, threads)
        program, module = program(self.kind.lanes), ir.Module()
        states = [array[0] if self.kind.alone else array.T for array in program.state]
        self.ends = [program.output, *states]  # logits and states as the program has them, lanes last
        sizes = [each.arguments[0].size for each in program.operations if each.name == "@"]
        numbers, meets = sum(sizes), lanes == 1 and len(sizes) > 1 and hasattr(os, "sched_yield")
        self.most = min(threads, MOST_THREADS, 1 + numbers // SHARED) if meets else 1
        self.chunk = max(1, min(MOST, AHEAD // max(1, numbers * lanes)))
        self.step = Step(module, program, self.kind, self.most > 1)
        self.function = processor.Compiled(module).function("draw", *self.step.signature)
        self.arenas = [aligned(self.step.size) for _ in range(-(-lanes // self.kind.lanes))]
        self.others = [aligned(self.step.size) for _ in range(self.most - 1)]  # of threads that share a lane
        self.shared, self.meeting = aligned(self.step.shared), np.zeros(1, np.int64)

    def begin(self, logits: np.ndarray, state: list[np.ndarray]) -> None:
        """Goes on from logits (B, V) and a state, (B, n) each, in the order of the program's."""
        size = self.kind.lanes
        for own, given in zip(self.ends, [logits, *state], strict=True):
            for k, arena in enumerate(self.arenas):
                lanes = given[k * size : (k + 1) * size].T
                self.step.part_of(arena, own)[:, : lanes.shape[1]] = lanes

    def draw(self, uniform, parts: int, temperature: float, top_k: int, top_p: float, min_p: float, forbidden):
        """The next symbols (T, B), of as many steps as there are numbers (T, B) between 0 and 1, on `parts` threads.

        They are picked as by sample.Picking; the one that is `forbidden`, if any, is not.
        """
        steps, wide = len(uniform), len(self.arenas) * self.kind.lanes
        numbers, found = np.zeros((steps, wide)), np.empty((steps, wide), np.int64)
        if temperature:
            numbers[:, : self.lanes] = uniform
        else:  # the likeliest, which is the first that then has any weight
            temperature = COLDEST
        settings = np.array([temperature, min_p, top_p, np.inf])
        whole = parts, min(top_k, self.step.symbols), -1 if forbidden is None else forbidden
        self.meeting[0] = 0

        def call(part, arena, first, found):
            return partial(self._run, (steps, wide, part, *whole), arena, settings, first, numbers, found)

        calls = [call(0, arena, k * self.kind.lanes, found) for k, arena in enumerate(self.arenas)]
        if parts > 1:
            again = np.empty_like(found)  # each thread picks for itself
            for part, arena in enumerate(self.others[: parts - 1], 1):
                arena[...] = self.arenas[0]
                calls.append(call(part, arena, 0, again))
            at_once(calls, self._release)
        else:
            groups = [calls[k :: self.threads] for k in range(min(self.threads, len(calls)))]
            at_once([partial(_in_turn, group) for group in groups])
        return found[:, : self.lanes]

    def _run(self, integers, arena, settings, first, numbers, found):
        """One block of lanes, which begins with the lane `first`."""
        places = [array.ctypes.data for array in (arena, self.shared, self.meeting, settings)]
        self.function(*integers, *places, *(array.ctypes.data + 8 * first for array in (numbers, found)))

    def _release(self):
        """Nobody waits any more; what is drawn then is of no use."""
        self.meeting[0] = 1 << 62


def _in_turn(calls):
    for call in calls:
        call()
