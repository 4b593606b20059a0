"""The comparison of a version's files before they are loaded."""

import hashlib
from pathlib import Path

import pytest

from mlopsd_probes.model.mlopsd_host.integrity import Listed, verify
from mlopsd_probes.model.mlopsd_host.load_error import LoadError

NAMES = [f"part-{number}" for number in range(9)]


@pytest.fixture
def listed(tmp_path: Path) -> Listed:
    for name in NAMES:
        (tmp_path / name).write_bytes(name.encode())
    return [(name, len(name), hashlib.sha256(name.encode()).hexdigest()) for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_any_file_with_other_bytes_is_corrupt(tmp_path: Path, listed: Listed, name: str) -> None:
    verify(tmp_path, listed)
    (tmp_path / name).write_bytes(b"x" * len(name))
    with pytest.raises(LoadError, match=f"the file {name} on disk is not what was fetched"):
        verify(tmp_path, listed)


def test_a_file_without_a_digest_must_have_its_size_alone(tmp_path: Path, listed: Listed) -> None:
    """The daemon leaves the digest out if the file was compared and has not changed since."""
    known = [(path, size, None) for path, size, _ in listed]
    (tmp_path / NAMES[0]).write_bytes(b"x" * len(NAMES[0]))
    verify(tmp_path, known)
    (tmp_path / NAMES[0]).write_bytes(b"x")
    with pytest.raises(LoadError, match="has 1 bytes on disk"):
        verify(tmp_path, known)
