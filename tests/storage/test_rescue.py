"""Rescue files: whole or not at all, for nobody else's eyes, and of no use under another name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flask_tokenrotate.errors import RescueFailed
from flask_tokenrotate.rotation.tokens import Claim, Grant, Unsaved
from flask_tokenrotate.storage import sealer_from
from flask_tokenrotate.storage.rescue import RescueFiles

from .backends import SEALER, token_set

CLAIM = Claim(id="c" * 32, grant_id="a" * 32, version=3, redeems=1)


def unsaved(claim: Claim = CLAIM) -> Unsaved:
    """Return a token set that waits."""
    tokens = token_set(3)
    grant = Grant(
        id=claim.grant_id, provider="spotify", tokens=tokens, seen_at=0.0, user_id="ada", subject="s"
    )
    return Unsaved(grant=grant, claim=claim, tokens=tokens, http_status=200)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that does not exist yet."""
    return tmp_path / "instance" / "rescue"


@pytest.fixture
def files(folder: Path) -> RescueFiles:
    """The rescue files in it."""
    return RescueFiles(folder, SEALER)


def test_what_was_put_comes_back_until_it_is_removed(files: RescueFiles) -> None:
    """Every fact and every token survives; reading removes nothing; removing twice is no error."""
    assert files.waiting() == []
    files.put(unsaved())
    for found in (files.waiting(), files.waiting(CLAIM.grant_id)):
        assert found == [unsaved()]
    assert files.waiting("b" * 32) == []
    files.remove(CLAIM)
    files.remove(CLAIM)
    assert files.waiting() == []


def test_a_file_is_for_its_owner_alone_and_sealed(files: RescueFiles, folder: Path) -> None:
    """Mode 0600 in a folder of mode 0700, one file and no temporary one, and no token in it."""
    files.put(unsaved())
    (name,) = os.listdir(folder)
    assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    content = (folder / name).read_bytes()
    assert b"access-3" not in content
    assert b"refresh-3" not in content


Spoil = Callable[[Path], object]
SPOILT: dict[str, Spoil] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "altered": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x00\x00"),
    "of another claim": lambda path: path.rename(path.with_name(f"{'a' * 32}.{'d' * 32}.rescue")),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_file_is_an_error_and_stays(files: RescueFiles, folder: Path, how: str) -> None:
    """It is told by its path beside the good ones, shows no token, and is never deleted."""
    good = unsaved(Claim(id="e" * 32, grant_id="b" * 32, version=1, redeems=0))
    files.put(unsaved())
    SPOILT[how](next(folder.iterdir()))
    files.put(good)
    before = sorted(os.listdir(folder))
    bad, found = files.waiting()
    assert isinstance(bad, RescueFailed)
    assert bad.path == str(folder / before[0])
    assert found == good
    assert sorted(os.listdir(folder)) == before


def test_another_applications_file_is_told_by_its_key(folder: Path, files: RescueFiles) -> None:
    """A file that was sealed with a key that is not configured names the key's fingerprint."""
    other = sealer_from(None, "another application's key")
    RescueFiles(folder, other).put(unsaved())
    (bad,) = files.waiting()
    assert isinstance(bad, RescueFailed)
    assert other.fingerprints[0] in str(bad)


@pytest.mark.parametrize("step", ["mkdir", "open", "fsync", "rename"])
def test_a_disk_that_takes_nothing_is_a_named_error(
    files: RescueFiles, folder: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Full or read-only at whichever step: our error with the system's reason, and no half of a file."""

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    owner = Path if step in ("mkdir", "rename") else os
    with monkeypatch.context() as patched:
        patched.setattr(owner, step, refuse)
        with pytest.raises(RescueFailed, match="No space left on device") as raised:
            files.put(unsaved())
    assert str(folder) in str(raised.value)
    assert "TOKENROTATE_RESCUE_DIR" in str(raised.value)
    assert files.waiting() == []
    assert not folder.exists() or os.listdir(folder) == []
