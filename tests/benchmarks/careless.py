"""A small webhook receiver, a real server in a process of its own, that keeps what it is told in a ledger: well, or badly.

``python careless.py LEDGER FAULT [TOKEN]`` prints its port and serves until it is ended; a child does the serving, whose id is in
``LEDGER.pid``, and is started again when it is killed. The ledger has a line of JSON, the id, for each thing.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FAULTS = ("none", "loses", "doubles", "acknowledges-first", "refuses")


class Ledger:
    def __init__(self, file: Path, fault: str) -> None:
        self._file, self._fault = file, fault
        self._known = {json.loads(line) for line in file.read_text().splitlines()} if file.exists() else set()
        self._lock = threading.Lock()
        self._requests = 0

    def take(self, ids: list[str]) -> int:
        """Write down what is new; returns the status to answer with."""
        with self._lock:
            self._requests += 1
            if self._requests % 5 == 0:
                return 503  # Whoever sends must cope with that.
            if self._fault == "refuses" and self._requests % 5 == 1:
                return 429
            new = [one for one in dict.fromkeys(ids) if one not in self._known]
            self._known.update(new)
            if self._fault == "acknowledges-first":
                threading.Timer(1.0, self._write, [new]).start()
                return 202
            if self._fault == "loses":
                new = [one for one in new if not one.endswith("7")]
            elif self._fault == "doubles":
                new += [one for one in new if one.endswith("7")]
            self._write(new)
            return 201 if new else 202

    def _write(self, ids: list[str]) -> None:
        with self._file.open("a") as stream:
            stream.writelines(json.dumps(one) + "\n" for one in ids)
            stream.flush()
            os.fsync(stream.fileno())


def serve(fd: int, ledger: Ledger, token: str) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.headers.get("Authorization", "") != (f"Bearer {token}" if token else ""):
                return self._answer(401)
            return self._answer(ledger.take([alert["labels"]["zero_loss_id"] for alert in body["alerts"]]))

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=fd)
    server.server_address = server.socket.getsockname()
    server.serve_forever()


def main() -> None:
    file, fault, token = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    if len(sys.argv) > 4:
        serve(int(sys.argv[4]), Ledger(file, fault), token)
        return
    assert fault in FAULTS
    signal.signal(signal.SIGINT, signal.default_int_handler)  # Whoever starts us in the background has it ignored.
    file.touch()  # Whoever counts before anything was kept finds nothing, not an error.
    door = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(door.getsockname()[1], flush=True)
    while True:
        child = subprocess.Popen([sys.executable, *sys.argv, str(door.fileno())], pass_fds=[door.fileno()])
        written = Path(f"{file}.new")
        written.write_text(str(child.pid))
        written.replace(f"{file}.pid")  # Whoever reads it finds an id, never an empty file.
        try:
            child.wait()
        finally:
            child.kill()
            child.wait()


if __name__ == "__main__":
    main()
