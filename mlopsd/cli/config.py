"""``mlopsd config check`` and ``mlopsd config show``, which prints each key with its origin."""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from itertools import chain

from mlopsd.cli.errors import CommandError, print_error
from mlopsd.cli.options import add_config_option, load_configuration
from mlopsd.cli.terminal.toml import format_key, format_value
from mlopsd.config import plugins
from mlopsd.config.load import LoadedConfig, effective
from mlopsd.config.probes import ProbeConfig
from mlopsd.daemon.preflight import (
    keyless,
    shadowing,
    uncritical,
    unencrypted,
    unusable_tls,
    writable_code,
)
from mlopsd.state_dir import places

Key = tuple[str, object, str]  # the full key, its value, its origin


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the action and the file."""
    parser.add_argument(
        "what", choices=["check", "show"], help="validate the configuration, or print the effective one"
    )
    add_config_option(parser)
    parser.epilog = "exit status: 0, or 1 with a line for each error"


def run(arguments: Namespace) -> int:
    """Validate the configuration, and print it or that it is valid.

    Raises:
        CommandError: The configuration is invalid, with a line for each error.
    """
    loaded, configured = load_configuration(arguments.config)
    source = str(loaded.path or "built-in defaults, no file")
    if arguments.what == "show":
        print(f"# {source}", *format_configuration(loaded, configured), sep="\n")
        return 0
    if unusable := list(unusable_tls(loaded)):
        raise CommandError(*map(str, unusable))
    if not configured:
        print_error(
            "warning: no probe is configured, so the status stays unknown; add a table [probes.system]"
        )
    warnings = (
        uncritical(configured),
        keyless(loaded, configured),
        unencrypted(loaded),
        shadowing(plugins.find()),
        writable_code(),
    )
    for warning in chain.from_iterable(warnings):
        print_error(f"warning: {warning}")
    print(f"OK: {source}; probes: {', '.join(probe.name for probe in configured) or 'none'}")
    return 0


def format_configuration(loaded: LoadedConfig, configured: Sequence[ProbeConfig]) -> Iterator[str]:
    """Yield the configuration as TOML, each key with its origin. A key without a value is a comment."""
    used = places(loaded.settings)
    in_use = {"state_dir": used.state, "socket": used.socket}
    table = ""
    for key, value, origin in sorted(_keys(loaded, configured), key=_sort_key):
        *path, name = key.split(".", 2) if key.startswith("probes.") else key.split(".", 1)
        if (key_table := ".".join(path)) != table:
            table = key_table
            yield f"\n[{table}]"
        if value is None:
            found = f"; run from here it is {format_value(name, in_use[key])}" if key in in_use else ""
            yield f"# {format_key(name)} has no value{found}  # {origin}"
        else:
            yield f"{format_key(name)} = {format_value(name, value)}  # {origin}"


def _sort_key(key: Key) -> tuple[str, ...]:
    """Return the table of *key* as a sort key: TOML needs keys without a table first."""
    return tuple(key[0].split(".")[:-1][:2])


def _keys(loaded: LoadedConfig, configured: Sequence[ProbeConfig]) -> Iterator[Key]:
    """Yield the settings. For an imported probe, yield its table as validated by its own model."""
    prefixes = tuple(f"probes.{probe.name}." for probe in configured)
    yield from (key for key in effective(loaded) if not key[0].startswith(prefixes))
    for probe in configured:
        yield from _probe_keys(loaded, probe)


def _probe_keys(loaded: LoadedConfig, probe: ProbeConfig) -> Iterator[Key]:
    terms = probe.terms
    values: dict[str, object] = {
        "use": probe.plugin.name,
        "enabled": True,
        "interval": terms.interval,
        "timeout": terms.timeout,
        "isolation": probe.isolation,
        "critical": terms.critical,
        "fail_after": terms.fail_after,
        "recover_after": terms.recover_after,
    }
    values |= {name: getattr(probe.options, name) for name in type(probe.options).model_fields}
    for name, value in values.items():
        key = f"probes.{probe.name}.{name}"
        yield key, value, loaded.origin(key)
