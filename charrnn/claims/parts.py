"""The parts of the set: commands of charrnn, each of which a person can also run alone, and what they answer.

Nothing here is computed but the sizes of the texts. `--quick` trains smaller models for less, on fewer sizes, at one
rate.
"""

import shlex
from dataclasses import dataclass

from ..errors import DataError

LARGEST = 1_000_000  # characters to train on, at most
LEAST = 20_000  # without which sizes tell nothing
WHOLE_SIZES, QUICK_SIZES = (16, 8, 4, 2, 1), (16, 4, 1)  # the text is divided by
SEEDS = 3
VARIANTS = "lstm,peephole,cifg,nig,nfg,nog,niaf,noaf,fgr,mgu,mut1"  # the study of Greff et al. 2015, and later ones
COUNTERS = "lstm,peephole,np,nog,gru,rnn,cifg,janet,mingru"
MEMORIES = "rnn,gru,lstm,lstm:forget_bias=0,lstm:forget_bias=log-uniform"
RATES = ("--lrs", "2e-3,4e-3,8e-3")


@dataclass(frozen=True)
class Part:
    """A command that answers with JSON; `folder` is where it leaves what it has in the folder of all parts."""

    name: str
    title: str
    arguments: list[str]
    seconds: float  # that it takes, about; of them the shares of the bar are made
    rows: int = 0  # that its rows.jsonl will have, where it keeps such

    @property
    def command(self) -> str:
        """What a person types."""
        return shlex.join(["charrnn", *self.arguments])


def parts(quick: bool, corpus: list[str], length: int, folder: str) -> list[Part]:
    """The parts for a text whose training part has so many characters; DataError where they are too few."""
    if length < LEAST:
        raise DataError(f"{corpus[0]}: its training part has {length:,} characters; at least {LEAST:,} are needed")
    small = ["--layers", "1", "--hidden", "96" if quick else "128"]
    more = [] if quick else RATES
    steps = ["--steps", "150" if quick else "2000"]
    sizes = [min(length, LARGEST) // by for by in (QUICK_SIZES if quick else WHOLE_SIZES)]
    variants, tried = ("lstm,peephole,cifg", 0) if quick else (VARIANTS, RATES[1].count(",") + 1)

    def compare(name, title, seconds, cells, *given, seeds=SEEDS, lines=1, tried=0):
        asked = ["--cells", cells, "--seeds", str(seeds), *small, *given]
        rows = (seeds + tried) * lines * (cells.count(",") + 1)
        where = ["--out", f"{folder}/{name}", "--json", "-q"]
        return Part(name, title, ["compare", *corpus, *asked, *where], seconds, rows)

    width = ["--match", "hidden", "--steps", "100"]
    data = [*steps, *more, "--sizes", ",".join(map(str, sizes))]
    return [
        compare("width", "cost at equal width", 60 if quick else 300, "lstm,gru", *width, seeds=SEEDS if quick else 5),
        compare("data", "accuracy by data", 200 if quick else 4000, "lstm,gru", *data, lines=len(sizes), tried=tried),
        compare("variants", "variants", 110 if quick else 12_000, variants, *steps, *more, tried=tried),
        *_probes(quick, corpus, folder),
    ]


def _probes(quick, corpus, folder):
    """The parts that train small models on synthetic tasks, and those that look at gradients on the text."""
    fast = ["--quick"] if quick else []

    def probe(name, title, seconds, cells, rows, *given):
        arguments = ["probe", name, "--cells", cells, "--seeds", str(SEEDS), *fast, *given]
        return Part(name, title, [*arguments, "--out", f"{folder}/{name}", "--json", "-q"], seconds, rows)

    yield probe(
        "recall", "recall over distractors", 100 if quick else 3000, MEMORIES, 30 if quick else 105,
        *(["--gaps", "16,64"] if quick else []),
    )  # fmt: skip
    yield probe(
        "count", "counting beyond what was seen", 90 if quick else 3000, "rnn,gru,lstm" if quick else COUNTERS,
        9 if quick else 54,
    )  # fmt: skip
    size = ["--layers", "1", "--hidden", "64" if quick else "128", "--steps", "150" if quick else "2000"]
    for seed in range(1, SEEDS + 1):
        where = ["--out", f"{folder}/gradient-{seed}", "--overwrite", "--json", "-q"]
        asked = ["probe", "gradient", corpus[0], "--cells", "rnn,gru,lstm", *size, "--seed", str(seed)]
        title = f"gradients by lag, seed {seed}"
        yield Part(f"gradient-{seed}", title, [*asked, *where], 20 if quick else 300)
