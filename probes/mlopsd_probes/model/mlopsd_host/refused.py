"""A request without an answer."""

from __future__ import annotations


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
