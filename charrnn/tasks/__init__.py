"""Synthetic tasks, each asking a network for one ability: what there is; `lines` draws them.

A line is a sequence of characters some of which follow from what came before: those are what is asked. A task is made
for one `gap`, which is how far back that lies or how long a line is.
"""

from dataclasses import dataclass

from ..errors import UsageError, nearest

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Kind:
    """A task: its alphabet, how many equally likely answers there are, and from where to where its gap may go."""

    name: str
    about: str
    unit: str  # what the gap counts
    symbols: str
    answers: int
    usual: int = 64
    least: int = 1
    most: int = 100_000

    def check(self, gap: int, option: str = "--gap") -> None:
        """Raises UsageError where this task cannot have the gap."""
        if not self.least <= gap <= self.most:
            limits = f"{self.least:,} to {self.most:,} {self.unit}"
            raise UsageError(f"{option} {gap}: {self.name} takes from {limits}")


KINDS = {
    kind.name: kind
    for kind in (
        Kind("recall", "a symbol, distractors, ?, the symbol again", "distractors", "abcdefgh12345678?", 8),
        Kind("copy", "ten symbols, a wait, !, the ten again", "characters of waiting", "abcdefgh-!", 8),
        Kind("order", "marks X and Y among letters, then which", "characters", "EBabcdXYQRSU", 4, usual=100, least=10),
        Kind("count", "as many b as a", "a at most", "ab\n", 2),
        Kind("brackets", "nested brackets of three kinds", "characters a line", "([{)]}", 3, least=2),
        Kind(
            "pairs", "letters each with a digit, ?, one letter, its digit", "characters of pairs",
            LETTERS + "0123456789?", 10, usual=16, least=2, most=2 * len(LETTERS),
        ),
    )
}  # fmt: skip


def named(name: str, option: str = "TASK") -> Kind:
    """A task by name; UsageError names the nearest where there is none such."""
    if name not in KINDS:
        raise UsageError(f"{option} {name}: no such task{nearest(name, KINDS)}; known: {', '.join(KINDS)}")
    return KINDS[name]
