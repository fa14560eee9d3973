"""Proxies as processes, with nothing in their configuration but where they listen and what is behind them."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

from tests.machine import proxy_program

OF_NGINX = """\
daemon off;
pid {folder}/pid;
error_log stderr;
{user}
events {{}}
http {{
    access_log {folder}/visitors;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen {address}:{port};
        location / {{
            proxy_pass http://127.0.0.1:{behind};
        }}
    }}
}}
"""

OF_HAPROXY = """\
global
    log stdout format raw daemon
defaults
    mode http
    log global
    option httplog
    timeout connect 10s
    timeout client 10s
    timeout server 10s
frontend all
    bind {address}:{port}
    default_backend application
backend application
    server application 127.0.0.1:{behind}
"""

COMMANDS: dict[str, tuple[str, list[str]]] = {
    "haproxy": (OF_HAPROXY, ["-db", "-f", "{folder}/configuration"]),
    "nginx": (OF_NGINX, ["-p", "{folder}", "-c", "{folder}/configuration"]),
}
"""What configures each proxy, and the arguments that have it stay in the foreground."""

Visitors: TypeAlias = Callable[[], str]


def address_of_others() -> str:
    """Return an address of this machine that is not the loopback's, or where it has none the loopback's second."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))  # of a documentation; a datagram's connect() sends nothing
        except OSError:
            return "127.0.0.2"
        address: str = probe.getsockname()[0]
        return address


@contextmanager
def proxy(name: str, folder: Path, address: str, behind: int) -> Iterator[tuple[int, Visitors]]:
    """Run a proxy in front of a port, and yield its own port at *address* and what it has logged of its visitors."""
    user = "" if os.getuid() else "user root;"  # or its worker cannot write into the folder
    for _ in range(3):  # somebody may take the port before the proxy does
        port = _free_port(address)
        values = {"folder": folder, "address": address, "port": port, "behind": behind, "user": user}
        process = _started(name, folder, {key: str(value) for key, value in values.items()})
        if _listens(process, address, port):
            break
        _end(process)
    else:
        raise AssertionError((folder / "output").read_text())
    try:
        yield port, lambda: "".join(one.read_text() for one in (folder / "visitors", folder / "output") if one.exists())
    finally:
        _end(process)


def _started(name: str, folder: Path, values: dict[str, str]) -> subprocess.Popen[bytes]:
    configuration, arguments = COMMANDS[name]
    (folder / "configuration").write_text(configuration.format(**values))
    command = [str(proxy_program(name)), *(argument.format(**values) for argument in arguments)]
    with (folder / "output").open("ab") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(process: subprocess.Popen[bytes], address: str, port: int) -> bool:
    """Wait until a proxy takes connections, or has ended."""
    deadline = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection((address, port), timeout=1):
            return process.poll() is None
        time.sleep(0.02)
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(20)
