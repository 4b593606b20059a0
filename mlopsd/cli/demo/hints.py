"""Commands to try with the demo, ready to be copied into another terminal."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from shlex import join, quote

from mlopsd.cli.demo.folder import DemoFolder

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
