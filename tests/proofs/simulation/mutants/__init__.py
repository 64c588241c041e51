"""The protocol with one rule broken each: what the simulator must be able to see.

A mutant is a context manager that patches the code under test. `MUTANTS` lists each with the rule of the
protocol that it breaks and the invariants by which the simulator may notice.
"""

from __future__ import annotations

from . import ending, holding, network, posting, saving, serving
from .registry import MUTANTS, Mutant

__all__ = ["MUTANTS", "WITHOUT_SLOTS", "Mutant"]

ALL = (posting, saving, holding, network, serving, ending)
"""The modules that fill `MUTANTS`."""

WITHOUT_SLOTS = ("expired_claim_is_free", "replay_unlimited", "doubts_forgotten_by_claims")
"""Mutants for which the ledger's slots are switched off: with them nobody posts twice all the same."""
