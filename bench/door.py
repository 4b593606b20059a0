"""Lets a daemon find the benchmark's probes as it finds a stranger's: by the entry points of a package."""

from pathlib import Path

from tests.installed import installed

ROOT = Path(__file__).parent.parent
POINTS = {
    "bench_lag": "bench.troubles:Lag",
    "bench_series": "bench.series:SeriesProbe",
    "bench_trouble": "bench.troubles:Trouble",
}


def lay_out(room: Path) -> dict[str, str]:
    """Write the package's metadata to *room*; the environment in which it is installed."""
    return installed(room, POINTS, ROOT, ROOT / "probes", name="mlopsd_bench")


def table(name: str, does: str, isolation: str) -> str:
    """Return the configuration of one trouble."""
    return f'[probes.{name}]\nuse = "bench_trouble"\ndoes = "{does}"\nisolation = "{isolation}"\n'
