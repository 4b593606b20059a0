"""What the tests of the model probe share."""

from tests.model.registry_server import embedded, newest, oldest

__all__ = ["embedded", "newest", "oldest"]
