"""Registries that the tests ask."""

from tests.model.registry_server import embedded, installed, newest, oldest

__all__ = ["embedded", "installed", "newest", "oldest"]
