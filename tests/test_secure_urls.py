"""Which addresses a secret may be sent to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_tokenrotate.errors import ConfigurationError
from flask_tokenrotate.secure_urls import check_url


@pytest.mark.parametrize(
    "url",
    [
        "https://accounts.example.com/token",
        "https://example.com:8443/token?tenant=1",
        "https://[2001:db8::1]/token",
        "http://localhost:5000/token",
        "http://LOCALHOST/token",
        "http://127.0.0.1/token",
        "http://127.200.1.9:80/token",
        "http://[::1]:5000/token",
    ],
)
def test_https_anywhere_and_http_on_this_machine(url: str) -> None:
    """https is good for every host, plain http for loopback hosts."""
    check_url(url, "token_endpoint")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/token",
        "http://localhost.example.com/token",
        "http://app.localhost/token",
        "http://127.0.0.1.example.com/token",
        "http://0.0.0.0/token",
        "http://10.0.0.1/token",
        "ftp://localhost/token",
        "//example.com/token",
        "example.com/token",
        "https://",
        "https:///token",
        "https://example.com/token#x",
        "https://user:hunter2@example.com/token",
        "http://localhost@evil.example/token",
        "https://example.com:99999/token",
        "https://[::1/token",
        "https://example.com/to ken",
        "https://example.com/token\r\nX: 1",
        "",
    ],
)
def test_everything_else_is_refused_by_name(url: str) -> None:
    """The error names the field, and shows neither password nor query."""
    with pytest.raises(ConfigurationError, match="token_endpoint") as caught:
        check_url(url, "token_endpoint")
    assert "hunter2" not in str(caught.value)


@given(st.text(max_size=60) | st.text(alphabet="htps:/.@#[]127localexmp\\ ?", max_size=40))
def test_any_text_is_accepted_or_refused(url: str) -> None:
    """No text makes the check raise anything but `ConfigurationError`."""
    try:
        check_url(url, "token_endpoint")
    except ConfigurationError:
        return
    assert url.lower().startswith(("https://", "http://"))
