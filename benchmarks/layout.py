"""The layout: where in memory the objects of a measured program lie.

    python -m benchmarks.layout NUMBER MODULE [ARGUMENT ...]

Python finds much by its address: the keys of many dictionaries, and attributes in the cache of the interpreter. Which
of them get into each other's way is a matter of chance, and makes a request that does a lot some per cent dearer or
cheaper than the same in a program that has one import more. So MODULE runs as by ``python -m MODULE``, but above a
padding that is another one for each NUMBER.
"""

from __future__ import annotations

import runpy
import sys

SIZES = range(1, 2_048, 16)
"""One for each class of sizes that Python allocates alike, and some that it leaves to the C library."""

PIECES = 61
"""A prime: each number has other pieces of each size."""


def padding(number: int) -> list[bytes]:
    """Return what moves all that is allocated after it, by another distance for each size; nothing for 0."""
    return [bytes(size) for size in SIZES for _ in range(number * size % PIECES)]


def main(number: str, module: str, *arguments: str) -> None:
    """Run *module*, before which nothing has been imported that Python does not import itself."""
    kept = padding(int(number))
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    del kept


if __name__ == "__main__":
    main(*sys.argv[1:])
