"""Rescue files: whole or not at all, for nobody else's eyes, and of no use under another name."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flask_tokenrotate.errors import RescueFailed
from flask_tokenrotate.rotation.tokens import Claim, Grant, Unsaved
from flask_tokenrotate.storage.sealed.rescue_files import RescueFiles, _binding, _written_out
from flask_tokenrotate.storage.sealed.sealing import sealer_from

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


def facts(**changes: Any) -> bytes:
    """Return what a rescue file holds, with changes."""
    return json.dumps({**json.loads(_written_out(unsaved())), **changes}).encode()


TOKENS = json.loads(_written_out(unsaved()))["tokens"]
GRANT = [CLAIM.grant_id, "spotify", "ada", "s"]
CONTENT: dict[str, bytes] = {
    "no JSON": b"access-3",
    "not UTF-8": b"\xff",
    "no object": b"null",
    "no facts": b"{}",
    "no tokens": facts(tokens=None),
    "a token missing": facts(tokens={**TOKENS, "refresh_token": 7}),
    "of another grant": facts(grant=["b" * 32, *GRANT[1:]]),
    "no provider": facts(grant=[GRANT[0], None, "ada", "s"]),
    "a grant of three": facts(grant=GRANT[:3]),
    "a version that is text": facts(claim=[CLAIM.id, "3", 1]),
    "a version no column takes": facts(claim=[CLAIM.id, 2**63, 1]),
    "a time that is no number": facts(times=[float("nan"), None, None]),
    "a time out of range": facts(times=[10**400, None, None]),
    "a status that is text": facts(http_status="200"),
}


@pytest.mark.parametrize("how", ["whole", *CONTENT])
def test_a_file_of_another_version_is_an_error_and_stays(files: RescueFiles, folder: Path, how: str) -> None:
    """Under a valid seal too: told by its path and the cure, never shown, never deleted."""
    files.put(unsaved())
    (path,) = folder.iterdir()
    path.write_bytes(SEALER.seal(CONTENT.get(how, facts()), _binding(CLAIM.grant_id, CLAIM.id)))
    (found,) = files.waiting()
    if how == "whole":
        assert found == unsaved()
        return
    assert isinstance(found, RescueFailed)
    assert found.path == str(path)
    assert "run the version that wrote it" in str(found)
    assert "access-3" not in str(found)
    assert path.exists()


def test_another_applications_file_is_told_by_its_key(folder: Path, files: RescueFiles) -> None:
    """A file that was sealed with a key that is not configured names the key's fingerprint."""
    other = sealer_from((), "another application's key")
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
