"""Every key that is in force and where its value came from, the probes' own defaults included."""

from collections.abc import Iterator, Sequence

from mlopsd.cli.terminal.toml import table_key, toml
from mlopsd.config.load import LoadedConfig, in_force
from mlopsd.config.probes import ProbeConfig
from mlopsd.state_dir import places

Key = tuple[str, object, str]  # the key in full, its value, its origin


def lines(loaded: LoadedConfig, configured: Sequence[ProbeConfig]) -> Iterator[str]:
    """The configuration as TOML, each key with its origin; what has no value is a comment."""
    used = places(loaded.settings)
    in_use = {"state_dir": used.state, "socket": used.socket}
    table = ""
    for key, value, origin in sorted(_keys(loaded, configured), key=_place):
        *path, name = key.split(".", 2) if key.startswith("probes.") else key.split(".", 1)
        if (its_table := ".".join(path)) != table:
            table = its_table
            yield f"\n[{table}]"
        if value is None:
            found = f"; run from here it is {toml(name, in_use[key])}" if key in in_use else ""
            yield f"# {table_key(name)} has no value{found}  # {origin}"
        else:
            yield f"{table_key(name)} = {toml(name, value)}  # {origin}"


def _place(key: Key) -> tuple[str, ...]:
    """Keys without a table come first, as TOML wants it; else the order of the model."""
    return tuple(key[0].split(".")[:-1][:2])


def _keys(loaded: LoadedConfig, configured: Sequence[ProbeConfig]) -> Iterator[Key]:
    """The settings; for a probe that is imported, what its own rules made of its table."""
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
