"""Signs in at a FakeProvider as a browser and its user do."""

from __future__ import annotations

import re
from http.client import HTTPConnection, HTTPResponse
from urllib.parse import urlencode, urlsplit

_TICKET = re.compile(r'name="ticket" value="([0-9a-f]+)"')
_REASON = re.compile(r'<p id="reason">([^<]*)</p>')


def sign_in(authorization_url: str, *, user: str = "alice", allow: bool = True, timeout: float = 10.0) -> str:
    """Load the consent page of a FakeProvider, submit it as ``user``, and return the URL of the callback.

    ``authorization_url`` is the URL to which the application under test redirected. The callback may have an
    error. Raises `ValueError` if the provider shows an error page instead. ``timeout`` is in seconds.
    """
    status, location, page = _send("GET", authorization_url, None, timeout)
    if location is not None:
        return location
    ticket = _TICKET.search(page)
    if ticket is None:
        raise ValueError(f"No consent page but {status}: {_reason(page)}")
    form = {"ticket": ticket[1], "user": user, "decision": "allow" if allow else "deny"}
    status, location, page = _send("POST", authorization_url, urlencode(form), timeout)
    if location is None:
        raise ValueError(f"Submitting the consent page returned {status}: {_reason(page)}")
    return location


def _send(method: str, url: str, body: str | None, timeout: float) -> tuple[int, str | None, str]:
    # Not through requests: urllib3 logs every URL at DEBUG, and this one has the state in it.
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    headers = {"Content-Type": "application/x-www-form-urlencoded"} if body is not None else {}
    try:
        connection.request(method, f"{parts.path}?{parts.query}", body, headers)
        response: HTTPResponse = connection.getresponse()
        return response.status, response.getheader("Location"), response.read().decode()
    finally:
        connection.close()


def _reason(page: str) -> str:
    reason = _REASON.search(page)
    return reason[1] if reason else "(no reason given)"
