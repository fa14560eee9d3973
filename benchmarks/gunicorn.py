"""gunicorn as a process: with one worker or several, on a port that the kernel names, and ended with its workers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).parent.parent


@contextmanager
def served(
    target: str,
    *,
    workers: int = 1,
    threads: int,
    buffer: int | None = None,
    output: BinaryIO | None = None,
    **variables: str,
) -> Iterator[int]:
    """Serve an application for as long as the block lasts, and yield the port; who comes early waits.

    Args:
        target: The application, as ``"module:name"`` or ``"module:factory(...)"``.
        workers: How many processes there are.
        threads: How many threads each has.
        buffer: Of the sockets that are sent on, in bytes, if it is not to be the kernel's choice.
        output: Where the log goes; this program's, if it is left out.
        variables: Those of the environment, beside this program's own.
    """
    with socket.socket() as listener:
        if buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)  # its connections inherit it
        listener.bind(("127.0.0.1", 0))
        listener.listen(512)
        command = [
            *(sys.executable, "-m", "gunicorn", "--log-level", "warning", "--no-control-socket"),
            *("--worker-class", "gthread", "--workers", str(workers), "--threads", str(threads)),
            *("--bind", f"fd://{listener.fileno()}", target),
        ]
        server = subprocess.Popen(
            command,
            pass_fds=[listener.fileno()],
            cwd=ROOT,
            env=os.environ | variables,
            stderr=output,
            start_new_session=True,
        )
        try:
            yield listener.getsockname()[1]
        finally:
            os.killpg(server.pid, signal.SIGKILL)  # asked to quit, a worker may wait for a lock of its own for ever
            server.wait()
