"""The 23 faults of a trial at 3 a.m., each against the reviewed golden file."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlopsd.entry import Terms
from mlopsd.probe import Reading
from mlopsd_probes.fake_nvml import build
from mlopsd_probes.model.options import Range
from mlopsd_probes.model.serving.host import LoadFailed
from mlopsd_probes.registry.registries import Complaint, FetchError
from mlopsd_probes.system.files import OpenFiles
from mlopsd_probes.system.filesystem import Filesystem
from mlopsd_probes.system.memory import HostMemory
from mlopsd_probes.system.options import SystemOptions
from tests.gpu.driving import library, scenario
from tests.installed import installed
from tests.model.world import URI, World, failing
from tests.night.night import GOLDEN, compare, health_of
from tests.running import Running

OF_MODEL = Terms(interval=30, timeout=20, fail_after=1, recover_after=1)
OF_SYSTEM = Terms(interval=15, timeout=5, fail_after=1, recover_after=2)
GPU = """
[probes.gpu]
interval = 0.5
timeout = 6
recover_after = 1
sysfs_path = "{}/sys"
throttled_degraded = "1s"
throttled_window = "5s"
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a scenario of eight healthy cards."""
    file = tmp_path_factory.mktemp("night") / "host.scenario"
    file.write_text(scenario(cards=8))
    return file


@pytest.fixture(scope="module")
def gpus(host: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A daemon that watches these cards."""
    environment = {
        "LD_LIBRARY_PATH": str(library(tmp_path_factory)),
        "FAKE_NVML_SCENARIO": str(host),
    }
    with Running(host.parent, GPU.format(host.parent), environment=environment) as daemon:
        yield daemon


def well(daemon: Running, host: Path) -> None:
    """Bring all cards back, as a repair and a reload of the probe do."""
    build.steer(host, scenario(cards=8))
    daemon.until(
        "/health/gpu", lambda found: "hang" not in found["summary"] and found["raw_status"] != "unknown"
    )
    daemon.ask("POST", "/health/gpu/reload?wait=10", local=True)
    moment = daemon.get("/health/gpu").json["checked_at"]  # the next check registers for events anew
    daemon.until("/health/gpu", lambda found: found["status"] == "healthy" and found["checked_at"] > moment)


OF_CARDS: dict[str, tuple[list[str], Callable[[dict[str, Any]], bool]]] = {
    "1 XID 79": (["xid 79 gpu 3"], lambda found: "XID 79" in found["summary"]),
    "3 ECC errors": (
        ["ecc.uncorrected.volatile.total 3 gpu 5"],
        lambda found: "ECC" in found["summary"],
    ),
    "4 a card too hot": (["temperature.gpu 90 gpu 2"], lambda found: "90" in found["summary"]),
    "4b a card slowed down": (
        ["reasons.current 0x48 gpu 2"],
        lambda found: "slowed down" in found["summary"],
    ),
    "5 a lost card": (["lost gpu 6"], lambda found: "lost" in found["summary"]),
    "6 an NVLink down": (["gpu 1 nvlink.3.state 0"], lambda found: "NVLink" in found["summary"]),
    "7 a card that is not listed": (["gone gpu 7"], lambda found: "gone" in found["summary"]),
}


@pytest.mark.parametrize("case", OF_CARDS)
def test_a_fault_of_a_card(gpus: Running, host: Path, case: str) -> None:
    lines, is_seen = OF_CARDS[case]
    well(gpus, host)
    build.steer(host, scenario(*lines, cards=8))
    gpus.until("/health/gpu", is_seen)
    compare(case, gpus.get("/health/detailed").json, "gpu")


def test_a_driver_that_hangs(gpus: Running, host: Path) -> None:
    well(gpus, host)
    hang = "hang nvmlDeviceGetPowerUsage gpu 0"
    build.steer(host, scenario(hang, cards=8))
    gpus.until("/health/gpu", lambda found: found["status"] == "unknown")
    compare("2 a driver that has not answered once", gpus.get("/health/detailed").json, "gpu")
    gpus.until("/health/", lambda found: found["advice"] == "reboot")
    compare("2 a driver that hangs", gpus.get("/health/detailed").json, "gpu")


def test_an_xid_79_and_then_a_driver_that_hangs(gpus: Running, host: Path) -> None:
    well(gpus, host)
    build.steer(host, scenario("xid 79 gpu 4", cards=8))
    gpus.until("/health/gpu", lambda found: "XID 79" in found["summary"])
    build.steer(host, scenario("xid 79 gpu 4", "hang nvmlDeviceGetPowerUsage gpu 0", cards=8))
    gpus.until("/health/gpu", lambda found: found["raw_status"] == "unknown" and found["raw_count"] > 1)
    compare("2b XID 79 and then a driver that hangs", gpus.get("/health/detailed").json, "gpu")
    well(gpus, host)


async def test_the_disk_is_full(tmp_path: Path) -> None:
    numbers = os.statvfs(tmp_path)
    full = os.statvfs_result((4096, 4096, 51270, 100, 0, 1000, 900, 900, 0, 255, numbers.f_fsid))
    reading = Filesystem("/srv/small", SystemOptions()).reading(full)
    compare("16 a full disk", health_of("system", OF_SYSTEM, [reading]), "system")


async def test_a_file_system_becomes_read_only() -> None:
    filesystem = Filesystem("/srv/rw", SystemOptions())
    flags = [0, os.ST_RDONLY]
    numbers = [
        os.statvfs_result((4096, 4096, 1000, 900, 900, 1000, 900, 900, flag, 255, 7)) for flag in flags
    ]
    readings = [filesystem.reading(each) for each in numbers]
    compare("19 a file system that became read-only", health_of("system", OF_SYSTEM, readings), "system")


@pytest.mark.parametrize(
    ("case", "numbers"),
    [("18 open files without a limit", "19807 0 9223372036854775807"), ("18 open files", "95000 0 100000")],
)
async def test_open_files(tmp_path: Path, case: str, numbers: str) -> None:
    (tmp_path / "sys/fs").mkdir(parents=True)
    (tmp_path / "sys/fs/file-nr").write_text(numbers)
    reading = OpenFiles(SystemOptions(), tmp_path).collect()
    compare(case, health_of("system", OF_SYSTEM, [reading]), "system")


async def test_memory_is_short() -> None:
    options = SystemOptions(
        memory_available_degraded=1, memory_available_unhealthy=1, memory_available_enough=10**15
    )
    compare("17 memory is short", health_of("system", OF_SYSTEM, [HostMemory(options).collect()]), "system")


THIRD_PARTY = """
[probes.memory]
use = "system"
interval = 1
timeout = 60
critical = false
memory_available_degraded = 1.0
memory_available_unhealthy = 1.0
memory_available_enough = 1000000000000000

[probes.door]
use = "troubled"
trouble = "hangs"
interval = 1
timeout = 1
critical = true
"""


def test_a_probe_of_somebody_else_hangs_while_another_one_is_short_of_memory(
    tmp_path: Path, strange_path: Path
) -> None:
    environment = installed(tmp_path, {"troubled": "troubled:Troubled"}, strange_path)
    with Running(tmp_path, THIRD_PARTY, environment=environment) as daemon:
        daemon.until("/health/memory", lambda found: found["status"] == "unhealthy")
        daemon.until("/health/door", lambda found: "cannot be asked" in found["summary"])
        compare("20 a probe of somebody else hangs", daemon.get("/health/detailed").json, "door")


@pytest.fixture
async def world(tmp_path: Path) -> World:
    """Version 1 serves, and a threshold is set."""
    world = World(tmp_path, thresholds={"accuracy": Range(min=0.8)})
    world.registry.scores = {str(number): {"accuracy": 0.9} for number in range(1, 9)}
    world.names("1")
    await world.check()
    return world


async def seen(case: str, world: World, reading: Reading | None = None) -> None:
    reading = reading or await world.check()
    compare(case, health_of("model", OF_MODEL, [reading]), "model")
    await world.reconciler.close()


DOWN = "connection refused; check that it runs, and the way to it"
REJECTS = "it rejects the credentials; check username and password_file, or token_file"


@pytest.mark.parametrize(
    ("case", "kind", "reason"),
    [("8 the registry is down", "unreachable", DOWN), ("9 a wrong password", "auth", REJECTS)],
)
async def test_a_registry_that_gives_no_version(world: World, case: str, kind: str, reason: str) -> None:
    world.registry.complaints = (Complaint(URI, kind, reason),)
    world.wait(15)
    await seen(case, world)


async def test_a_metric_below_its_threshold(world: World) -> None:
    world.registry.scores["2"] = {"accuracy": 0.6}
    world.names("2")
    await seen("10 a metric below its threshold", world)


async def test_a_canary_that_predicts_nan(world: World) -> None:
    world.canaries["3"] = replace(failing("NaN in 2 of 2 rows"), source="example")
    world.names("3")
    await seen("11 a canary that predicts NaN", world)


MISSING = "it needs the module 'lightgbm', which /opt/mlopsd/bin/python3 does not have"
NOT_HERE = f"{MISSING}; install it there, or set python"
KILLED = (
    "its process was killed by SIGKILL while it was loading the model; "
    "the kernel does that when memory runs out"
)


@pytest.mark.parametrize(
    ("case", "kind", "reason"),
    [
        ("12 a package is missing", "import_error", NOT_HERE),
        ("13 no memory left while loading", "killed", KILLED),
    ],
)
async def test_a_version_that_this_host_cannot_load(world: World, case: str, kind: Any, reason: str) -> None:
    world.load_fails["4"] = LoadFailed(kind, reason)
    world.names("4")
    await seen(case, world)


async def test_a_process_that_is_killed_again_and_again(world: World) -> None:
    starting = KILLED.replace("loading the model", "starting")
    world.load_fails["1"] = LoadFailed("killed", starting)
    world.hosts[0].die("was killed by SIGKILL")
    await world.until(lambda: world.serves is None)
    for _ in range(4):
        await world.settle()
        world.wait(12)
    await world.settle()
    await seen("14 the model's process is killed again and again", world, await world.reading())


async def test_a_process_that_is_killed_while_a_version_stands_rejected(world: World) -> None:
    world.canaries["3"] = replace(failing("NaN in 2 of 2 rows"), source="example")
    world.names("3")
    await world.check()
    world.loading.clear()
    world.hosts[0].die("was killed by SIGKILL")
    await world.until(lambda: world.serves is None)
    await seen("14b the process is killed while a version stands rejected", world, await world.reading())


async def test_a_disk_without_room_for_the_next_version(world: World) -> None:
    world.registry.fails = FetchError("disk_full", "No space left on device; make room in the state folder")
    world.names("5")
    await seen("15 no room for the next version", world)


def test_every_case_of_the_golden_file_is_compared() -> None:
    source = Path(__file__).read_text("utf-8")
    assert [case for case in GOLDEN if f'"{case}"' not in source] == []
