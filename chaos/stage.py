"""The surroundings of a run: registry, cards, clock, disk, a third party's file and the daemon's table."""

import asyncio
import os
import subprocess
from pathlib import Path

from chaos.clock import Clock
from chaos.registry import NAME, RegistryServer
from mlopsd_probes.fake_nvml import build
from tests.gpu.driving import scenario
from tests.installed import installed
from tests.running import free_port

ROOT = Path(__file__).parent.parent
STRANGER = ROOT / "tests/packages/mlopsd-probe-neighbours"
INTERVAL, TIMEOUT = 1.5, 3.0
MODEL_TIMEOUT = 6.0
PROBES = {
    "system": (INTERVAL, TIMEOUT),
    "gpu": (INTERVAL, TIMEOUT),
    "heartbeat": (INTERVAL, TIMEOUT),
    "model": (INTERVAL, MODEL_TIMEOUT),
}
DISK_BYTES = 64 * 2**20
HEART_EVERY = 0.2
HEART_OLDEST = 1.0
CONFIG = """
state_dir = "{state}"
socket = "{folder}/s"

[api]
api_keys = ["tests:act:754840467716f32606cd61fa2b90cb2ecfda8ce0b620e6e19d592b615aecba69"]

[probes.system]
interval = {interval}
timeout = {timeout}
fail_after = 1
recover_after = 1
paths = ["{state}"]
load_degraded = 1e6
memory_available_degraded = 0
memory_available_unhealthy = 0
pressure_memory_degraded = 1
pressure_memory_unhealthy = 1
stuck_after = "1d"

[probes.gpu]
interval = {interval}
timeout = {timeout}
fail_after = 1
recover_after = 1
expected_count = 2
sysfs_path = "/nonexistent"

[probes.heartbeat]
use = "heartbeat_file"
interval = {interval}
timeout = {timeout}
fail_after = 1
recover_after = 1
path = "{heart}"
oldest = {oldest}

[probes.model]
model = "{model}"
candidates = ["@champion"]
registries = [{{ uri = "{uri}" }}]
interval = {interval}
timeout = {model_timeout}
fail_after = 1
recover_after = 1
registry_timeout = 2
rejected_backoff = "1h"
[probes.model.prediction]
timeout = 2
[probes.model.canary]
timeout = 2
input = "{canary}"
"""
CANARY = '{"dataframe_split": {"columns": ["do", "x"], "data": [["", 1.0], ["", 2.0]]}}'


class Stage:
    """All of it in *folder*, a short path; *factors* are the right answers of the versions that may serve."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = Clock(folder)
        self.registry = RegistryServer(folder / "registry")
        self.cards = folder / "host.scenario"
        self.heart = folder / "heart"
        self.state = folder / "state"
        self.config = folder / "config.toml"
        self.port = free_port()
        self.factors: frozenset[float] = frozenset()
        self.heart_beats = True
        self.has_disk_of_its_own = False
        self._beating: asyncio.Task[None] | None = None

    async def set(self) -> None:
        """Start what the daemon leans on, and write its table."""
        self.steer()
        self._mount()
        self.heart.touch()
        self._beating = asyncio.get_running_loop().create_task(self._beat())
        await self.registry.start()
        await asyncio.to_thread(self.registry.fill)
        self.expect_champion()
        (self.folder / "canary.json").write_text(CANARY, "ascii")
        self.config.write_text(self._table(), "utf-8")

    def strike(self) -> None:
        """Take everything down."""
        self.registry.end()
        if self._beating is not None:
            self._beating.cancel()
        if self.has_disk_of_its_own:
            subprocess.run(["umount", "--lazy", str(self.state)], check=False)

    def environment(self) -> dict[str, str]:
        """Return the environment in which the daemon sees the cards, the clock and the added probe."""
        points = {"heartbeat_file": "mlopsd_probe_neighbours.heartbeat_file:HeartbeatFile"}
        return {
            **build.environment(self.cards, self.folder),
            **self.clock.environment(),
            **installed(self.folder, points, STRANGER, ROOT, ROOT / "probes"),
        }

    def steer(self, *lines: str) -> None:
        """Change the host of the cards from now on."""
        build.steer(self.cards, scenario(*lines))

    def expect_champion(self) -> None:
        """Nothing but the champion answers, from now on."""
        self.factors = frozenset({self.registry.good[self.registry.champion]})

    def expect_any(self) -> None:
        """Any good version may answer for a while."""
        self.factors = frozenset(self.registry.good.values())

    def fill(self) -> None:
        """Shrink the disk of the state folder to what is on it.

        It is not filled with a file: on Linux 6.18 a tmpfs that others write to meanwhile was seen to stay
        full after that file was gone.
        """
        found = os.statvfs(self.state)
        self._resize((found.f_blocks - found.f_bfree) * found.f_frsize)

    def make_room(self) -> None:
        """Give the disk its first size back."""
        self._resize(DISK_BYTES)

    def _resize(self, size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.state)], check=True)

    def _mount(self) -> None:
        self.state.mkdir()
        options = f"size={DISK_BYTES},mode=0750"
        command = ["mount", "-t", "tmpfs", "-o", options, "mlopsd-chaos", str(self.state)]
        if os.geteuid() == 0:
            mounted = subprocess.run(command, capture_output=True, check=False)
            self.has_disk_of_its_own = mounted.returncode == 0

    def _table(self) -> str:
        return CONFIG.format(
            folder=self.folder,
            state=self.state,
            heart=self.heart,
            interval=INTERVAL,
            timeout=TIMEOUT,
            model_timeout=MODEL_TIMEOUT,
            oldest=HEART_OLDEST,
            model=NAME,
            uri=self.registry.uri,
            canary=self.folder / "canary.json",
        )

    async def _beat(self) -> None:
        """Do what a nightly job would do, in the time that the daemon sees."""
        while True:
            if self.heart_beats:
                self.clock.touch(self.heart)
            await asyncio.sleep(HEART_EVERY)
