"""Cells of a person's own, in files of theirs: typed as PATH.py:CLASS, known and kept as FILE.py:CLASS.

A file runs because a person named it, and never because a checkpoint does: a checkpoint says which class of which file
it needs and what the sha256 of that file was, and only what was admitted in this process can be made.
"""

import hashlib
import sys
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import get_type_hints

from ..errors import CharrnnError, CheckpointError, UsageError, nearest
from .base import Cell
from .trace import Symbol, parameters, trace

KINDS = (int, float, str)  # that a setting can have


@dataclass(frozen=True)
class Own:
    """A class that was admitted, and the file that it came from."""

    kind: type[Cell]
    path: Path
    sha256: str
    typed: str


_admitted: dict[str, Own] = {}


def in_file(name: str) -> bool:
    """Whether a cell's name speaks of a file."""
    return ":" in name or name.endswith(".py")


def bare(name: str) -> str:
    """A cell's name without where on this machine its file lies."""
    path, colon, kind = name.rpartition(":")
    return f"{Path(path).name}:{kind}" if colon else name


def admit(name: str, option: str = "--cell", known_as: str | None = None) -> str:
    """The name by which `make` knows the cell that a person typed. Where that is PATH.py:CLASS the file is run, and
    the class known as FILE.py:CLASS or as `known_as`; UsageError says what is wrong with it and in which line."""
    if not in_file(name):
        return name
    typed, _, kind = name.rpartition(":")
    if not typed.endswith(".py") or not kind.isidentifier():
        raise UsageError(f"{option} {name}: name the file and the class in it, PATH.py:CLASS")
    path, known_as = Path(typed).resolve(), known_as or bare(name)
    try:
        source = path.read_bytes()
    except FileNotFoundError:
        near = nearest(Path(typed).name, [each.name for each in path.parent.glob("*.py")])
        raise UsageError(f"{option} {name}: no such file{near}") from None
    except OSError as error:
        raise UsageError(f"{option} {name}: cannot be read ({error.strerror})") from None
    sha256, before = hashlib.sha256(source).hexdigest(), _admitted.get(known_as)
    if not before or (before.path, before.sha256) != (path, sha256):
        module = _run(source, path, f"{option} {name}")
        _admitted[known_as] = Own(_cell(module, kind, f"{option} {name}"), path, sha256, name)
        _admitted[known_as].kind.name = known_as
    return known_as


def retyped(name: str) -> list[str]:
    """What is to be typed so that another command knows this cell."""
    return ["--cell", _admitted[name].typed] if name in _admitted else []


def _run(source, path, where):
    """The file as a module."""
    module = ModuleType(f"charrnn own cell {path}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses looks for what annotations name
    try:
        exec(compile(source, str(path), "exec"), vars(module))
    except CharrnnError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(f"{where}: {_told(error, path)}") from None
    return module


def _cell(module, name, where):
    """The class of that name, with settings that can be typed and a step."""
    there = {n: v for n, v in vars(module).items() if isinstance(v, type) and v.__module__ == module.__name__}
    cells = [n for n, v in there.items() if issubclass(v, Cell)]
    if name not in cells:
        what = "is no cell: it must be made from Cell of charrnn.cells.base" if name in there else "no such class in it"
        raise UsageError(f"{where}: {what}{nearest(name, cells)}; cells in it: {', '.join(cells) or 'none'}")
    kind = there[name]
    if kind.step is Cell.step:
        raise UsageError(f"{where}: has no step")
    try:
        hints = get_type_hints(kind)
    except NameError as error:
        raise UsageError(f"{where}: {error}") from None
    for field in fields(kind):
        if field.default is MISSING or hints[field.name] not in KINDS:
            raise UsageError(f"{where}: the setting {field.name} must be int, float or str, with a default")
    return kind


def kind_of(name: str) -> type[Cell] | None:
    """The class of a cell that speaks of a file; CheckpointError where no person has named that file."""
    if in_file(name) and name not in _admitted:
        raise CheckpointError(needed(name))
    return _admitted[name].kind if name in _admitted else None


def needed(name: str) -> str:
    """What is missing where a checkpoint's cell is not known here."""
    path, _, kind = name.rpartition(":")
    return f"needs the cell {kind} of {Path(path).name}; name it with --cell PATH:{kind}"


def origin(name: str) -> dict[str, str] | None:
    """What a checkpoint says of the file that its cell came from; None for a cell of charrnn's."""
    if name not in _admitted:
        return None
    own = _admitted[name]
    return {"file": own.path.name, "class": own.kind.__name__, "sha256": own.sha256}


def examined(cell: Cell, option: str) -> Cell:
    """The cell, its step traced as it stands in the first layer and above; UsageError says what is wrong with it."""
    where, path = f"{option} {cell.name}", _admitted[cell.name].path
    for layer in (0, 1):
        try:
            t = trace(cell.at(layer))
        except CharrnnError:
            raise
        except AssertionError as error:
            raise UsageError(f"{option} {error}") from None
        except Exception as error:
            wrong = _told(error, path)
            if isinstance(error, ValueError) and not _line(error, path):  # advance found no value for a name
                wrong = f"step must return {', '.join(_returned(cell))}"
            raise UsageError(f"{where}: {wrong}") from None
        for name, value in (t.up | t.state).items():
            if not isinstance(value, Symbol):
                raise UsageError(f"{where}: step returns {value!r} for {name}, which is no array")
    return cell


def _returned(cell):
    return [name for name in cell.ups if name not in cell.states] + cell.states


def declared(cell: Cell, m: int, n: int) -> None:
    """Raises UsageError where a cell with inputs m wide and states n wide declares what its step does not have."""
    t, shapes, masks, fixed = trace(cell), cell.shapes(m, n), cell.masks(n), cell.constants(n)
    trained, vectors = {*parameters(cell, m, n)}, {f"v.{name}" for name in t.vectors}
    raw = {"x.raw"} if t.raw else set()
    for what, said, known in (
        ("shapes", shapes, trained | raw), ("masks", masks, trained), ("constants", fixed, vectors),
        ("init", cell.init, trained), ("unbiased", cell.unbiased.split(), {*t.gates}),
        ("initial", cell.initial(), {*cell.states}), ("carried", cell.carried.split(), {*cell.states}),
    ):  # fmt: skip
        for name in said:
            if name not in known:
                raise UsageError(
                    f"--cell {cell.name}: {what} speaks of {name}; there is {', '.join(sorted(known)) or 'none'}"
                )
    for name, shape in shapes.items():
        if not isinstance(shape, tuple) or not all(isinstance(length, int) and length > 0 for length in shape):
            raise UsageError(f"--cell {cell.name}: shapes gives {shape!r} for {name}; it must be like (m, n)")


def fault(error: BaseException) -> UsageError | None:
    """What to tell of an exception that came up in the code of an admitted file; None for any other."""
    for name, own in _admitted.items():
        if _line(error, own.path):
            return UsageError(f"--cell {name}: {_told(error, own.path)}")
    return None


def _line(error, path):
    """The line of a file in which an exception came up, or 0."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or 0
    line, step = 0, error.__traceback__
    while step:
        if step.tb_frame.f_code.co_filename == str(path):
            line = step.tb_lineno
        step = step.tb_next
    return line


def _told(error, path):
    line, said = _line(error, path), (error.msg if isinstance(error, SyntaxError) else str(error)).strip()
    return f"{f'line {line}: ' if line else ''}{type(error).__name__}" + (f": {said.splitlines()[0]}" if said else "")
