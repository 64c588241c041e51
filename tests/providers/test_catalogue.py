"""Every entry of the catalogue builds, and every fact in it has a source."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from flask_tokenrotate.providers.build import build_provider, place_of
from flask_tokenrotate.providers.catalogue import CATALOGUE, CHECKED

SAMPLES = {"start": "https://sso.example.com", "host": "acme.example.com", "part": "acme"}


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_entry_builds(name: str) -> None:
    """With a client and the entry's parameters, each entry is a complete profile."""
    entry = CATALOGUE[name]
    places = {key: place_of(key, entry.facts()) for key in entry.parameters}
    needed = {key: SAMPLES[place] for key, place in places.items() if place is not None}
    assert needed.keys() == entry.parameters.keys(), "each parameter is a part of some URL"
    provider = build_provider(name, {"client_id": "me", "client_secret": "s", **needed})
    assert provider.userinfo_endpoint is not None
    assert "{" not in repr(provider).replace("authorize_params={", "").replace("frozenset({", "")


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_every_fact_has_one_source(name: str) -> None:
    """A fact is stated once, by a page that can be opened."""
    stated = [fact for statement in CATALOGUE[name].statements for fact in statement.facts]
    assert len(stated) == len(set(stated))
    for statement in CATALOGUE[name].statements:
        assert statement.source.startswith("https://")
        assert statement.facts


def test_the_facts_have_a_date() -> None:
    """The catalogue says when its sources were read."""
    assert re.fullmatch(r"20\d\d-\d\d", CHECKED)


def test_github_facts_reach_the_policy() -> None:
    """GitHub's rotation kills the old access token, and its refusals come as 200 with a code."""
    github = build_provider("github", {"client_id": "me", "client_secret": "s"})
    assert github.policy(min_ttl=30, ahead=300, settle=2).ahead == 0
    assert "bad_refresh_token" in github.response_rules.refused_errors


def test_the_catalogue_is_read_late() -> None:
    """An application that registers no provider does not pay for the catalogue."""
    code = (
        "import sys, flask_tokenrotate.providers.build;"
        "assert 'flask_tokenrotate.providers.catalogue' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
