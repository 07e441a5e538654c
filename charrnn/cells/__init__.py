"""The cells: one file, or one family side by side, that reads like its paper. A new file here is a new cell, and so is
a class in a file of a person's own once `admit` has seen it."""

import pkgutil
import re
from dataclasses import fields
from functools import lru_cache
from importlib import import_module
from math import isfinite
from typing import get_type_hints

from ..errors import UsageError, nearest
from . import own
from .base import Cell
from .own import admit  # noqa: F401


@lru_cache
def classes() -> dict[str, type[Cell]]:
    """Every cell of this folder by the name that `--cell` takes."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        for value in vars(import_module(f"{__name__}.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, Cell) and "name" in vars(value) and value.name:
                found[value.name] = value
    return dict(sorted(found.items()))


def make(name: str, settings: dict | None = None, option: str = "--cell") -> Cell:
    """A cell by name with its own settings; UsageError names the option, what is not known and the nearest that is.

    CheckpointError where the name is that of a class in a file that no person has named.
    """
    kind = classes().get(name) or own.kind_of(name)
    if kind is None:
        raise UsageError(f"{option} {name}: no such cell{nearest(name, classes())}; known: {', '.join(classes())}")
    hints = get_type_hints(kind)
    kinds = {field.name: hints[field.name] for field in fields(kind)}
    for key in settings or {}:
        if key not in kinds:
            allowed = f"settings of {name}: {', '.join(kinds)}" if kinds else f"{name} has no settings"
            raise UsageError(f"--cell-opt {key}: no such setting{nearest(key, kinds)}; {allowed}")
    cell = kind(**{key: _typed(name, key, value, kinds[key]) for key, value in (settings or {}).items()})
    return own.examined(cell, option) if own.in_file(name) else cell


def _typed(cell, key, value, kind):
    try:
        typed = kind(value)
        if kind is float and not isfinite(typed):
            raise ValueError
        return typed
    except ValueError:
        raise UsageError(f"--cell-opt {key}={value}: {cell} wants a value of type {kind.__name__}") from None


def listed(text: str, option: str = "--cells") -> list[str]:
    """The cells of `--cells a,b:setting=value,all`; "all" is every cell that is not named yet."""
    named = [part.strip() for part in text.split(",")]
    if "" in named:
        raise UsageError(f"{option} {text}: must be values with commas between")
    bare = {name for name in named if name != "all"}
    found = []
    for name in named:
        found += [each for each in classes() if each not in bare] if name == "all" else [name]
    if len(set(found)) < len(found):
        raise UsageError(f"{option} {','.join(found)}: names one of them twice")
    return found


def parted(cell: str) -> tuple[str, dict[str, str]]:
    """A cell as typed in its name and its own settings: "clockwork:modules=4"."""
    name, settings = re.fullmatch(r"(.*?)((?::\w+=[^:]*)*)", cell).groups()
    return name, dict(each.split("=", 1) for each in settings.split(":")[1:])
