"""``mlopsd bundle``: collect what a vendor or a platform team asks for, and pack it."""

import json
import os
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlopsd.cli.bundle.archive import write_archive, write_to
from mlopsd.cli.bundle.contents import (
    BundleFile,
    files_of_daemon,
    files_of_host,
    files_of_mlopsd,
    host_name,
)
from mlopsd.cli.bundle.program import Unavailable
from mlopsd.cli.bundle.secrets import SecretCleaner
from mlopsd.cli.client import DaemonClient, DaemonUnreachable, add_connection_options, find_daemon
from mlopsd.cli.doctor import adopt_environment
from mlopsd.cli.errors import CommandError, print_error
from mlopsd.cli.options import add_config_option, load_configuration
from mlopsd.format import format_count, format_quantity

NOTE = (
    "It names this host, its models and its GPUs. Secrets are masked, and lines that models printed are left "
    "out. Look into it before you send it."
)


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the file, the configuration and the daemon's address."""
    output = "the archive (default: mlopsd-HOST-TIME.tar.gz in this folder); - is the standard output"
    parser.add_argument("--output", "-o", metavar="FILE", help=output)
    add_config_option(parser)
    add_connection_options(parser)
    parser.epilog = "exit status: 0 written, also if something is missing, 1 not written"


def run(arguments: Namespace) -> int:
    """Write the archive, and print where it is and what it lacks.

    Raises:
        CommandError: It cannot be written.
    """
    moment = time.time()
    name = f"mlopsd-{host_name()}-{datetime.fromtimestamp(moment, UTC):%Y%m%dT%H%M%SZ}"
    if arguments.output == "-" and sys.stdout.isatty():
        raise CommandError("cannot write an archive to a terminal; name a file with --output")
    target = Path(arguments.output or f"{name}.tar.gz")
    if arguments.output != "-" and target.exists():
        raise CommandError(f"cannot write {target}: it exists; remove it, or name another with --output")
    files, missing = _collect(arguments)
    if arguments.output == "-":
        write_to(sys.stdout.buffer, name, files, moment)
        print_error(*_summary("standard output", len(files), None, missing))
    else:
        size = write_archive(target, name, files, moment)
        print(*_summary(str(target), len(files), size, missing), sep="\n")
    return 0


def _summary(where: str, files: int, size: int | None, missing: Mapping[str, str]) -> list[str]:
    how_large = "" if size is None else f", {format_quantity(size, 'bytes')}"
    by_reason: dict[str, list[str]] = {}
    for path, reason in missing.items():
        by_reason.setdefault(reason, []).append(path)
    return [
        f"{where}: {format_count(files, 'file')}{how_large}",
        *(f"missing: {', '.join(paths)}: {reason}" for reason, paths in by_reason.items()),
        NOTE,
    ]


def _collect(arguments: Namespace) -> tuple[dict[str, bytes], dict[str, str]]:
    """Return the content of each file, and the reason why one is missing."""
    adopt_environment()
    if arguments.config is not None:  # the daemon and the doctor are found by it too
        os.environ["MLOPSD_CONFIG"] = str(arguments.config)
    missing: dict[str, str] = {}
    loaded, configured = None, []
    try:
        loaded, found = load_configuration(arguments.config)
        configured = list(found)
    except CommandError as error:
        missing["mlopsd/config.toml"] = "; ".join(error.lines)
    cleaner = SecretCleaner(loaded, configured)
    client, reason = _find(arguments)
    wanted: list[BundleFile] = [
        *files_of_mlopsd(loaded, configured),
        *files_of_daemon(client, reason),
        *files_of_host(),
    ]
    files = _read_all(wanted, cleaner, missing)
    files["manifest.json"] = cleaner.clean(_manifest(wanted, files, missing))
    return files, {path: cleaner.clean(why.encode()).decode() for path, why in missing.items()}


def _find(arguments: Namespace) -> tuple[DaemonClient | None, str]:
    try:
        return find_daemon(arguments)[0], ""
    except CommandError as error:
        return None, "; ".join(error.lines).partition("; is it running?")[0]


def _read_all(
    wanted: Iterable[BundleFile], cleaner: SecretCleaner, missing: dict[str, str]
) -> dict[str, bytes]:
    files = {}
    for one in wanted:
        try:
            files[one.path] = cleaner.clean(one.read())
        except (Unavailable, DaemonUnreachable) as error:
            missing[one.path] = str(error)
        except OSError as error:
            missing[one.path] = f"{one.source}: {error.strerror}"
    return files


def _manifest(wanted: Iterable[BundleFile], files: dict[str, bytes], missing: dict[str, str]) -> bytes:
    found: dict[str, Any] = {
        "files": [
            {"path": one.path, "source": one.source, "bytes": len(files[one.path])}
            for one in wanted
            if one.path in files
        ],
        "missing": [{"path": path, "reason": reason} for path, reason in missing.items()],
    }
    return json.dumps(found, indent=1, ensure_ascii=False).encode()
