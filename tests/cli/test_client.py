"""The daemon that a command asks, by the environment of the command."""

from pathlib import Path

import pytest

from mlopsd.cli import client


def test_the_units_own_socket_comes_before_that_of_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unit with another RuntimeDirectory, as a monitor's, asks the service."""
    service, own = tmp_path / "mlopsd" / "mlopsd.sock", tmp_path / "unit" / "mlopsd.sock"
    monkeypatch.setattr(client, "SERVICE_SOCKET", service)
    unit = {"RUNTIME_DIRECTORY": f"{own.parent}:/run/other"}
    apart = {"MLOPSD_API__PORT": "1"}
    assert client._socket_of_service(unit) is None
    service.parent.mkdir()
    service.touch()
    assert client._socket_of_service({}) == service
    assert client._socket_of_service(unit) == service
    assert client._socket_of_service(apart) is None
    own.parent.mkdir()
    own.touch()
    assert client._socket_of_service(unit | apart) == own
