"""``python FOLDER CHANNEL PARENT HEARTBEAT MODEL``: import FOLDER as a package and run it.

Neither FOLDER nor its parent stays on ``sys.path``. So they hide no module of the model, which may have a
``values`` or an ``options`` of its own.
"""

import importlib.util
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def main() -> None:
    """Run `mlopsd_host.host.main`."""
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != FOLDER]
    package = importlib.util.spec_from_file_location(
        FOLDER.name, FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    if package is None or package.loader is None:
        raise ImportError(f"cannot load {FOLDER}")
    module = sys.modules[FOLDER.name] = importlib.util.module_from_spec(package)
    package.loader.exec_module(module)
    importlib.import_module(f"{FOLDER.name}.host").main(*map(int, sys.argv[1:4]))


if __name__ == "__main__":
    main()
