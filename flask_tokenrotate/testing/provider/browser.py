"""The browser and its user, for tests that want to sign in without either."""

from __future__ import annotations

import re

import requests

_TICKET = re.compile(r'name="ticket" value="([0-9a-f]+)"')
_REASON = re.compile(r'<p id="reason">([^<]*)</p>')


def sign_in(authorization_url: str, *, user: str = "alice", allow: bool = True, timeout: float = 10.0) -> str:
    """Open the consent page of a FakeProvider, answer it as ``user``, and return the callback's address.

    ``authorization_url`` is where the application under test sent the browser. A request that the
    provider answers with an error to the client comes back as such a callback too. Raises
    `ValueError` where the provider shows an error page instead; ``timeout`` is in seconds.
    """
    with requests.Session() as session:
        session.trust_env = False
        page = session.get(authorization_url, allow_redirects=False, timeout=timeout)
        if page.is_redirect:
            return page.headers["Location"]
        ticket = _TICKET.search(page.text)
        if ticket is None:
            raise ValueError(f"No consent page but {page.status_code}: {_reason(page)}")
        form = {"ticket": ticket[1], "user": user, "decision": "allow" if allow else "deny"}
        answer = session.post(page.url, data=form, allow_redirects=False, timeout=timeout)
        if not answer.is_redirect:
            raise ValueError(f"The consent page was answered with {answer.status_code}: {_reason(answer)}")
        return answer.headers["Location"]


def _reason(page: requests.Response) -> str:
    reason = _REASON.search(page.text)
    return reason[1] if reason else "(no reason given)"
