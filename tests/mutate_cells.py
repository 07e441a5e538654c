"""Shows that the tests bite: every cell is made wrong in every way known here, and must stop equalling its oracle.

    python tests/mutate_cells.py [cell ..]

lists the mutants that nobody noticed and exits with 1 if one of them is not proved harmless in EQUIVALENT.
"""

import ast
import copy
import inspect
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
from test_cells import cases, equals_oracle

from charrnn import cells
from charrnn.cells import base

EQUIVALENT = {  # (cell, mutation): why it computes the same
    ("clockwork", "t % v.period -> -(t % v.period)"): "it is compared with 0, and -a is 0 exactly where a is",
    ("mogrifier", "k % 2 -> -(k % 2)"): "it is asked only whether it is 0, and -a is 0 exactly where a is",
}

SWAPS = {"sigmoid": ["tanh"], "tanh": ["sigmoid"], "relu": ["tanh"], "log_sigmoid": ["sigmoid"], "exp": ["sigmoid"]}
FLIPS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Eq: ast.NotEq, ast.GtE: ast.Lt}
SPACES = ("x", "U", "v", "below")


def other_expressions(node):
    """What may stand in the place of one expression: another sign, one term or factor less, another function."""
    if isinstance(node, ast.BinOp):
        if type(node.op) in FLIPS:
            yield ast.BinOp(node.left, FLIPS[type(node.op)](), node.right)
            yield ast.BinOp(ast.UnaryOp(ast.USub(), node.left), node.op, node.right)
        else:
            yield ast.UnaryOp(ast.USub(), node)
        yield node.left
        yield ast.UnaryOp(ast.USub(), node.right) if isinstance(node.op, ast.Sub) else node.right
    if isinstance(node, ast.UnaryOp):
        yield node.operand
    if isinstance(node, ast.Compare) and type(node.ops[0]) in FLIPS:
        yield ast.Compare(node.left, [FLIPS[type(node.ops[0])]()], node.comparators)
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        for name in SWAPS.get(node.id, []):
            yield ast.Name(name, ast.Load())
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("maximum", "where"):
        yield from node.args[-2:]
    if isinstance(node, ast.Call) and len(node.args) == 1:
        yield ast.Call(node.func, [ast.UnaryOp(ast.USub(), node.args[0])], [])
    if isinstance(node, ast.IfExp):
        yield from (node.body, node.orelse)


class _Replace(ast.NodeTransformer):
    def __init__(self, target, new):
        self.target, self.new = target, new

    def visit(self, node):
        return self.new if node is self.target else self.generic_visit(node)


def replaced(step, target, new):
    """A copy of a step with one node replaced; both are deep copies, the trees share nothing."""
    memo = {}
    step = copy.deepcopy(step, memo)
    return _Replace(memo[id(target)], copy.deepcopy(new)).visit(step)


def wrong_expressions(step):
    for node in list(ast.walk(step)):
        for new in other_expressions(node):
            yield f"{ast.unparse(node)} -> {ast.unparse(new)}", node.lineno, replaced(step, node, new)


def slots(step):
    """The places that name an array, by namespace: (namespace, name, node, field)."""
    for node in ast.walk(step):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in SPACES:
            yield node.value.id, node.attr, node, "attr"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            space = f"{node.func.id}({ast.unparse(node.args[0])}, ..)" if node.func.id == "getattr" else node.func.id
            for argument in node.args:
                for part in argument.values if isinstance(argument, ast.JoinedStr) else [argument]:
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield space, part.value, part, "value"


def renamed(step, changes):
    """A copy of a step with the given slots renamed: [(node, field, name)]."""
    memo = {}
    step = copy.deepcopy(step, memo)
    for node, field, name in changes:
        setattr(memo[id(node)], field, name)
    return step


def wrong_names(step):
    found = list(slots(step))
    for space in sorted({space for space, *_ in found}):
        own = [slot for slot in found if slot[0] == space]
        for a, b in combinations(sorted({name for _, name, *_ in own}), 2):
            swap = [(node, field, b if name == a else a) for _, name, node, field in own if name in (a, b)]
            yield f"{space}: {a} and {b} swapped", own[0][2].lineno, renamed(step, swap)
        for _, name, node, field in own:  # one place only; x is left out, since a gate less is found by the trace
            for other in sorted({other for _, other, *_ in own} - {name} if space != "x" else ()):
                yield f"{space}: {name} -> {other}", node.lineno, renamed(step, [(node, field, other)])


class _Sorted(ast.NodeTransformer):
    def visit_BinOp(self, node):
        node = self.generic_visit(node)
        if isinstance(node.op, ast.Add | ast.Mult):
            node.left, node.right = sorted((node.left, node.right), key=ast.unparse)
        return node


def sorted_operands(statement):
    """The text of a statement in which a + b and b + a, or a * b and b * a, read the same."""
    return ast.unparse(_Sorted().visit(copy.deepcopy(statement)))


def wrong_quantities(step):
    """Another quantity in the place of one, and two quantities of a line, such as its gates, swapped."""
    bound = {argument.arg for argument in step.args.args} - {"self", *SPACES}
    for place, statement in enumerate(step.body):
        spaces = {id(node.value) for node in ast.walk(statement) if isinstance(node, ast.Attribute)}
        found = [node for node in loads(statement) if node.id in bound and id(node) not in spaces]
        text = ast.unparse(statement)
        for node in found:
            for other in sorted(bound - {node.id}):
                yield f"{node.id} -> {other} in {text}", node.lineno, renamed(step, [(node, "id", other)])
        for a, b in combinations(sorted({node.id for node in found}), 2):
            wrong = renamed(step, [(node, "id", b if node.id == a else a) for node in found if node.id in (a, b)])
            if sorted_operands(wrong.body[place]) != sorted_operands(statement):
                yield f"{a} and {b} swapped in {text}", statement.lineno, wrong
        bound |= stored(statement)


def stored(statement):
    names = [n for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    return {name.id for name in names} | ({statement.name} if isinstance(statement, ast.FunctionDef) else set())


def loads(statement):
    return [n for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]


def wrong_times(step):
    """The old value of a name instead of the new one, and the new one (c, or c_now) instead of the old one."""
    bound = {argument.arg for argument in step.args.args}
    for place, statement in enumerate(step.body):
        for name in sorted(stored(statement) & bound):  # bound anew: what reads it from here on may read the old value
            for later in step.body[place if isinstance(statement, ast.For) else place + 1 :]:
                for node in (node for node in loads(later) if node.id == name):
                    wrong = replaced(step, node, ast.Name(f"old_{name}", ast.Load()))
                    wrong.body.insert(place, ast.parse(f"old_{name} = {name}").body[0])
                    yield f"old {name} in {ast.unparse(later).splitlines()[0]}", node.lineno, wrong
                if name in stored(later) and later is not statement:
                    break
        for node in loads(statement):
            if f"{node.id}_now" in bound:
                wrong = replaced(step, node, ast.Name(f"{node.id}_now", ast.Load()))
                yield f"new {node.id} in {ast.unparse(statement)}", node.lineno, wrong
        for source in step.body[place + 1 :]:  # a later statement that could come before this one, which reads its name
            names = stored(source) & bound & {node.id for node in loads(statement)}
            needed = {node.id for node in loads(source)} & set.union(set(), *map(stored, step.body))
            if names and needed <= bound and isinstance(source, ast.Assign):
                wrong = copy.deepcopy(step)
                wrong.body.insert(place, wrong.body.pop(step.body.index(source)))
                yield f"{ast.unparse(source)} before {ast.unparse(statement)}", statement.lineno, wrong
        bound |= stored(statement)


def mutants(kind):
    """Every mutant of a cell's class: what was done, in which line of the file, the class."""
    module = sys.modules[kind.__module__]
    file = ast.parse(inspect.getsource(module))
    whole = next(node for node in file.body if isinstance(node, ast.ClassDef) and node.name == kind.__name__)
    step = next(node for node in whole.body if isinstance(node, ast.FunctionDef) and node.name == "step")
    kinds = (wrong_expressions, wrong_names, wrong_quantities, wrong_times)
    for mutation, line, wrong in [("itself", step.lineno, step), *(way for kind in kinds for way in kind(step))]:
        body = [wrong if node is step else node for node in whole.body]
        made = copy.copy(whole)
        made.body = body
        code = ast.fix_missing_locations(ast.Module([made], []))
        names = vars(base) | vars(module)  # with the operators that the file does not import
        exec(compile(code, module.__file__, "exec"), names)
        yield mutation, line, names[kind.__name__]


class Noticed:
    """Keeps the error of its block: a mutant that gives other numbers, or none at all, is found."""

    error = None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.error = error
        return isinstance(error, Exception)


def notice(name, kind):
    """The error by which the comparison with the oracle notices this class in the place of the cell; None if not."""
    failed = None
    for case in cases([name]):
        with Noticed() as noticed, np.errstate(all="ignore"):
            equals_oracle(case, kind)
        if isinstance(noticed.error, AssertionError):
            return noticed.error  # other numbers
        failed = failed or noticed.error  # it did not run; perhaps it does with other sizes
    return failed


def judge(name):
    """Every mutant of a cell and the error by which it was noticed: [(mutation, line, error or None)]."""
    (_, _, same), *wrong = mutants(cells.classes()[name])
    error = notice(name, same)
    assert error is None, f"{name} itself, made in the way of the mutants, is not its oracle: {error}"
    return [(mutation, line, notice(name, kind)) for mutation, line, kind in wrong]


def main(names):
    unproved = 0
    for name in names or cells.classes():
        judged = judge(name)
        numbers = sum(isinstance(error, AssertionError) for *_, error in judged)
        survivors = [(mutation, line) for mutation, line, error in judged if error is None]
        stuck = len(judged) - numbers - len(survivors)
        print(
            f"{name}: {len(judged)} mutants: {numbers} break an assertion, {stuck} do not run, {len(survivors)} survive"
        )
        for mutation, line in survivors:
            proof = EQUIVALENT.get((name, mutation))
            unproved += not proof
            file = Path(inspect.getfile(cells.classes()[name])).name
            print(f"  {file}:{line}: {mutation}: {proof or 'NOT NOTICED'}")
    return 1 if unproved else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
