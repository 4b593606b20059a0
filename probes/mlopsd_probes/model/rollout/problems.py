"""What stands in the way of a model on this host, each with the work that met it, until that goes well."""


class Problems:
    """Remembers the last trouble of each kind of work."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def note(self, work: str, trouble: str) -> None:
        """*work* met *trouble*."""
        self._known[work] = trouble

    def forget(self, *works: str) -> None:
        """It went well, or is not wanted any more."""
        for work in works:
            self._known.pop(work, None)

    def text(self) -> str | None:
        """All of them, each once; None without any."""
        return "; ".join(dict.fromkeys(self._known.values())) or None
