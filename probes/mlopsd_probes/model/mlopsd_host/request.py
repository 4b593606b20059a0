"""A request for predictions: as it came, as a model takes it, and the error of one without an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Request:
    """A body that was read, but not yet made into what a model takes.

    Attributes:
        mime: which of the content types it is.
        document: the JSON object, or the text or bytes of a table.
        rows: how many predictions it asks for; None where nobody can tell.
    """

    mime: str
    document: Any
    rows: int | None


@dataclass(frozen=True)
class ModelInput:
    """The input that a model takes.

    Attributes:
        data: as MLflow parsed it: a DataFrame, an array, a dict of arrays …
        params: the parameters of the request.
        bare: whether the answer is not wrapped in ``predictions`` (chat and completion bodies).
    """

    data: Any
    params: Any
    bare: bool
    rows: int | None


class RequestRejected(Exception):
    """There is no prediction for a request, and *detail*, which quotes nothing of it, says why.

    Attributes:
        code: 400, 413 or 415 for the caller's mistakes, 500 for the model's, which is its ``__cause__``;
            504 for what came to its turn too late.
    """

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
