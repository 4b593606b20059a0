"""Which plugin declared which family, so that no two mean different things by one name."""

from collections.abc import Sequence

from mlopsd.metrics.family import Family, family_of
from mlopsd.probe import Metric

DAEMON = "mlopsd itself"


class Declarations:
    """The metrics of every plugin, and every name that the page uses."""

    def __init__(self, own: Sequence[Family]) -> None:
        self._metrics: dict[str, dict[str, Metric]] = {}
        self._owners: dict[str, tuple[Family, str]] = {}  # by every name that a family claims
        for family in own:
            _claim(self._owners, family, DAEMON)

    def declare(self, plugin: str, metrics: Sequence[Metric]) -> list[tuple[Metric, Family]]:
        """Take over *metrics*: those that are new for *plugin*, or none of them if one is wrong.

        Raises:
            ValueError: a name that means something else already, or a histogram without buckets.
        """
        families = [(metric, family_of(plugin, metric)) for metric in metrics]
        owners = dict(self._owners)
        for _, family in families:
            _claim(owners, family, f"plugin {plugin!r}")
        self._owners = owners
        known = self._metrics.setdefault(plugin, {})
        new = [(metric, family) for metric, family in families if metric.name not in known]
        known.update((metric.name, metric) for metric, _ in new)
        return new

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


def _claim(owners: dict[str, tuple[Family, str]], family: Family, owner: str) -> None:
    if family.kind == "histogram" and not family.buckets:
        raise ValueError(f"cannot declare {family.name} of {owner}: a histogram needs buckets")
    for name in family.claims:
        other, before = owners.setdefault(name, (family, owner))
        if other != family:
            raise ValueError(
                f"cannot declare {family.name} of {owner}: {name} is taken by {other.name} of {before} "
                "with another declaration; give one of them another name"
            )
