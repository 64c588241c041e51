"""The registered providers of one application."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..errors import UnknownProvider
from ..provider import Provider
from ..rotation.protocol import Policy
from .build import build_provider

Options = Mapping[str, object]


class Providers:
    """The registered providers, each built when it is first used.

    ``registered`` are the options given to `TokenRotate.register`, by name, and ``configured`` those of
    ``TOKENROTATE_PROVIDERS``, which they override. A provider may be registered at any time, and again.
    ``policy_of`` returns how to rotate at a provider.
    """

    def __init__(
        self,
        registered: Mapping[str, Options],
        configured: Mapping[str, Options],
        policy_of: Callable[[Provider], Policy],
    ) -> None:
        self._registered = registered
        self._configured = configured
        self._policy_of = policy_of
        self._built: dict[str, _Built] = {}

    def names(self) -> tuple[str, ...]:
        """Return the names of all registered providers."""
        return tuple({**self._configured, **self._registered})

    def get(self, name: str) -> Provider:
        """Return the profile of ``name``; raises `UnknownProvider` or `ConfigurationError`."""
        return self._build(name).profile

    def policy(self, name: str) -> Policy:
        """Return how to rotate at the provider ``name``; raises as `get` does."""
        return self._build(name).policy

    def _build(self, name: str) -> _Built:
        registered = self._registered.get(name)
        built = self._built.get(name)
        if built is not None and built.registered is registered:
            return built
        configured = self._configured.get(name)
        if registered is None and configured is None:
            raise UnknownProvider(name, self.names())
        profile = build_provider(name, configured or {}, registered or {})
        built = self._built[name] = _Built(registered, profile, self._policy_of(profile))
        return built


@dataclass(frozen=True, slots=True)
class _Built:
    """A profile, and the very options it was built from."""

    registered: Options | None
    profile: Provider
    policy: Policy
