"""The vocabulary: which symbols there are, and their numbers.

It is a `tokenizers` model (its JSON travels in the checkpoint and loads in transformers too); texts are encoded
through a numpy table made from that JSON, which gives the same ids without importing anything heavy.
"""

import codecs
import json
import unicodedata

import numpy as np

from .errors import DataError

UNKNOWN = "<unk>"  # the name of the explicit unknown symbol, there only where --min-count asked for it
REPLACEMENT = "\ufffd"  # what the unknown symbol looks like in a text


class Vocabulary:
    """Symbols and their ids, read from the JSON of a `tokenizers` model.

    `symbols[id]` is the text of a symbol; `of_bytes` says that the symbols are the 256 bytes; `unknown` is the id of
    the unknown symbol or None.
    """

    def __init__(self, document: str):
        self.document = document
        parsed = json.loads(document)
        self.of_bytes = (parsed["pre_tokenizer"] or {}).get("type") == "ByteLevel"
        ids = parsed["model"]["vocab"]
        self.symbols = sorted(ids, key=ids.get)
        self.unknown = ids.get(UNKNOWN)
        if self.of_bytes:
            self.symbols = [chr(byte) for byte in range(256)]
            return
        known = {ord(symbol): i for symbol, i in ids.items() if symbol != UNKNOWN}
        last = max(known, default=0) + 1
        self._absent = len(self.symbols)  # stands in the table for every character that is not known
        self._table = np.full(last + 1, self._absent, self.dtype_for(self._absent + 1))
        self._table[list(known)] = list(known.values())

    @classmethod
    def learn(cls, counts: dict[int, int], min_count: int = 1) -> "Vocabulary":
        """The characters (code points with their counts) that occur `min_count` times or more, in Unicode's order.

        With min_count over 1 the rest is folded into an explicit unknown symbol, id 0.
        """
        from tokenizers import Tokenizer, decoders, models

        kept = [chr(code) for code in sorted(counts) if counts[code] >= min_count]
        special = [UNKNOWN] if min_count > 1 else []
        ids = {symbol: i for i, symbol in enumerate(special + kept)}
        tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[], unk_token=UNKNOWN if special else None))
        tokenizer.decoder = decoders.Fuse()
        return cls(tokenizer.to_str())

    @classmethod
    def bytes(cls) -> "Vocabulary":
        """The 256 bytes; the id of a byte is its value."""
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers

        # ByteLevel writes each byte as one printable character: itself where it has one, else from U+0100 on.
        printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
        others = iter(range(256, 512))
        ids = {chr(byte if byte in printable else next(others)): byte for byte in range(256)}
        tokenizer = Tokenizer(models.BPE(vocab=ids, merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.decoder = decoders.ByteLevel()
        return cls(tokenizer.to_str())

    def __len__(self):
        return len(self.symbols)

    def __eq__(self, other):
        return isinstance(other, Vocabulary) and (self.symbols, self.of_bytes) == (other.symbols, other.of_bytes)

    def __hash__(self):
        return hash((tuple(self.symbols), self.of_bytes))

    @property
    def dtype(self):
        """The smallest kind of number that holds every id."""
        return self.dtype_for(len(self))

    @staticmethod
    def dtype_for(size: int):
        return np.uint8 if size <= 256 else np.uint16 if size <= 65536 else np.uint32

    def lookup(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """The ids of a text, and the places of characters that have none (their ids mean nothing)."""
        if self.of_bytes:
            return np.frombuffer(text.encode("utf-8"), np.uint8), np.empty(0, int)
        ids = self._table.take(code_points(text), mode="clip")
        return ids, np.flatnonzero(ids == self._absent)

    def ids_of(self, codes: np.ndarray) -> np.ndarray:
        """The ids of code points (of bytes, for a vocabulary of bytes); what is not known becomes the unknown
        symbol. A corpus is encoded so, with a vocabulary that was learned from it."""
        if self.of_bytes:
            return codes.astype(np.uint8, copy=False)
        ids = self._table.take(codes, mode="clip")
        absent = ids == self._absent
        if absent.any():
            if self.unknown is None:
                raise DataError(f"the corpus holds {name_of(chr(codes[absent][0]))}, which the vocabulary lacks")
            ids[absent] = self.unknown
        return ids

    def encode(self, text: str, unknown: str = "error", where: str = "the text", skips: bool = True) -> np.ndarray:
        """The ids of a text. A character that is not known raises DataError, or with `unknown` "skip" is left out,
        with "replace" becomes the unknown symbol (or what `replacement` names); `skips`: the message offers "skip".
        """
        ids, absent = self.lookup(text)
        if len(absent) and unknown == "error":
            others = {text[i] for i in absent}
            more = f" (and {len(others) - 1} other such characters)" if len(others) > 1 else ""
            raise DataError(
                f"{where}: the model has never seen {name_of(text[absent[0]])}, character {absent[0] + 1}{more}; "
                f"{'--unknown skip leaves such characters out, ' * skips}--unknown replace puts "
                f"{name_of(self.symbols[self.replacement])} in their place"
            )
        if unknown == "skip":
            return np.delete(ids, absent).astype(self.dtype)
        ids = ids.copy()
        ids[absent] = self.replacement
        return ids.astype(self.dtype)

    @property
    def replacement(self) -> int:
        """The id that stands for a character that is not known: the unknown symbol, else the first known of
        U+FFFD, ?, space; else 0."""
        if self.unknown is not None:
            return self.unknown
        return next((self.symbols.index(s) for s in (REPLACEMENT, "?", " ") if s in self.symbols), 0)

    def decoder(self):
        """A function (ids, final) -> text that holds back bytes until they make a whole character."""
        if not self.of_bytes:
            texts = [REPLACEMENT if symbol == UNKNOWN else symbol for symbol in self.symbols]
            return lambda ids, final=False: "".join([texts[i] for i in ids])
        incremental = codecs.getincrementaldecoder("utf-8")("replace")
        return lambda ids, final=False: incremental.decode(bytes(bytearray(int(i) for i in ids)), final)

    def decode(self, ids) -> str:
        return self.decoder()(ids, True)

    def raw(self, ids) -> bytes:
        """The bytes that the ids stand for, UTF-8 where the symbols are characters."""
        if self.of_bytes:
            return np.asarray(ids, np.uint8).tobytes()
        return self.decode(ids).encode("utf-8", "surrogatepass")


def code_points(text: str) -> np.ndarray:
    """The numbers of a text's characters, uint32."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def name_of(symbol: str) -> str:
    """A character so that anybody can tell it: 'é' (U+00E9 LATIN SMALL LETTER E WITH ACUTE)."""
    if len(symbol) != 1:
        return f"the symbol {symbol}"
    shown = repr(symbol) if symbol.isprintable() else ascii(symbol)
    return f"{shown} (U+{ord(symbol):04X} {unicodedata.name(symbol, 'without a name')})"
