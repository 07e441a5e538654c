"""Compiling for the processor at hand, and running what was compiled on several of its cores."""

import ctypes
import sys
from dataclasses import dataclass
from functools import cache, partial

import llvmlite.binding as llvm
from llvmlite import ir

from . import matmul
from .code import INT, POINTER, Code
from .threads import at_once


@dataclass(frozen=True)
class Kind:
    """How lanes are cut into blocks of so many vectors, each of `width` numbers, which are float or `double`; products
    are `mixed` where what is multiplied is rounded to bfloat16. Of a lane that is `alone` units make up the vectors."""

    double: bool
    width: int
    vectors: int
    mixed: bool = False
    alone: bool = False

    @property
    def number(self):
        """Its type."""
        return ir.DoubleType() if self.double else ir.FloatType()

    @property
    def lanes(self):
        """Of a block."""
        return 1 if self.alone else self.width * self.vectors

    @property
    def together(self):
        """How many numbers are multiplied and summed in one place of a vector."""
        return 2 if self.mixed else 1

    @property
    def tall(self):
        """Rows of a matrix that are packed and multiplied at once: with their vectors of sums they fill half of the
        registers."""
        if self.alone:
            return self.width
        registers = 32 if features().get("avx512f") or features().get("neon") else 16
        return registers // 2 // self.vectors

    @property
    def chunk(self):
        """Steps whose weight gradients are one product."""
        return matmul.CHUNK // self.lanes


@cache
def features():
    """What this processor can do; RuntimeError where LLVM does not know."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.get_host_cpu_features()


def _widest():
    """Bytes of this processor's widest vector."""
    return 64 if features().get("avx512f") else 32 if features().get("avx") else 16


def in_pairs() -> bool:
    """Whether this processor multiplies pairs of bfloat16."""
    return bool(features().get("avx512bf16") and features().get("avx512vl"))


def in_bytes() -> bool:
    """Whether this processor sums products of whole numbers of 16 bits, in the widest of its vectors."""
    return bool(features().get({64: "avx512bw", 32: "avx2", 16: "sse2"}[_widest()]))


def kind_alone(double: bool = False) -> Kind:
    """That of a single lane; the backward pass does not know it."""
    return Kind(double, _widest() // (8 if double else 4), 1, alone=True)


def kind_for(lanes: int, threads: int, double: bool = False, mixed: bool = False) -> Kind:
    """How so many lanes are cut into blocks: as many as there are threads, but none that is wider than two vectors."""
    widest = _widest() // (8 if double else 4)
    each = -(-lanes // threads)
    for width, vectors in ((widest // 2, 1), (widest, 1), (widest, 2)):
        if width * vectors >= each:
            break
    return Kind(double, width, vectors, mixed)


class Compiled:
    """A module of code, ready to run."""

    def __init__(self, module):
        parsed = llvm.parse_assembly(str(module))
        parsed.verify()
        able = features().flatten()
        # Optimised only as machine code is written: more takes as long again, and the code is no faster
        target = llvm.Target.from_default_triple().create_target_machine(llvm.get_host_cpu_name(), able, jit=True)
        self.engine = llvm.create_mcjit_compiler(parsed, target)
        self.engine.finalize_object()

    def address(self, name):
        """Of a function by name."""
        return self.engine.get_function_address(name)

    def function(self, name, integers, pointers):
        """By name, of so many integers and then pointers; it keeps the module alive."""
        kinds = [ctypes.c_int64] * integers + [ctypes.c_void_p] * pointers
        found = ctypes.CFUNCTYPE(None, *kinds)(self.address(name))
        found.compiled = self
        return found


@cache
def openmp():
    """What starts the threads of GNU's OpenMP, by which torch computes, too; None where it is not there."""
    return getattr(ctypes.CDLL(None), "GOMP_parallel", None) if sys.platform == "linux" else None


class Shared:
    """A kernel(steps, lanes, first, arrays, strides) of a module, for a block of lanes, shared out among threads."""

    def __init__(self, module, kernel, kind):
        _add_part(module, kernel, kind)
        if openmp():
            _add_all(module, kind)
        code = Compiled(module)
        self.part = code.function("part", 1, 1)
        self.all = ctypes.c_void_p(code.address("all")) if openmp() else None

    def __call__(self, steps, lanes, arrays, strides, threads):
        """All steps of all lanes, in as many parts as there are lists of addresses of arrays, and of strides."""
        lists = [(ctypes.c_int64 * len(own))(*own) for pair in zip(arrays, strides, strict=True) for own in pair]
        data = (ctypes.c_int64 * (3 + len(lists)))(steps, lanes, len(arrays), *map(ctypes.addressof, lists))
        if self.all and len(arrays) > 1:  # OpenMP would end threads if it were asked for fewer than usual
            openmp()(self.all, data, ctypes.c_uint(threads), ctypes.c_uint(0))
            return
        at_once([partial(self.part, k, data) for k in range(len(arrays))])


def _add_part(module, kernel, kind):
    """Adds `part` (k; data): of so many parts, the k-th runs every so manieth block of lanes. The data are steps,
    lanes, parts, and for each part the addresses of its arrays and strides."""
    code = Code(module, "part", 1, 1, kind)
    b, (k, data) = code.build, code.function.args
    own = b.add(b.mul(k, INT(2)), INT(3))
    steps, lanes, parts = (_item(b, data, INT(number)) for number in range(3))
    arrays, strides = _item(b, data, own, POINTER), _item(b, data, b.add(own, INT(1)), POINTER)
    with code.loop(b.mul(k, INT(kind.lanes)), lanes, b.mul(parts, INT(kind.lanes))) as first:
        b.call(kernel, [steps, lanes, first, arrays, strides])
    b.ret_void()


def _add_all(module, kind):
    """Adds `all` (data), in which each of OpenMP's threads runs the parts that are its own."""
    code, number = Code(module, "all", 0, 1, kind), ir.FunctionType(ir.IntType(32), [])
    b, (data,) = code.build, code.function.args
    asked = (ir.Function(module, number, f"omp_get_{name}") for name in ("thread_num", "num_threads"))
    mine, threads = (b.sext(b.call(function, []), INT) for function in asked)
    with code.loop(mine, _item(b, data, INT(2)), threads) as k:
        b.call(module.globals["part"], [k, data])
    b.ret_void()


def _item(build, data, number, kind=INT):
    return build.load(build.gep(data, [number], source_etype=INT), typ=kind)
