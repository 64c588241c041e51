"""One HTTP call to a provider: one connection, one deadline, and the knowledge whether it was sent.

What a redemption needs and an ordinary HTTP client does not give:

- the **whole** call ends by the deadline. A time-out for each read is not enough: a server that sends
  a byte now and then would hold the claim for hours. Name resolution alone cannot be interrupted;
  the deadline is looked at again right after it;
- **right before** the first byte leaves, after name resolution, connecting and TLS, the deadline is
  looked at once more. Past it nothing is sent: another worker may hold the claim by then;
- a failure before that moment is told apart from one after it, for only the latter is in doubt;
- nothing is repeated, redirected, proxied, taken from ``.netrc`` or kept for the next call.
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
from requests_oauthlib import OAuth2Session
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NewConnectionError
from urllib3.util.connection import create_connection

from ..rotation.ports import Clock
from ..rotation.verdict import HttpResponse, NoResponse
from .urls import check_url

MAX_BODY = 1024 * 1024
"""Bytes that are read of an response, and that it may have after decompression."""

_FAILURES = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    OSError,
    ValueError,
)


class Call:
    """One call: until when it may take, and how far it has come.

    ``stage`` is the code of the failure if one happens now. ``sent`` is True from the moment when
    bytes of the request may have left.
    """

    def __init__(self, clock: Clock, *, deadline: float, connect_seconds: float) -> None:
        self._clock = clock
        self._deadline = deadline
        self._connect_by = min(deadline, clock.monotonic() + connect_seconds)
        self.stage = "not_connected"
        self.sent = False

    def time_left(self) -> float:
        """Return the seconds until the deadline; raises TimeoutError when there are none."""
        return self._until(self._deadline)

    def time_to_connect(self) -> float:
        """Return the seconds left for connecting; raises TimeoutError when there are none."""
        return self._until(self._connect_by)

    def is_over(self) -> bool:
        """Return whether the deadline has passed."""
        return self._clock.monotonic() >= self._deadline

    def leave(self) -> None:
        """Note that the request leaves now; raises TimeoutError when it is too late for that."""
        if not self.sent:
            self.stage = "too_late_to_send"
            self.time_left()
            self.stage = "no_answer"
            self.sent = True

    def _until(self, limit: float) -> float:
        seconds = limit - self._clock.monotonic()
        if seconds <= 0:
            raise TimeoutError("the deadline of this call has passed")
        return seconds


class PlainSession(OAuth2Session):
    """A requests-oauthlib session that takes nothing from its surroundings but a CA bundle.

    No proxy variables, and no ``.netrc``, which would replace the Authorization header. A private
    CA is configured as for requests itself, by ``REQUESTS_CA_BUNDLE`` or ``CURL_CA_BUNDLE``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        """Send a request; raises `ConfigurationError` for plain http to anything but this machine.

        OAuth2Session's own method is passed over: it asks oauthlib whether http is allowed, logs
        headers and body, and refreshes by itself.
        """
        check_url(url, "The address of this request")
        return requests.Session.request(self, method, url, *args, **kwargs)


def send(
    call: Call, method: str, url: str, *, headers: Mapping[str, str], form: Mapping[str, str] | None = None
) -> HttpResponse | NoResponse:
    """Make the one request that ``call`` is for and return what came of it.

    Raises `ConfigurationError` for an address that no secret may be sent to, and nothing else.
    """
    # Compression is not asked for: it would only make a small body harder to bound.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "Connection": "close", **headers}
    try:
        with (
            _CallSession(call) as session,
            session.request(method, url, data=form, headers=headers, stream=True) as response,
        ):
            return _read(call, response)
    except _FAILURES:
        return NoResponse(sent=call.sent, cause=call.stage, timed_out=call.is_over())


class _CallSession(PlainSession):
    """The session of one call: it never follows a redirect, and dies with the call."""

    def __init__(self, call: Call) -> None:
        super().__init__()
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
        self.response_class = cast(Any, self._reader)  # http.client's hook for reading an response

    def _new_conn(self) -> socket.socket:
        self._call.stage = "name_not_resolved"
        found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        self._call.stage = "not_connected"
        addresses = list(dict.fromkeys(address[:2] for *_, address in found))
        for tried, address in enumerate(addresses, start=1):
            # A dead address (an IPv6 one without a route, say) must leave time for the next.
            share = self._call.time_to_connect() / (len(addresses) - tried + 1)
            try:
                sock = create_connection(cast(Any, address), share, socket_options=self.socket_options)
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

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        self._call.leave()
        self.sock.settimeout(self._call.time_left())
        super().send(data)

    def _reader(self, sock: socket.socket, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:
        return http.client.HTTPResponse(cast(Any, _AnswerSocket(sock, self._call)), *args, **kwargs)


class _TlsConnection(_Connection, HTTPSConnection):
    """The same over TLS."""


class _AnswerSocket:
    """What http.client needs of a socket to read an response, with the deadline in it."""

    def __init__(self, sock: socket.socket, call: Call) -> None:
        self._sock = sock
        self._call = call

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_AnswerStream(self._sock, self._call))


class _AnswerStream(io.RawIOBase):
    """Reads a socket, giving each read the time that is left of the whole call."""

    def __init__(self, sock: socket.socket, call: Call) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._call = call

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._call.time_left())
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _read(call: Call, response: requests.Response) -> HttpResponse:
    """Return the response with what could be read of its body: the status alone is worth a verdict."""
    body, complete = bytearray(), False
    try:
        # One piece at a time: a body that was sent whole is kept even if the server never ends it.
        while len(body) <= MAX_BODY and (piece := response.raw.read1(65536, decode_content=False)):
            body += piece
        complete = len(body) <= MAX_BODY
    except _FAILURES:
        pass
    timed_out = not complete and call.is_over()
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
