"""API keys by name and role, as lines ``name:role:sha256`` that do not hold the keys themselves."""

import hmac
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, get_args

Role = Literal["read", "predict", "act"]
ROLES: tuple[Role, ...] = get_args(Role)  # each includes those before it
SHORTEST = 16  # characters of a key
MOST_KEYS = 1000  # each request with a key is compared with every one
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
DIGEST = re.compile(r"[0-9a-f]{64}")
FIX = "write name:role:sha256, as mlopsd key new prints it"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of the caller *name*: its role, and the SHA-256 of the key in hexadecimal."""

    name: str
    role: Role
    digest: str

    @property
    def line(self) -> str:
        """Return the line of the file ``api_keys_file``."""
        return f"{self.name}:{self.role}:{self.digest}"

    def allows(self, role: Role) -> bool:
        """Return whether the key has the rights of *role*."""
        return ROLES.index(self.role) >= ROLES.index(role)


def parse_line(line: str) -> ApiKey:
    """Return the key of *line*.

    Raises:
        ValueError: The line has another form. The message does not show it, since it may be a key.
    """
    name, _, rest = line.partition(":")
    role, _, digest = rest.partition(":")
    if not NAME.fullmatch(name) or not DIGEST.fullmatch(digest.lower()):
        raise ValueError(f"not the line of an API key; {FIX}")
    for known in ROLES:
        if role == known:
            return ApiKey(name, known, digest.lower())
    raise ValueError(f"the role of the API key {name} is not known; choose one of {', '.join(ROLES)}")


def parse_lines(lines: Iterable[str]) -> tuple[tuple[ApiKey, ...], list[str]]:
    """Return the keys in *lines*, and a complaint for each line that is none. Skip comments (# first)."""
    keys: dict[str, ApiKey] = {}
    complaints = []
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        try:
            key = parse_line(line)
        except ValueError as error:
            complaints.append(f"line {number}: {error}")
            continue
        if key.name in keys:
            complaints.append(f"line {number}: the name {key.name} has a key already; choose another name")
        elif len(keys) == MOST_KEYS:
            complaints.append(f"line {number}: there are more than {MOST_KEYS} keys; remove some")
            break
        else:
            keys[key.name] = key
    return tuple(keys.values()), complaints


def find_key(given: str, keys: Sequence[ApiKey]) -> ApiKey | None:
    """Return the key that *given* is, after a comparison with each of *keys* in constant time."""
    digest = digest_of(given)
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


def digest_of(key: str) -> str:
    """Return the SHA-256 of *key*. A key is random and long, so that needs no salt and no slow hash."""
    return sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def make_key(name: str, role: Role) -> tuple[str, ApiKey]:
    """Return a new key, and what the daemon keeps of it."""
    key = secrets.token_urlsafe(32)
    return key, ApiKey(name, role, digest_of(key))
