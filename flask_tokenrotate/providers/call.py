"""The bounds of one HTTP call to a provider: until when it may send, how long it may wait, how it ends.

Everything here follows from one rule: no byte of a request leaves this host after ``send_by``, nor after
its sender has given up or died. Otherwise a network that heals delivers an old refresh token later, when
another process has redeemed it already, and a strict provider revokes all tokens of the family.
"""

from __future__ import annotations

import errno
import io
import os
import socket
import ssl
import struct
import weakref
from collections.abc import Callable
from contextlib import suppress

from ..rotation.ports import Clock

_ABORT_ON_CLOSE = struct.pack("ii", 1, 0)
_CLOSE_NORMALLY = struct.pack("ii", 0, 0)

_LEAST_RETRANSMISSION_TIMEOUT = 0.2
"""Seconds; Linux's, whose ``tcp_info`` has the connection's own after eight bytes, in microseconds."""

MOST_LATE_READS = 256
"""Reads of what has arrived already, after the end of the waiting; a body of 1 MiB takes about 130."""


class Call:
    """One call to a provider. All moments are on ``clock.monotonic``, in seconds.

    ``send_by``: when connecting, TLS and sending must be done; nothing is sent later, nor when so little
    time is left that the kernel could still send again afterwards (`shortest_drop`, about half a second).
    ``connect_seconds``: how much of that connecting with TLS may take.
    ``keep_waiting``: called before each read of the response; returns until when that read may wait. A
    moment that has passed ends the call. For a call with one deadline it always returns that.

    ``stage`` is the code of the failure if one happens now. ``sent`` is True from the moment when bytes of
    the request may have left. ``timed_out`` is True once a bound of the call has ended it. ``is_complete`` is
    True once the whole response was read. ``error`` is what ``keep_waiting`` raised, which it should not.
    """

    def __init__(
        self, clock: Clock, *, send_by: float, connect_seconds: float, keep_waiting: Callable[[], float]
    ) -> None:
        self._clock = clock
        self._send_by = send_by
        self._connect_by = min(send_by, clock.monotonic() + connect_seconds)
        self._keep_waiting = keep_waiting
        self.stage = "not_connected"
        self.sent = False
        self.timed_out = False
        self.is_complete = False
        self.error: BaseException | None = None
        self._late_reads = 0
        self.descriptor: tuple[int, os.stat_result] | None = None
        self._sock: socket.socket | None = None
        self._keeps_open: io.IOBase | None = None

    def use(self, sock: socket.socket) -> None:
        """Take ``sock`` for the connection of this call, so that a forked child closes it.

        To be called before it connects: a child that is forked meanwhile has it too.
        """
        self.descriptor = sock.fileno(), os.fstat(sock.fileno())
        _open_calls.add(self)

    def time_to_connect(self) -> float:
        """Return the seconds left for connecting; raises TimeoutError when there are none."""
        return self._until(self._connect_by)

    def prepare_to_send(self, sock: socket.socket) -> None:
        """Bound the next send on ``sock``; raises TimeoutError when it is too late for it.

        The last act before bytes leave: whoever was stopped until after ``send_by`` must not send.
        """
        if self._sock is None:
            self.stage = "too_late_to_send"
            # http.client closes the connection after the last byte of the response, and would abort it.
            self._sock, self._keeps_open = sock, sock.makefile("rb", buffering=0)
            abort_on_close(sock)
            drop_unacknowledged(sock, self._until(self._send_by - shortest_drop(sock)))
        sock.settimeout(self._until(self._send_by))
        self.stage = "no_response"
        self.sent = True

    def receive(self, sock: socket.socket, buffer: memoryview) -> int:
        """Read from ``sock`` into ``buffer`` as `socket.recv_into` does, as long as ``keep_waiting`` allows.

        Raises TimeoutError when it does not, and nothing has arrived.
        """
        while True:
            until = self._ask()
            if until <= self._clock.monotonic():
                return self._receive_what_is_there(sock, buffer)
            sock.settimeout(self._until(until))
            try:
                return sock.recv_into(buffer)
            except TimeoutError as error:
                if error.errno == errno.ETIMEDOUT:  # the kernel's: it has dropped what was not acknowledged
                    self.timed_out = True
                    raise

    def _receive_what_is_there(self, sock: socket.socket, buffer: memoryview) -> int:
        """Read without waiting: a process that was stopped may find its response arrived long ago.

        The response may be the only copy of a token set. `MOST_LATE_READS` bounds a server that never ends.
        """
        self._late_reads += 1
        if self._late_reads <= MOST_LATE_READS:
            sock.settimeout(0.0)
            with suppress(BlockingIOError, ssl.SSLWantReadError):
                return sock.recv_into(buffer)
        self.timed_out = True
        raise TimeoutError("a bound of this call has passed")

    def disconnect(self) -> None:
        """Close the connection: normally after a complete response, else by a reset."""
        if self._sock is None or self._keeps_open is None:
            return
        if self.is_complete:
            close_normally(self._sock)
        self._keeps_open.close()
        self._sock.close()

    def _ask(self) -> float:
        try:
            return self._keep_waiting()
        except BaseException as error:
            # Kept, because the libraries between here and `transport.send` catch some errors as their own.
            self.error = error
            raise

    def _until(self, moment: float) -> float:
        seconds = moment - self._clock.monotonic()
        if seconds <= 0:
            self.timed_out = True
            raise TimeoutError("a bound of this call has passed")
        return seconds


def abort_on_close(sock: socket.socket) -> None:
    """Make the end of ``sock`` a reset that discards what the kernel has not sent.

    However it ends: by `close`, or because the process is killed.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT_ON_CLOSE)


def close_normally(sock: socket.socket) -> None:
    """Undo `abort_on_close`: the response is complete, nothing is left to be discarded."""
    with suppress(OSError):  # the other side may have reset the connection
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CLOSE_NORMALLY)


def drop_unacknowledged(sock: socket.socket, seconds: float) -> None:
    """Let the kernel drop the connection ``seconds`` and `shortest_drop` after bytes are not acknowledged.

    It does so even if this process is stopped. Bytes that were acknowledged are not affected, however
    long the response takes. Platforms without ``TCP_USER_TIMEOUT`` have only `abort_on_close`.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None:
        sock.setsockopt(socket.IPPROTO_TCP, option, max(1, int(seconds * 1000)))


def shortest_drop(sock: socket.socket) -> float:
    """Return the seconds that pass before the kernel drops anything, however short TCP_USER_TIMEOUT is.

    Linux counts from the first retransmission. (Measured: the connection ends two retransmission timeouts
    later than ``TCP_USER_TIMEOUT`` says, and until then segments still leave. Half a one is for safety.)
    """
    option = getattr(socket, "TCP_INFO", None)
    if option is None:
        return 2.5 * _LEAST_RETRANSMISSION_TIMEOUT
    microseconds: int = struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, option, 12), 8)[0]
    return 2.5 * max(microseconds / 1e6, _LEAST_RETRANSMISSION_TIMEOUT)


_open_calls: weakref.WeakSet[Call] = weakref.WeakSet()
"""The calls of this process. A forked child must not keep their connections open: a reset at the death of
their owner happens only when nobody else has the connection."""


def _close_in_child() -> None:
    inherited = [call.descriptor for call in _open_calls if call.descriptor is not None]
    _open_calls.clear()
    if not inherited:
        return
    nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number, connection in inherited:
        with suppress(OSError):
            # The number may belong to another file by now. And it stays taken, by a file that does
            # nothing: an object of the parent that has it could close a file of the child otherwise.
            # No byte is sent: neither TLS nor TCP notices that one of two owners is gone.
            if os.path.samestat(os.fstat(number), connection):
                os.dup2(nothing, number, inheritable=False)
    os.close(nothing)


os.register_at_fork(after_in_child=_close_in_child)
