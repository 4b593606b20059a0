"""The parameters of a query: their names, booleans and durations."""

from collections.abc import Sequence

from aiohttp import web

from mlopsd.config.errors import nearest
from mlopsd.units import seconds
from mlopsd.web.api.endpoint import NO, YES
from mlopsd.web.api.problem import Problem


def check_names(request: web.Request, known: Sequence[str]) -> None:
    """Reject a parameter that is not *known*, or that occurs twice.

    Raises:
        Problem: 400, with the name of the parameter.
    """
    for name in request.query:
        if name not in known:
            raise Problem(400, f"unknown parameter {name[:60]!r}; {nearest(name[:60], known)}")
        if len(request.query.getall(name)) > 1:
            raise Problem(400, f"the parameter {name!r} occurs twice; give it once")


def flag(request: web.Request, name: str) -> bool:
    """Return the parameter *name* as a boolean; a missing one is false.

    Raises:
        Problem: 400, it is neither true nor false.
    """
    value = request.query.get(name, "false")
    if value not in YES + NO:
        raise Problem(400, f"{name}={value[:60]!r} is neither true nor false; write one of them")
    return value in YES


def duration(request: web.Request, name: str, default: float) -> float:
    """Return the parameter *name* in seconds: a number, or text like ``15s``.

    Raises:
        Problem: 400, it is not a duration.
    """
    value = request.query.get(name)
    if value is None:
        return default
    try:
        given = seconds(value)
    except ValueError as error:
        raise Problem(400, f"{name}={value[:60]!r} is {error}") from error
    return float(given)  # type: ignore[arg-type]  # text gives a number
