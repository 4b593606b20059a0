"""``mlopsd demo``: a registry, a small model and the daemon that serves it, in one folder."""

import json
import shutil
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from shlex import join, quote

from mlopsd.cli.client import format_url
from mlopsd.cli.demo import training
from mlopsd.cli.demo.folder import DemoFolder, default_folder
from mlopsd.cli.demo.gpus import CHOICES, create_fake_gpus
from mlopsd.cli.demo.training import Champion
from mlopsd.cli.errors import CommandError
from mlopsd.cli.options import load_configuration
from mlopsd.cli.terminal.progress import ProgressLine
from mlopsd.config.errors import ConfigurationError
from mlopsd.config.load import LoadedConfig, load
from mlopsd.config.sources import Tree
from mlopsd.daemon import daemon
from mlopsd.state_dir import StateError, StateFolder, places
from mlopsd.web.server.listener import Listener, ListenError

PATIENT = {  # the first row of load_diabetes(scaled=False), whose disease progressed to 151
    "age": 59,
    "sex": 2,
    "bmi": 32.1,
    "bp": 101,
    "s1": 157,
    "s2": 93.2,
    "s3": 38,
    "s4": 4,
    "s5": 4.8598,
    "s6": 87,
}
ROW = json.dumps({"dataframe_records": [PATIENT]})


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the folder and what to train."""
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help=f"the folder of the demo (default: {default_folder()})"
    )
    parser.add_argument("--port", help="the port to listen on; overrides the demo's configuration")
    parser.add_argument(
        "--experiment",
        metavar="NAME",
        help="the MLflow experiment in which the champion was trained, or is to be trained",
    )
    parser.add_argument(
        "--fake-gpus",
        metavar="SCENARIO",
        help=f"simulate GPUs, and watch them with the gpu probe: {CHOICES}; needs a C compiler",
    )
    parser.add_argument(
        "--retrain",
        action="store_true",
        help="train a new version, make it champion and exit; a running demo rolls it out",
    )
    parser.epilog = "exit status: 0 after SIGTERM or Ctrl-C, 1 if it cannot start"


def run(arguments: Namespace) -> int:
    """Set up the missing parts and run the daemon until SIGTERM, or train a new version.

    Raises:
        CommandError: A package is missing, or the demo cannot be set up or started.
    """
    training.check_packages()
    folder = DemoFolder((arguments.folder or default_folder()).absolute())
    is_new = folder.create()
    return _retrain(folder, arguments) if arguments.retrain else _run(folder, arguments, is_new=is_new)


def _retrain(folder: DemoFolder, arguments: Namespace) -> int:
    champion = _train(folder, arguments.experiment, new=True)
    print(_describe(champion, folder), *DemoHints(folder).after_retraining(), sep="\n")
    return 0


def _run(folder: DemoFolder, arguments: Namespace, *, is_new: bool) -> int:
    gpus = [] if arguments.fake_gpus is None else [create_fake_gpus(arguments.fake_gpus, folder)]
    loaded, _ = load_configuration(folder.config, _overrides(arguments.port))
    try:
        port = _find_port(loaded)
        is_chosen = arguments.port is not None or loaded.settings.api.port == 0
        overrides = _overrides(port if is_chosen else None)
        champion = _train(folder, arguments.experiment, new=False)
        if is_new:
            print(f"wrote {folder.config}, which later runs do not change:", _indent(folder.config), sep="\n")
        at = format_url(loaded.settings.api.host, port)
        print(_describe(champion, folder), *DemoHints(folder).after_setting_up(at), sep="\n")
        for fake in gpus:
            overrides = {**overrides, **fake.overrides(loaded)}
            fake.export()
            print(*fake.hints(at), sep="\n")
        print("Ctrl-C ends the daemon, which starts now.", flush=True)
        return daemon.main(lambda: load(folder.config, overrides))
    except ConfigurationError as error:
        raise CommandError(*map(str, error.mistakes)) from error
    except (StateError, ListenError) as error:
        raise CommandError(str(error)) from error


def _overrides(port: object) -> Tree:
    return {} if port is None else {"api": {"port": port}}


def _find_port(loaded: LoadedConfig) -> int:
    """Return the port for the daemon. Check it before anything is trained.

    Raises:
        StateError: The demo runs already.
        ListenError: Another process listens there.
    """
    where = places(loaded.settings)
    state = StateFolder(where.state)
    try:
        state.open()
        Listener.unix(where.socket).close()
        with closing(Listener.tcp(loaded.settings.api.host, loaded.settings.api.port)) as listener:
            return listener.port
    finally:
        state.close()


def _train(folder: DemoFolder, experiment: str | None, *, new: bool) -> Champion:
    with ProgressLine(sys.stderr) as progress:
        return training.train(folder, experiment, progress, new=new)


def _describe(champion: Champion, folder: DemoFolder) -> str:
    """Return a sentence about *champion*."""
    named = f"version {champion.version} of {folder.MODEL}"
    if not champion.metrics:
        return f"{named} is champion in {folder.registry}"
    measured = ", ".join(f"{name} {value:.3g}" for name, value in champion.metrics.items())
    return f"trained {named} ({measured}): it is champion in {folder.registry}"


def _indent(path: Path) -> str:
    return "\n".join(f"    {line}".rstrip() for line in path.read_text("utf-8").splitlines())


class DemoHints:
    """The commands to try with the demo in *folder*."""

    def __init__(self, folder: DemoFolder) -> None:
        self._folder = folder
        self._program = _find_program()

    def after_setting_up(self, address: str) -> Iterator[str]:
        """Yield commands for a daemon at *address*: its health, a prediction, and a new model version."""
        ask = ["curl", f"{address}/invocations", "-H", "Content-Type: application/json", "-d", ROW]
        where = [] if self._folder.is_default else ["--folder", str(self._folder.path)]
        yield f"the status page, in a browser: {address}/"
        yield "try, from another terminal:"
        yield "  # can this host serve its model? 503 until the model is verified, which takes some seconds"
        yield f"  {join(['curl', '-i', f'{address}/health/'])}"
        yield "  # what does each probe say? the command for 3 a.m."
        yield f"  {join([*self._program, 'status', '--url', address])}"
        yield "  # a prediction for one patient"
        yield f"  {join(ask)}"
        yield "  # a new version becomes champion; the daemon verifies it and rolls it out"
        yield f"  {join([*self._program, 'demo', '--retrain', *where])}"

    def after_retraining(self) -> Iterator[str]:
        """Yield commands that show the rollout in a running daemon, or start it at once."""
        named = f"MLOPSD_CONFIG={quote(str(self._folder.config))} {join(self._program)}"
        yield "a running demo rolls it out within seconds; see the result, or start it at once:"
        yield f"  {named} status"
        yield f"  {named} reload model"


def _find_program() -> list[str]:
    """Return the command for this installation's ``mlopsd``, as short as this user's PATH allows."""
    beside = Path(sys.executable).parent / "mlopsd"
    if not beside.exists():
        return [sys.executable, "-m", "mlopsd"]
    found = shutil.which("mlopsd")
    return ["mlopsd"] if found and Path(found).samefile(beside) else [str(beside)]
