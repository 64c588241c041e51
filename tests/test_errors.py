"""The tree of errors."""

from __future__ import annotations

import copy
import inspect
import re
from pathlib import Path

import pytest

import flask_tokenrotate
from flask_tokenrotate import errors
from flask_tokenrotate.errors import TokenRotateError

EXAMPLES: list[TokenRotateError] = [
    errors.ConfigurationError("x"),
    errors.ProviderMisconfigured("spotify", "invalid_client", 3.0),
    errors.SignInRequired("spotify", "refused", scopes=frozenset({"a"}), login_url="/x"),
    errors.SignInRequired(None, "no_grant"),
    errors.ScopesNotGranted("spotify", frozenset({"a"})),
    errors.SignInFailed("spotify", "denied", "You said no."),
    errors.CrossSiteRequest(),
    errors.TryLater("x", retry_after=1),
    errors.ProviderUnavailable("spotify", retry_after=2.5),
    errors.RotationTimeout("grant", waited=15, retry_after=1),
    errors.StoreUnavailable("away"),
    errors.TablesMissing(),
    errors.UnknownProvider("x", ("a", "b")),
    errors.InvalidTokenResponse("x"),
    errors.GrantUnreadable("grant", "aa", ("aa", "bb")),
    errors.GrantUnreadable("grant", "aa", ("aa", "bb"), malformed=True),
    errors.NotStorableInSession("cart", "a set"),
    errors.LedgerConflict("grant", 3, 0),
    errors.RescueFailed("/folder", "No space left on device"),
]


TREE = [each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, TokenRotateError)]


def test_every_error_has_an_example() -> None:
    """The list of this test is complete."""
    assert set(TREE) - {type(example) for example in EXAMPLES} == {TokenRotateError}


@pytest.mark.parametrize("error", TREE)
def test_every_error_can_be_imported_from_the_top(error: type[TokenRotateError]) -> None:
    """An application catches each of them without knowing the package's modules."""
    assert getattr(flask_tokenrotate, error.__name__) is error


def test_the_table_lists_every_error_with_its_status() -> None:
    """The docstring of `errors` is complete, and its numbers are the classes' own."""
    rows = re.findall(r"^`(\w+)` +(\d+) +\S", errors.__doc__ or "", re.MULTILINE)
    assert len(rows) == len(TREE)
    assert dict(rows) == {error.__name__: str(error.status) for error in TREE}


def test_the_readme_names_only_errors_that_exist() -> None:
    """What the README's table calls an exception can be imported from the top."""
    readme = Path(__file__).parent.parent.joinpath("README.md").read_text()
    _, _, table = readme.partition("| exception |")
    rows = [line.split("|")[1] for line in table.split("\n\n")[0].splitlines()[2:]]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert "SignInRequired" in named
    assert set(named) <= {error.__name__ for error in TREE}


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_a_copy_is_equal_and_apart(error: TokenRotateError) -> None:
    """Threads that share a failure raise copies: what one fills in is not seen by another."""
    error.__cause__ = ValueError("why")
    twin = copy.copy(error)
    assert type(twin) is type(error)
    assert (str(twin), vars(twin), twin.__cause__) == (str(error), vars(error), error.__cause__)
    twin.login_url = "/elsewhere"  # type: ignore[attr-defined]
    assert getattr(error, "login_url", None) != "/elsewhere"


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_has_a_status_and_a_code_of_its_own(error: TokenRotateError) -> None:
    """Status and code are there for the default answer; the codes tell the classes apart."""
    assert 400 <= error.status <= 599
    same = {type(other) for other in EXAMPLES if other.code == error.code}
    assert same == {type(error)}


def test_an_altered_row_is_told_from_a_missing_key() -> None:
    """The cure depends on whether the key that sealed the row is known."""
    assert "altered" in str(errors.GrantUnreadable("g", "aa", ("aa",)))
    assert "TOKENROTATE_ENCRYPTION_KEYS" in str(errors.GrantUnreadable("g", "aa", ("bb",)))
