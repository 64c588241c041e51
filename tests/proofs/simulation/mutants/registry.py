"""What a mutant is, and the helpers that break a rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from flask_tokenrotate.rotation.tokens import Claim
from flask_tokenrotate.testing.memory import MemoryGrantStore


@dataclass(frozen=True)
class Mutant:
    """One broken rule; ``seen_as`` are the invariants that its damage may violate first."""

    name: str
    rule: str
    seen_as: frozenset[str]
    apply: Callable[[], AbstractContextManager[Any]]


MUTANTS: list[Mutant] = []


def breaks(rule: str, *seen_as: str) -> Callable[[Callable[[], Iterator[None]]], None]:
    """Register the decorated generator as a mutant that breaks ``rule``."""

    def register(function: Callable[[], Iterator[None]]) -> None:
        MUTANTS.append(Mutant(function.__name__, rule, frozenset(seen_as), contextmanager(function)))

    return register


def replaced(owner: Any, name: str, make: Callable[[Any], Any]) -> AbstractContextManager[Any]:
    """Patch ``owner.name`` with what ``make`` returns for the original."""
    return patch.object(owner, name, make(getattr(owner, name)))


def pretended(row: Any, redeems: int) -> Claim:
    """Return a claim that nobody has won."""
    return Claim(id="pretended", grant_id=row.id, version=row.version + 1, redeems=redeems)


def without_slots() -> AbstractContextManager[Any]:
    """Let the ledger take any number of redemptions of one refresh token."""
    return patch.object(MemoryGrantStore, "_slot_is_refused", lambda *_: False)
