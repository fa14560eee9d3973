"""Start a server that is started from Python: ``python -m tests.servers.start NAME PORT``.

Each function here is what that server's documentation says a program has to do, with SIGTERM as the request to stop
as gracefully as the server can.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

HOST = "127.0.0.1"


def stop_by(stop: Callable[[], object]) -> None:
    """Call *stop* at SIGTERM, on a thread of its own, for it waits for the thread that serves."""

    def on_signal(number: int, frame: object) -> None:
        threading.Thread(target=stop).start()

    signal.signal(signal.SIGTERM, on_signal)


def wsgiref(port: int) -> None:
    """Serve one request at a time."""
    from wsgiref.simple_server import make_server

    from .application import application

    with make_server(HOST, port, application) as server:
        stop_by(server.shutdown)
        server.serve_forever(poll_interval=0.05)


def werkzeug(port: int) -> None:
    """Serve with a thread for each connection, as ``flask run`` does."""
    from werkzeug.serving import make_server

    from .application import application

    server: Any = make_server(HOST, port, application, threaded=True)
    stop_by(server.shutdown)
    server.serve_forever(poll_interval=0.05)
    server.server_close()


def waitress(port: int) -> None:
    """Serve with a pool of threads, behind a loop that buffers for slow clients."""
    from waitress.server import create_server

    from .application import application

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit())
    create_server(application, host=HOST, port=port).run()


def cheroot(port: int) -> None:
    """Serve with a pool of threads."""
    from cheroot.wsgi import Server

    from .application import application

    server = Server((HOST, port), application, numthreads=4)
    stop_by(server.stop)
    server.start()


def pywsgi(port: int) -> None:
    """Serve with a greenlet for each connection."""
    from gevent import monkey, signal_handler

    monkey.patch_all()
    from gevent.pool import Pool
    from gevent.pywsgi import WSGIServer

    from .application import application

    server = WSGIServer((HOST, port), application, spawn=Pool(8))  # without a pool, stop() waits for nobody
    signal_handler(signal.SIGTERM, server.stop)
    server.serve_forever()


def eventlet(port: int) -> None:
    """Serve with a green thread for each connection."""
    import eventlet

    eventlet.monkey_patch()
    from eventlet import wsgi

    from .application import application

    server = eventlet.spawn(wsgi.server, eventlet.listen((HOST, port)), application, debug=False)
    signal.signal(signal.SIGTERM, lambda number, frame: eventlet.spawn_after(0, server.kill, SystemExit))
    server.wait()


def bjoern(port: int) -> None:
    """Serve all connections on one thread, without greenlets."""
    import bjoern

    from .application import application

    bjoern.run(application, HOST, port)


def tornado(port: int) -> None:
    """Serve on the thread of the event loop."""
    _tornado(port, None)


def tornado_with_executor(port: int) -> None:
    """Serve with a pool of threads, on which each step may be another thread's."""
    from concurrent.futures import ThreadPoolExecutor

    _tornado(port, ThreadPoolExecutor(4))


def _tornado(port: int, executor: Any) -> None:
    import asyncio

    from tornado.httpserver import HTTPServer
    from tornado.wsgi import WSGIContainer

    from .application import application

    async def serve() -> None:
        server = HTTPServer(WSGIContainer(application, executor))
        server.listen(port, HOST)
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        await stopped.wait()
        server.stop()
        await server.close_all_connections()

    asyncio.run(serve())


if __name__ == "__main__":
    starters = {name: function for name, function in vars().items() if getattr(function, "__module__", "") == __name__}
    starters[sys.argv[1]](int(sys.argv[2]))
