"""Make many requests, and say what came of them.

::

    python -m tests.soak --mixed 1000000 --killed 50000 --seed 7

Those that are mixed run in this process, on SQLite; the others over gunicorn and a PostgreSQL of their own, which ends
a connection every 65 ms. The status is 1 if anything was lost, was done twice, or is kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from . import killed, mixed


def main() -> None:
    """Make the requests, and print a report of each part."""
    parser = argparse.ArgumentParser(description="Make many requests, and say what came of them.")
    parser.add_argument("--mixed", type=int, default=1_000_000, help="in one process (default: %(default)s)")
    parser.add_argument("--killed", type=int, default=50_000, help="over gunicorn (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="(default: %(default)s)")
    options = parser.parse_args()
    is_right = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.mixed:
            in_process = mixed.run(folder, options.mixed, options.seed)
            print(in_process, flush=True)
            is_right = in_process.is_right and in_process.is_flat
        if options.killed:
            over_gunicorn = killed.run(options.killed, options.seed, folder / "log")
            print(over_gunicorn, flush=True)
            is_right = is_right and over_gunicorn.is_right
    sys.exit(not is_right)


if __name__ == "__main__":
    main()
