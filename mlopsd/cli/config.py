"""``mlopsd config check`` and ``mlopsd config show``."""

from argparse import ArgumentParser, Namespace

from mlopsd.cli.effective import format_configuration
from mlopsd.cli.errors import print_error
from mlopsd.cli.options import add_config_option, load_configuration
from mlopsd.daemon.preflight import keyless, uncritical


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
