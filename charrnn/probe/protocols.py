"""The probes: what each trains on, what it measures, and what was foretold of it before it was ever run.

Nothing here is computed: names, numbers and predictions, which help and usage errors read too.
"""

from dataclasses import dataclass, replace

from ..errors import UsageError, nearest
from .verdict import Prediction

RIGHT = 0.9  # the share of right answers at which a gap counts as bridged
FAR = 16  # characters between brackets from which on they are far apart
TESTED = 256 / 50  # times the numbers seen in training, up to which counting is tested
BEYOND, SOON = 2.0, 1.5  # times the numbers seen: who gets to the first counts, who fails before the second does not
COUNTING = ("lstm", "peephole", "np", "nog")  # said to count (Weiss, Goldberg & Yahav 2018, of their kind)
NOT_COUNTING = ("gru", "rnn", "cifg", "janet", "mingru")


@dataclass(frozen=True)
class Protocol:
    """One probe; gaps and updates as they are without --quick, and with it."""

    name: str
    task: str
    title: str
    question: str
    measure: str
    source: str
    predictions: tuple[Prediction, ...]
    gaps: tuple[int, ...]
    quick_gaps: tuple[int, ...]
    unit: str  # of a gap, in a heading
    updates: int = 1500
    quick_updates: int = 1500
    lrs: tuple[float, ...] = (0.003, 0.01, 0.001)  # in the order in which they are tried
    quick_lrs: tuple[float, ...] = (0.003,)
    scorer: str = "reached"  # the function of `measures` that makes the measure of the rows of a cell and seed
    stops: bool = True  # as soon as it is solved
    attention: tuple[Prediction, ...] = ()  # instead, of models that look back
    one_gap: bool = False
    least: int = 1  # gap that shows what is to be measured

    @property
    def sign(self) -> str:
        """The measure in a word."""
        return self.measure.split(",")[0]

    def foretold(self, gap: int, attention: int) -> tuple[Prediction, ...]:
        """The predictions; those of counting are in numbers seen in training, of which `gap` is the greatest."""
        chosen = self.attention if attention and self.attention else self.predictions
        if self.scorer != "counted":
            return chosen
        return tuple(replace(each, low=_times(each.low, gap), high=_times(each.high, gap)) for each in chosen)

    def most(self, gaps: tuple[int, ...]) -> float:
        """The most that the measure can be."""
        return {"reached": max(gaps), "counted": tested(max(gaps)), "far": 1.0}[self.scorer]


def _times(share, gap):
    return None if share is None else share * gap


def tested(gap: int) -> int:
    """Up to which number counting is tested that was learned up to `gap`."""
    return round(gap * TESTED)


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "recall", "recall",
            "How long a symbol is kept over distractors.",
            "Over how many distractors can a symbol be recalled?",
            "H90, the longest gap with 90 % right",
            "Bengio, Simard & Frasconi 1994; Hochreiter & Schmidhuber 1997",
            (
                Prediction("rnn", 10, 30), Prediction("gru", 64), Prediction("lstm", 64),
                Prediction("lstm", 8, over="lstm:forget_bias=0"),  # Jozefowicz, Zaremba & Sutskever 2015
                Prediction("lstm:forget_bias=log-uniform", 8, over="lstm"),  # Tallec & Ollivier 2018
            ),
            (8, 16, 24, 32, 64, 128, 256), (8, 16, 32, 64), "distractors", quick_updates=1200,
        ),
        Protocol(
            "copy", "copy",
            "How long a wait ten symbols outlast.",
            "After how long a wait can ten symbols be copied?",
            "H90, the longest wait with 90 % of the ten right",
            "Arjovsky, Shah & Bengio 2016, where the LSTM stays at the baseline from T = 100 on",
            (Prediction("rnn", high=10), Prediction("gru", high=50), Prediction("lstm", high=50)),
            (5, 10, 25, 50, 100), (5, 10), "wait", quick_updates=500, lrs=(0.003, 0.01), quick_lrs=(0.01,),
        ),
        Protocol(
            "order", "order",
            "In which order two marks came that lie far apart.",
            "In lines of what length is the order of two marks told?",
            "H90, the longest line with 90 % right",
            "Hochreiter & Schmidhuber 1997, task 6a, where the first LSTM solves lines of 100",
            (Prediction("rnn", high=50), *(Prediction(cell, 100) for cell in ("gru", "lstm", "lstm-1997"))),
            (20, 50, 100, 200), (20, 50, 100), "length",
        ),
        Protocol(
            "count", "count",
            "Whether as many b follow as there were a, beyond the numbers seen.",
            "Up to which number is a^n b^n right, where training ended at 50?",
            "N, all n up to which are right",
            "Weiss, Goldberg & Yahav 2018, On the Practical Computational Power of Finite Precision RNNs",
            (*(Prediction(cell, BEYOND) for cell in COUNTING), *(Prediction(cell, high=SOON) for cell in NOT_COUNTING)),
            (50,), (50,), "numbers seen", lrs=(0.003, 0.01), quick_lrs=(0.01,), scorer="counted",
            quick_updates=800, stops=False, one_gap=True,
        ),
        Protocol(
            "brackets", "brackets",
            "Whether the kind of a closing bracket is known, by distance and depth.",
            "Is the kind of a bracket known when it is to be closed?",
            f"far, the share right at distances of {FAR} and more",
            "Karpathy, Johnson & Fei-Fei 2015 (cells that track quotes and brackets); Hewitt et al. 2020",
            (Prediction("gru", 0.8), Prediction("lstm", 0.8), Prediction("gru", 0.05, over="rnn"),
             Prediction("lstm", 0.05, over="rnn")),
            (64,), (64,), "length", quick_updates=600, lrs=(0.003, 0.01), quick_lrs=(0.01,), scorer="far", one_gap=True,
            least=2 * FAR,
        ),
        Protocol(
            "recall-pairs", "pairs",
            "The digit that came with a letter; with --attention N or without.",
            "Among how many characters of pairs is the digit of a letter found?",
            "H90, the longest pairs with 90 % right",
            "Ba et al. 2016, Using Fast Weights to Attend to the Recent Past; Arora et al. 2023, Zoology",
            (Prediction("rnn", high=4), Prediction("gru", high=8), Prediction("lstm", high=8)),
            (2, 4, 8, 16, 32), (4, 8, 16), "characters",
            quick_updates=600, lrs=(0.003, 0.01), quick_lrs=(0.01,),
            attention=(Prediction("rnn", 16), Prediction("gru", 16), Prediction("lstm", 16)),
        ),
    )
}  # fmt: skip


def protocol(name: str) -> Protocol:
    """A probe by name; UsageError names the nearest where there is none such."""
    if name not in PROTOCOLS:
        raise UsageError(f"PROBE {name}: no such probe{nearest(name, PROTOCOLS)}; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
