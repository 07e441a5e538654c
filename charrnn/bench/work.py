"""The work that is timed: the models, their weights, the text that they read, and how much arithmetic it all is."""

import numpy as np

from ..cells.trace import trace
from ..model import Model, mask_count
from ..stream import Stream, draws
from . import Size

SYMBOLS, EMBED, SEED = 96, 64, 1
KINDS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}  # the cells that torch.nn has, by what it calls them
TEXT = 500_000  # characters that training reads, over and over
WORDS = 1000


def model(cell: str, size: Size) -> Model:
    """The model of a size without skips to the softmax, as the peers have it."""
    sizes = {"symbols": SYMBOLS, "embed": EMBED, "hidden": size.hidden, "layers": size.layers}
    return Model(cell=cell, skips=False, **sizes)


def weights(model: Model) -> dict[str, np.ndarray]:
    """Fresh weights of a model, always the same."""
    return model.initial_weights(draws(SEED, "weights"), np.full(SYMBOLS, 1 / SYMBOLS))


def text(length: int) -> np.ndarray:
    """Symbols (N,) with something to learn: words, each followed by symbol 0, the first ones more often (Zipf)."""
    random = draws(SEED, "text")
    words = [np.append(random.integers(1, SYMBOLS, n), 0) for n in random.integers(2, 9, WORDS)]
    shares = 1 / np.arange(1, WORDS + 1)
    chosen = random.choice(WORDS, length // 3 + 1, p=shares / shares.sum())  # a word has 3 symbols at least
    return np.concatenate([words[k] for k in chosen])[:length].astype(np.uint8)


SCRIPTS = {  # alphabets by their code points
    "ascii": [range(0x61, 0x7B)],
    "mixed": [  # Latin with marks, Greek, Cyrillic, Chinese, emoji
        range(0x61, 0x7B), range(0xE0, 0x180), range(0x3B1, 0x3CA), range(0x430, 0x450), range(0x4E00, 0x55D0),
        range(0x1F600, 0x1F640),
    ],
}  # fmt: skip
PIECE = 1_000_000  # characters after which prose begins anew


def prose(script: str, length: int) -> str:
    """So many characters: words, each of one alphabet of the script, with spaces between them."""
    random, alphabets = draws(SEED, "prose"), [np.array(letters) for letters in SCRIPTS[script]]
    words = ["".join(map(chr, random.choice(alphabets[k % len(alphabets)], 2 + k % 7))) for k in range(WORDS)]
    piece = " ".join(words[k] for k in random.integers(WORDS, size=PIECE // 3))[:PIECE]
    return (piece * -(-length // PIECE))[:length]


def stream(size: Size) -> Stream:
    """What the steps of training read."""
    return Stream(text(max(TEXT, 4 * size.batch * size.length)), size.batch, size.length, SEED)


def matrices(model: Model):
    """For each matrix that a character is multiplied with: its name, its numbers (those under no mask), and how often.

    The embedding is none: a row of it is taken.
    """
    for layer, (cell, shapes) in enumerate(zip(model.stack, model.layer_shapes(), strict=True)):
        products = [repr(symbol.arguments[1]) for symbol in trace(cell).steps if symbol.operator == "@"]
        for name, shape in shapes.items():
            uses = 1 if name.startswith("W.") else products.count(name)
            if uses:
                yield f"layers.{layer}.{name}", mask_count(cell, name, model.hidden, int(np.prod(shape))), uses
    yield "head.W", int(np.prod(model.shapes()["head.W"])), 1


def step_flops(model: Model, size: Size) -> int:
    """The floating-point operations of a training step: two for each multiplication in a product (it is added), once
    forward and twice backward (to what was multiplied, and to the weights); nothing else is counted."""
    return 3 * 2 * size.batch * size.length * sum(numbers * uses for _, numbers, uses in matrices(model))


def weight_bytes(model: Model) -> int:
    """The bytes that must be read to sample a character: every matrix, float32, once."""
    return 4 * sum(numbers for _, numbers, _ in matrices(model))
