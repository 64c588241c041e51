"""One HTTP call to a provider: one connection, its bounds, and the knowledge whether anything was sent.

What a redemption needs and an ordinary HTTP client does not give:

- the **whole** call is bounded (`call.Call`). A timeout for each read is not enough: a server that sends
  a byte now and then would never let the call end. Name resolution alone cannot be interrupted; the time is
  checked again right after it;
- **right before** the first byte leaves, after name resolution, connecting and TLS, the time is checked
  once more. When it is too late, nothing is sent: another process may have the claim by then;
- a failure before that moment is told apart from one after it, because only the latter is in doubt;
- a call that ends without a complete response is aborted: what the kernel has not sent is discarded;
- nothing is repeated, redirected, proxied, taken from ``.netrc`` or kept for the next call.

All calls are made in this way, not only redemptions: an authorization code must not arrive late either, and
a revocation or a read of userinfo that was aborted is made again.
"""

from __future__ import annotations

import http.client
import io
import os
import socket
import zlib
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NewConnectionError

from ..rotation.http_response import HttpResponse, NoResponse
from ..secure_urls import check_url
from .call import Call

MAX_BODY = 1024 * 1024
"""Bytes that are read of a response, and that it may have after decompression."""

_FAILURES = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
)


def ignore_surroundings(session: requests.Session) -> None:
    """Make ``session`` take nothing from the environment but a CA bundle.

    No proxy variables, and no ``.netrc``, which would replace the Authorization header. A private
    CA is configured as for requests itself, by ``REQUESTS_CA_BUNDLE`` or ``CURL_CA_BUNDLE``.
    """
    session.trust_env = False
    session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True


def send(
    call: Call, method: str, url: str, *, headers: Mapping[str, str], form: str | None = None
) -> HttpResponse | NoResponse:
    """Make the one request that ``call`` is for and return what came of it. ``form`` is a form-encoded body.

    Raises `ConfigurationError` for an address that no secret may be sent to, what ``keep_waiting`` of the
    call raises, and nothing else.
    """
    check_url(url, "The address of this request")
    # Compression is not asked for: it would only make a small body harder to bound.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Connection": "close", **headers}
    if form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    outcome: HttpResponse | NoResponse
    try:
        with (
            _CallSession(call) as session,
            session.request(method, url, data=form, headers=headers, stream=True) as response,
        ):
            outcome = _read(call, response)
    except _FAILURES:
        outcome = NoResponse(sent=call.sent, cause=call.stage, timed_out=call.timed_out)
    finally:
        call.disconnect()
    if call.error is not None:
        raise call.error
    return outcome


class _CallSession(requests.Session):
    """The session of one call: it never follows a redirect, and ends with the call."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        ignore_surroundings(self)
        for scheme in ("https://", "http://"):
            self.mount(scheme, _CallAdapter(call))

    def get_redirect_target(self, resp: requests.Response) -> None:
        # Not `allow_redirects=False`: even then requests reads the whole body to prepare the next
        # request, without end or limit if the server likes.
        return None


class _CallAdapter(HTTPAdapter):
    """Connects by the deadline of its call. Its default is to repeat nothing."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._call = call

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        kind = _TlsConnection if isinstance(pool, urllib3.HTTPSConnectionPool) else _Connection
        # The pool belongs to this call alone, so its connections can be told about the call.
        pool.ConnectionCls = partial(kind, call=self._call)
        return pool


class _Connection(HTTPConnection):
    """A connection whose every step takes what is left of its call, and no more."""

    def __init__(self, *args: Any, call: Call, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._call = call
        self.response_class = cast(Any, self._reader)  # http.client's hook for reading a response

    def _new_conn(self) -> socket.socket:
        self._call.stage = "name_not_resolved"
        found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        self._call.stage = "not_connected"
        addresses = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
        for tried, (family, address) in enumerate(addresses, start=1):
            # A dead address (an IPv6 one without a route, say) must leave time for the next.
            share = self._call.time_to_connect() / (len(addresses) - tried + 1)
            try:
                sock = self._connected(family, address, share)
            except OSError as error:
                if tried == len(addresses):
                    # Not the error itself: urllib3 takes a reset for one that came while sending,
                    # and goes on to read from a connection that was never made.
                    raise NewConnectionError(self, "no address of the host can be connected to") from error
            else:
                # What follows is the TLS handshake, for which Python treats this as a total.
                sock.settimeout(self._call.time_to_connect())
                self._call.stage = "tls_failed"
                return sock
        raise OSError("the name has no address")

    def _connected(self, family: int, address: tuple[object, ...], seconds: float) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._call.use(sock)
            for option in self.socket_options or ():
                sock.setsockopt(*option)
            sock.settimeout(seconds)
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return sock

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        self._call.prepare_to_send(self.sock)
        try:
            super().send(data)
        except TimeoutError:
            self._call.timed_out = True
            raise

    def _reader(self, sock: socket.socket, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
        return http.client.HTTPResponse(cast(Any, _ResponseSocket(sock, self._call)), *args, **kwargs)


class _TlsConnection(_Connection, HTTPSConnection):
    """The same over TLS."""


class _ResponseSocket:
    """What http.client needs of a socket to read a response, with the bounds of the call in it."""

    def __init__(self, sock: socket.socket, call: Call) -> None:
        self._sock = sock
        self._call = call

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_ResponseStream(self._sock, self._call))


class _ResponseStream(io.RawIOBase):
    """Reads a socket within the bounds of a call."""

    def __init__(self, sock: socket.socket, call: Call) -> None:
        self._sock = sock
        self._call = call

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._call.receive(self._sock, buffer)


def _read(call: Call, response: requests.Response) -> HttpResponse:
    """Return the response with what could be read of its body: the status alone is worth a verdict."""
    body, complete = bytearray(), False
    try:
        # One piece at a time: a body that was sent whole is kept even if the server never ends it.
        while len(body) <= MAX_BODY and (piece := response.raw.read1(65536, decode_content=False)):
            body += piece
        complete = call.is_complete = len(body) <= MAX_BODY
    except _FAILURES:
        pass
    timed_out = not complete and call.timed_out
    raw = bytes(body)
    if response.headers.get("Content-Encoding", "identity").lower() in ("gzip", "x-gzip", "deflate"):
        raw, whole = _inflated(raw)
        complete = complete and whole
    return HttpResponse(
        status=response.status_code,
        headers=dict(response.headers),
        body=raw[:MAX_BODY],
        complete=complete,
        timed_out=timed_out,
    )


def _inflated(body: bytes) -> tuple[bytes, bool]:
    """Return the decompressed body up to the limit, and whether that is all of it."""
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        return inflater.decompress(body, MAX_BODY), inflater.eof
    except zlib.error:
        return b"", False
