"""What befalls a call: the fake refuses, delays, hangs and changes as a scenario says, while it runs."""

import re
import signal
import subprocess
import time
from pathlib import Path

import pynvml
import pytest

from mlopsd_probes.fake_nvml import build
from tests.fake_nvml.conftest import Host, NoAnswer, Start
from tests.running import GIVE_UP

pytestmark = pytest.mark.needs("cc")

LOST = {"error": "GPU_IS_LOST"}
TIMEOUT = {"error": "TIMEOUT"}
UNINITIALIZED = {"error": "UNINITIALIZED"}
TEMPERATURE = "n.nvmlDeviceGetTemperature(h[{}], 0)"


def open_descriptors(host: Host) -> int:
    return len(list(Path(f"/proc/{host.pid}/fd").iterdir()))


def status(host: Host, field: str) -> str:
    found = re.search(rf"^{field}:\s+(\w+)", Path(f"/proc/{host.pid}/status").read_text(), re.MULTILINE)
    assert found
    return found[1]


def resident_kib(host: Host) -> int:
    return int(status(host, "VmRSS"))


def ignores(host: Host, number: signal.Signals) -> bool:
    return bool(int(status(host, "SigIgn"), 16) >> number - 1 & 1)


@pytest.mark.parametrize(
    "code", ["DRIVER_NOT_LOADED", "LIB_RM_VERSION_MISMATCH", "NO_PERMISSION", "UNKNOWN", "GPU_NOT_FOUND"]
)
def test_nvml_is_refused_from_the_start(on_host: Start, code: str) -> None:
    host = on_host("h200", f"init error {code}")
    assert host.init() == {"error": code}
    assert host.ask("n.nvmlDeviceGetCount()") == UNINITIALIZED
    host.unsay(f"init error {code}")
    assert host.init() is None
    assert host.ask(TEMPERATURE.format(0)) == 37


def test_nothing_answers_before_init_nor_after_shutdown(on_host: Start) -> None:
    host = on_host("h200")
    assert host.ask("n._LoadNvmlLibrary() or n.nvmlDeviceGetCount()") == UNINITIALIZED
    assert host.ask("n.nvmlSystemGetNVMLVersion()") == "13.580.173.02"
    host.init()
    host.ask("n.nvmlInit()")
    host.ask("n.nvmlShutdown()")
    assert host.ask("n.nvmlDeviceGetCount()") == 1
    host.ask("n.nvmlShutdown()")
    assert host.ask(TEMPERATURE.format(0)) == UNINITIALIZED
    assert host.ask("n.nvmlShutdown()") == UNINITIALIZED


def test_every_error_has_its_name(on_host: Start) -> None:
    host = on_host("h200")
    assert host.ask("n._LoadNvmlLibrary() or n.nvmlErrorString(15)") == "GPU is lost"
    assert host.ask("n.nvmlErrorString(18)") == "Driver/library version mismatch"
    codes = {
        name.removeprefix("NVML_ERROR_"): number
        for name, number in vars(pynvml).items()
        if "NVML_ERROR_" in name
    }
    known = re.findall(r"X\((\d+), (\w+),", (build.SOURCES / "nvml.h").read_text())
    assert {name: int(number) for number, name in known} == {"SUCCESS": 0, **codes}


def test_a_call_is_refused_on_one_card_and_answers_on_the_others(on_host: Start) -> None:
    host = on_host(
        "dgx-a100-8", "error nvmlDeviceGetTemperature UNKNOWN gpu 1", "fan.speed NO_PERMISSION gpu 2"
    )
    host.init()
    assert host.ask(TEMPERATURE.format(1)) == {"error": "UNKNOWN"}
    assert host.ask(TEMPERATURE.format(2)) == 31
    assert host.ask("n.nvmlDeviceGetFanSpeed(h[2])") == {"error": "NO_PERMISSION"}
    assert host.ask("n.nvmlDeviceGetFanSpeed(h[3])") == {"error": "NOT_SUPPORTED"}
    host.steer("works nvmlDeviceGetTemperature gpu 1")
    assert host.ask(TEMPERATURE.format(1)) == 39


def test_a_call_is_refused_as_often_as_configured(on_host: Start) -> None:
    host = on_host("h200", "error nvmlDeviceGet* TIMEOUT times 2")
    host.ask("n.nvmlInit()")
    assert [host.ask("n.nvmlDeviceGetCount()") for _ in range(3)] == [TIMEOUT, TIMEOUT, 1]


def test_a_lost_card_answers_so_to_everything_and_the_others_are_well(on_host: Start) -> None:
    host = on_host("dgx-a100-8")
    host.init()
    host.steer("gpu 2 lost", "gpu 3 reset_required")
    assert host.ask(TEMPERATURE.format(2)) == LOST
    assert host.ask("n.nvmlDeviceGetUUID(h[2])") == LOST
    assert host.ask("n.nvmlDeviceGetHandleByIndex(2)") == LOST
    assert host.ask("n.nvmlDeviceGetHandleByUUID('GPU-5f6e7c00-00a1-4d0a-9c00-000000000002')") == LOST
    assert host.ask(TEMPERATURE.format(3)) == {"error": "RESET_REQUIRED"}
    assert host.ask(TEMPERATURE.format(4)) == 31
    assert host.ask("n.nvmlDeviceGetCount()") == 8
    host.steer("gpu 2 well")
    assert host.ask(TEMPERATURE.format(2)) == 31


def test_a_card_that_is_gone_is_not_counted_and_the_ones_behind_it_move_up(on_host: Start) -> None:
    host = on_host("dgx-a100-8")
    host.init()
    host.steer("gpu 2 gone")
    assert host.ask("n.nvmlDeviceGetCount()") == 7
    assert host.ask("n.nvmlDeviceGetMinorNumber(n.nvmlDeviceGetHandleByIndex(2))") == 1
    assert host.ask("n.nvmlDeviceGetIndex(h[3])") == 2
    assert host.ask(TEMPERATURE.format(2)) == LOST
    host.steer("cards 4")
    assert host.ask("n.nvmlDeviceGetCount()") == 3


def test_cards_are_counted_at_init_where_the_scenario_says_so(on_host: Start) -> None:
    host = on_host("dgx-a100-8", "counted at_init")
    host.init()
    host.steer("cards 6")
    assert host.ask("n.nvmlDeviceGetCount()") == 8
    host.ask("n.nvmlShutdown()")
    host.init()
    assert host.ask("n.nvmlDeviceGetCount()") == 6


def test_a_driver_that_is_reloaded_needs_a_new_init(on_host: Start) -> None:
    host = on_host("h200", "reload")
    host.init()
    assert host.ask(TEMPERATURE.format(0)) == 37  # that one was before
    host.steer("reload")
    assert host.ask(TEMPERATURE.format(0)) == UNINITIALIZED
    host.ask("n.nvmlInit()")
    assert host.ask(TEMPERATURE.format(0)) == UNINITIALIZED  # the first init still counts
    host.ask("n.nvmlShutdown()")
    host.ask("n.nvmlShutdown()")
    host.init()
    assert host.ask(TEMPERATURE.format(0)) == 37


def test_a_delayed_call_answers_late_and_holds_up_no_other_thread(on_host: Start) -> None:
    host = on_host("h200", "delay nvmlDeviceGetTemperature 1500ms")
    host.init()
    host.ask(
        "import threading\nt = threading.Thread(target=n.nvmlDeviceGetTemperature, args=(h[0], 0))\nt.start()"
    )
    assert host.ask("n.nvmlDeviceGetPowerUsage(h[0])") == 85160
    assert host.ask("t.is_alive()")
    host.ask("t.join()")
    began = time.monotonic()
    assert host.ask(TEMPERATURE.format(0)) == 37
    assert time.monotonic() - began >= 1.5


def test_a_hung_call_returns_when_the_scenario_lets_it(on_host: Start) -> None:
    host = on_host("dgx-a100-8", "hang nvmlDeviceGetPowerUsage gpu 1")
    host.init()
    assert host.ask("n.nvmlDeviceGetPowerUsage(h[0])") == 318500
    with pytest.raises(NoAnswer):
        host.ask("n.nvmlDeviceGetPowerUsage(h[1])", within=0.3)
    host.unsay("hang nvmlDeviceGetPowerUsage gpu 1")
    assert host.late_answer() == 96200


def test_a_process_in_a_hung_call_is_ended_by_sigterm(on_host: Start) -> None:
    host = on_host("h200", "hang nvmlDeviceGet*")
    host.ask("n.nvmlInit()")
    with pytest.raises(NoAnswer):
        host.ask("n.nvmlDeviceGetCount()", within=0.2)
    host.send(signal.SIGTERM)
    assert host.wait(GIVE_UP) == -signal.SIGTERM


def test_a_process_in_a_deaf_call_is_ended_by_sigkill_only(on_host: Start) -> None:
    host = on_host("h200", "hang nvmlInit* deaf")
    with pytest.raises(NoAnswer):
        host.ask("n.nvmlInit()", within=0.2)
    while not ignores(host, signal.SIGTERM):  # until the call has begun
        time.sleep(0.02)
    host.send(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        host.wait(0.5)
    host.send(signal.SIGKILL)
    assert host.wait(GIVE_UP) == -signal.SIGKILL


def test_a_missing_call_is_not_found_as_one_that_the_fake_does_not_have(on_host: Start) -> None:
    host = on_host("dgx-a100-8", "missing nvmlDeviceGetMemoryInfo_v2", "missing nvmlDeviceGetNothingYet")
    host.init()
    absent = {"error": "FUNCTION_NOT_FOUND"}
    assert host.ask("n.nvmlDeviceGetMemoryInfo(h[0], n.nvmlMemory_v2)") == absent
    assert host.ask("n.nvmlDeviceGetMemoryInfo(h[0])")["total"] == 80 << 30
    assert host.ask("n.nvmlDeviceGetTemperatureV(h[0], 0)") == absent
    assert host.ask("n.nvmlDeviceGetNumaNodeId(h[0])") == absent


def test_values_grow_and_swing_with_time(on_host: Start) -> None:
    host = on_host("h200", "pcie.replays 5+100/s", "utilization.gpu 50~20/4s")
    host.init()
    first = host.ask("n.nvmlDeviceGetPcieReplayCounter(h[0])")
    seen: set[int] = set()
    began = time.monotonic()
    while time.monotonic() - began < 1.2 or len(seen) <= 5:
        seen.add(host.ask("n.nvmlDeviceGetUtilizationRates(h[0]).gpu"))
        assert time.monotonic() - began < GIVE_UP
    assert host.ask("n.nvmlDeviceGetPcieReplayCounter(h[0])") - first > 100
    assert all(30 <= value <= 70 for value in seen)


def test_events_come_at_their_time_for_every_process(on_host: Start, fakes: Path, tmp_path: Path) -> None:
    host = on_host("dgx-a100-8")
    host.init()
    now = 1000 * (time.time() - float(host.environment["FAKE_NVML_EPOCH"]))
    soon, sooner = f"at {now + 600:.0f}ms", f"at {now + 300:.0f}ms"
    host.steer(f"{soon} gpu 2 lost", f"{sooner} temperature.gpu 90 gpu 1", "at 10m gpu 3 lost")
    began = time.monotonic()
    while host.ask(TEMPERATURE.format(2)) == 31:
        assert time.monotonic() - began < GIVE_UP
    assert host.ask(TEMPERATURE.format(1)) == 90
    assert host.ask(TEMPERATURE.format(3)) == 31
    later = Host(host.scenario, host.environment)
    try:
        later.ask("n.nvmlInit()")
        assert later.ask("n.nvmlDeviceGetHandleByIndex(2)") == LOST
    finally:
        later.end()


def test_calls_are_counted_also_of_a_process_that_was_killed(on_host: Start, tmp_path: Path) -> None:
    counts = tmp_path / "calls"
    host = on_host("dgx-a100-8", calls=counts)
    host.init()
    host.ask("[n.nvmlDeviceGetTemperature(x, 0) for x in h]")
    host.end(signal.SIGKILL)
    again = Host(host.scenario, host.environment)
    again.init()
    again.end(signal.SIGKILL)
    lines = dict(line.split() for line in counts.read_text().splitlines())
    assert int(lines["nvmlDeviceGetTemperature"]) == 8
    assert int(lines["nvmlInitWithFlags"]) == 2
    assert int(lines["nvmlDeviceGetHandleByIndex_v2"]) == 16
    assert int(lines["nvmlDeviceGetName"]) == 0


CYCLE = """
def cycle():
    for x in h:
        n.nvmlDeviceGetTemperature(x, 0); n.nvmlDeviceGetMemoryInfo(x, n.nvmlMemory_v2)
        n.nvmlDeviceGetName(x); n.nvmlDeviceGetFieldValues(x, [82, 230])
        n.nvmlDeviceGetComputeRunningProcesses(x)
def cycles(count):
    for _ in range(count): cycle()
def sets(count):
    for _ in range(count):
        events = n.nvmlEventSetCreate()
        n.nvmlDeviceRegisterEvents(h[0], 8, events); n.nvmlEventSetFree(events)
"""


def test_ten_thousand_cycles_leave_memory_and_descriptors_where_they_were(
    on_host: Start, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    host = on_host("a100-mig", calls=calls)
    host.init()
    host.ask(CYCLE)
    assert host.ask("cycles(200)") is None
    host.steer("temperature.gpu 50")
    host.ask("cycles(1)")
    descriptors, resident = open_descriptors(host), resident_kib(host)
    assert host.ask("cycles(10000)", within=2 * GIVE_UP) is None
    assert host.ask("sets(1000)") is None
    for _ in range(50):
        host.steer("temperature.gpu 51")
        host.ask("cycles(1)")
    assert open_descriptors(host) == descriptors
    assert resident_kib(host) - resident < 512
    assert "nvmlEventSetFree 1000" in re.sub(" +0*", " ", calls.read_text())


def test_many_threads_at_once_get_whole_answers(on_host: Start) -> None:
    host = on_host("dgx-a100-8")
    host.init()
    host.ask(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def look(i): return [n.nvmlDeviceGetIndex(h[i % 8]), n.nvmlDeviceGetUUID(h[i % 8])[-2:]]\n"
    )
    answers = host.ask("list(ThreadPoolExecutor(16).map(look, range(2000)))")
    assert answers == [[index % 8, f"0{index % 8}"] for index in range(2000)]
