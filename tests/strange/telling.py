"""Probes that tell their token in every way; imported by name."""

from collections.abc import Sequence

from pydantic import SecretStr

from mlopsd.probe import Finding, HttpError, HttpRequest, HttpResponse, Options, Probe, Reading, Route, Status


class TellingOptions(Options):
    token: SecretStr


class Teller(Probe[TellingOptions]):
    """Tells its token in a reading, then in an exception."""

    Options = TellingOptions
    checks = 0

    def check(self) -> Reading:
        self.checks += 1
        token = self.options.token.get_secret_value()
        if self.checks > 1:
            raise RuntimeError(f"login failed with {token}")
        finding = Finding("door", Status.DEGRADED, f"by {token}", f"door {token}", observed=token)
        return Reading([finding], facts={"headers": [{"Authorization": f"Bearer {token}"}]})

    def reload(self, *, dry_run: bool, force: bool) -> str:
        raise LookupError(f"no door for {self.options.token.get_secret_value()}")


class AsyncTeller(Teller):
    """The same as a coroutine."""

    async def check(self) -> Reading:  # type: ignore[override]
        return Teller.check(self)


class RouteTeller(Teller):
    """Tells it in a route."""

    def routes(self) -> Sequence[Route]:
        return [Route("GET", "/door", self.door, "The door", access="read")]

    async def door(self, _request: HttpRequest) -> HttpResponse:
        raise HttpError(409, f"no door for {self.options.token.get_secret_value()}", 7)
