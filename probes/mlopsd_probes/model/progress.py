"""The steps of a version on its way into service, for readings and sentences."""

from typing import Literal

from mlopsd.predictor import Progress
from mlopsd.texts import size_text
from mlopsd.texts import time_text as moment_text

__all__ = ["Doing", "Progress", "moment_text", "size_text"]

Doing = Literal["judge", "fetch", "load", "canary", "swap", "drain"]
