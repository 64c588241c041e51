"""Every code block of the README runs, and its commands are the ones that work."""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_tokenrotate import errors
from flask_tokenrotate.providers.catalogue import CATALOGUE
from flask_tokenrotate.testing import FakeProvider, LoginAs
from flask_tokenrotate.web.cli import tokenrotate

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "SECURITY.md")] + sorted(
    ROOT.glob("docs/*.md")
)
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the README's blocks in their order, as one module, and return what it defines."""
    init = Flask.__init__

    def in_tmp_path(self: Flask, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **{"instance_path": str(tmp_path), **kwargs})

    monkeypatch.setattr(Flask, "__init__", in_tmp_path)
    names: dict[str, Any] = {"__name__": "readme"}
    exec(BLOCKS[0], names)
    names["app"] = names["create_app"]()
    for block in BLOCKS[1:]:
        exec(block, names)
    return names


def test_the_first_page_is_short() -> None:
    """What it does, how to add it, and what happens stand on the first page."""
    first_page = README.splitlines()[:40]
    for word in ("init_app", "@require_fresh_token", "expiry", "collide", "refuses", "outage"):
        assert any(word in line for line in first_page), word


def test_the_application_signs_in_at_its_provider(names: dict[str, Any]) -> None:
    """The quick start's application redirects a page to sign-in, and that to the provider."""
    client = names["app"].test_client()
    page = client.get("/playlists", headers={"Accept": "text/html"})
    assert page.status_code == 401, "the README's own handler answers"
    login = client.get("/auth/spotify/login")
    assert login.location.startswith("https://accounts.spotify.com/authorize?")
    assert client.get("/auth/acme/login").location.startswith("https://id.acme.example/authorize?")


def test_the_error_handler_of_the_readme_answers(names: dict[str, Any]) -> None:
    """`app.errorhandler` takes over as shown."""
    answer = names["app"].test_client().get("/playlists")
    assert (answer.status_code, answer.json["because"]) == (401, "no_grant")


def test_the_users_test_passes(
    names: dict[str, Any], fake_provider: FakeProvider, login_as: LoginAs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test that the README shows to users does run, with the plugin's fixtures."""
    from requests import Response, Session

    send = Session.send

    def to_spotify(self: Session, request: Any, **kwargs: Any) -> Response:
        if request.url.startswith("https://api.spotify.com/"):
            answer = Response()
            answer.status_code, answer._content = 200, b'{"items": []}'
            return answer
        return send(self, request, **kwargs)

    monkeypatch.setattr(Session, "send", to_spotify)
    login = login_as

    def at_spotify(client: Any, user: str, **kwargs: Any) -> Any:
        return login(client, user, "spotify", **kwargs)

    names["test_playlists"](fake_provider, at_spotify)
    client = names["app"].test_client()
    at_spotify(client, "alice")
    assert client.get("/me").json["because"] == "missing_scopes"
    assert client.get("/library").json == {"items": []}
    assert names["nightly"](names["app"], "alice") == {"items": []}


def test_every_module_named_exists() -> None:
    """The reading order names files that are there."""
    paths = re.findall(r"`((?:flask_tokenrotate|web|rotation)/[a-z_/]+\.py)`", README)
    assert "rotation/asking.py" in paths
    for path in paths:
        full = path if path.startswith("flask_tokenrotate/") else f"flask_tokenrotate/{path}"
        assert (ROOT / full).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    """To a file that is there, and to a heading of it."""
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text()):
        path, _, heading = target.partition("#")
        linked = (page.parent / path) if path else page
        assert linked.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, (
                target
            )


def test_every_provider_that_is_named_is_in_the_catalogue() -> None:
    """The README names examples: a new entry does not have to be added to it."""
    (listed,) = re.findall(r"facts, with their sources, for\sproviders such as\s([^:]+):", README)
    assert {name.lower() for name in re.split(r",\s|\sand\s", listed)} <= set(CATALOGUE)


def test_every_error_is_in_the_table() -> None:
    """With its HTTP status, but for the one that no request gets."""
    table = README.partition("| exception |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:]]
    named = {name: response for names, response, _ in rows for name in re.findall(r"`(\w+)`", names)}
    tree = {
        error
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.TokenRotateError)
    }
    assert set(named) == {error.__name__ for error in tree}
    for error in tree - {errors.RescueFailed}:
        assert str(error.status) in named[error.__name__], error.__name__


def test_every_command_named_exists() -> None:
    """The extras and the subcommands that the README names are there."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extras = set(re.findall(r"(?:Flask-TokenRotate|\.)\[(\w+)\]", README))
    assert extras
    assert extras <= set(setup["options.extras_require"])
    commands = set(re.findall(r"flask tokenrotate ([a-z-]+)", README))
    assert commands == set(tokenrotate.commands)


def test_the_two_commands_are_one_line_each() -> None:
    """The demo and the tests each take one command that makes its own environment."""
    for end in (".venv/bin/python -m example_app", ".venv/bin/python -m pytest"):
        lines = [line for line in README.splitlines() if line.startswith("$ ") and line.endswith(end)]
        assert len(lines) == 1
        assert lines[0].startswith("$ python3 -m venv .venv && .venv/bin/pip install -e ")
