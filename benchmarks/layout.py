"""The layout: where in memory the objects of a measured program lie.

    python -m benchmarks.layout NUMBER MODULE [ARGUMENT ...]

Python finds much by its address: the keys of many dictionaries, and attributes in the cache of the interpreter, which
knows classes by the order of their first use. Which of them get into each other's way is a matter of chance, and makes
a request that does a lot some per cent dearer or cheaper than the same in a program that has one import more. So MODULE
runs as by ``python -m MODULE``, but all that it imports is scattered, by chance that begins with NUMBER. To move it as
a whole is not enough: two names that lie in each other's way then do so in every layout.
"""

from __future__ import annotations

import runpy
import sys
from importlib.abc import MetaPathFinder
from random import Random

SIZES = range(0, 480, 16)
"""In bytes: one for each class of sizes that Python allocates alike."""

PIECES = 12
"""How many of each size lie between two modules, at most."""

CLASSES = 8
"""How many other classes are used between two modules, at most."""


class Scattering(MetaPathFinder):
    """Is asked for each module before it is imported, and puts pieces and holes in between.  Lives as long as those."""

    def __init__(self, number: int) -> None:
        """Begin with a number, which makes another layout of the same modules."""
        self._chance = Random(number)
        self._pieces: list[bytes] = []

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        """Find nothing, which leaves the module to others."""
        chance = self._chance
        pieces = [bytes(size) for size in SIZES for _ in range(chance.randrange(PIECES))]
        self._pieces += (piece for piece in pieces if chance.random() < 0.5)
        for _ in range(chance.randrange(CLASSES)):
            hasattr(type("Other", (), {}), "anything")


def main(number: str, module: str, *arguments: str) -> None:
    """Run *module*, before which nothing has been imported that Python does not import itself."""
    sys.meta_path.insert(0, Scattering(int(number)))
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
