"""The house: floors, circles, what a floor may touch, sizes, docstrings, and which commands import what."""

import ast
import re
import sys
from graphlib import TopologicalSorter
from itertools import pairwise

import pytest
from conftest import ROOT

PACKAGE = ROOT / "charrnn"
FLOORS = [  # from the ground up; a room is a module or a folder of the package
    {"", "errors"},  # "" is charrnn/__init__.py: the version and nothing else
    {"cells", "vocab", "config", "seeds"},  # floor 0
    {"engine", "corpus", "tasks"},
    {"model", "stream", "yardstick"},
    {"checkpoint", "ensemble", "noise", "optim", "progress", "run", "threads"},
    {"evaluate", "gates", "plan"},
    {"adapt", "train", "sample"},
    {"bench", "compare", "probe", "report"},  # floor 6
    {"claims"},
    {"cli"},
    {"__main__"},  # the door
]
THIRD_PARTY = {  # what a room imports as soon as it is imported itself; anything heavier waits in a function
    "vocab": {"numpy"},
    "engine": {"llvmlite", "numpy", "torch"},
    "corpus": {"numpy"},
    "tasks": {"numpy"},
    "model": {"numpy"},
    "stream": {"numpy"},
    "yardstick": {"numpy"},
    "checkpoint": {"numpy"},
    "ensemble": {"torch"},
    "noise": {"numpy", "torch"},
    "optim": {"torch"},
    "progress": {"rich"},
    "evaluate": {"numpy", "torch"},
    "gates": {"numpy", "rich"},
    "adapt": {"numpy", "torch"},
    "train": {"numpy", "torch"},
    "sample": {"numpy"},
    "bench": {"numpy", "torch"},
    "compare": {"numpy"},
    "probe": {"numpy", "torch"},
    "report": {"numpy"},
    "cli": {"typer"},
}
HEAVY = {"torch", "numpy", "llvmlite", "tokenizers", "scipy", "matplotlib"}
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
every_module = pytest.mark.parametrize("name", MODULES, ids=lambda name: name or "charrnn")


def room(module: str) -> str:
    return module.split(".")[0]


def floor(module: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room(module) in rooms)


def inner_imports(name: str) -> set[str]:
    """The modules of charrnn that a module imports, wherever in it the import stands."""
    package = name.split(".") if MODULES[name].name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Import):
            absolute = [alias.name for alias in node.names if alias.name.split(".")[0] == "charrnn"]
            assert not absolute, f"{name}: imports inside the package are relative, not {absolute}"
        if not isinstance(node, ast.ImportFrom):
            continue
        assert node.level or node.module.split(".")[0] != "charrnn", f"{name}: not relative: {ast.unparse(node)}"
        if node.level:
            parent = [part for part in package if part][: len(package) - (node.level - 1)]
            base = ".".join(parent + (node.module.split(".") if node.module else []))
            named = [f"{base}.{alias.name}".lstrip(".") for alias in node.names]
            found |= {module if module in MODULES else base for module in named}
    return found


def outer_imports(tree: ast.Module) -> set[str]:
    """The names of other packages imported at a module's own level, and so whenever it is imported."""
    waiting, found = list(tree.body), set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.split(".")[0])
        elif not isinstance(node, FUNCTION):
            waiting += ast.iter_child_nodes(node)
    return found - sys.stdlib_module_names


def dotted(node) -> str:
    """`np.random.normal` for the expression that says so, else an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    inner = dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{inner}.{node.attr}" if inner else ""


# ---- floors


@every_module
def test_every_module_has_a_room(name):
    assert any(room(name) in rooms for rooms in FLOORS), f"{name} has no place in the table of floors"


def test_every_room_of_the_table_is_there():
    assert set().union(*FLOORS) == {room(name) for name in MODULES}


@every_module
def test_imports_go_down_only(name):
    for other in inner_imports(name):
        inside = room(other) == room(name)
        assert inside or floor(other) < floor(name), f"{name} (floor {floor(name)}) imports {other} ({floor(other)})"


def test_the_reading_of_imports_sees_what_is_there():
    assert inner_imports("train") >= {"checkpoint", "config", "corpus", "engine", "evaluate", "model", "optim", "run"}
    assert inner_imports("engine.native") == {"cells.gru", "cells.lstm", "cells.rnn"}
    assert "checkpoint" in inner_imports("cli.members") and "sample" in inner_imports("cli.generate")
    assert inner_imports("__main__") == {"cli"}


def test_no_module_imports_in_a_circle():
    """Outside the room of the commands, whose modules add themselves to its app."""
    graph = {n: {m for m in inner_imports(n) - {n} if (room(n), room(m)) != ("cli", "cli")} for n in MODULES}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert set(order) == set(MODULES)


def test_only_four_run_code_by_name():
    """The three that discover, and the one that runs a file which a person named. Everywhere else an import is a
    statement, so that the tests above see it."""
    ways = re.compile(r"import_module|__import__|importlib\.|runpy|(?<![\w.])(?:exec|eval)\(")
    found = {name for name, path in MODULES.items() if ways.search(path.read_text(encoding="utf-8"))}
    assert found == {"cells", "cells.own", "cli", "engine"}


@pytest.mark.parametrize("module", [name for name in MODULES if floor(name) <= 3])
def test_the_lower_floors_touch_nothing_global(module):
    """Neither print, nor the clock, the environment, or a global random generator."""
    own = {"Generator", "default_rng", "SeedSequence", "PCG64", "Philox"}
    closed = {"time", "datetime", "random", "secrets", "uuid", "logging", "warnings"}
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import | ast.ImportFrom) and not getattr(node, "level", 0):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert not closed & {name.split(".")[0] for name in names}, f"{module}: {ast.unparse(node)}"
            if isinstance(node, ast.ImportFrom) and node.module == "os":
                assert not {"environ", "getenv", "environb"} & {alias.name for alias in node.names}, module
        if isinstance(node, ast.Call):
            assert dotted(node.func) not in ("print", "input"), f"{module}:{node.lineno} talks to the terminal"
        if isinstance(node, ast.Attribute):
            path = dotted(node)
            assert not re.fullmatch(r"os\.(environb?|getenv|times)|sys\.(stdout|stderr)", path), f"{module}: {path}"
            assert not re.fullmatch(r"torch\.(manual_seed|seed|rand\w*|bernoulli|multinomial|normal)", path), path
            generator = re.fullmatch(r"(?:np|numpy)\.random\.(\w+)", path)
            assert not generator or generator[1] in own, f"{module}:{node.lineno}: {path} is global"


@pytest.mark.parametrize("module", [name for name in MODULES if room(name) == "cells"])
def test_cells_import_no_array_library(module):
    everywhere = {
        alias.name.split(".")[0] for n in ast.walk(TREES[module]) if isinstance(n, ast.Import) for alias in n.names
    }
    everywhere |= {
        n.module.split(".")[0] for n in ast.walk(TREES[module]) if isinstance(n, ast.ImportFrom) and not n.level
    }
    assert everywhere <= sys.stdlib_module_names


# ---- sizes and words


@every_module
def test_a_file_is_a_room_not_a_hall(name):
    lines = len(MODULES[name].read_text(encoding="utf-8").splitlines())
    assert lines <= 420, f"{name}: {lines} lines; make it a folder"


@every_module
def test_a_function_is_a_screen(name):
    for node in ast.walk(TREES[name]):
        if isinstance(node, FUNCTION):
            length = node.end_lineno - node.lineno + 1
            assert length <= 60, f"{name}: {node.name} has {length} lines; it is two functions"


@every_module
def test_docstrings(name):
    """A module, and each public function and class at its level, says what it is."""
    tree = TREES[name]
    public = [n for n in tree.body if isinstance(n, (*FUNCTION, ast.ClassDef)) and not n.name.startswith("_")]
    mute = [n.name for n in public if not ast.get_docstring(n)]
    assert ast.get_docstring(tree) and not mute, f"{name}: without a docstring: {mute}"


def test_no_room_is_a_drawer():
    parts = {word for name in MODULES for word in re.split(r"[._]", name)}
    assert not parts & {"util", "utils", "helper", "helpers", "common", "manager", "misc", "tools", "core"}


def test_tests_never_catch():
    tests = {path.name: ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "tests").glob("test_*.py")}
    assert "test_house.py" in tests
    assert [name for name, tree in tests.items() if any(isinstance(node, ast.Try) for node in ast.walk(tree))] == []


# ---- what is imported when


def test_third_party_imports_are_those_of_the_table():
    found = {}
    for name, tree in TREES.items():
        found.setdefault(room(name), set()).update(outer_imports(tree))
    assert {name: libraries for name, libraries in found.items() if libraries} == THIRD_PARTY


@pytest.fixture
def imported(process):
    """imported("--help") runs the command as a process: (its exit status, the packages it imported)."""

    def run(*arguments):
        done = process(*arguments, PYTHONPROFILEIMPORTTIME="1")
        lines = re.findall(r"^import time: +\d+ \| +\d+ \| +(\S+)$", done.stderr.decode(), re.MULTILINE)
        assert "charrnn.cli" in lines
        return done.returncode, {line.split(".")[0] for line in lines}

    return run


@pytest.mark.parametrize(
    ("status", "arguments"),
    [
        (0, ["--help"]),
        (0, ["train", "--help"]),
        (0, ["--version"]),
        (2, ["trian"]),
        (2, ["train", "x", "--hiden", "3"]),
        (2, ["train", "x", "--hidden", "many"]),
        (2, ["train", "x", "--hidden", "0"]),
        (2, ["train", "x", "--cell", "lstn"]),
        (2, ["train"]),
        (2, ["sample", "x", "--temperature", "hot"]),
        (2, ["eval", "x", "--per", "word"]),
        (2, ["eval", "x", "--dynamic", "--windows", "8"]),
        (2, ["cells", "lstn"]),
        (2, ["compare"]),
        (0, ["compare", "--help"]),
        (2, ["compare", "x", "--cells", "lstn"]),
        (2, ["compare", "x", "--vary", "hiden=3"]),
        (2, ["probe", "context", "-c", "x", "--positions", "0"]),
        (2, ["probe", "gradient", "x", "--cells", "lstn"]),
        (2, ["claims", "--corpus", "-"]),
        (0, ["probe", "--help"]),
        (0, ["probe", "recall", "--help"]),
        (2, ["probe", "recal"]),
        (2, ["probe", "recall", "--cells", "lstn"]),
        (2, ["probe", "order", "--gaps", "5"]),
        (2, ["corpora", "make", "recal"]),
        (2, ["corpora", "make", "pairs", "--gap", "200"]),
        (2, ["plot", "x", "--of", "curve"]),
        (2, ["plot", "x", "-o", "y.gif"]),
        (0, ["train", "--print-config"]),
        (2, ["plan"]),
        (0, ["plan", "--help"]),
        (2, ["plan", "x", "--hidden", "0"]),
        (0, ["bench"]),
        (0, ["bench", "train", "--help"]),
        (2, ["bench", "train", "--cells", "lstn"]),
        (2, ["bench", "sample", "--streams", "many"]),
        (2, ["bench", "start", "--seconds", "0"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_help_and_usage_errors_import_nothing_heavy(imported, status, arguments):
    ended, packages = imported(*arguments)
    assert (ended, packages & HEAVY) == (status, set())


def test_sampling_imports_neither_torch_nor_tokenizers(imported, trained):
    for options in ([], ["--ensemble", trained]):
        assert not imported("sample", trained, *options, "-n", 20)[1] & {"torch", "tokenizers"}
    assert "numpy" in imported("sample", trained / "best.pt", "-n", 1, "--json")[1]  # the probe sees what is there


@pytest.mark.parametrize("command", [["cells"], ["corpora"], ["inspect"], ["gates", "--text", "the fish"]])
def test_looking_imports_no_torch(imported, trained, command):
    name, *options = command
    status, packages = imported(name, *([trained] if name in ("inspect", "gates") else []), *options)
    assert status == 0 and not packages & {"torch", "tokenizers"}


def test_a_missing_corpus_or_checkpoint_is_told_without_torch(imported):
    for arguments in (["train", "absent.txt"], ["eval", "absent", "absent.txt"], ["train", "--resume", "absent"]):
        status, packages = imported(*arguments)
        assert status in (2, 5) and "torch" not in packages, arguments


def test_the_floors_are_told_in_order():
    """The table above is itself sound: no room twice."""
    for lower, upper in pairwise(FLOORS):
        assert not lower & upper
    assert sum(map(len, FLOORS)) == len(set().union(*FLOORS))
