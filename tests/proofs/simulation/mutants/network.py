"""Mutants of the rule that nothing is delivered late, which the socket options of a call keep."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import patch

from .. import provider
from .registry import breaks


@breaks("4: no byte of a post leaves its host after its claim's first deadline", "I8")
def kernel_sends_for_ever() -> Iterator[None]:
    """There is no ``TCP_USER_TIMEOUT``: what was posted is delivered whenever the network heals."""
    with patch.object(provider, "KERNEL_DROPS", False):
        yield


@breaks("4: no byte of a post leaves its host after its holder gave up or died", "I8")
def close_sends_the_rest() -> Iterator[None]:
    """There is no ``SO_LINGER``: the kernel goes on sending for a call that has ended."""
    with patch.object(provider, "CLOSE_ABORTS", False):
        yield
