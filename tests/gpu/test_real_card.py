"""The probe on a real card, against what nvidia-smi says on the same host; skipped where there is none."""

import csv
import math
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlopsd.probe import Context, Reading
from mlopsd_probes.gpu.options import GpuOptions
from mlopsd_probes.gpu.probe import GpuProbe
from tests.gpu.driving import values
from tests.running import GIVE_UP
from tests.system.conftest import NoInstruments

MIB = 2**20
FIELDS = {  # nvidia-smi's field: our metric, its other labels, the factor to our unit, the tolerance in ours
    "memory.total": ("memory_total_bytes", (), MIB, 2 * MIB),
    "memory.used": ("memory_used_bytes", (), MIB, 512 * MIB),
    "memory.free": ("memory_free_bytes", (), MIB, 512 * MIB),
    "utilization.gpu": ("utilization_ratio", ("compute",), 0.01, 0.5),
    "temperature.gpu": ("temperature_celsius", ("gpu",), 1, 4),
    "temperature.memory": ("temperature_celsius", ("memory",), 1, 4),
    "power.draw": ("power_watts", (), 1, 100),
    "enforced.power.limit": ("power_limit_watts", (), 1, 1),
    "clocks.sm": ("clock_hertz", ("sm",), 1e6, 1e9),
    "clocks.mem": ("clock_hertz", ("memory",), 1e6, 1e9),
    "clocks.max.sm": ("clock_limit_hertz", ("sm",), 1e6, 1e6),
    "fan.speed": ("fan_speed_ratio", (), 0.01, 0.1),
    "pcie.link.gen.max": ("pcie_link_generation_limit", (), 1, 0),
    "pcie.link.width.current": ("pcie_link_width", (), 1, 0),
    "pcie.link.width.max": ("pcie_link_width_limit", (), 1, 0),
    "ecc.errors.corrected.volatile.total": ("ecc_errors_total", ("corrected", "volatile"), 1, 0),
    "ecc.errors.uncorrected.volatile.total": ("ecc_errors_total", ("uncorrected", "volatile"), 1, 0),
    "ecc.errors.uncorrected.aggregate.total": ("ecc_errors_total", ("uncorrected", "aggregate"), 1, 0),
}

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="needs a real NVIDIA GPU"),
]


def asked(*fields: str) -> Iterator[dict[str, str]]:
    """Return nvidia-smi's values of each card, without units."""
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    lines = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=GIVE_UP
    ).stdout.splitlines()
    for row in csv.reader(lines, skipinitialspace=True):
        yield dict(zip(fields, row, strict=True))


def number(text: str) -> float | None:
    """A number, or None for ``[N/A]`` and its like."""
    try:
        found = float(text)
    except ValueError:
        return None
    return found if math.isfinite(found) else None


@pytest.fixture
def reading(tmp_path: Path) -> Reading:
    import logging

    context = Context("gpu", tmp_path, logging.getLogger("test"), {}, NoInstruments())  # type: ignore[arg-type]
    probe = GpuProbe(GpuOptions(), context)
    found = probe.check()
    probe.close()
    return found


@pytest.mark.parametrize("field", FIELDS)
def test_a_number_is_nvidia_smis(reading: Reading, field: str) -> None:
    metric, labels, factor, tolerance = FIELDS[field]
    for card in asked("index", field):
        ours = values(reading, metric, int(card["index"])).get(labels)
        theirs = number(card[field])
        if theirs is None:
            assert ours is None, f"nvidia-smi has no {field}, and the probe says {ours}"
        else:
            assert ours == pytest.approx(theirs * factor, abs=tolerance), field


def test_each_card_is_who_nvidia_smi_says(reading: Reading) -> None:
    cards = [(card["index"], card["uuid"], card["name"]) for card in asked("index", "uuid", "name")]
    assert [(str(card["index"]), card["uuid"], card["name"]) for card in reading.facts["gpus"]] == cards
    (version,) = {card["driver_version"] for card in asked("driver_version")}
    assert reading.facts["driver"] == version
