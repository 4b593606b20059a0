"""Probes that cannot be had, each for a reason that shows late; imported by name."""

from typing import Self

from pydantic import model_validator

from mlopsd.probe import Metric, Options, Probe, Reading


class Clash(Probe):
    """As the plugin "probe" it calls its metric what the daemon calls one of its own."""

    metrics = (Metric("status", "How the door is."),)

    def check(self) -> Reading:
        return Reading()


class PickyOptions(Options):
    """Looks at a file that it may not read, while it is validated."""

    path: str = "/nowhere/key"

    @model_validator(mode="after")
    def _is_readable(self) -> Self:
        raise PermissionError(13, "Permission denied", self.path)


class Picky(Probe[PickyOptions]):
    Options = PickyOptions

    def check(self) -> Reading:
        return Reading()
