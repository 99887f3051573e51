"""A stand-in for a cloud's metadata service, on a loopback port."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, bytes, dict[str, str]]
Service = Callable[[str, str, Any], Answer]
"""What is answered to a method, a path and headers."""


@contextmanager
def serving(service: Service) -> Iterator[tuple[tuple[str, int], list[str]]]:
    """Its address, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.command} {self.path}")
            status, body, headers = service(self.command, self.path, self.headers)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_PUT = do_GET  # noqa: N815 - as the server looks for it

        def log_message(self, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield ("127.0.0.1", server.server_address[1]), asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def accepting(behave: Callable[[socket.socket, threading.Event], None]) -> Iterator[tuple[str, int]]:
    """The address of a server that does with each connection what ``behave`` does until the event is set."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=talk, args=(connection,))
            threads.append(thread)
            thread.start()

    def talk(connection: socket.socket) -> None:
        with connection:
            behave(connection, over)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepter = threading.Thread(target=accept)
        accepter.start()
        try:
            yield ("127.0.0.1", listener.getsockname()[1])
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            accepter.join()
            for thread in threads:
                thread.join()
