"""Runs django-oauth-toolkit, signs in through its pages, and reads its log and database."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import requests

from ..processes import ROOT
from ..web import gunicorn

CLIENT_ID = "a-client"
CLIENT_SECRET = "a-client-secret"
DATABASE = "provider.sqlite3"


@dataclass(frozen=True, slots=True)
class Family:
    """The refresh tokens of one user, who has signed in once.

    ``issued``: how many there are, ``alive``: how many are not revoked, ``presented``: how often
    each of those that were presented at all was.
    """

    issued: int
    alive: int
    presented: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Toolkit:
    """A running server."""

    url: str
    folder: Path
    grace_seconds: int

    def registration(self) -> dict[str, Any]:
        """Return the keywords for ``rotate.register``."""
        return {
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "client_auth": "basic",
            "authorization_endpoint": f"{self.url}/o/authorize/",
            "token_endpoint": f"{self.url}/o/token/",
            "revocation_endpoint": f"{self.url}/o/revoke_token/",
            "userinfo_endpoint": f"{self.url}/me",
            "scopes": ["read"],
            "rotation_kills_access_token": True,
            "grace_seconds": self.grace_seconds,
            # Rotated only when it has expired: before that, others may be using it at this moment.
            "min_ttl_seconds": 0,
        }

    def family(self, user: str) -> Family:
        """Return what the server's own database and its log say of a user's refresh tokens."""
        query = (
            "SELECT token, revoked IS NULL FROM oauth2_provider_refreshtoken AS issued "
            "JOIN auth_user ON auth_user.id = issued.user_id WHERE username = ?"
        )
        with closing(sqlite3.connect(self.folder / DATABASE)) as connection:
            tokens = dict(connection.execute(query, [user]).fetchall())
        log = self.folder / "presented.log"
        times = Counter(token for token in log.read_text().split() if token in tokens) if log.exists() else {}
        return Family(len(tokens), sum(tokens.values()), tuple(sorted(times.values())))

    def lose_the_next_answer(self) -> None:
        """Let the next refresh be carried out, and cut its connection before the answer."""
        (self.folder / "drop-next-answer").touch()

    def redeem(self, refresh_token: str) -> requests.Response:
        """Present a refresh token."""
        return self._post({"grant_type": "refresh_token", "refresh_token": refresh_token})

    def exchange(self, code: str, verifier: str, redirect_uri: str) -> dict[str, Any]:
        """Exchange a code and return the token response."""
        form = {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
        answer = self._post({**form, "redirect_uri": redirect_uri})
        answer.raise_for_status()
        return dict(answer.json())

    def _post(self, form: dict[str, str]) -> requests.Response:
        return requests.post(f"{self.url}/o/token/", form, auth=(CLIENT_ID, CLIENT_SECRET), timeout=20)


def make_database(folder: Path, redirect_uris: Sequence[str], users: Sequence[str]) -> Path:
    """Make the server's database in ``folder``, with users whose passwords are their names."""
    folder.mkdir()
    client = {"CLIENT_ID": CLIENT_ID, "CLIENT_SECRET": CLIENT_SECRET, "REDIRECT_URI": " ".join(redirect_uris)}
    command = [sys.executable, "-m", str(__package__), *users]
    environment = {**os.environ, **_settings(0), **client, "INSTANCE": str(folder)}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return folder / DATABASE


@contextmanager
def toolkit(
    folder: Path, database: Path, *, grace_seconds: int, access_seconds: int = 2
) -> Iterator[Toolkit]:
    """Serve a copy of ``database`` by gunicorn, in two processes of four threads.

    ``access_seconds`` is the lifetime of access tokens.
    """
    folder.mkdir()
    shutil.copy(database, folder)
    application = "django.core.wsgi:get_wsgi_application()"
    environment = {**_settings(grace_seconds), "ACCESS_SECONDS": str(access_seconds)}
    with gunicorn(application, folder, "--threads", "4", "--preload", **environment) as url:
        yield Toolkit(url, folder, grace_seconds)


def _settings(grace_seconds: int) -> dict[str, str]:
    return {"DJANGO_SETTINGS_MODULE": f"{__package__}.settings", "GRACE_SECONDS": str(grace_seconds)}


class _Fields(HTMLParser):
    """Collects the hidden fields of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        facts = dict(attrs)
        if tag == "input" and facts.get("type") == "hidden":
            self.values[facts["name"] or ""] = facts.get("value") or ""


def sign_in(browser: requests.Session, address: str, user: str) -> str:
    """Log in and consent as ``user``, from where the application starts it; return the callback's address."""
    consent = _submit(browser, browser.get(address), username=user, password=user)
    answer = _submit(browser, consent, allow="Authorize", follow=False)
    return answer.headers["Location"]


def _submit(
    browser: requests.Session, page: requests.Response, *, follow: bool = True, **fields: str
) -> requests.Response:
    assert page.status_code == 200, page
    form = _Fields()
    form.feed(page.text)
    return browser.post(page.url, {**form.values, **fields}, allow_redirects=follow)


def tokens_of(provider: Toolkit, user: str, redirect_uri: str) -> dict[str, Any]:
    """Sign in at the provider without the application and return the token response."""
    verifier = "v" * 43
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    query = {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": redirect_uri,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    with requests.Session() as browser:
        callback = sign_in(browser, f"{provider.url}/o/authorize/?{urlencode(query)}", user)
    return provider.exchange(parse_qs(urlsplit(callback).query)["code"][0], verifier, redirect_uri)
