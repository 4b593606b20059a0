"""A prediction request, its form as a model's input, and the error that rejects it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Request:
    """A body that was read but not yet converted to a model's input.

    Attributes:
        mime: the content type.
        document: the JSON object, or the text or bytes of a table.
        rows: the number of predictions that it asks for; None if unknown.
    """

    mime: str
    document: Any
    rows: int | None


@dataclass(frozen=True)
class ModelInput:
    """The input of a model.

    Attributes:
        data: MLflow's result of parsing: a DataFrame, an array, a dict of arrays …
        params: the parameters of the request.
        bare: whether the answer is not wrapped in ``predictions`` (chat and completion bodies).
    """

    data: Any
    params: Any
    bare: bool
    rows: int | None


class RequestRejected(Exception):
    """A rejected request; *detail* is the reason, and quotes nothing of the request.

    Attributes:
        code: 400, 413 or 415 for a caller's mistake, 500 for the model's, 504 for a turn that came too late.
            ``__cause__`` is the model's exception.
    """

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
