"""Code for the processor at hand, by way of LLVM; nothing here knows of torch or of cells."""

from functools import cache


@cache
def trouble() -> str:
    """What there is against it here, in words; an empty string where it works."""
    try:
        from llvmlite import ir

        from . import processor

        processor.Compiled(ir.Module())
    except (ImportError, OSError, RuntimeError) as error:
        return f"llvmlite for this processor: {error}"
    return ""
