"""``mlopsd probes``: every installed probe with its options, or why it cannot be loaded; or a new one."""

import shlex
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from mlopsd.cli.errors import CommandError
from mlopsd.cli.new_probe import write_package
from mlopsd.cli.options import add_config_option, load_configuration
from mlopsd.cli.terminal.text import align, sanitize, wrap
from mlopsd.cli.terminal.toml import format_value
from mlopsd.config import plugins
from mlopsd.config.load import LoadedConfig
from mlopsd.config.plugins import Plugin, PluginError
from mlopsd.config.probes import place
from mlopsd.config.schema import PROBE_NAME
from mlopsd.probe import Probe

TYPE_NAMES = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    SecretStr: "secret",
}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the configuration file, and the name of a new probe."""
    parser.add_argument("action", nargs="?", choices=["new"], help="write the package of a new probe")
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="the new probe's name, as a table's use = has it"
    )
    parser.add_argument(
        "--path", type=Path, default=Path(), metavar="DIR", help="write its folder below DIR (default: here)"
    )
    parser.add_argument(
        "--traceback", action="store_true", help="print the traceback of an import that fails, for its author"
    )
    add_config_option(parser)
    parser.epilog = (
        "exit status: 0, or 1 if a configured probe cannot be loaded or a new one cannot be written"
    )


def run(arguments: Namespace) -> int:
    """List the installed probes, or write a new one.

    Raises:
        CommandError: Some configured probes cannot be loaded, with a line for each. Or the new one
            cannot be written.
    """
    if arguments.action == "new":
        return _write(arguments.name, arguments.path)
    installed = plugins.find()
    for plugin in installed:
        print(*(wrap(line, indent) for line, indent in _describe(plugin, installed, arguments)), "", sep="\n")
    if not installed:
        print("no probe is installed; install one: pip install 'mlopsd[system]'")
    loaded, _ = load_configuration(arguments.config)
    print(_format_configured(loaded))
    return 0


def _write(name: str | None, parent: Path) -> int:
    """Write the package of a new probe, and say how to go on.

    Raises:
        CommandError: It has no name or cannot be written.
    """
    if name is None:
        raise CommandError("cannot write a probe: it has no name; add one: mlopsd probes new NAME")
    folder = write_package(name, parent)
    print(f"wrote {folder}; now: cd {shlex.quote(str(folder))} && pip install -e '.[test]' && pytest")
    return 0


def _format_configured(loaded: LoadedConfig) -> str:
    where = loaded.path or "the built-in defaults"
    tables = loaded.settings.probes.items()
    named = [f"{name} ({table.use})" if table.use else name for name, table in tables if table.enabled]
    return f"configured in {where}: {', '.join(named) or 'none'}"


def _describe(plugin: Plugin, installed: Sequence[Plugin], arguments: Namespace) -> Iterator[tuple[str, int]]:
    """Yield the lines about *plugin*, each with the indent of its continuation lines."""
    yield f"{plugin.name}  {plugin.distribution or 'without a distribution'}  {plugin.target}", 2
    try:
        probe = _load(plugin, installed)
    except PluginError as error:
        yield f"  {sanitize(error)}", 2
        if arguments.traceback and error.__cause__ is not None:
            lines = "".join(traceback.format_exception(error.__cause__)).splitlines()
            yield from ((f"  {_indent(line)}{sanitize(line)}", 2) for line in lines)
        return
    yield f"  {_first_sentence(probe)}", 2
    if not PROBE_NAME.fullmatch(plugin.name):
        yield f'  a table needs another name: [probes.NAME] with use = "{sanitize(plugin.name)}"', 2
    number = len(probe.metrics)
    yield f"  {number} {'metric' if number == 1 else 'metrics'}; {_schedule(probe)}", 2
    options = align(map(_format_option, probe.Options.model_fields.items()))
    yield from ((f"  {line}", 2 + column) for line, column in options)


def _load(plugin: Plugin, installed: Sequence[Plugin]) -> type[Probe[Any]]:
    """Import *plugin*.

    Raises:
        PluginError: It cannot be loaded, or another one has its name.
    """
    plugins.choose(installed, plugin.name)
    if (shadow := plugins.shadowed(installed).get(plugin)) is not None:
        raise PluginError(shadow)
    return plugin.load()


def _indent(line: str) -> str:
    return " " * (len(line) - len(line.lstrip()))


def _first_sentence(probe: type[Probe[Any]]) -> str:
    text = probe.__doc__.strip() if isinstance(probe.__doc__, str) else ""
    return (text or "No description.").splitlines()[0]


def _schedule(probe: type[Probe[Any]]) -> str:
    schedule = probe.schedule
    return f"every {schedule.interval:g} s, timeout {schedule.timeout:g} s, isolation {place(probe)}"


def _format_option(option: tuple[str, FieldInfo]) -> tuple[str, str]:
    """Return the name of an option, and its default, type and purpose as text."""
    name, info = option
    default = info.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        shown = "required"
    else:
        shown = "no value" if default is None else f"= {format_value(name, default)}"
    parts = (shown, f"({describe_type(info.annotation)})", info.description)
    return name, sanitize("  ".join(part for part in parts if part))


def describe_type(annotation: Any) -> str:
    """Return the name of a type for users: ``text``, ``list of path``, ``"a" or "b"``, ``table``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return describe_type(arguments[0])
    if origin is Literal:
        return " or ".join(f'"{choice}"' for choice in arguments)
    if origin in (Union, UnionType):
        return " or ".join(describe_type(argument) for argument in arguments if argument is not NoneType)
    plain = origin or annotation
    if isinstance(plain, type) and plain not in TYPE_NAMES:
        return _describe_collection(plain, arguments)
    return TYPE_NAMES.get(plain, str(plain))


def _describe_collection(plain: type, arguments: tuple[Any, ...]) -> str:
    if issubclass(plain, Mapping | BaseModel):
        return "table"
    if issubclass(plain, Sequence | Set) and arguments:
        return f"list of {describe_type(arguments[0])}"
    return plain.__name__
