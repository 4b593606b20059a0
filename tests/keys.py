"""An API key as a caller has it, and its line as the daemon's configuration has it."""

from mlopsd.config.api_keys import ApiKey, Role, digest_of

KEY = "sesame-0123456789"


def line_of(key: str = KEY, name: str = "tests", role: Role = "act") -> str:
    """The line of *key* in ``api_keys`` or in the file of keys."""
    return ApiKey(name, role, digest_of(key)).line
