"""``python -m mlopsd_probes.fake_nvml SCENARIO FOLDER``: the environment of a scenario's GPUs, as JSON.

The scenario is copied into FOLDER, to be changed there while it is in use; one of that name that is there
stays as it is, and a file of one's own is used where it is. One line is printed: ``{"scenario": PATH,
"environment": {…}}``, or ``{"failed": WHY}`` with exit status 1.
"""

import json
import shutil
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from mlopsd_probes.fake_nvml import build


def main() -> int:
    """Print the line."""
    parser = ArgumentParser(prog="python -m mlopsd_probes.fake_nvml")
    parser.add_argument("scenario", help=f"{', '.join(build.scenarios())}; or a file")
    parser.add_argument("folder", type=Path, help="for the compiled library and the copy")
    arguments = parser.parse_args()
    try:
        told = prepared(arguments.scenario, arguments.folder.absolute())
    except build.NoFake as error:
        told = {"failed": str(error)}
    except OSError as error:
        told = {"failed": f"cannot use {arguments.folder}: {error.strerror}"}
    sys.stdout.write(f"{json.dumps(told)}\n")
    return 1 if "failed" in told else 0


def prepared(name: str, folder: Path) -> dict[str, Any]:
    """Return the answer in JSON when all is well.

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
