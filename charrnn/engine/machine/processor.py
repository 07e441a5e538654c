"""Compiling for the processor at hand, and running what was compiled on several of its cores."""

import ctypes
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import llvmlite.binding as llvm
from llvmlite import ir

from . import matmul


@dataclass(frozen=True)
class Kind:
    """How lanes are cut into blocks of so many vectors, each of `width` numbers, which are float or `double`; products
    are `mixed` where what is multiplied is rounded to bfloat16."""

    double: bool
    width: int
    vectors: int
    mixed: bool = False

    @property
    def number(self):
        return ir.DoubleType() if self.double else ir.FloatType()

    @property
    def lanes(self):
        """Of a block."""
        return self.width * self.vectors

    @property
    def together(self):
        """How many numbers are multiplied and summed in one place of a vector."""
        return 2 if self.mixed else 1

    @property
    def tall(self):
        """Rows of a matrix that are multiplied at once: with their vectors of sums they fill half of the registers."""
        return max(2, 16 // self.vectors // (1 if _widest() >= 64 else 2))

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

    def function(self, name, integers, pointers):
        """By name, of so many integers and then pointers; it keeps the module alive."""
        kinds = [ctypes.c_int64] * integers + [ctypes.c_void_p] * pointers
        found = ctypes.CFUNCTYPE(None, *kinds)(self.engine.get_function_address(name))
        found.compiled = self
        return found


def side_by_side(work, threads: int) -> None:
    """work(0), work(1), .. in so many threads, of which this is one."""
    others = [_pool().submit(work, k) for k in range(1, threads)]
    work(0)
    for other in others:
        other.result()


@cache
def _pool():
    return ThreadPoolExecutor(thread_name_prefix="lanes")
