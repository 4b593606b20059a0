"""Fixtures of the tests of the alerts."""

from tests.model.registry_server import installed, newest

__all__ = ["installed", "newest"]
