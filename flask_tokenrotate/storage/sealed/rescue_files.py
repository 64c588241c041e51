"""Rescue files: one sealed file for each token set that could not be written to the database.

All of a file is sealed, and bound to the grant and the claim in its name: a file that was copied under
another name does not open.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...errors import RescueFailed
from ...rotation.tokens import Claim, Grant, Unsaved
from .content import Malformed, facts_in, number_or_none, several, text, text_or_none, whole, with_keys
from .sealing import Binding, DoesNotOpen, Sealer
from .token_sets import TOKEN_FACTS, read_tokens, written_tokens

SUFFIX = ".rescue"


class RescueFiles:
    """The rescue files in ``folder``; the contract is `ports.Rescue`. The folder is made when needed."""

    def __init__(self, folder: str | Path, sealer: Sealer) -> None:
        self._folder = Path(folder)
        self._sealer = sealer

    def put(self, unsaved: Unsaved) -> None:
        """Write the file under another name, then rename it: it exists whole or not at all."""
        claim = unsaved.claim
        sealed = self._sealer.seal(_written_out(unsaved), _binding(claim.grant_id, claim.id))
        temporary = self._folder / f"{secrets.token_hex(8)}.tmp"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                _write_synced(temporary, sealed)
                temporary.rename(self._path(claim))
            except OSError:
                with suppress(OSError):
                    temporary.unlink()
                raise
            # Until the folder is synced too, a power failure may lose the name.
            self._sync_folder()
        except OSError as error:
            raise RescueFailed(str(self._folder), error.strerror or type(error).__name__) from error

    def waiting(self, grant_id: str | None = None) -> Sequence[Unsaved | RescueFailed]:
        """Read the files of the grant, or all files."""
        try:
            names = sorted(os.listdir(self._folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise RescueFailed(str(self._folder), error.strerror or type(error).__name__) from error
        start = "" if grant_id is None else f"{grant_id}."
        found = (self._read(name) for name in names if name.endswith(SUFFIX) and name.startswith(start))
        return [each for each in found if each is not None]

    def remove(self, claim: Claim) -> None:
        """Delete the file of the claim."""
        try:
            self._path(claim).unlink(missing_ok=True)
        except OSError as error:
            raise RescueFailed(str(self._path(claim)), error.strerror or type(error).__name__) from error

    def _path(self, claim: Claim) -> Path:
        return self._folder / f"{claim.grant_id}.{claim.id}{SUFFIX}"

    def _read(self, name: str) -> Unsaved | RescueFailed | None:
        path = self._folder / name
        grant_id, _, claim_id = name.removesuffix(SUFFIX).partition(".")
        try:
            plain = self._sealer.open(path.read_bytes(), _binding(grant_id, claim_id))
            return _read_back(plain, grant_id, claim_id)
        except FileNotFoundError:
            # Another process has just saved it.
            return None
        except DoesNotOpen as error:
            reason = f"it was encrypted with key {error.sealed_with}, which is none of the configured keys"
            return RescueFailed(str(path), reason)
        except Malformed:
            reason = "this version of Flask-TokenRotate did not write it: run the version that wrote it"
            return RescueFailed(str(path), reason)
        except OSError as error:
            return RescueFailed(str(path), error.strerror or type(error).__name__)

    def _sync_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _write_synced(path: Path, content: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _binding(grant_id: str, claim_id: str) -> Binding:
    return ("rescue", grant_id, claim_id)


def _written_out(unsaved: Unsaved) -> bytes:
    grant, claim, tokens = unsaved.grant, unsaved.claim, unsaved.tokens
    facts: dict[str, Any] = {
        "grant": [grant.id, grant.provider, grant.user_id, grant.subject],
        "claim": [claim.id, claim.version, claim.redeems],
        "http_status": unsaved.http_status,
        "tokens": written_tokens(tokens),
        "times": [tokens.expires_at, tokens.lifetime, tokens.refresh_expires_at],
    }
    return json.dumps(facts).encode()


def _read_back(plain: bytes, grant_id: str, claim_id: str) -> Unsaved:
    """Return what `_written_out` wrote for the grant and the claim. Raises `Malformed`."""
    facts = facts_in(plain, "grant", "claim", "http_status", "tokens", "times")
    own_grant_id, provider, user_id, subject = several(facts["grant"], 4)
    own_claim_id, version, redeems = several(facts["claim"], 3)
    if (own_grant_id, own_claim_id) != (grant_id, claim_id):
        raise Malformed
    expires_at, lifetime, refresh_expires_at = map(number_or_none, several(facts["times"], 3))
    tokens = read_tokens(
        with_keys(facts["tokens"], *TOKEN_FACTS),
        expires_at=expires_at,
        lifetime=lifetime,
        refresh_expires_at=refresh_expires_at,
    )
    grant = Grant(
        id=grant_id,
        provider=text(provider),
        tokens=tokens,
        seen_at=0.0,
        user_id=text_or_none(user_id),
        subject=text_or_none(subject),
    )
    claim = Claim(id=claim_id, grant_id=grant_id, version=whole(version), redeems=whole(redeems))
    status = facts["http_status"]
    return Unsaved(
        grant=grant, claim=claim, tokens=tokens, http_status=None if status is None else whole(status)
    )
