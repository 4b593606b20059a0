"""``mlopsd config check`` and ``mlopsd config show``."""

from argparse import ArgumentParser, Namespace

from mlopsd.cli.effective import lines
from mlopsd.cli.errors import complain
from mlopsd.cli.options import add_config, configuration
from mlopsd.daemon.preflight import keyless


def add_arguments(parser: ArgumentParser) -> None:
    """Which of the two, and which file."""
    parser.add_argument("what", choices=["check", "show"], help="validate it, or print what is in force")
    add_config(parser)
    parser.epilog = "exit status: 0, or 1 with a line for each mistake"


def run(arguments: Namespace) -> int:
    """Validate; print what is in force, or that all is well.

    Raises:
        Failure: a line for each mistake.
    """
    loaded, configured = configuration(arguments.config)
    where = str(loaded.path or "built-in defaults, no file")
    if arguments.what == "show":
        print(f"# {where}", *lines(loaded, configured), sep="\n")
        return 0
    if not configured:
        complain("warning: no probe is configured, so the status stays unknown; add a table [probes.system]")
    for doubt in keyless(loaded, configured):
        complain(f"warning: {doubt}")
    print(f"OK: {where}; probes: {', '.join(one.name for one in configured) or 'none'}")
    return 0
