"""The steps of a version on its way into service, for readings and sentences."""

from typing import Literal

from mlopsd.format import format_size as size_text
from mlopsd.format import format_time as moment_text
from mlopsd.predictor import Progress

__all__ = ["Doing", "Progress", "moment_text", "size_text"]


Doing = Literal["judge", "fetch", "load", "canary", "swap", "drain"]
