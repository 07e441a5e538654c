"""What goes wrong through no fault of ours: one class per exit status, one clear line each."""


class CharrnnError(Exception):
    """A failure that a person can act on; its text is the one line that they read."""

    status = 1


class UsageError(CharrnnError):
    """An option or argument that cannot be meant; the line names it, its value and what is allowed."""

    status = 2


class Diverged(CharrnnError):
    """Training left the finite numbers and did not come back; the best checkpoint is kept."""

    status = 3


class DataError(CharrnnError):
    """A text that cannot be used; the line names the file and the place in it."""

    status = 4


class CheckpointError(CharrnnError):
    """A checkpoint that is damaged, unsafe, or does not fit what was asked of it."""

    status = 5


class Interrupted(CharrnnError):
    """SIGINT or SIGTERM reached us; everything was saved. The status is 128 plus the signal's number."""

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal, self.status = signal, 128 + signal


def nearest(word: str, known) -> str:
    """` (did you mean 'x'?)` for the known word most like `word`, or an empty string."""
    from difflib import get_close_matches

    found = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean {found[0]!r}?)" if found else ""
