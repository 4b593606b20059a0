"""Fixtures of the tests of the model probe."""

from tests.model.registry_server import embedded, installed, newest, oldest

__all__ = ["embedded", "installed", "newest", "oldest"]
