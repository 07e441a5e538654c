"""The parts of the set: commands of charrnn, each of which a person can also run alone, and what they answer.

Nothing here is computed but the sizes of the texts. `--quick` trains smaller models for less, on fewer sizes, at one
rate.
"""

import shlex
from dataclasses import dataclass

from ..errors import DataError

LARGEST = 1_000_000  # characters to train on, at most
LEAST = 20_000  # without which sizes tell nothing
WHOLE_SIZES, QUICK_SIZES = (16, 4, 2, 1), (16, 4, 1)  # the text is divided by
WHOLE_STEPS, QUICK_STEPS = 1000, 150
SEEDS, MORE_SEEDS = 3, 5  # the latter where a seed costs little, or many are needed to decide
VARIANTS = "lstm,peephole,cifg,nig,nfg,nog,niaf,noaf,fgr,mgu,mut1"  # the study of Greff et al. 2015, and later ones
MEMORIES = "rnn,gru,lstm,lstm:forget_bias=0,lstm:forget_bias=log-uniform"
RATES = ("--lrs", "4e-3,8e-3")
SIDE_BY_SIDE = ("--jobs", "0")  # where nothing is timed
GAPS, QUICK_GAPS = "8,16,24,32,64,128", "16,64"


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
    more = [*([] if quick else RATES), *SIDE_BY_SIDE]
    steps = ["--steps", str(QUICK_STEPS if quick else WHOLE_STEPS)]
    sizes = [min(length, LARGEST) // by for by in (QUICK_SIZES if quick else WHOLE_SIZES)]
    variants, tried = ("lstm,peephole,cifg", 0) if quick else (VARIANTS, RATES[1].count(",") + 1)

    def compare(name, title, seconds, cells, *given, seeds=SEEDS, lines=1, tried=0):
        asked = ["--cells", cells, "--seeds", str(seeds), *small, *given]
        rows = (seeds + tried) * lines * (cells.count(",") + 1)
        where = ["--out", f"{folder}/{name}", "--json", "-q"]
        return Part(name, title, ["compare", *corpus, *asked, *where], seconds, rows)

    costs, often = ["--steps", "100"], SEEDS if quick else MORE_SEEDS
    data = [*steps, *more, "--sizes", ",".join(map(str, sizes))]
    return [
        compare(
            "width", "cost at equal width", 60 if quick else 130, "lstm,gru", "--match", "hidden", *costs, seeds=often
        ),
        compare("params", "cost at equal parameters", 60 if quick else 130, "lstm,gru", *costs, seeds=often),
        compare("data", "accuracy by data", 150 if quick else 900, "lstm,gru", *data, lines=len(sizes), tried=tried),
        compare("variants", "variants", 80 if quick else 1300, variants, *steps, *more, tried=tried),
        *_probes(quick, corpus, folder),
    ]


def _probes(quick, corpus, folder):
    """The parts that train small models on synthetic tasks, and those that look at gradients on the text."""
    fast = ["--quick"] if quick else []

    def probe(name, title, seconds, cells, rows, *given, seeds=SEEDS):
        arguments = ["probe", name, "--cells", cells, "--seeds", str(seeds), *fast, *given]
        return Part(name, title, [*arguments, "--out", f"{folder}/{name}", "--json", "-q"], seconds, rows)

    yield probe(
        "recall", "recall over distractors", 100 if quick else 740, MEMORIES, 30 if quick else 160,
        "--gaps", QUICK_GAPS if quick else GAPS,
    )  # fmt: skip
    yield probe(
        "count", "counting beyond what was seen", 90 if quick else 350, "rnn,gru,lstm", 9 if quick else 30,
        seeds=SEEDS if quick else MORE_SEEDS,
    )  # fmt: skip
    steps = ["--steps", str(QUICK_STEPS if quick else WHOLE_STEPS)]
    size = ["--layers", "1", "--hidden", "64" if quick else "128", *steps]
    for seed in range(1, (SEEDS if quick else MORE_SEEDS) + 1):
        where = ["--out", f"{folder}/gradient-{seed}", "--overwrite", "--json", "-q"]
        asked = ["probe", "gradient", corpus[0], "--cells", "rnn,gru,lstm", *size, "--seed", str(seed)]
        title = f"gradients by lag, seed {seed}"
        yield Part(f"gradient-{seed}", title, [*asked, *where], 20 if quick else 50)
