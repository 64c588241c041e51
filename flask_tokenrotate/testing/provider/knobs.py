"""The knobs of the FakeProvider: faults, delays and rotation rules that a test sets while it runs."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, Generic, Literal, TypeVar, overload

T = TypeVar("T")

Fate = Literal["respond", "fail", "rate_limit", "reset", "drop", "cut"]
_FATES: tuple[Fate, ...] = ("fail", "rate_limit", "reset", "drop", "cut")


class Knob(Generic[T]):
    """One knob: its default, the check of a new value, and a line of help."""

    name: str

    def __init__(self, default: T, check: Callable[[object], T], help_text: str) -> None:
        self.default = default
        self.check = check
        self.help_text = help_text

    def __set_name__(self, owner: type[Knobs], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, knobs: None, owner: type[Knobs]) -> Knob[T]: ...
    @overload
    def __get__(self, knobs: Knobs, owner: type[Knobs]) -> T: ...
    def __get__(self, knobs: Knobs | None, owner: type[Knobs]) -> Knob[T] | T:
        if knobs is None:
            return self
        value: T = knobs.positions()[self.name]
        return value

    def __set__(self, knobs: Knobs, value: T) -> None:
        knobs.turn(**{self.name: value})


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError("a number of seconds, 0 or more")
    return value


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("a whole number, 0 or more")
    return value


def _error_status(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 400 <= value <= 599:
        raise ValueError("an HTTP status from 400 to 599")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _text_or_none(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError("a string, or null")
    return value


def _client_auth(value: object) -> str:
    if value not in ("basic", "post", "none"):
        raise ValueError("'basic', 'post' or 'none'")
    return str(value)


class Knobs:
    """The values of all knobs. They may be set from any thread while requests are served.

    A knob is an attribute; `turn` sets several together. A ``…_next`` knob applies to that many of the
    following token requests and counts down. If several are set, they apply in the order of this list.
    """

    response_seconds = Knob(0.0, _seconds, "time that passes before a token request is processed")
    after_seconds = Knob(0.0, _seconds, "time that passes between processing it and responding")

    outage = Knob(False, _flag, "/token, /revoke and /userinfo respond with fail_status until switched off")
    fail_next = Knob(0, _count, "so many token requests get fail_status and are not processed")
    fail_status = Knob(503, _error_status, "the status of such a failure")
    retry_after = Knob(1, _count, "Retry-After of a failure or a rate limit, seconds; 0 leaves it out")
    rate_limit_next = Knob(0, _count, "so many token requests get 429 and are not processed")
    reset_next = Knob(0, _count, "so many connections are reset before the request is processed")
    drop_next = Knob(0, _count, "so many token requests are processed and get no response")
    cut_next = Knob(0, _count, "so many token requests are processed and get half a body")

    lifetime = Knob(3600.0, _seconds, "lifetime of an access token in seconds, sent as expires_in")
    omit_expires_in = Knob(False, _flag, "leave expires_in out of the responses")
    scope = Knob[str | None](None, _text_or_none, "send this scope in the responses, whatever was granted")
    rotation = Knob(True, _flag, "off: a refresh token remains valid and is left out of the response")
    grace_seconds = Knob(0.0, _seconds, "for how long a spent refresh token gets its successor once more")
    kill_old_access_token = Knob(False, _flag, "a rotation ends the family's earlier access tokens")

    client_auth = Knob("basic", _client_auth, "how the client must authenticate: basic, post or none")

    def __init__(self, **positions: object) -> None:
        self._knobs_lock = threading.Lock()
        self._positions: dict[str, Any] = {name: knob.default for name, knob in KNOBS.items()}
        self.turn(**positions)

    def turn(self, **positions: object) -> None:
        """Set knobs, all or none. Raises `ValueError` for an unknown name or a value that cannot work."""
        for name, value in positions.items():
            if name not in KNOBS:
                raise ValueError(f"There is no knob {name!r}. The knobs are: {', '.join(KNOBS)}.")
            try:
                KNOBS[name].check(value)
            except ValueError as wanted:
                raise ValueError(f"{name} = {value!r} is not possible: it must be {wanted}.") from None
        with self._knobs_lock:
            self._positions.update(positions)

    def positions(self) -> dict[str, Any]:
        """Return the values of all knobs."""
        with self._knobs_lock:
            return dict(self._positions)

    def next_fate(self) -> Fate:
        """Return what to do with the current token request; counts a ``…_next`` knob down."""
        with self._knobs_lock:
            if self._positions["outage"]:
                return "fail"
            for fate in _FATES:
                if self._positions[f"{fate}_next"]:
                    self._positions[f"{fate}_next"] -= 1
                    return fate
        return "respond"


KNOBS: dict[str, Knob[Any]] = {name: knob for name, knob in vars(Knobs).items() if isinstance(knob, Knob)}
