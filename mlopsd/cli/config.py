"""``mlopsd config check``, and ``mlopsd config show``: each key with its origin."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence

from mlopsd.cli.errors import print_error
from mlopsd.cli.options import add_config_option, load_configuration
from mlopsd.cli.terminal.toml import format_key, format_value
from mlopsd.config.load import LoadedConfig, in_force
from mlopsd.config.probes import ProbeConfig
from mlopsd.daemon.preflight import keyless, uncritical
from mlopsd.state_dir import places

Key = tuple[str, object, str]  # the key in full, its value, its origin


def add_arguments(parser: ArgumentParser) -> None:
    """Declare which of the two, and which file."""
    parser.add_argument("what", choices=["check", "show"], help="validate it, or print what is in force")
    add_config_option(parser)
    parser.epilog = "exit status: 0, or 1 with a line for each mistake"


def run(arguments: Namespace) -> int:
    """Validate the configuration; print it, or that all is well.

    Raises:
        CommandError: a line for each mistake.
    """
    loaded, configured = load_configuration(arguments.config)
    source = str(loaded.path or "built-in defaults, no file")
    if arguments.what == "show":
        print(f"# {source}", *format_configuration(loaded, configured), sep="\n")
        return 0
    if not configured:
        print_error(
            "warning: no probe is configured, so the status stays unknown; add a table [probes.system]"
        )
    for doubt in (*uncritical(configured), *keyless(loaded, configured)):
        print_error(f"warning: {doubt}")
    print(f"OK: {source}; probes: {', '.join(one.name for one in configured) or 'none'}")
    return 0


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
