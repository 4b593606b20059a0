"""Which plugin declared which family, so that no two mean different things by one name."""

from collections.abc import Mapping, Sequence

from mlopsd.metrics.family import Family, family_of
from mlopsd.probe import Metric

DAEMON = "mlopsd itself"
Owners = dict[str, tuple[Family, str]]  # by every name that a family claims


class Declarations:
    """The metrics of every plugin, and every name that the page uses."""

    def __init__(self, own: Sequence[Family]) -> None:
        self._metrics: dict[str, dict[str, Metric]] = {}
        self._owners: Owners = {}
        for family in own:
            _claim(self._owners, family, DAEMON)

    def declare(self, plugin: str, metrics: Sequence[Metric]) -> list[tuple[Metric, Family]]:
        """Take over *metrics*: those that are new for *plugin*, or none of them if one is wrong.

        Raises:
            ValueError: a name that means something else already, or a histogram without buckets.
        """
        self._owners = _with(self._owners, plugin, metrics)
        known = self._metrics.setdefault(plugin, {})
        new = [(metric, family_of(plugin, metric)) for metric in metrics if metric.name not in known]
        known.update((metric.name, metric) for metric, _ in new)
        return new

    def clashes(self, wanted: Mapping[str, Sequence[Metric]]) -> dict[str, str]:
        """Why a plugin among *wanted* could not; declares nothing."""
        owners, clashes = self._owners, {}
        for plugin, metrics in wanted.items():
            try:
                owners = _with(owners, plugin, metrics)
            except ValueError as error:
                clashes[plugin] = str(error)
        return clashes

    def metric(self, plugin: str, name: str) -> Metric:
        """What *plugin* declared as *name*.

        Raises:
            ValueError: it declared nothing of that name.
        """
        try:
            return self._metrics[plugin][name]
        except KeyError:
            names = ", ".join(self._metrics.get(plugin, ())) or "none"
            raise ValueError(f"plugin {plugin!r} does not declare {name!r}; it declares: {names}") from None


def _with(owners: Owners, plugin: str, metrics: Sequence[Metric]) -> Owners:
    """*owners* and what *plugin* claims besides.

    Raises:
        ValueError: as `Declarations.declare`.
    """
    both = dict(owners)
    for metric in metrics:
        _claim(both, family_of(plugin, metric), f"plugin {plugin!r}")
    return both


def _claim(owners: Owners, family: Family, owner: str) -> None:
    if family.kind == "histogram" and not family.buckets:
        raise ValueError(f"cannot declare {family.name} of {owner}: a histogram needs buckets")
    for name in family.claims:
        other, before = owners.setdefault(name, (family, owner))
        if other != family:
            raise ValueError(
                f"cannot declare {family.name} of {owner}: {name} is taken by {other.name} of {before} "
                "with another declaration; give one of them another name"
            )
