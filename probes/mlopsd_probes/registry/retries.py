"""Retries of MLflow's client inside one request: of a broken connection once, of a response never.

A server that answers 429 or 503 has too much to do already. A download is another matter: it has many
requests, and one bad answer would cost all of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mlflow.utils import request_utils
from urllib3.util import Retry


class ConnectionRetry(Retry):
    """Retries a request whose connection broke; an answer counts, whatever its status.

    Attributes:
        retries_responses: the answers with a status of trouble are retried too.
    """

    retries_responses = False

    def is_retry(self, *args: Any, **kwargs: Any) -> bool:
        """Return whether urllib3 may repeat the request after this answer."""
        return self.retries_responses and super().is_retry(*args, **kwargs)


def install() -> None:
    """Let MLflow's client make its sessions with `ConnectionRetry`; it has no setting for that."""
    request_utils.Retry = ConnectionRetry  # type: ignore[attr-defined]


@contextmanager
def of_responses() -> Iterator[None]:
    """Retry answers with a status of trouble too while this is entered."""
    ConnectionRetry.retries_responses = True
    try:
        yield
    finally:
        ConnectionRetry.retries_responses = False
