"""A server on loopback that answers with whatever bytes a test gives it, or misbehaves as told."""

from __future__ import annotations

import datetime
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from flask_tokenrotate.attempts import Attempt
from flask_tokenrotate.provider import Provider
from flask_tokenrotate.providers.call import Call
from flask_tokenrotate.providers.endpoint import OAuthEndpoint
from flask_tokenrotate.rotation.tokens import Secret
from flask_tokenrotate.rotation.verdict import Verdict

Script = Callable[[socket.socket], None]


class SystemClock:
    """The machine's clock, which a test may push forward."""

    def __init__(self) -> None:
        self.pushed = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.pushed

    def sleep(self, seconds: float) -> None:
        raise AssertionError("the endpoint never sleeps")

    def event(self) -> threading.Event:
        return threading.Event()


class Request:
    """One request as the server saw it."""

    def __init__(self, raw: bytes) -> None:
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.raw = raw
        self.method, self.path, _ = first.split(" ")
        self.headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        self.form = {name: values[0] for name, values in parse_qs(body.decode()).items()}


class Server:
    """Accepts connections in a thread; ``script`` is run on each after its request was read.

    ``buffer`` bounds, in bytes, what the kernel takes in while nobody reads.
    """

    def __init__(
        self,
        script: Script,
        *,
        tls: ssl.SSLContext | None = None,
        reads: bool = True,
        buffer: int | None = None,
    ) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.done = threading.Event()
        self._script, self._tls, self._reads = script, tls, reads
        self._listener = socket.create_server(("127.0.0.1", 0))
        if buffer is not None:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop accepting and wait for the connection in progress."""
        if self.done.is_set():
            return
        self.done.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                with self._secured(connection) as secured:
                    if self._reads:
                        self.requests.append(_read_request(secured))
                    self._script(secured)
            except OSError:  # the client hung up, as many of these tests want
                continue

    def _secured(self, connection: socket.socket) -> socket.socket:
        connection.settimeout(10)
        return self._tls.wrap_socket(connection, server_side=True) if self._tls else connection


def _read_request(connection: socket.socket) -> Request:
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += connection.recv(65536) or _hung_up()
    head, _, body = raw.partition(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        ),
        0,
    )
    while len(body) < length:
        body += connection.recv(65536) or _hung_up()
    return Request(head + b"\r\n\r\n" + body)


def _hung_up() -> bytes:
    raise ConnectionError("the client hung up")


def http(status: int, body: bytes | object = b"", *headers: str) -> bytes:
    """Return the bytes of an answer; a body that is no bytes is sent as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [
        f"HTTP/1.1 {status} X",
        "Content-Type: application/json",
        f"Content-Length: {len(raw)}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + raw


def says(answer: bytes) -> Script:
    """Return a script that sends ``answer`` and closes."""
    return lambda connection: connection.sendall(answer)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start servers that are stopped after the test."""
    servers: list[Server] = []

    def start(script: Script, **options: object) -> Server:
        servers.append(Server(script, **options))  # type: ignore[arg-type]
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def clock() -> SystemClock:
    return SystemClock()


class Client:
    """An endpoint with one provider, whose profile a test sets."""

    def __init__(self, clock: SystemClock) -> None:
        self.clock = clock
        self.profile = self.at("http://127.0.0.1:1")
        self.give(connect_seconds=3.0)

    def give(self, *, connect_seconds: float) -> None:
        """Set the time to connect."""
        self.endpoint = OAuthEndpoint(lambda name: self.profile, self.clock, connect_seconds=connect_seconds)

    def at(self, url: str, **fields: object) -> Provider:
        """Register the provider anew, with its endpoints at ``url``."""
        values: dict[str, object] = {
            "client_id": "me",
            "client_auth": "none",
            "authorization_endpoint": f"{url}/authorize",
            "token_endpoint": f"{url}/token",
            "revocation_endpoint": f"{url}/revoke",
            "userinfo_endpoint": f"{url}/userinfo",
        }
        self.profile = Provider(name="acme", **{**values, **fields})  # type: ignore[arg-type]
        return self.profile

    def redeem(self, seconds: float = 5.0, keep_waiting: Callable[[], float] | None = None) -> Verdict:
        """Redeem, sending and waiting for ``seconds`` unless ``keep_waiting`` says otherwise."""
        deadline = self.clock.monotonic() + seconds
        return self.endpoint.redeem(
            "acme", Secret("rt-1"), send_by=deadline, keep_waiting=keep_waiting or (lambda: deadline)
        )


def an_attempt(**fields: object) -> Attempt:
    """Return a sign-in attempt at the provider ``acme``."""
    values: dict[str, object] = {
        "provider": "acme",
        "verifier": Secret("v" * 43),
        "nonce": Secret("n-1"),
        "redirect_uri": "https://app.example/cb",
    }
    return Attempt(**{**values, **fields})  # type: ignore[arg-type]


def call_until(clock: SystemClock, seconds: float) -> Call:
    """Return a call with one deadline, ``seconds`` from now."""
    deadline = clock.monotonic() + seconds
    return Call(clock, send_by=deadline, connect_seconds=1, keep_waiting=lambda: deadline)


@pytest.fixture
def client(clock: SystemClock) -> Client:
    return Client(clock)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A certificate for loopback, signed by itself, and a server context that uses it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return folder / "cert.pem", context
