"""The fake over the real pynvml: what a scenario says is what NVML answers."""

import re
from pathlib import Path
from typing import Any

import pytest

from mlopsd_probes.fake_nvml import build
from tests.fake_nvml.conftest import Start

pytestmark = pytest.mark.needs("cc")

UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "W": 1000}
NOT_SUPPORTED = {"error": "NOT_SUPPORTED"}
READINGS = {  # key of a scenario → what reads it, of the card h
    "name": "n.nvmlDeviceGetName(h)",
    "uuid": "n.nvmlDeviceGetUUID(h)",
    "serial": "n.nvmlDeviceGetSerial(h)",
    "pci": "n.nvmlDeviceGetPciInfo(h).busId",
    "pci.device_id": "n.nvmlDeviceGetPciInfo(h).pciDeviceId",
    "pci.subsystem_id": "n.nvmlDeviceGetPciInfo_v3(h).pciSubSystemId",
    "vbios": "n.nvmlDeviceGetVbiosVersion(h)",
    "part_number": "n.nvmlDeviceGetBoardPartNumber(h)",
    "inforom": "n.nvmlDeviceGetInforomImageVersion(h)",
    "gsp": "n.nvmlDeviceGetGspFirmwareVersion(h)",
    "minor": "n.nvmlDeviceGetMinorNumber(h)",
    "board_id": "n.nvmlDeviceGetBoardId(h)",
    "module_id": "n.nvmlDeviceGetModuleId(h)",
    "multi_gpu_board": "n.nvmlDeviceGetMultiGpuBoard(h)",
    "brand": "n.nvmlDeviceGetBrand(h)",
    "architecture": "n.nvmlDeviceGetArchitecture(h)",
    "bus_type": "n.nvmlDeviceGetBusType(h)",
    "capability.major": "n.nvmlDeviceGetCudaComputeCapability(h)[0]",
    "capability.minor": "n.nvmlDeviceGetCudaComputeCapability(h)[1]",
    "cores": "n.nvmlDeviceGetNumGpuCores(h)",
    "display_active": "n.nvmlDeviceGetDisplayActive(h)",
    "persistence": "n.nvmlDeviceGetPersistenceMode(h)",
    "compute_mode": "n.nvmlDeviceGetComputeMode(h)",
    "pstate": "n.nvmlDeviceGetPerformanceState(h)",
    "utilization.gpu": "n.nvmlDeviceGetUtilizationRates(h).gpu",
    "utilization.memory": "n.nvmlDeviceGetUtilizationRates(h).memory",
    "utilization.encoder": "n.nvmlDeviceGetEncoderUtilization(h)[0]",
    "utilization.decoder": "n.nvmlDeviceGetDecoderUtilization(h)[0]",
    "utilization.jpeg": "n.nvmlDeviceGetJpgUtilization(h)[0]",
    "utilization.ofa": "n.nvmlDeviceGetOfaUtilization(h)[0]",
    "memory.bus_width": "n.nvmlDeviceGetMemoryBusWidth(h)",
    "memory.total": "n.nvmlDeviceGetMemoryInfo(h).total",
    "memory.reserved": "n.nvmlDeviceGetMemoryInfo(h, n.nvmlMemory_v2).reserved",
    "memory.used": "n.nvmlDeviceGetMemoryInfo(h, n.nvmlMemory_v2).used",
    "bar1.total": "n.nvmlDeviceGetBAR1MemoryInfo(h).bar1Total",
    "bar1.used": "n.nvmlDeviceGetBAR1MemoryInfo(h).bar1Used",
    "temperature.gpu": "n.nvmlDeviceGetTemperature(h, n.NVML_TEMPERATURE_GPU)",
    "temperature.memory": "field(n.NVML_FI_DEV_MEMORY_TEMP).uiVal",
    "temperature.margin": "n.nvmlDeviceGetMarginTemperature(h)",
    **{
        f"threshold.{key}": f"n.nvmlDeviceGetTemperatureThreshold(h, n.NVML_TEMPERATURE_THRESHOLD_{name})"
        for key, name in {
            "shutdown": "SHUTDOWN",
            "slowdown": "SLOWDOWN",
            "memory_max": "MEM_MAX",
            "gpu_max": "GPU_MAX",
            "acoustic": "ACOUSTIC_CURR",
        }.items()
    },
    "tlimit.shutdown": "field(n.NVML_FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT).siVal",
    "tlimit.slowdown": "field(n.NVML_FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT).siVal",
    "tlimit.memory_max": "field(n.NVML_FI_DEV_TEMPERATURE_MEM_MAX_TLIMIT).siVal",
    "tlimit.gpu_max": "field(n.NVML_FI_DEV_TEMPERATURE_GPU_MAX_TLIMIT).siVal",
    "power.management": "n.nvmlDeviceGetPowerManagementMode(h)",
    "power.usage": "n.nvmlDeviceGetPowerUsage(h)",
    "power.instant": "field(n.NVML_FI_DEV_POWER_INSTANT).uiVal",
    "power.limit": "n.nvmlDeviceGetPowerManagementLimit(h)",
    "power.default": "n.nvmlDeviceGetPowerManagementDefaultLimit(h)",
    "power.enforced": "n.nvmlDeviceGetEnforcedPowerLimit(h)",
    "power.min": "n.nvmlDeviceGetPowerManagementLimitConstraints(h)[0]",
    "power.max": "n.nvmlDeviceGetPowerManagementLimitConstraints(h)[1]",
    **{
        f"clock.{part}{key}": f"n.nvmlDeviceGet{call}ClockInfo(h, n.NVML_CLOCK_{name})"
        for part, call in {"": "", "max.": "Max"}.items()
        for key, name in {"graphics": "GRAPHICS", "sm": "SM", "memory": "MEM", "video": "VIDEO"}.items()
    },
    "reasons.current": "n.nvmlDeviceGetCurrentClocksThrottleReasons(h)",
    "reasons.supported": "n.nvmlDeviceGetSupportedClocksThrottleReasons(h)",
    **{
        f"violation.{key}": f"n.nvmlDeviceGetViolationStatus(h, n.NVML_PERF_POLICY_{key.upper()})"
        ".violationTime"
        for key in ("power", "thermal", "sync_boost", "board_limit", "low_utilization", "reliability")
    },
    "slowed.sw_thermal": "field(n.NVML_FI_DEV_CLOCKS_EVENT_REASON_SW_THERM_SLOWDOWN).ullVal",
    "slowed.hw_thermal": "field(n.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_THERM_SLOWDOWN).ullVal",
    "slowed.power_brake": "field(n.NVML_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN).ullVal",
    "fan.count": "n.nvmlDeviceGetNumFans(h)",
    "fan.speed": "n.nvmlDeviceGetFanSpeed(h)",
    "fan.target": "n.nvmlDeviceGetTargetFanSpeed(h, 1)",
    "fan.rpm": "n.nvmlDeviceGetFanSpeedRPM(h)",
    "fan.min": "n.nvmlDeviceGetMinMaxFanSpeed(h)[0]",
    "ecc.mode": "n.nvmlDeviceGetEccMode(h)[0]",
    "ecc.pending": "n.nvmlDeviceGetPendingEccMode(h)",
    "ecc.default": "n.nvmlDeviceGetDefaultEccMode(h)[0]",
    **{
        f"ecc.{kind}.{scope}.total": f"n.nvmlDeviceGetTotalEccErrors(h,"
        f" n.NVML_MEMORY_ERROR_TYPE_{kind.upper()}, n.NVML_{scope.upper()}_ECC)"
        for kind in ("corrected", "uncorrected")
        for scope in ("volatile", "aggregate")
    },
    **{
        f"ecc.{kind}.{scope}.{place}": f"n.nvmlDeviceGetMemoryErrorCounter(h,"
        f" n.NVML_MEMORY_ERROR_TYPE_{kind.upper()}, n.NVML_{scope.upper()}_ECC,"
        f" n.NVML_MEMORY_LOCATION_{place.upper()})"
        for kind in ("corrected", "uncorrected")
        for scope in ("volatile", "aggregate")
        for place in ("dram", "sram")
    },
    "retired.pending": "n.nvmlDeviceGetRetiredPagesPendingStatus(h)",
    **{
        f"remapped.{key}": f"n.nvmlDeviceGetRemappedRows(h)[{index}]"
        for index, key in enumerate(("corrected", "uncorrected", "pending", "failure"))
    },
    **{
        f"remapped.histogram.{key}": f"n.nvmlDeviceGetRowRemapperHistogram(h).{key}"
        for key in ("max", "high", "partial", "low", "none")
    },
    "recovery_action": "field(n.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION).uiVal",
    "pcie.generation": "n.nvmlDeviceGetCurrPcieLinkGeneration(h)",
    "pcie.max_generation": "n.nvmlDeviceGetMaxPcieLinkGeneration(h)",
    "pcie.gpu_max_generation": "n.nvmlDeviceGetGpuMaxPcieLinkGeneration(h)",
    "pcie.width": "n.nvmlDeviceGetCurrPcieLinkWidth(h)",
    "pcie.max_width": "n.nvmlDeviceGetMaxPcieLinkWidth(h)",
    "pcie.speed": "n.nvmlDeviceGetPcieSpeed(h)",
    "pcie.replays": "n.nvmlDeviceGetPcieReplayCounter(h)",
    "pcie.rollovers": "field(n.NVML_FI_DEV_PCIE_REPLAY_ROLLOVER_COUNTER).uiVal",
    "pcie.tx": "n.nvmlDeviceGetPcieThroughput(h, n.NVML_PCIE_UTIL_TX_BYTES)",
    "pcie.rx": "n.nvmlDeviceGetPcieThroughput(h, n.NVML_PCIE_UTIL_RX_BYTES)",
    "nvlink.count": "field(n.NVML_FI_DEV_NVLINK_LINK_COUNT).uiVal",
    "nvlink.switch_count": "field(n.NVML_FI_DEV_NVSWITCH_CONNECTED_LINK_COUNT).uiVal",
    "nvlink.state": "n.nvmlDeviceGetNvLinkState(h, 5)",
    "nvlink.version": "n.nvmlDeviceGetNvLinkVersion(h, 5)",
    "nvlink.remote_type": "n.nvmlDeviceGetNvLinkRemoteDeviceType(h, 0)",
    "nvlink.remote_pci": "n.nvmlDeviceGetNvLinkRemotePciInfo(h, 0).busId",
    "nvlink.speed": "field(n.NVML_FI_DEV_NVLINK_SPEED_MBPS_L7).uiVal",
    "nvlink.replay": "n.nvmlDeviceGetNvLinkErrorCounter(h, 11, n.NVML_NVLINK_ERROR_DL_REPLAY)",
    "nvlink.crc_data": "field(n.NVML_FI_DEV_NVLINK_CRC_DATA_ERROR_COUNT_TOTAL).ullVal",
    "fabric.state": "fabric().state",
    "fabric.status": "fabric().status",
    "mig.mode": "n.nvmlDeviceGetMigMode(h)[0]",
    "mig.pending": "n.nvmlDeviceGetMigMode(h)[1]",
    "mig.max": "n.nvmlDeviceGetMaxMigDeviceCount(h)",
    "events": "n.nvmlDeviceGetSupportedEventTypes(h)",
}
TEXTS = ("name", "uuid", "serial", "pci", "vbios", "part_number", "inforom", "gsp", "nvlink.remote_pci")
NOT_READ = {  # said by scenarios, and read by a test of its own, or moving
    *("energy", "pci.class", "nvlink.recovery", "nvlink.crc_flit", "nvlink.ecc_data", "nvlink.capabilities"),
    *("nvlink.tx", "nvlink.rx", "fabric.clique", "fabric.cluster", "fabric.health_mask", "fabric.summary"),
    *("fan.max", "ecc.sram_threshold_exceeded", "repair.channel_pending", "repair.tpc_pending"),
    "repair.unrepairable",
}
FUNCTIONS = """
import ctypes
from __main__ import ERRORS

def field(id):
    value = n.nvmlDeviceGetFieldValues(h, [id])[0]
    n._nvmlCheckReturn(value.nvmlReturn)
    return value.value

def fabric():
    info = n.c_nvmlGpuFabricInfo_t()
    n.nvmlDeviceGetGpuFabricInfo(h, ctypes.byref(info))
    return info

def read(question):
    try:
        return eval(question)
    except n.NVMLError as error:
        return {"error": ERRORS[error.value]}
"""


def output(path: Path) -> list[dict[str, str]]:
    """What a scenario's file says of each card, read by a second reader."""
    cards: list[dict[str, str]] = []
    general: dict[str, str] = {}
    into = general
    for line in path.read_text().splitlines():
        words = line.split("#")[0].split()
        if not words:
            continue
        if section := re.match(r"\[card (\d+)\]", line):
            assert int(section[1]) == len(cards)
            cards.append(into := dict(general))
        elif words[0] not in ("process", "mig", "missing", "driver", "nvml", "cuda") and "[" not in line:
            into[words[0]] = " ".join(words[1:])
            if words[1] == "absent":
                del into[words[0]]
    return cards


def meant(card: dict[str, str], key: str) -> Any:
    """What NVML should answer for *key*, by what is said of *card*."""
    if key not in card:
        return NOT_SUPPORTED
    text = card[key]
    if key in TEXTS:
        return text
    if number := re.fullmatch(r"(-?[\d.]+)(KiB|MiB|GiB|W)?", text):
        return round(float(number[1]) * UNITS.get(number[2], 1))
    return int(text, 16) if text.startswith("0x") else {"error": text}


@pytest.mark.parametrize("name", build.scenarios())
def test_pynvml_reads_every_value_as_the_scenario_says_it(on_host: Start, name: str) -> None:
    host = on_host(name)
    path = build.scenario(name)
    missing = set(re.findall(r"^missing (\w+)", path.read_text(), re.MULTILINE))
    host.init()
    host.ask(FUNCTIONS)
    cards = output(path)
    assert host.ask("n.nvmlDeviceGetCount()") == len(cards)
    for index, card in enumerate(cards):
        host.ask(f"h = n.nvmlDeviceGetHandleByIndex({index})")
        assert host.ask("n.nvmlDeviceGetIndex(h)") == index
        read = dict(zip(READINGS, host.ask(f"[read(q) for q in {list(READINGS.values())}]"), strict=True))
        expected = {
            key: {"error": "FUNCTION_NOT_FOUND"}
            if any(f"n.{call}(" in question for call in missing)
            else meant(card, key)
            for key, question in READINGS.items()
        }
        assert read == expected
        assert set(card) <= set(READINGS) | NOT_READ


def test_the_versions_are_those_of_the_host(on_host: Start) -> None:
    host = on_host("t4")
    host.init()
    assert host.ask("n.nvmlSystemGetDriverVersion()") == "530.30.02"
    assert host.ask("n.nvmlSystemGetNVMLVersion()") == "12.530.30.02"
    assert host.ask("n.nvmlSystemGetCudaDriverVersion_v2()") == 12010


def test_the_first_version_of_the_memory_counts_what_is_reserved_as_used(on_host: Start) -> None:
    host = on_host("t4")
    host.init()
    mib = 1 << 20
    assert host.ask("n.nvmlDeviceGetMemoryInfo(h[0])") == {
        "total": 15360 * mib,
        "free": 14936 * mib,
        "used": (393 + 31) * mib,
    }
    newer = host.ask("n.nvmlDeviceGetMemoryInfo(h[0], n.nvmlMemory_v2)")
    assert (newer["reserved"], newer["used"], newer["free"]) == (393 * mib, 31 * mib, 14936 * mib)
    refused = host.ask("n.nvmlDeviceGetMemoryInfo(h[0], 0x3000028)")
    assert refused == {"error": "ARGUMENT_VERSION_MISMATCH"}


def test_a_card_is_found_by_uuid_serial_and_address(on_host: Start) -> None:
    host = on_host("dgx-a100-8")
    host.init()
    for question in (
        "n.nvmlDeviceGetHandleByUUID('GPU-5f6e7c00-00a1-4d0a-9c00-000000000003')",
        "n.nvmlDeviceGetHandleBySerial('1565021004003')",
        "n.nvmlDeviceGetHandleByPciBusId('0000:4e:00.0')",
        "n.nvmlDeviceGetHandleByPciBusId('00000000:4E:00.0')",
    ):
        assert host.ask(f"n.nvmlDeviceGetIndex({question})") == 3
    assert host.ask("n.nvmlDeviceGetHandleByUUID('GPU-none')") == {"error": "NOT_FOUND"}
    assert host.ask("n.nvmlDeviceGetHandleByIndex(8)") == {"error": "INVALID_ARGUMENT"}


def test_processes_are_listed_by_what_they_do(on_host: Start) -> None:
    host = on_host("rtx4090", "process compute 7 NA gpu 0")
    host.init()
    graphics = host.ask("n.nvmlDeviceGetGraphicsRunningProcesses(h[0])")
    assert [(row["pid"], row["usedGpuMemory"]) for row in graphics] == [(2620, 4 << 20), (2954, 120 << 20)]
    compute = host.ask("n.nvmlDeviceGetComputeRunningProcesses_v3(h[0])")
    assert [(row["pid"], row["usedGpuMemory"]) for row in compute] == [(2165, 25 << 20), (7, None)]
    assert host.ask("n.nvmlDeviceGetMPSComputeRunningProcesses_v3(h[0])") == []
    host.steer(f"process compute {host.pid} 1GiB gpu 0")
    assert "python" in host.ask(f"n.nvmlSystemGetProcessName({host.pid})")
    assert host.ask("len(n.nvmlDeviceGetComputeRunningProcesses(h[0]))") == 3


def test_a_card_that_mig_splits_has_instances_with_memory_and_processes_of_their_own(on_host: Start) -> None:
    host = on_host("a100-mig")
    host.init()
    host.ask("m = [n.nvmlDeviceGetMigDeviceHandleByIndex(h[0], i) for i in range(3)]")
    assert host.ask("[n.nvmlDeviceIsMigDeviceHandle(x) for x in (h[0], m[1])]") == [0, 1]
    assert host.ask("n.nvmlDeviceGetName(m[1])") == "NVIDIA A100-SXM4-40GB MIG 2g.10gb"
    assert host.ask("n.nvmlDeviceGetUUID(m[1])") == "MIG-5f6e7c00-0a16-5c0a-8005-000000000000"
    assert host.ask("[n.nvmlDeviceGetGpuInstanceId(x) for x in m]") == [1, 5, 13]
    assert host.ask("[n.nvmlDeviceGetComputeInstanceId(x) for x in m]") == [0, 0, 0]
    assert host.ask("n.nvmlDeviceGetMemoryInfo(m[1])")["used"] == 4103 << 20
    assert host.ask("[p.pid for p in n.nvmlDeviceGetComputeRunningProcesses(m[1])]") == [9117]
    assert host.ask("n.nvmlDeviceGetComputeRunningProcesses(m[0])") == []
    attributes = host.ask("n.nvmlDeviceGetAttributes(m[0])")
    assert (attributes["multiprocessorCount"], attributes["gpuInstanceSliceCount"]) == (42, 3)
    assert host.ask("n.nvmlDeviceGetIndex(n.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(m[2]))") == 0
    assert host.ask("n.nvmlDeviceGetUtilizationRates(m[0])") == NOT_SUPPORTED
    assert host.ask("n.nvmlDeviceGetMigDeviceHandleByIndex(h[0], 3)") == {"error": "NOT_FOUND"}
    assert host.ask("n.nvmlDeviceGetMigDeviceHandleByIndex(h[1], 0)") == {"error": "NOT_FOUND"}
    uuid = host.ask("n.nvmlDeviceGetUUID(m[2])")
    assert host.ask(f"n.nvmlDeviceGetGpuInstanceId(n.nvmlDeviceGetHandleByUUID('{uuid}'))") == 13
