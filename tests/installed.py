"""Probes that a daemon finds as it finds a stranger's: by the entry points of a distribution."""

import os
from collections.abc import Mapping
from pathlib import Path


def installed(
    folder: Path,
    points: Mapping[str, str],
    *sources: Path,
    name: str = "strange",
    group: str = "mlopsd.probes",
) -> dict[str, str]:
    """The environment in which the distribution *name* is installed.

    Args:
        folder: what pip would write of it goes below.
        points: the target of each entry point by its name.
        sources: folders in which the modules are.
        name: of the distribution, in letters and underscores.
        group: of the entry points.
    """
    about = folder / "site" / f"{name}-1.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n", "ascii")
    lines = [f"{probe} = {target}" for probe, target in points.items()]
    (about / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines]), "ascii")
    path = [about.parent, *sources, os.environ.get("PYTHONPATH")]
    return {"PYTHONPATH": os.pathsep.join(str(place) for place in path if place)}
