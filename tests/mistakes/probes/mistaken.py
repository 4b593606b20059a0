"""One mistake of an author in each class."""

from typing import Any

from pydantic import Field

from mlopsd.probe import Finding, Metric, Options, Probe, Reading, Sample, Status

NUMBER = 7
WELL = Finding("seats", Status.HEALTHY, "seats are free")


class Seats(Probe):
    """No mistake: what the others have in common."""

    def check(self) -> Reading:
        return Reading([WELL])


class NotAProbe:
    """Has a check and no base."""

    def check(self) -> Reading:
        return Reading([WELL])


class CoreOptions(Options):
    interval: int = 3


class CoreKey(Seats):
    Options = CoreOptions


class AliasedOptions(Options):
    user: str = Field("", alias="use")


class AliasedKey(Seats):
    Options = AliasedOptions


class NoArguments(Seats):
    def __init__(self) -> None:
        """Forget what the daemon passes."""


class NoSuper(Seats):
    def __init__(self, options: Options, context: Any) -> None:
        self.free = 7


class WrongReload(Seats):
    def reload(self) -> str:  # type: ignore[override]
        return "done"


class AsyncReload(Seats):
    async def reload(self, *, dry_run: bool, force: bool) -> str:
        return "done"


class TokenOptions(Options):
    token: str = ""


class SeatOptions(Options):
    floor: int = 0


class OtherOptions(Probe[TokenOptions]):
    Options = SeatOptions

    def check(self) -> Reading:
        return Reading([WELL])


class AsyncInit(Seats):
    async def __init__(self, options: Options, context: Any) -> None:  # type: ignore[misc]
        super().__init__(options, context)


class AsyncDeclares(Seats):
    @classmethod
    async def declares(cls, _options: Options) -> tuple[Metric, ...]:  # type: ignore[override]
        return ()


class AsyncRoutes(Seats):
    async def routes(self) -> Any:  # type: ignore[override]
        return ()


class YieldsRoutes(Seats):
    async def routes(self) -> Any:
        yield 7


class Yields(Seats):
    def check(self) -> Any:
        yield Reading([WELL])


class YieldsClose(Seats):
    def close(self) -> Any:
        yield


class CheckProperty(Seats):
    @property
    def check(self) -> Any:
        return Reading([WELL])


class PlainDeclares(Seats):
    def declares(self, _options: Options) -> tuple[Metric, ...]:  # type: ignore[override]
        return ()


class OneMetric(Seats):
    metrics = Metric("free", "What is free.")  # type: ignore[assignment]


class HalfASchedule(Seats):
    schedule = 5  # type: ignore[assignment]


class DeclaresRaises(Seats):
    @classmethod
    def declares(cls, _options: Options) -> tuple[Metric, ...]:
        raise KeyError("nokey")


class DeclaresNone(Seats):
    @classmethod
    def declares(cls, _options: Options) -> tuple[Metric, ...]:
        return None  # type: ignore[return-value]


class DeclaresText(Seats):
    @classmethod
    def declares(cls, _options: Options) -> tuple[Metric, ...]:
        return "seats"  # type: ignore[return-value]


class Ours(Seats):
    metrics = (Metric("status", "Ours."),)


class Twice(Seats):
    metrics = (Metric("seats", "Seats."), Metric("seats", "Seats.", labels=("floor",)))


class Undeclared(Seats):
    def check(self) -> Reading:
        return Reading([WELL], [Sample("doors", 2.0)])
