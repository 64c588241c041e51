"""Sealing: a copy of the database shows no token, and a value that was moved does not open.

A sealed value is ``version byte | key fingerprint (6 bytes) | nonce (12 bytes) | AES-256-GCM``. What
it is *bound to* (the grant's id and owner) is authenticated with it and not stored in it: a value that was
copied into another row, or a row that was given to another user, does not open.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ...errors import ConfigurationError
from ...rotation.tokens import Secret

KEY_BYTES = 32
_FORMAT = b"\x01"
_FINGERPRINT_BYTES = 6
_NONCE_BYTES = 12
_HEADER_BYTES = len(_FORMAT) + _FINGERPRINT_BYTES
FINGERPRINT_AT = slice(len(_FORMAT), _HEADER_BYTES)
"""Where a sealed value names its key."""

Binding = Sequence[str | None]


class DoesNotOpen(Exception):
    """No key decrypts a sealed value; ``sealed_with`` is the fingerprint that it names."""

    def __init__(self, sealed_with: str) -> None:
        self.sealed_with = sealed_with
        super().__init__(f"sealed with key {sealed_with}")


class Sealer:
    """Encrypts with the first of ``keys`` (32 bytes each) and decrypts with any of them.

    ``fingerprints`` are short hashes that name the keys, in their order, without revealing them.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._ciphers = {_fingerprint(key): AESGCM(key) for key in keys}
        self._first = _fingerprint(keys[0])
        self._hash_key = _expanded(keys[0], b"flask-tokenrotate ledger 1")
        self.fingerprints = tuple(fingerprint.hex() for fingerprint in self._ciphers)

    def seal(self, plain: bytes, bound_to: Binding) -> bytes:
        """Return ``plain`` sealed and bound to ``bound_to``."""
        header = _FORMAT + self._first
        nonce = os.urandom(_NONCE_BYTES)
        return (
            header + nonce + self._ciphers[self._first].encrypt(nonce, plain, _associated(header, bound_to))
        )

    def hash(self, secret: Secret) -> str:
        """Return the keyed hash (HMAC-SHA256) by which the ledger distinguishes refresh tokens.

        Its key is derived from the first key: without it nobody can try tokens against the hash.
        """
        return hmac.new(self._hash_key, secret.encoded(), "sha256").hexdigest()

    def open(self, sealed: bytes, bound_to: Binding) -> bytes:
        """Return what was sealed. Raises `DoesNotOpen` when no key decrypts it with ``bound_to``."""
        header, body = sealed[:_HEADER_BYTES], sealed[_HEADER_BYTES:]
        fingerprint = header[FINGERPRINT_AT]
        cipher = self._ciphers.get(fingerprint)
        if cipher is None or not header.startswith(_FORMAT) or len(body) <= _NONCE_BYTES:
            raise DoesNotOpen(fingerprint.hex())
        try:
            return cipher.decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], _associated(header, bound_to))
        except InvalidTag:
            raise DoesNotOpen(fingerprint.hex()) from None


def fingerprint_of(sealed: bytes) -> str:
    """Return the fingerprint of the key that a sealed value names as its own."""
    return sealed[FINGERPRINT_AT].hex()


def new_key() -> str:
    """Return a new random key for ``TOKENROTATE_ENCRYPTION_KEYS``."""
    return base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode()


def sealer_from(
    encryption_keys: Sequence[str],
    secret_key: str | bytes | None,
    fallbacks: Sequence[str | bytes] = (),
) -> Sealer:
    """Return the sealer that the configuration asks for.

    ``encryption_keys`` (``TOKENROTATE_ENCRYPTION_KEYS``): urlsafe base64 of 32 bytes each; the first
    encrypts. The keys derived from ``SECRET_KEY`` and ``SECRET_KEY_FALLBACKS`` decrypt as well, so that an
    application may set encryption keys later; they encrypt only where there are none. Raises
    `ConfigurationError`, which never shows a key.
    """
    keys = [_decoded(word, position) for position, word in enumerate(encryption_keys, 1)]
    if not keys and not secret_key:
        raise ConfigurationError(
            "There is no key to encrypt tokens with: set SECRET_KEY, or TOKENROTATE_ENCRYPTION_KEYS "
            "to the output of: flask tokenrotate new-key"
        )
    keys += [_derived(secret) for secret in (secret_key, *fallbacks) if secret]
    return Sealer(keys)


def _decoded(word: object, position: int) -> bytes:
    try:
        if not isinstance(word, str):
            raise TypeError
        word = word.rstrip("=")
        key = base64.b64decode(word + "=" * (-len(word) % 4), altchars=b"-_", validate=True)
    except (TypeError, ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigurationError(
            f"Key number {position} in TOKENROTATE_ENCRYPTION_KEYS is not the urlsafe base64 of "
            f"{KEY_BYTES} bytes. Make one with: flask tokenrotate new-key"
        )
    return key


def _derived(secret: str | bytes) -> bytes:
    material = secret.encode() if isinstance(secret, str) else secret
    return _expanded(material, b"flask-tokenrotate sealing 1")


def _expanded(material: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(material)


def _fingerprint(key: bytes) -> bytes:
    return hashlib.sha256(b"tokenrotate-key:" + key).digest()[:_FINGERPRINT_BYTES]


def _associated(header: bytes, bound_to: Binding) -> bytes:
    # JSON keeps ("ab", "c") and ("a", "bc"), None and "None" apart.
    return header + json.dumps(list(bound_to)).encode()
