"""Turns off protections for the controls of tests, and stops a worker at a moment.

A test turns something on by making a file of its name in the application's folder (`turned_on`).
Everything here turns off a protection, so that its test fails, or stops a process where no signal
from outside could be timed well enough.
"""

from __future__ import annotations

import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from flask_tokenrotate.errors import StoreUnavailable
from flask_tokenrotate.rotation.holding import Holding
from flask_tokenrotate.rotation.outcomes import SaveOutcome
from flask_tokenrotate.rotation.revocation import Revocation
from flask_tokenrotate.rotation.tokens import Claim
from flask_tokenrotate.rotation.unsaved import UnsavedTokenSets
from flask_tokenrotate.rotation.verdict import NotPosted
from flask_tokenrotate.storage.database.engine import Database
from flask_tokenrotate.storage.database.transactions import Outcome, Transactions
from flask_tokenrotate.storage.grants import SqlGrantStore

STOP_AFTER_CLAIM = "stop-after-claim"
"""The next worker that wins a claim stops (SIGSTOP) before it goes on."""

POST_ANY_TIME = "post-any-time"
"""Holders post also when their claim has ended."""

NEVER_RENEW = "never-renew"
"""A live holder lets its claim end while it waits for the response."""

REFUSE_LATE_WINNERS = "refuse-late-winners"
"""Nothing is saved after the deadline of its claim."""

LEAVE_NEW_TOKENS_ALIVE = "leave-new-tokens-alive"
"""A redemption that finds its grant signed out does not revoke its new tokens."""

FORGET_FAILURES = "forget-failures"
"""Nothing keeps in mind that the provider has just failed."""

CLAIM_NOTHING = "claim-nothing"
"""Every worker redeems without a claim."""

DROP_UNSAVED = "drop-unsaved"
"""A token set that cannot be written is dropped."""

NEVER_READ_BACK = "never-read-back"
"""A write whose COMMIT got no response counts as not written."""

SHARE_CONNECTIONS = "share-connections"
"""A forked child goes on with the connections of its parent."""


@contextmanager
def turned_on(folder: Path, name: str) -> Iterator[None]:
    """Turn ``name`` on for the application in ``folder`` for the time of the block."""
    switch = folder / name
    switch.touch()
    try:
        yield
    finally:
        switch.unlink(missing_ok=True)


def install(folder: Path) -> None:
    """Make what this module offers available in this process."""

    def replace(owner: Any, method: str, name: str, broken: Callable[..., Any]) -> None:
        working = getattr(owner, method)

        def either(*args: Any, **kwargs: Any) -> Any:
            if (folder / name).exists():
                return broken(working, *args, **kwargs)
            return working(*args, **kwargs)

        setattr(owner, method, either)

    replace(SqlGrantStore, "try_claim", STOP_AFTER_CLAIM, _stopper(folder / STOP_AFTER_CLAIM))
    replace(SqlGrantStore, "renew", NEVER_RENEW, _lose_the_claim)
    replace(SqlGrantStore, "save", REFUSE_LATE_WINNERS, _save_in_time)
    replace(Holding, "is_too_late_to_post", POST_ANY_TIME, _post_any_time)
    replace(Revocation, "revoke_if_signed_out", LEAVE_NEW_TOKENS_ALIVE, _do_nothing)
    replace(SqlGrantStore, "release", FORGET_FAILURES, _release_as_if_nothing_was_posted)
    replace(SqlGrantStore, "try_claim", CLAIM_NOTHING, _pretended_claim)
    replace(UnsavedTokenSets, "_put_aside", DROP_UNSAVED, _do_nothing)
    replace(UnsavedTokenSets, "_keep", DROP_UNSAVED, _do_nothing)
    replace(Transactions, "write", NEVER_READ_BACK, _give_up_when_unknown)
    replace(Database, "_forget_parent", SHARE_CONNECTIONS, _do_nothing)


def _stopper(switch: Path) -> Callable[..., Any]:
    def stop_after_claim(try_claim: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        claim = try_claim(*args, **kwargs)
        if isinstance(claim, Claim):
            with suppress(FileNotFoundError):
                switch.unlink()  # succeeds in one process only
                # To this thread: a signal to the process would let a rotation thread run on for a moment.
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
        return claim

    return stop_after_claim


def _lose_the_claim(renew: Callable[..., bool], *_: Any, **__: Any) -> bool:
    return False


def _save_in_time(save: Callable[..., Any], store: SqlGrantStore, seen: Any, *rest: Any, **facts: Any) -> Any:
    grant = store.load(seen.id)
    standing = None if grant is None else grant.standing
    if grant is None or standing is None or standing.deadline < grant.seen_at:
        return SaveOutcome.SUPERSEDED
    return save(store, seen, *rest, **facts)


def _post_any_time(is_too_late: Callable[..., Any], holding: Holding) -> bool:
    holding._claimed_at = holding._clock.monotonic()
    return False


def _release_as_if_nothing_was_posted(
    release: Callable[..., bool], store: SqlGrantStore, claim: Claim, *_: Any, **__: Any
) -> bool:
    return release(store, claim, NotPosted())


def _give_up_when_unknown(write: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    outcome = write(*args, **kwargs)
    if outcome is Outcome.UNKNOWN:
        raise StoreUnavailable("nobody reads back what became of it")
    return outcome


def _pretended_claim(try_claim: Callable[..., Any], store: SqlGrantStore, seen: Any, **facts: Any) -> Claim:
    return Claim(
        id=secrets.token_hex(16), grant_id=seen.id, version=seen.version + 1, redeems=seen.token_version
    )


def _do_nothing(working: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    return None
