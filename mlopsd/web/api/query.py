"""The query of a request that acts: a misspelt or unreadable parameter must not do the real thing."""

from collections.abc import Sequence

from aiohttp import web

from mlopsd.config.errors import nearest
from mlopsd.units import seconds
from mlopsd.web.api.problem import Problem

YES = ("true", "True", "1", "yes", "")
NO = ("false", "False", "0", "no")


def check_names(request: web.Request, known: Sequence[str]) -> None:
    """Refuse a parameter that is not *known*, or that is there twice.

    Raises:
        Problem: 400 that names it.
    """
    for name in request.query:
        if name not in known:
            raise Problem(400, f"no such parameter: {name[:60]!r}; {nearest(name[:60], known)}")
        if len(request.query.getall(name)) > 1:
            raise Problem(400, f"the parameter {name!r} is there twice; give it once")


def flag(request: web.Request, name: str) -> bool:
    """Tell if the parameter *name* is there, and not as a no.

    Raises:
        Problem: 400, it is neither a yes nor a no.
    """
    value = request.query.get(name, "false")
    if value not in YES + NO:
        raise Problem(400, f"{name}={value[:60]!r} is neither true nor false; write one of them")
    return value in YES


def duration(request: web.Request, name: str, default: float) -> float:
    """Return the parameter *name* in seconds: a number, or text like ``15s``.

    Raises:
        Problem: 400, it is no duration.
    """
    value = request.query.get(name)
    if value is None:
        return default
    try:
        given = seconds(value)
    except ValueError as error:
        raise Problem(400, f"{name}={value[:60]!r} is {error}") from error
    return float(given)  # type: ignore[arg-type]  # text gives a number
