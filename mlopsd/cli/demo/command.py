"""``mlopsd demo``: a registry, a small model and the daemon that watches it, in a folder of their own."""

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
    """Declare where everything is kept, and what to train."""
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help=f"where everything is kept, instead of {default_folder()}"
    )
    parser.add_argument("--port", help="the port to listen on, over the demo's configuration")
    parser.add_argument(
        "--experiment", metavar="NAME", help="the MLflow experiment that the champion was, or is, trained in"
    )
    parser.add_argument(
        "--fake-gpus",
        metavar="SCENARIO",
        help=f"pretend GPUs, and watch them with the gpu probe: {CHOICES}; needs a C compiler",
    )
    parser.add_argument(
        "--retrain",
        action="store_true",
        help="train a new version, make it champion and exit: a running demo takes it up",
    )
    parser.epilog = "exit status: 0 after SIGTERM or Ctrl-C, 1 if it cannot start"


def run(arguments: Namespace) -> int:
    """Set up the parts that are missing and run the daemon until SIGTERM; or train a new version.

    Raises:
        CommandError: a package is missing, or it cannot be set up or started.
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
            print(f"wrote {folder.config}, where your changes stay:", _indent(folder.config), sep="\n")
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
    """Return the port that the daemon can have, before anything is trained.

    Raises:
        StateError: the demo runs already.
        ListenError: another process listens there.
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
        """Yield commands for a daemon at *address*: ask for health and a prediction, and swap the model."""
        ask = ["curl", f"{address}/invocations", "-H", "Content-Type: application/json", "-d", ROW]
        where = [] if self._folder.is_default else ["--folder", str(self._folder.path)]
        yield "try, from another terminal:"
        yield "  # can this host serve its model? 503 until it is proven, which takes some seconds"
        yield f"  {join(['curl', '-i', f'{address}/health/'])}"
        yield "  # a prediction for one patient"
        yield f"  {join(ask)}"
        yield "  # a new version becomes champion; the daemon proves it and swaps to it"
        yield f"  {join([*self._program, 'demo', '--retrain', *where])}"

    def after_retraining(self) -> Iterator[str]:
        """Yield commands that show a running daemon take the new version up, or hurry it."""
        named = f"MLOPSD_CONFIG={quote(str(self._folder.config))} {join(self._program)}"
        yield "a demo that runs takes it up within seconds; see how it went, or hurry it:"
        yield f"  {named} status"
        yield f"  {named} reload model"


def _find_program() -> list[str]:
    """Return the words with which this user calls this installation's ``mlopsd``."""
    beside = Path(sys.executable).parent / "mlopsd"
    if not beside.exists():
        return [sys.executable, "-m", "mlopsd"]
    found = shutil.which("mlopsd")
    return ["mlopsd"] if found and Path(found).samefile(beside) else [str(beside)]
