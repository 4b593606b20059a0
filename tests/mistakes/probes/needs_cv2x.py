"""Needs a module that is not installed."""

import cv2x  # type: ignore[import-not-found]  # noqa: F401  # the mistake

from mlopsd.probe import Probe


class Needs(Probe):
    pass
