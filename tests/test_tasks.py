"""Synthetic tasks: each line against the task as it is stated, what is asked for, determinism, and the texts made."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charrnn.errors import UsageError
from charrnn.stream import draws
from charrnn.tasks import KINDS
from charrnn.tasks.lines import TASKS, make

GAPS = {"recall": (1, 40), "copy": (1, 40), "order": (10, 60), "count": (1, 30), "brackets": (2, 60), "pairs": (2, 104)}
PARTNERS = {")": "(", "]": "[", "}": "{"}


def recall_answer(line):
    """What the line must end with, stated anew for each task from its first characters."""
    assert re.fullmatch(r"[a-h][1-8]+\?[a-h]", line)
    return line[0]


def copy_answer(line):
    assert re.fullmatch(r"[a-h]{10}-*![a-h]{10}", line)
    return line[:10]


def order_answer(line):
    assert re.fullmatch(r"E[abcdXY]+B[QRSU]", line)
    marks = "".join(c for c in line if c in "XY")
    assert len(marks) == 2
    return {"XX": "Q", "XY": "R", "YX": "S", "YY": "U"}[marks]


def count_answer(line):
    return "b" * line.count("a")


def pairs_answer(line):
    assert re.fullmatch(r"([a-zA-Z][0-9])+\?[a-zA-Z][0-9]", line)
    pairs = dict(zip(line[:-3:2], line[1:-3:2], strict=True))
    assert len(pairs) == (len(line) - 3) // 2  # no letter twice
    return pairs[line[-2]]


ANSWERS = {"recall": recall_answer, "copy": copy_answer, "order": order_answer, "count": count_answer,
           "pairs": pairs_answer}  # fmt: skip
LENGTHS = {"recall": lambda gap: gap + 3, "copy": lambda gap: gap + 20, "order": lambda gap: gap + 3,
           "brackets": lambda gap: gap // 2 * 2, "pairs": lambda gap: gap // 2 * 2 + 3}  # fmt: skip
any_task = st.sampled_from(sorted(GAPS)).flatmap(lambda name: st.tuples(st.just(name), st.integers(*GAPS[name])))


@settings(max_examples=60, deadline=None)
@given(any_task, st.integers(0, 10_000))
def test_every_line_is_one_of_its_task(task, seed):
    name, gap = task
    for line in make(name, gap).text(draws(seed, "line"), 5):
        assert line.endswith("\n") and line.count("\n") == 1
        line = line[:-1]
        assert set(line) <= set(KINDS[name].symbols)
        if name == "brackets":
            balanced(line)
        else:
            assert line.endswith(ANSWERS[name](line))
        assert len(line) == LENGTHS[name](gap) if name in LENGTHS else 2 <= len(line) <= 2 * gap


def balanced(line):
    """For each closing bracket how far its partner is and how deep they lie, on a stack."""
    stack, found = [], []
    for place, character in enumerate(line):
        if character in PARTNERS:
            opened, kind = stack.pop()
            assert kind == PARTNERS[character]
            found.append((place - opened, len(stack) + 1))
        else:
            stack.append((place, character))
            assert len(stack) <= 8
    assert not stack
    return found


@settings(max_examples=60, deadline=None)
@given(any_task, st.integers(0, 10_000))
def test_a_batch_is_lines_one_character_apart(task, seed):
    name, gap = task
    drawn = make(name, gap)
    batch, text = drawn.batch(draws(seed, "line"), 4), drawn.text(draws(seed, "line"), 4)
    symbols = np.array(list(KINDS[name].symbols))
    for lane, line in enumerate(text):
        read = "".join(symbols[batch.inputs[:, lane]])
        expected = "".join(symbols[batch.targets[:, lane]])
        asked = "".join(symbols[batch.targets[:, lane][batch.asked[:, lane]]])
        if name == "copy":
            assert (read, expected) == (line[:-11] + "-" * 10, "-" * (len(line) - 11) + line[-11:-1])
            assert asked == line[-11:-1] and batch.counts.all()
            continue
        assert (read[:1] + expected).rstrip("\n") + "\n" == line and read[1:] == expected[:-1]
        assert (batch.counts == batch.asked).all()
        if name == "count":
            assert asked == "b" * (line.count("a") - 1) + "\n"
            assert set(batch.kinds["n"][:, lane]) == {line.count("a")}
        elif name == "brackets":
            place = batch.asked[:, lane]
            told = zip(batch.kinds["distance"][place, lane], batch.kinds["depth"][place, lane], strict=True)
            assert list(told) == balanced(line[:-1]) and not set(asked) & set("([{")
        else:
            assert asked == ANSWERS[name](line[:-1])


def test_the_marks_lie_where_the_paper_has_them():
    """Of a line of 100 the first among 10 to 19, the second among 50 to 59, counted without the E."""
    for line in make("order", 100).text(draws(1, "line"), 200):
        first, second = (match.start() - 1 for match in re.finditer("[XY]", line))
        assert 10 <= first < 20 and 50 <= second < 60


@pytest.mark.parametrize("name", sorted(TASKS.keys() - {"count"}))  # whose answers depend on the number
def test_answers_are_as_likely_as_the_chance_level_says(name):
    """4,000 draws: no answer is more than 5 standard deviations from its share."""
    batch = make(name, 30).batch(draws(3, "line"), 4000)
    last = batch.targets[-1] if name != "brackets" else batch.targets[:1][batch.asked[:1]]
    shares = Counter(last.tolist())
    number, chance = sum(shares.values()), 1 / KINDS[name].answers
    assert len(shares) == KINDS[name].answers
    assert all(abs(count / number - chance) < 5 * (chance / number) ** 0.5 for count in shares.values())


@pytest.mark.parametrize("name", sorted(TASKS))
def test_the_same_generator_gives_the_same_lines(name):
    first, again, other = (make(name, 20).text(draws(seed, "line"), 50) for seed in (1, 1, 2))
    assert first == again != other


# ---- texts


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_text_is_made(charrnn, name):
    made = charrnn("corpora", "make", name, "--size", "20kB", "-o", "text.txt")
    assert (made.status, made.out, made.err) == (0, "text.txt\n", "")
    text = Path("text.txt").read_bytes()
    longest = max(map(len, text.splitlines(keepends=True)))
    assert 20_000 - longest < len(text) <= 20_000 and text.endswith(b"\n")
    assert charrnn("corpora", "make", name, "--size", "20k").out.encode() == text
    assert charrnn("corpora", "make", name, "--size", "20k", "--seed", 2).out.encode() != text
    assert charrnn("corpora", "make", name, "--size", "10k").out.encode() == text[:10_000].rpartition(b"\n")[0] + b"\n"


def test_a_text_is_one_to_train_on(charrnn):
    charrnn("corpora", "make", "recall", "--gap", 5, "--size", "9k", "-o", "text.txt")
    done = charrnn("train", "text.txt", "--steps", 3, "--hidden", 8, "--layers", 1, "-q", "--out", "run")
    assert done.status == 0, done.err


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["recal"], "TASK recal: no such task (did you mean 'recall'?); known: recall, copy, order, count"),
        (["order", "--gap", 9], "--gap 9: order takes from 10 to 100,000 characters"),
        (["pairs", "--gap", 105], "--gap 105: pairs takes from 2 to 104 characters of pairs"),
        (["recall", "--size", "many"], "--size many: must be a number such as 500, 62k or 1.5M"),
        (["recall", "--size", "66"], "--size 66: is less than one line of recall with --gap 64"),
        (["recall", "--seed", -1], "--seed -1: must be at least 0"),
        (["recall", "--overwrite"], "--overwrite: has no effect on standard output"),
        (["recall", "-o", "there.txt"], "--out there.txt: already exists; replace it (--overwrite)"),
    ],
    ids=str,
)
def test_what_cannot_be_made_is_refused(charrnn, typed, said):
    Path("there.txt").write_text("kept")
    answer = charrnn("corpora", "make", *typed)
    assert (answer.status, answer.out) == (2, "") and answer.err.startswith(f"error: {said}")
    assert Path("there.txt").read_text() == "kept"


def test_a_file_is_replaced_when_asked(charrnn):
    Path("there.txt").write_text("old")
    assert charrnn("corpora", "make", "count", "--size", 100, "-o", "there.txt", "--overwrite").status == 0
    assert set(Path("there.txt").read_text()) == set("ab\n")


def test_the_list_and_making_do_not_mix(charrnn):
    answer = charrnn("corpora", "--json", "make", "recall")
    assert (answer.status, answer.err) == (2, "error: --json: is for the list; leave it out before make\n")


def test_gaps_are_checked_before_lines_are_drawn():
    with pytest.raises(UsageError, match="--gap 0: recall takes from 1"):
        make("recall", 0)
