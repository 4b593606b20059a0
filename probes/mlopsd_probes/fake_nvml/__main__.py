"""``python -m mlopsd_probes.fake_nvml SCENARIO FOLDER``: print the environment of a scenario's GPUs.

It copies the scenario into FOLDER, where it can be changed while in use; an existing copy stays. A scenario
given by its path is used in place. The output is one line of JSON:
``{"scenario": PATH, "environment": {…}}``, or ``{"failed": REASON}`` with exit status 1.
"""

import json
import shutil
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from mlopsd_probes.fake_nvml import build


def main() -> int:
    """Print the line; return the exit status."""
    parser = ArgumentParser(prog="python -m mlopsd_probes.fake_nvml")
    parser.add_argument("scenario", help=f"{', '.join(build.scenarios())}; or a file")
    parser.add_argument("folder", type=Path, help="for the compiled library and the copy")
    arguments = parser.parse_args()
    try:
        line = prepared(arguments.scenario, arguments.folder.absolute())
    except build.NoFake as error:
        line = {"failed": str(error)}
    except OSError as error:
        line = {"failed": f"cannot use {arguments.folder}: {error.strerror}"}
    sys.stdout.write(f"{json.dumps(line)}\n")
    return 1 if "failed" in line else 0


def prepared(name: str, folder: Path) -> dict[str, Any]:
    """Return the line of a success as a dictionary.

    Raises:
        NoFake: see `build.scenario` and `build.library`.
        OSError: *folder* cannot be used.
    """
    found = build.scenario(name)
    path = folder / found.name if found.parent == build.SCENARIOS else found
    folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        shutil.copyfile(found, path)
    return {"scenario": str(path), "environment": build.environment(path, folder)}


if __name__ == "__main__":
    sys.exit(main())
