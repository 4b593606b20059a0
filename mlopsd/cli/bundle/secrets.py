"""The secrets that no byte of the bundle may show."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from mlopsd.config.errors import without_credentials
from mlopsd.config.load import LoadedConfig, secret_files
from mlopsd.config.probes import ProbeConfig
from mlopsd.safe_file import read_start
from mlopsd.worker.mask import MASKED, SecretMask

MOST_BYTES = 1_000_000  # of a file with secrets
NAMES = re.compile(r"SECRET|TOKEN|PASSW|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_KEY|_AUTH", re.IGNORECASE)
PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)
BEARER = re.compile(r"(?i)\b(bearer|basic) +[A-Za-z0-9+/._~=-]{8,}")


class SecretCleaner:
    """Masks secrets by value, and what looks like one.

    The values are those of the configuration, of the files that it names, and of variables whose name says
    that they hold one.
    """

    def __init__(self, loaded: LoadedConfig | None, configured: list[ProbeConfig]) -> None:
        of_options = SecretMask.of(probe.options for probe in configured)
        self._masks = (of_options, SecretMask([*_of_files(loaded), *_of_environment()]))

    def clean(self, content: bytes) -> bytes:
        """Return *content* with each secret masked."""
        text = content.decode("utf-8", "replace")
        for mask in self._masks:
            text = mask.text(text)
        text = BEARER.sub(rf"\1 {MASKED}", PRIVATE_KEY.sub(MASKED, text))
        return "".join(map(without_credentials, text.splitlines(keepends=True))).encode()


def _of_files(loaded: LoadedConfig | None) -> Iterator[str]:
    """Yield the content of each file with secrets. The configuration itself is masked key by key."""
    if loaded is None:
        return
    for path in secret_files(loaded):
        if path != loaded.path:
            with contextlib.suppress(OSError):
                yield read_start(Path(path), MOST_BYTES).decode("utf-8", "replace")


def _of_environment() -> Iterator[str]:
    yield from (value for name, value in os.environ.items() if NAMES.search(name))
