"""The effective configuration: each key with its origin, the probes' own defaults included."""

from collections.abc import Iterator, Sequence

from mlopsd.cli.terminal.toml import format_key, format_value
from mlopsd.config.load import LoadedConfig, in_force
from mlopsd.config.probes import ProbeConfig
from mlopsd.state_dir import places

Key = tuple[str, object, str]  # the key in full, its value, its origin


def format_configuration(loaded: LoadedConfig, configured: Sequence[ProbeConfig]) -> Iterator[str]:
    """Yield the configuration as TOML, each key with its origin; a key without a value is a comment."""
    used = places(loaded.settings)
    in_use = {"state_dir": used.state, "socket": used.socket}
    table = ""
    for key, value, origin in sorted(_keys(loaded, configured), key=_sort_key):
        *path, name = key.split(".", 2) if key.startswith("probes.") else key.split(".", 1)
        if (its_table := ".".join(path)) != table:
            table = its_table
            yield f"\n[{table}]"
        if value is None:
            found = f"; run from here it is {format_value(name, in_use[key])}" if key in in_use else ""
            yield f"# {format_key(name)} has no value{found}  # {origin}"
        else:
            yield f"{format_key(name)} = {format_value(name, value)}  # {origin}"


def _sort_key(key: Key) -> tuple[str, ...]:
    """Return the table of *key*: keys without one come first, as TOML wants it."""
    return tuple(key[0].split(".")[:-1][:2])


def _keys(loaded: LoadedConfig, configured: Sequence[ProbeConfig]) -> Iterator[Key]:
    """Yield the settings; for an imported probe, its table as its own rules read it."""
    prefixes = tuple(f"probes.{one.name}." for one in configured)
    yield from (key for key in in_force(loaded) if not key[0].startswith(prefixes))
    for one in configured:
        yield from _probe_keys(loaded, one)


def _probe_keys(loaded: LoadedConfig, one: ProbeConfig) -> Iterator[Key]:
    terms = one.terms
    values: dict[str, object] = {
        "use": one.plugin.name,
        "enabled": True,
        "interval": terms.interval,
        "timeout": terms.timeout,
        "isolation": one.isolation,
        "critical": terms.critical,
        "fail_after": terms.fail_after,
        "recover_after": terms.recover_after,
    }
    values |= {name: getattr(one.options, name) for name in type(one.options).model_fields}
    for name, value in values.items():
        key = f"probes.{one.name}.{name}"
        yield key, value, loaded.origin(key)
