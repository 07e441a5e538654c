"""Code that is run by several threads at once."""

from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache

from llvmlite import ir

from .code import INT, Code

TOGETHER = 64  # calls that go on at once at most; only so many may wait for each other
PATIENCE = 4096  # looks at a counter, a power of 2, after which a waiting thread lets others have its processor


def at_once(calls: list, release=lambda: None) -> None:
    """Makes all calls, each in a thread, the first in this one, which so keeps its processor.

    If this thread is interrupted, `release` lets go those that wait for each other, and all are waited for.
    """
    others = []
    try:
        for call in calls[1:]:
            others.append(_pool().submit(call))
        calls[0]()
        for other in others:
            other.result()
    except BaseException:
        release()
        wait(others)
        raise


@cache
def _pool():
    return ThreadPoolExecutor(TOGETHER, "lanes")


def meet(module, name, kind):
    """A function of a goal, of how many threads; of a counter: it adds one, and returns once the counter is there, so
    that threads wait for each other. They watch it instead of sleeping, for that takes less than to be woken."""
    code = Code(module, name, 2, 1, kind)
    code.function.linkage = "internal"
    code.function.attributes.add("noinline")
    b, (goal, threads, counter) = code.build, code.function.args
    with b.if_then(b.icmp_signed(">", threads, INT(1))):
        b.atomic_rmw("add", counter, INT(1), "acq_rel")
        looks = b.alloca(INT)
        b.store(INT(0), looks)
        rest = ir.Function(module, ir.FunctionType(ir.IntType(32), []), "sched_yield")
        with code.while_(lambda: b.icmp_signed("<", b.load_atomic(counter, "acquire", 8, typ=INT), goal)):
            b.store(b.add(b.load(looks, typ=INT), INT(1)), looks)
            with b.if_then(b.icmp_signed("==", b.and_(b.load(looks, typ=INT), INT(PATIENCE - 1)), INT(0))):
                b.call(rest, [])
    b.ret_void()
    return code.function
