"""The routes of a probe as the daemon calls them: measured, and with their errors masked."""

from dataclasses import replace
from functools import partial
from typing import Any

from mlopsd.predictor import Predictor
from mlopsd.probe import HttpError, HttpRequest, HttpResponse, Probe, Route, declared_routes
from mlopsd.worker.loop_use import LoopUse
from mlopsd.worker.mask import SecretMask


def guarded_routes(probe: Probe[Any], use: LoopUse, mask: SecretMask) -> tuple[Route, ...]:
    """Return the routes of *probe*, and guard its route of predictions too.

    Raises:
        TypeError: `Probe.routes` returns something else.
        ValueError: Two routes match the same requests.
    """
    use.package = type(probe).__module__.partition(".")[0]
    if isinstance(probe, Predictor):
        probe.prediction_route = _guarded(probe.prediction_route, use, mask)
    return tuple(_guarded(route, use, mask) for route in declared_routes(probe))


def _guarded(route: Route, use: LoopUse, mask: SecretMask) -> Route:
    async def handle(request: HttpRequest) -> HttpResponse:
        try:
            response: HttpResponse = await use.call(route.path, partial(route.handler, request))
        except HttpError as error:
            raise mask.error(error) from error
        return response

    return replace(route, handler=handle)
