"""Compare the disks that mlopsd writes to with the paths that the system probe watches."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlopsd.probe import Diagnosis, Setup
from mlopsd_probes.system.options import SystemOptions

MOUNTS = Path("/proc/self/mountinfo")
ESCAPED = {r"\040": " ", r"\011": "\t", r"\012": "\n", r"\134": "\\"}  # proc_pid_mountinfo(5)
ADD_TABLE = "add this line to the configuration, then run mlopsd reload: [probes.system]"


def diagnose(setup: Setup[SystemOptions]) -> Iterator[Diagnosis]:
    """Yield whether the disk of each folder of mlopsd is in the ``paths`` of a table."""
    if not setup.tables:
        yield Diagnosis("problem", "no probe watches the CPUs, the memory and the disks", ADD_TABLE)
        return
    if not setup.folders:
        reason = "the state folder is not known to this user; run this command as root"
        yield Diagnosis("not_checked", f"the disk of the models' cache: {reason}")
    paths = [path for options in setup.tables.values() for path in options.paths]
    known: dict[object, str] = {}
    for purpose, folder in setup.folders.items():
        try:
            disk = _disk_of(folder)
        except OSError as error:
            yield Diagnosis("not_checked", f"the disk of {purpose}: {folder}: {error.strerror}")
            continue
        if disk not in known:  # one line for each disk
            known[disk] = str(folder)
            yield _judge(purpose, folder, disk, paths, setup.tables)


def _judge(
    purpose: str, folder: Path, disk: object, paths: list[str], tables: Mapping[str, SystemOptions]
) -> Diagnosis:
    name = f"the disk of {purpose} ({folder})"
    for path in paths:
        try:
            if _disk_of(Path(path)) == disk:
                return Diagnosis("ok", f"{name} is watched by the path {path}")
        except OSError:
            continue  # the probe itself reports that path
    table, options = next(iter(tables.items()))
    line = json.dumps([*options.paths, str(folder)], ensure_ascii=False)
    fix = f"write this line into [probes.{table}], then run mlopsd reload: paths = {line}"
    return Diagnosis("problem", f"{name} is in the paths of no system probe", fix)


def _disk_of(path: Path) -> object:
    """Return a value that is equal for two paths on one disk.

    Subvolumes of btrfs differ in their device number, so the device file of the mount counts if it has one.

    Raises:
        OSError: The path cannot be read.
    """
    real = path.resolve(strict=True)
    device = os.stat(real).st_dev  # noqa: PTH116  # it raises for what resolve() cannot enter
    source = _source_of(str(real))
    return source if source.startswith("/dev/") else device


def _source_of(path: str) -> str:
    """Return the source of the mount that has *path*, or ""."""
    found: tuple[int, str] = (-1, "")
    for line in MOUNTS.read_text("utf-8", "surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        point = _unescaped(before.split(" ")[4])
        if path == point or path.startswith(f"{point.rstrip('/')}/"):
            found = max(found, (len(point), after.split(" ")[1]), key=lambda one: one[0])
    return found[1]


def _unescaped(text: str) -> str:
    for code, letter in ESCAPED.items():
        text = text.replace(code, letter)
    return text
