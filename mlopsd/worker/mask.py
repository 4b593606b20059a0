"""The mask of a probe's secrets in everything that leaves the probe: readings, errors and log lines."""

import json
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self
from urllib.parse import quote, quote_plus

from pydantic import BaseModel, SecretBytes, SecretStr

from mlopsd.exceptions import safe_message
from mlopsd.probe import Finding, HttpError, ProbeError, Reading, ReloadRefused, Sample
from mlopsd.worker.worker import InvalidReading, ProbeRaised, WorkerDied

MASKED = "**********"
SHORTEST = 4  # characters; a shorter secret would mask parts of ordinary words
OWN = (ProbeError, ReloadRefused, InvalidReading, WorkerDied)  # made of their text alone


class SecretMask:
    """The mask of some secrets, also where they are written for JSON, a URL or Python.

    The lines of a secret are secrets too, since a log may split them. A text of fewer than `SHORTEST`
    characters stays visible.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        texts = {text for secret in secrets for text in (secret, *map(str.strip, secret.splitlines()))}
        forms = {form for text in texts if len(text) >= SHORTEST for form in _forms(text)}
        longest_first = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    @classmethod
    def of(cls, options: Iterable[BaseModel]) -> Self:
        """Return the mask of every ``SecretStr`` and ``SecretBytes`` in *options*."""
        return cls(secret for each in options for secret in _secrets(each))

    def text(self, text: str) -> str:
        """Return *text* with each secret masked."""
        return text if self._pattern is None else self._pattern.sub(MASKED, text)

    def plain(self, value: Any) -> Any:
        """Return *value*, of JSON's types, with each secret masked."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.plain(key): self.plain(item) for key, item in value.items()}
        return [self.plain(item) for item in value] if isinstance(value, list | tuple) else value

    def reading(self, reading: Reading) -> Reading:
        """Return *reading* with each secret masked."""
        if self._pattern is None:
            return reading
        return replace(
            reading,
            findings=tuple(map(self._finding, reading.findings)),
            samples=tuple(map(self._sample, reading.samples)),
            facts=self.plain(reading.facts),
            summary=self.text(reading.summary),
        )

    def error(self, error: Exception) -> Exception:
        """Return *error*, or one of the same meaning with each secret masked in its message."""
        text = safe_message(error)
        masked = self.text(text)
        if masked == text:
            return error
        if isinstance(error, HttpError):
            return HttpError(error.code, masked, error.retry_after)
        own = next((kind for kind in OWN if isinstance(error, kind)), None)
        if own is not None:
            return own(masked)
        where = "".join(traceback.format_exception(error))
        return ProbeRaised(type(error).__name__, masked, self.text(where))

    def _finding(self, finding: Finding) -> Finding:
        observed = self.plain(finding.observed)
        subject, unit = self.plain(finding.subject), self.plain(finding.unit)
        name, summary = self.text(finding.name), self.text(finding.summary)
        return replace(finding, name=name, summary=summary, subject=subject, observed=observed, unit=unit)

    def _sample(self, sample: Sample) -> Sample:
        labels = tuple((name, self.plain(text)) for name, text in sample.labels)
        return replace(sample, labels=labels)


def _forms(secret: str) -> Iterator[str]:
    """Yield *secret* as texts quote it."""
    yield from (secret, repr(secret)[1:-1], quote(secret), quote(secret, safe=""), quote_plus(secret))
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])


def _secrets(value: object) -> Iterator[str]:
    """Yield the secrets in *value*, an option of any type."""
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
    elif isinstance(value, SecretBytes):
        yield value.get_secret_value().decode(errors="replace")
    elif isinstance(value, BaseModel):
        yield from _secrets([item for _, item in value])
    elif isinstance(value, Mapping):
        yield from _secrets([*value.keys(), *value.values()])
    elif isinstance(value, Sequence | set | frozenset) and not isinstance(value, str | bytes):
        for item in value:
            yield from _secrets(item)
