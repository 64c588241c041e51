"""What an operator runs on the database of an application. Each operation is imported when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .storage.database.engine import Database
    from .storage.operations.audit import Breach, Redemption
    from .storage.operations.reseal import Resealed
    from .storage.operations.survey import Survey
    from .storage.sealed.sealing import Sealer


def new_key() -> str:
    """Return a new random key for ``TOKENROTATE_ENCRYPTION_KEYS``."""
    from .storage.sealed.sealing import new_key

    return new_key()


class Maintenance:
    """The operations on the whole database. Errors are as in `rotation.ports.GrantStore`."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer

    @property
    def key_fingerprints(self) -> tuple[str, ...]:
        """The fingerprints of the configured keys; the first key encrypts."""
        return self._sealer.fingerprints

    def create_tables(self) -> None:
        """Create the tables that do not exist."""
        from .storage.database.tables import create_tables

        create_tables(self._database.engine())

    def history(self, grant_id: str) -> list[Redemption]:
        """Return the grant's redemptions from the ledger, oldest first."""
        from .storage.operations.audit import Audit

        return Audit(self._database).history(grant_id)

    def breaches(self) -> list[Breach]:
        """Return the breaches of the protocol in the ledger; normally none."""
        from .storage.operations.audit import Audit

        return Audit(self._database).breaches()

    def prune_ledger(self, *, days: float) -> int:
        """Delete redemptions older than ``days`` that no stored token depends on; return the number."""
        from .storage.operations.audit import Audit

        return Audit(self._database).prune(days=days)

    def survey(self, sample: int) -> Survey:
        """Decrypt up to ``sample`` grants, and compare the clocks."""
        from .storage.operations.survey import survey

        return survey(self._database, self._sealer, sample=sample)

    def grants_by_key(self) -> dict[str, int]:
        """Return the number of grants by the fingerprint of the key that encrypted them."""
        from .storage.operations.survey import grants_by_key

        return grants_by_key(self._database)

    def reseal(self) -> Resealed:
        """Encrypt all grants with the first key; return how many were resealed, skipped or unreadable."""
        from .storage.operations.reseal import reseal, total

        return total(reseal(self._database, self._sealer))
