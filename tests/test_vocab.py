"""The vocabulary: the numpy table equals the tokenizers model that travels with it, and nothing is lost either way."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from charrnn.errors import DataError
from charrnn.vocab import REPLACEMENT, UNKNOWN, Vocabulary, code_points, name_of

UNICODE = st.characters(codec="utf-8")  # every code point but the surrogates, which no text holds
HARD = "\r\n\t\0\v\x85\u2028\u2029\ufeff\ufffd e\u0301 \u0627\u0644 👩‍👩‍👧🏽 \U0010ffff<unk>"
many = settings(derandomize=True, deadline=None, max_examples=100)


def learned(text: str, min_count: int = 1) -> Vocabulary:
    return Vocabulary.learn(Counter(map(ord, text)), min_count)


@st.composite
def texts_with_alphabet(draw):
    """What is learned from, and another text over the same characters."""
    alphabet = sorted(set(draw(st.text(UNICODE, min_size=1, max_size=30))))
    return "".join(alphabet), draw(st.text(st.sampled_from(alphabet), max_size=60))


# ---- characters


@many
@given(texts_with_alphabet())
@example((HARD, HARD))
@example((HARD, "\r\n\r\r\n\n\0\0e\u0301e"))
@example(("a", "a" * 9))
def test_ids_are_those_of_tokenizers_and_texts_come_back(case):
    alphabet, text = case
    vocabulary = learned(alphabet)
    model = Tokenizer.from_str(vocabulary.document)
    ids = vocabulary.encode(text)
    assert ids.tolist() == model.encode(text).ids
    assert ids.tolist() == vocabulary.ids_of(code_points(text)).tolist() == vocabulary.lookup(text)[0].tolist()
    assert len(ids) == len(text), "one id for one character"
    assert vocabulary.decode(ids) == text == model.decode(ids.tolist(), skip_special_tokens=False)


@many
@given(st.text(UNICODE, min_size=1, max_size=30))
@example(HARD)
def test_ids_stand_in_unicodes_order_and_symbols_tell_them(text):
    vocabulary = learned(text)
    assert vocabulary.symbols == sorted(set(text))
    assert [int(vocabulary.encode(symbol)[0]) for symbol in vocabulary.symbols] == list(range(len(vocabulary)))
    assert vocabulary.unknown is None and not vocabulary.of_bytes


@pytest.mark.parametrize(
    ("size", "kind"), [(2, np.uint8), (255, np.uint8), (256, np.uint8), (257, np.uint16), (65536, np.uint16)]
)
def test_the_smallest_kind_of_number_holds_every_id_and_still_tells_a_stranger(size, kind):
    codes = [code for code in range(33, 33 + size + 2048) if not 0xD800 <= code <= 0xDFFF][:size]
    vocabulary = Vocabulary.learn(dict.fromkeys(codes, 1))
    text = "".join(map(chr, codes))
    assert len(vocabulary) == size and vocabulary.dtype is kind
    ids = vocabulary.encode(text)
    assert ids.dtype == kind and ids.tolist() == list(range(size))
    assert vocabulary.decode(ids) == text
    below, above = chr(codes[0] - 1), chr(codes[-1] + 1)
    assert vocabulary.lookup(below + text[-1] + above)[1].tolist() == [0, 2]
    assert vocabulary.lookup("\U0010ffff\0")[1].tolist() == [0, 1]


def test_more_than_65536_symbols_take_four_bytes():
    assert Vocabulary.dtype_for(65536) is np.uint16 and Vocabulary.dtype_for(65537) is np.uint32
    codes = [code for code in range(33, 70000) if not 0xD800 <= code <= 0xDFFF][:65537]
    vocabulary = Vocabulary.learn(dict.fromkeys(codes, 1))
    assert vocabulary.encode(chr(codes[-1])).tolist() == [65536] and vocabulary.dtype is np.uint32


# ---- rare characters folded into an unknown symbol


def test_min_count_folds_what_is_rarer_and_nothing_else():
    vocabulary = learned("aaabbc<unk>", 2)
    assert vocabulary.symbols == [UNKNOWN, "a", "b"] and vocabulary.unknown == 0
    assert vocabulary.ids_of(code_points("abcz")).tolist() == [1, 2, 0, 0]
    assert vocabulary.decode([1, 0, 2]) == f"a{REPLACEMENT}b"
    assert learned("aabb").unknown is None, "without --min-count there is no unknown symbol"


@many
@given(st.text(UNICODE, min_size=1, max_size=40), st.text(UNICODE, max_size=40))
@example("<unk>" * 2, "<unk><unk>z")
@example("aab", "bbb\r\n\0")
def test_with_an_unknown_symbol_any_text_has_the_ids_of_tokenizers(source, text):
    vocabulary = learned(source, 2)
    ids = vocabulary.ids_of(code_points(text))
    assert ids.tolist() == Tokenizer.from_str(vocabulary.document).encode(text).ids
    assert ids.tolist() == vocabulary.encode(text, "replace").tolist()
    assert len(ids) == len(text)
    frequent = {symbol for symbol, count in Counter(source).items() if count > 1}
    assert vocabulary.decode(ids) == "".join(c if c in frequent else REPLACEMENT for c in text)


def test_the_letters_of_the_unknown_symbols_name_are_letters():
    vocabulary = learned("<unk><unk>", 2)
    assert 0 not in vocabulary.encode("<unk>").tolist()
    assert vocabulary.decode(vocabulary.encode("<unk>")) == "<unk>"


# ---- characters the model has never seen


def test_an_unseen_character_is_named_with_code_point_name_and_place():
    vocabulary = learned("abc ?")
    with pytest.raises(DataError) as told:
        vocabulary.encode("abéc☃é", where="the prompt")
    message = str(told.value)
    assert message.startswith("the prompt: the model has never seen 'é' (U+00E9 LATIN SMALL LETTER E WITH ACUTE)")
    assert "character 3 " in message, "counted from 1"
    assert "(and 1 other" in message, "the snowman, and é once only"
    assert "--unknown skip" in message and "--unknown replace puts '?' (U+003F QUESTION MARK)" in message
    assert "\n" not in message and told.value.status == 4
    with pytest.raises(DataError) as told:
        vocabulary.encode("a\0")
    assert "'\\x00' (U+0000" in str(told.value) and "\0" not in str(told.value) and "other" not in str(told.value)


def test_an_unseen_character_of_a_corpus_is_named_too():
    with pytest.raises(DataError, match=r"U\+2603 SNOWMAN"):
        learned("abc").ids_of(code_points("ab☃"))


def test_an_unseen_character_is_an_error_even_where_there_is_an_unknown_symbol():
    with pytest.raises(DataError, match="puts the symbol <unk> in their place"):
        learned("aabbc", 2).encode("abc")


@many
@given(st.text("abcé☃ ", max_size=20))
def test_skip_leaves_strangers_out_and_replace_keeps_their_place(text):
    vocabulary = learned("abc ?")
    skipped, replaced = vocabulary.encode(text, "skip"), vocabulary.encode(text, "replace")
    assert vocabulary.decode(skipped) == "".join(c for c in text if c in "abc ?")
    assert vocabulary.decode(replaced) == "".join(c if c in "abc ?" else "?" for c in text)
    assert skipped.dtype == replaced.dtype == vocabulary.dtype


@pytest.mark.parametrize(
    ("alphabet", "stand_in"), [("a ?\ufffd", "\ufffd"), ("a ?", "?"), ("a b", " "), ("ba", "a"), ("aab", UNKNOWN)]
)
def test_what_stands_for_a_stranger_is_chosen_in_a_stated_order(alphabet, stand_in):
    vocabulary = learned(alphabet, 2 if stand_in == UNKNOWN else 1)
    assert vocabulary.symbols[vocabulary.replacement] == stand_in
    assert vocabulary.encode("☃", "replace").tolist() == [vocabulary.replacement]


def test_the_ids_of_a_lookup_are_not_changed_by_a_replacement():
    vocabulary = learned("ab?")
    first = vocabulary.lookup("a☃")[0].tolist()
    vocabulary.encode("a☃", "replace")
    assert vocabulary.lookup("a☃")[0].tolist() == first
    assert vocabulary.encode("ab?").tolist() == [1, 2, 0]


def test_names_are_for_everybody():
    assert name_of("é") == "'é' (U+00E9 LATIN SMALL LETTER E WITH ACUTE)"
    assert name_of("\n").startswith("'\\n' (U+000A")
    assert name_of("\u2028") == "'\\u2028' (U+2028 LINE SEPARATOR)"
    assert name_of("\U0001f600") == "'😀' (U+1F600 GRINNING FACE)"
    assert "<unk>" in name_of(UNKNOWN)


# ---- bytes


@many
@given(st.text(UNICODE, max_size=60))
@example(HARD)
def test_bytes_of_any_text_are_the_ids_of_tokenizers_and_come_back(text):
    vocabulary = Vocabulary.bytes()
    model = Tokenizer.from_str(vocabulary.document)
    ids = vocabulary.encode(text)
    assert ids.tolist() == model.encode(text).ids == list(text.encode())
    assert vocabulary.decode(ids) == text == model.decode(ids.tolist(), skip_special_tokens=False)
    assert ids.dtype == np.uint8 and len(vocabulary) == 256


@many
@given(st.binary(max_size=40))
@example(b"\xf0\x9f\x91\xe2\x82\xff\xc0\x80\xed\xa0\x80")
def test_any_bytes_are_ids_and_decode_as_tokenizers_does(raw):
    vocabulary = Vocabulary.bytes()
    ids = vocabulary.ids_of(np.frombuffer(raw, np.uint8))
    assert ids.tolist() == list(raw)
    text = vocabulary.decode(ids)
    assert text == raw.decode("utf-8", "replace")
    assert text == Tokenizer.from_str(vocabulary.document).decode(list(raw), skip_special_tokens=False)


@many
@given(st.binary(max_size=30), st.lists(st.integers(0, 30), max_size=6))
@example("é👩".encode(), [1, 3, 4])
@example("é👩".encode()[:-1], [2, 5])
def test_the_decoder_gives_the_same_text_however_the_bytes_are_cut(raw, cuts):
    decode = Vocabulary.bytes().decoder()
    bounds = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    pieces = [decode(list(raw[a:b]), b == len(raw)) for a, b in zip(bounds, bounds[1:], strict=False) if a < b]
    assert "".join(pieces) == raw.decode("utf-8", "replace")


def test_the_decoder_holds_bytes_back_until_they_make_a_character():
    decode = Vocabulary.bytes().decoder()
    assert [decode([byte]) for byte in "aé👩".encode()] == ["a", "", "é", "", "", "", "👩"]
    assert decode([0xE2]) == "" and decode([0x82]) == ""
    assert decode([], True) == REPLACEMENT, "at the end what is incomplete shows"
    one, other = Vocabulary.bytes().decoder(), Vocabulary.bytes().decoder()
    assert (one([0xC3]), other([0x41]), one([0xA9])) == ("", "A", "é"), "each text has a decoder of its own"


def test_no_character_is_unknown_to_bytes():
    vocabulary = Vocabulary.bytes()
    assert vocabulary.of_bytes and vocabulary.unknown is None
    assert len(vocabulary.lookup("☃\0\U0010ffff")[1]) == 0


# ---- identity, and life elsewhere


def test_vocabularies_are_equal_when_their_symbols_are():
    assert learned("abc") == learned("cbacba")
    assert learned("abc") != learned("abd"), "as many symbols, but others"
    assert learned("abc") != learned("ab") and learned("aabb") != learned("aabb", 2)
    assert learned("".join(map(chr, range(256)))) != Vocabulary.bytes(), "the same symbols, but not the same thing"
    assert Vocabulary.bytes() == Vocabulary.bytes() and learned("a") != "a"


def test_a_vocabulary_survives_its_own_json():
    for vocabulary in (learned(HARD), learned(HARD * 2 + "z", 2), Vocabulary.bytes()):
        again = Vocabulary(json.dumps(json.loads(vocabulary.document), indent=1))
        assert again == vocabulary and again.unknown == vocabulary.unknown
        assert again.encode(HARD).tolist() == vocabulary.encode(HARD).tolist()


def test_equal_vocabularies_have_equal_hashes():
    vocabulary = learned("abc")
    again = Vocabulary(json.dumps(json.loads(vocabulary.document), indent=1))
    assert again == vocabulary
    assert hash(again) == hash(vocabulary)


def test_the_document_is_a_tokenizer_file_that_loads_elsewhere(tmp_path):
    path = tmp_path / "tokenizer.json"
    for vocabulary in (learned(HARD), Vocabulary.bytes()):
        path.write_text(vocabulary.document, encoding="utf-8")
        model = Tokenizer.from_file(str(path))
        assert model.get_vocab_size() == len(vocabulary)
        assert model.encode(HARD).ids == vocabulary.encode(HARD).tolist()
        assert model.decode(model.encode(HARD).ids, skip_special_tokens=False) == HARD
