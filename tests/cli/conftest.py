"""What the tests of the command line stand on."""

from collections.abc import Mapping
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ODD = {
    "blocks": "Blocks",
    "closes": "Closes",
    "debugged": "Debugged",
    "dies": "Dies",
    "fine": "Fine",
    "gone": "Gone",
    "hangs": "Hangs",
    "hangs_in_process": "HangsInProcess",
    "measures": "Measures",
    "measures_in_process": "MeasuresInProcess",
    "ignores": "Ignores",
    "open": "Open",
    "raises": "Raises",
    "reloads": "Reloads",
    "undeclared": "Undeclared",
}


@pytest.fixture(scope="session")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment in which the distribution ``odd`` is installed."""
    site = tmp_path_factory.mktemp("site")
    (site / "odd.py").write_bytes((HERE / "odd.py").read_bytes())
    about = site / "odd-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n", "ascii")
    lines = [f"{name} = odd:{cls}" for name, cls in ODD.items()]
    lines.append("broken = odd_that_is_not_there:Broken")
    (about / "entry_points.txt").write_text("\n".join(["[mlopsd.probes]", *lines]), "ascii")
    return {"PYTHONPATH": str(site)}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration for a test to write."""
    return tmp_path / "mlopsd.toml"
