"""The page's server: standard library, loopback, a token, checked Host, strict policy, JSON in, JSON header and arrays out.

What it defends against: another page in the same browser (Host and Origin are checked, so that DNS rebinding and
cross-site posts fail; the token is in the URL's fragment, which browsers send to nobody), another user of the machine
(the token), and bad requests (sizes and types are checked; an answer never tells a path or a traceback).
"""

import hmac
import json
import secrets
import struct
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from threading import BoundedSemaphore, Thread
from typing import Any

from relukit._errors import RelukitError
from relukit._numerics._files import plain
from relukit.explorer._answers import Engine, Reply

_STATIC = {
    "/": ("page.html", "text/html; charset=utf-8"),
    **{
        f"/{n}": (n, "text/javascript; charset=utf-8")
        for n in ("page.js", "draw.js", "moments.js", "raster.js", "wire.js")
    },
    "/page.css": ("page.css", "text/css; charset=utf-8"),
}
_SMALL, _LARGE = 256 << 10, 48 << 20  # bytes of a request: settings; a dropped file (a third more in base64)
_AT_ONCE = 4  # answers computed at the same time
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors {ancestors}"
)


def pack(reply: Reply) -> bytes:
    """Length of the header, the header as JSON padded to four bytes, then each array, padded too, all little-endian."""
    header, arrays = reply
    named = [(name, a.dtype.kind + str(a.dtype.itemsize), a.size, a.tobytes()) for name, a in arrays.items()]
    text = json.dumps(_finite(header | {"arrays": [n[:3] for n in named]}), default=plain, allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    return b"".join([struct.pack("<I", len(text)), text, *[raw + b"\0" * (-len(raw) % 4) for *_, raw in named]])


def _finite(value: Any) -> Any:
    """JSON has no infinity: such numbers become null."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))) else value


class Server:
    """The page for one engine. `url` holds the token; `start` serves in the background, `close` stops.

    Arguments:
        host: An address of this machine; anything but loopback lets others reach the page.
        port: 0 takes a free one.
        framed: Whether pages of this machine (a notebook) may show it inside a frame.
    """

    def __init__(self, engine: Engine, host: str = "127.0.0.1", port: int = 0, framed: bool = False):
        self.engine, self.token = engine, secrets.token_urlsafe(24)
        handler = type(
            "Handler", (_Handler,), {"engine": engine, "token": self.token, "gate": BoundedSemaphore(_AT_ONCE)}
        )
        ancestors = "http://127.0.0.1:* http://localhost:*" if framed else "'none'"
        handler.policy = _POLICY.format(ancestors=ancestors)
        self.http = _Quiet((host, port), handler)
        self.host, self.port = host, self.http.server_address[1]
        names = {"127.0.0.1", "localhost"} if host in ("127.0.0.1", "localhost") else {host}
        handler.hosts = frozenset(f"{name}:{self.port}" for name in names)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}/#token={self.token}"

    def start(self) -> "Server":
        Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        return self

    def serve(self) -> None:
        self.http.serve_forever(poll_interval=0.2)

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A tab that closes in the middle of an answer is no news."""


class _Handler(BaseHTTPRequestHandler):
    engine: Engine
    token: str
    policy: str
    hosts: frozenset[str]
    gate: BoundedSemaphore
    protocol_version = "HTTP/1.1"
    timeout = 20
    disable_nagle_algorithm = True  # an answer in two writes would wait 40 ms for an acknowledgment
    wbufsize = 64 << 10
    server_version, sys_version = "relukit", ""

    def do_GET(self) -> None:
        if not self._welcome():
            return
        name, kind = _STATIC.get(self.path, ("", ""))
        if not name:
            return self._refuse(404, "there is no such page")
        self._send(200, files("relukit.explorer").joinpath("static", name).read_bytes(), kind)

    def do_POST(self) -> None:
        if not self._welcome():
            return
        given = self.headers.get("X-Relukit-Token", "")
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            return self._refuse(403, "the token is missing or wrong; open the address that relukit printed")
        if self.headers.get_content_type() != "application/json":
            return self._refuse(415, "send JSON")
        question = self.path.removeprefix("/api/")
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            return self._refuse(411, "the request has no length")
        if int(length) > (_LARGE if question == "model" else _SMALL):
            return self._refuse(413, "the request is too large")
        self._answer(question, self.rfile.read(int(length)))

    def _answer(self, question: str, body: bytes) -> None:
        try:
            asked = json.loads(body)
            if not isinstance(asked, dict):
                return self._refuse(400, "send an object")
        except (ValueError, RecursionError):
            return self._refuse(400, "this is no JSON")
        try:
            with self.gate:
                packed = pack(self.engine.answer(question, asked))
        except RelukitError as error:
            return self._refuse(422, str(error), keep=True)
        except Exception:  # the page learns that it failed, never where or on what
            return self._refuse(500, "something went wrong inside; the command line tells more", keep=True)
        self._send(200, packed, "application/octet-stream")

    def _welcome(self) -> bool:
        """Host and Origin belong to this page."""
        if self.headers.get("Host", "").lower() not in self.hosts:
            self._refuse(403, "this page answers to its own address only")
            return False
        origin = self.headers.get("Origin")
        if origin is not None and origin.removeprefix("http://").lower() not in self.hosts:
            self._refuse(403, "this page answers to itself only")
            return False
        return True

    def _refuse(self, status: int, sentence: str, keep: bool = False) -> None:
        if not keep:
            self.close_connection = True
        self._send(status, json.dumps({"error": sentence}).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind), ("Content-Length", str(len(body))), ("Content-Security-Policy", self.policy),
            ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"), ("Cache-Control", "no-store"),
            ("Cross-Origin-Resource-Policy", "same-origin"), ("Cross-Origin-Opener-Policy", "same-origin"),
        ):  # fmt: skip
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Malformed requests get one word, not the library's page that repeats them."""
        self.close_connection = True
        self.request_version = (
            "HTTP/1.1"  # the library assumes 0.9, which has no headers, where it cannot read the version
        )
        self._send(code, b'{"error": "bad request"}', "application/json")

    def log_message(self, format: str, *args: Any) -> None:
        """The library is silent."""
