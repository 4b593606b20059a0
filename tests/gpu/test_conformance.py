"""The conformance kit for third parties, on the GPU probe over the fake driver."""

from pathlib import Path
from typing import Any, ClassVar

import pytest

from mlopsd.testing import ProbeConformance
from tests.gpu.driving import library, scenario

WHOLE = (
    *(
        "fan.count 1",
        "fan.speed 30",
        "pcie.tx 5",
        "pcie.rx 6",
        "retired.pending 0",
        "at 0s page single 0x1000 1700000000",
    ),
    *("mig.mode 1 gpu 1", "mig.pending 1 gpu 1", "mig.max 7 gpu 1"),
    "gpu 1 mig 1 0 3g.40gb 42 39GiB 1GiB MIG-11111111-2222-3333-4444-555555555555",
)


class TestGpu(ProbeConformance):
    name = "gpu"
    table: ClassVar[dict[str, Any]] = {
        "processes": True,
        "pcie_throughput": True,
        "sysfs_path": "/nonexistent",
    }
    # the tests that run in this process see no driver; those that check in a process of its own see the fake
    may_be_absent = frozenset({"xid_last_timestamp_seconds"})  # nothing happens to these cards

    @pytest.fixture(autouse=True)
    def host(
        self, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = tmp_path / "host.scenario"
        file.write_text(scenario(*WHOLE))
        monkeypatch.setenv("LD_LIBRARY_PATH", str(library(tmp_path_factory)))
        monkeypatch.setenv("FAKE_NVML_SCENARIO", str(file))
