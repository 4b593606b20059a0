"""What others' processes are, of whom each may end while we look."""

from pathlib import Path


def command(pid: int) -> bytes:
    """Its command line, a NUL behind each argument; empty if it is gone."""
    return _read(pid, "cmdline")


def environment(pid: int) -> bytes:
    """What anybody of its user could read; empty if it is gone."""
    return _read(pid, "environ")


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
