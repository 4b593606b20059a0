"""What the fake tells in structures of its own, each as pynvml lays it out."""

import ctypes
import subprocess
from pathlib import Path

import pynvml
import pytest

from mlopsd_probes.fake_nvml import build
from tests.fake_nvml.conftest import Start

pytestmark = pytest.mark.needs("cc")

NOT_SUPPORTED = {"error": "NOT_SUPPORTED"}


def test_field_values_come_each_with_its_own_answer(on_host: Start) -> None:
    host = on_host(
        "dgx-a100-8", "nvlink.3.state 0", "nvlink.3.replay 7", "nvlink.replay 0", "nvlink.4.replay 5"
    )
    host.init()
    values = host.ask(
        "n.nvmlDeviceGetFieldValues(h[0],"
        " [82, 230, (165, 3), (165, 4), (161, 4), (161, 0xFFFFFFFF), (165, 12), 52, 4])"
    )
    assert [(value["fieldId"], value["nvmlReturn"], value["value"]["uiVal"]) for value in values] == [
        (82, 0, 71),
        (230, pynvml.NVML_ERROR_NOT_SUPPORTED, 0),
        (165, 0, 0),
        (165, 0, 1),
        (161, 0, 5),
        (161, 0, 5),
        (165, pynvml.NVML_ERROR_INVALID_ARGUMENT, 0),
        (52, 0, 5),
        (4, 0, 0),
    ]
    assert host.ask("n.nvmlDeviceGetNvLinkState(h[0], 3)") == 0
    assert host.ask("n.nvmlDeviceGetNvLinkState(h[0], 12)") == {"error": "INVALID_ARGUMENT"}


def test_a_field_is_identified_by_its_number_scope_and_type(on_host: Start) -> None:
    host = on_host(
        "t4", "field.230 1", "field.250.2 -3 i64", "field.194 -2 u32", "field.82 NA", "field.83 UNKNOWN"
    )
    host.init()
    values = host.ask("n.nvmlDeviceGetFieldValues(h[0], [230, (250, 2), (250, 1), 194, 82, 83])")
    assert values[0]["value"]["uiVal"] == 1
    assert (values[1]["valueType"], values[1]["value"]["sllVal"]) == (
        pynvml.NVML_VALUE_TYPE_SIGNED_LONG_LONG,
        -3,
    )
    assert values[2]["nvmlReturn"] == pynvml.NVML_ERROR_NOT_SUPPORTED
    assert (values[3]["valueType"], values[3]["value"]["uiVal"]) == (1, 0xFFFFFFFE)
    assert values[4]["value"]["uiVal"] == pynvml.NVML_VALUE_NOT_AVAILABLE_uint.value
    assert values[5]["nvmlReturn"] == pynvml.NVML_ERROR_UNKNOWN


def test_pages_are_retired_on_cards_that_do_so(on_host: Start) -> None:
    host = on_host(
        "t4", "page single 0x1000 1700000000", "page double 0x2000 1700000001", "retired.pending 1"
    )
    host.init()
    assert host.ask("n.nvmlDeviceGetRetiredPages(h[0], 0)") == [0x1000]
    assert host.ask("n.nvmlDeviceGetRetiredPages(h[0], 1)") == [0x2000]
    assert host.ask("n.nvmlDeviceGetRetiredPagesPendingStatus(h[0])") == 1
    values = host.ask("n.nvmlDeviceGetFieldValues(h[0], [29, 30, 31])")
    assert [value["value"]["ullVal"] for value in values] == [1, 1, 1]
    whole = on_host("h200")
    whole.init()
    assert whole.ask("n.nvmlDeviceGetRetiredPages(h[0], 1)") == NOT_SUPPORTED


def test_the_fabric_is_reported_in_each_layout(on_host: Start) -> None:
    host = on_host(
        "h200", "fabric.summary 2", "fabric.health_mask 0x5", "fabric.clique 4", "fabric.cluster 01-ff"
    )
    host.init()
    host.ask("import ctypes")
    for layout in ("c_nvmlGpuFabricInfo_v2_t", "c_nvmlGpuFabricInfo_v3_t"):
        host.ask(f"f = n.{layout}()")
        host.ask("n.nvmlDeviceGetGpuFabricInfoV(h[0], ctypes.byref(f))")
        info = host.ask("f")
        assert (info["state"], info["cliqueId"], info["healthMask"]) == (3, 4, 5)
        assert info["clusterUuid"][:3] == [1, 255, 0]
        assert info.get("healthSummary", 2) == 2


def test_what_came_late_answers_where_the_driver_has_it(on_host: Start) -> None:
    host = on_host("h200", "ecc.uncorrected.volatile.sram 3")
    host.init()
    host.ask("import ctypes; s = n.c_nvmlEccSramErrorStatus_v1_t(); r = n.c_nvmlRepairStatus_t()")
    host.ask("n.nvmlDeviceGetSramEccErrorStatus(h[0], ctypes.byref(s))")
    assert host.ask("s")["volatileUncParity"] == 3
    assert host.ask("n.nvmlDeviceGetUnrepairableMemoryFlag_v1(h[0])") == 0
    assert host.ask("n.nvmlDeviceGetTemperatureV(h[0], 0)") == 37
    host.ask("e = n.nvmlPciInfoExt_v1_t(version=n.nvmlPciInfoExt_v1)")
    host.ask("n.nvmlDeviceGetPciInfoExt(h[0], ctypes.byref(e))")
    assert (host.ask("e")["baseClass"], host.ask("e")["subClass"]) == (3, 2)


def test_ecc_that_is_off_counts_nothing(on_host: Start) -> None:
    host = on_host("h200", "ecc.mode 0")
    host.init()
    assert host.ask("n.nvmlDeviceGetTotalEccErrors(h[0], 1, 0)") == NOT_SUPPORTED
    assert host.ask("n.nvmlDeviceGetEccMode(h[0])") == [0, 1]


def test_each_layout_is_as_large_as_pynvmls(fakes: Path, tmp_path: Path) -> None:
    pairs = {
        "nvmlPciInfo": pynvml.nvmlPciInfo_t,
        "nvmlPciInfoExt": pynvml.nvmlPciInfoExt_v1_t,
        "nvmlUtilization": pynvml.c_nvmlUtilization_t,
        "nvmlMemory": pynvml.c_nvmlMemory_t,
        "nvmlMemory_v2": pynvml.c_nvmlMemory_v2_t,
        "nvmlBAR1Memory": pynvml.c_nvmlBAR1Memory_t,
        "nvmlTemperature_v1": pynvml.c_nvmlTemperature_v1_t,
        "nvmlMarginTemperature_v1": pynvml.c_nvmlMarginTemperature_v1_t,
        "nvmlFanSpeedInfo": pynvml.c_nvmlFanSpeedInfo_t,
        "nvmlViolationTime": pynvml.c_nvmlViolationTime_t,
        "nvmlEccErrorCounts": pynvml.c_nvmlEccErrorCounts_t,
        "nvmlEccSramErrorStatus_v1": pynvml.c_nvmlEccSramErrorStatus_v1_t,
        "nvmlRemappedRowsInfo_v2": pynvml.c_nvmlRemappedRowsInfo_v2_t,
        "nvmlRowRemapperHistogram": pynvml.c_nvmlRowRemapperHistogramValues,
        "nvmlRepairStatus": pynvml.c_nvmlRepairStatus_t,
        "nvmlUnrepairableMemory_v1": pynvml.c_nvmlUnrepairableMemory_v1_t,
        "nvmlFieldValue": pynvml.c_nvmlFieldValue_t,
        "nvmlGpuFabricInfo": pynvml.c_nvmlGpuFabricInfo_t,
        "nvmlGpuFabricInfo_v3": pynvml.c_nvmlGpuFabricInfo_v3_t,
        "nvmlDeviceAttributes": pynvml.c_nvmlDeviceAttributes,
        "nvmlProcessInfo": pynvml.c_nvmlProcessInfo_v3_t,
        "nvmlEventData": pynvml.c_nvmlEventData_t,
    }
    source = tmp_path / "sizes.c"
    checks = "\n".join(
        f'_Static_assert(sizeof(struct {name}) == {ctypes.sizeof(layout)}, "{name}");'
        for name, layout in pairs.items()
    )
    source.write_text(f'#include "{build.SOURCES}/nvml.h"\n{checks}\n')
    done = subprocess.run(["cc", "-std=c11", "-fsyntax-only", str(source)], capture_output=True, text=True)
    assert done.stderr == ""
