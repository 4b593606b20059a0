"""Lets a daemon find the benchmark's probes as it finds a stranger's: by the entry points of a package."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
METADATA = "Metadata-Version: 2.1\nName: mlopsd-bench\nVersion: 1\n"
POINTS = """[mlopsd.probes]
bench_lag = bench.troubles:Lag
bench_series = bench.series:SeriesProbe
bench_trouble = bench.troubles:Trouble
"""


def lay_out(room: Path) -> dict[str, str]:
    """Write the package's metadata to *room*; the environment in which it is installed."""
    folder = room / "site" / "mlopsd_bench-1.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(METADATA, "utf-8")
    (folder / "entry_points.txt").write_text(POINTS, "utf-8")
    return {"PYTHONPATH": f"{folder.parent}:{ROOT}:{ROOT / 'probes'}"}


def table(name: str, does: str, isolation: str) -> str:
    """The configuration of one trouble."""
    return f'[probes.{name}]\nuse = "bench_trouble"\ndoes = "{does}"\nisolation = "{isolation}"\n'
