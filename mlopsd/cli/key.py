"""``mlopsd key new``: make an API key, and the line that lets the daemon recognize it."""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

from mlopsd.cli.errors import CommandError, print_error
from mlopsd.config.api_keys import NAME, ROLES, ApiKey, make_key, parse_lines
from mlopsd.safe_file import open_regular

MODE = 0o640


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the name, the role and the file."""
    parser.add_argument("what", choices=["new"], help="make a key")
    parser.add_argument("name", metavar="NAME", help="the caller's name, for the log and the history")
    parser.add_argument(
        "--role", choices=ROLES, default="act", help="the caller's rights; each role includes those before it"
    )
    parser.add_argument(
        "--file", type=Path, metavar="FILE", help="append the line to this file ([api] api_keys_file)"
    )
    parser.epilog = "exit status: 0, or 1 with the reason; the key is printed once and kept nowhere"


def run(arguments: Namespace) -> int:
    """Print a new key, and its line unless that goes into a file.

    Raises:
        CommandError: The name is invalid, or the file cannot be written.
    """
    if not NAME.fullmatch(arguments.name):
        fix = "use letters, digits, dots, hyphens and underscores, at most 64"
        raise CommandError(f"cannot make a key for {arguments.name!r}: not a valid name; {fix}")
    key, kept = make_key(arguments.name, arguments.role)
    if arguments.file is None:
        print(key)
        print_error(f"line for [api] api_keys_file: {kept.line}")
    else:
        _append(arguments.file, kept)
        print(key)
    return 0


def _append(path: Path, key: ApiKey) -> None:
    """Append the line of *key* to the file *path*, and create it if it is missing.

    Raises:
        CommandError: The file cannot be written, or it has a key of that name.
    """
    try:
        new = not path.exists()
        with os.fdopen(open_regular(path, os.O_RDWR | os.O_APPEND | os.O_CREAT), "r+b") as file:
            before = file.read().decode("utf-8")
            known, _ = parse_lines(before.splitlines())
            if any(other.name == key.name for other in known):
                raise CommandError(
                    f"cannot add the key: {path} has one of the name {key.name}; choose another"
                )
            gap = "\n" if before and not before.endswith("\n") else ""
            file.write(f"{gap}{key.line}\n".encode())
            if new:
                os.fchmod(file.fileno(), MODE)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise CommandError(f"cannot write {path}: {reason}; choose another file") from error
