"""XIDs of the fake, for those who wait for them."""

import time

import pytest

from tests.fake_nvml.conftest import Host, NoAnswer, Start

pytestmark = pytest.mark.needs("cc")

LOST = {"error": "GPU_IS_LOST"}
TIMEOUT = {"error": "TIMEOUT"}
UNINITIALIZED = {"error": "UNINITIALIZED"}


WAIT = "n.nvmlEventSetWait(events, {})"
HOUR = 3_600_000  # ms, where no wait must end by itself


def registered(host: Host, cards: str = "h") -> None:
    host.init()
    host.ask("events = n.nvmlEventSetCreate()")
    host.ask(f"for x in {cards}: n.nvmlDeviceRegisterEvents(x, n.nvmlEventTypeXidCriticalError, events)")


def xid(host: Host, timeout: int = 100_000) -> object:
    data = host.ask(
        f"(lambda e: (n.nvmlDeviceGetIndex(e.device), e.eventType, e.eventData))({WAIT.format(timeout)})"
    )
    return tuple(data) if isinstance(data, list) else data


def test_an_xid_reaches_a_set_that_waits_and_a_repeat_is_seen_as_one(on_host: Start) -> None:
    host = on_host("dgx-a100-8", "xid 13 gpu 0")
    registered(host)
    assert xid(host, 50) == TIMEOUT  # that one was before
    host.steer("xid 79 gpu 2", "xid 31 gpu 0")
    assert xid(host) == (2, 8, 79)
    assert xid(host) == (0, 8, 31)
    host.steer("xid 79 gpu 2")
    assert xid(host) == (2, 8, 79)
    assert xid(host, 50) == TIMEOUT


def test_an_xid_comes_at_its_time_to_a_wait_that_has_begun(on_host: Start) -> None:
    host = on_host("dgx-a100-8")
    registered(host)
    soon = time.time() + 1 - float(host.environment["FAKE_NVML_EPOCH"])
    host.steer(f"at {1000 * soon:.0f}ms xid 48 gpu 5")
    assert xid(host) == (5, 8, 48)


def test_an_xid_of_a_card_that_is_not_registered_is_not_reported(on_host: Start) -> None:
    host = on_host("dgx-a100-8")
    registered(host, "h[:2]")
    host.steer("xid 79 gpu 2")
    assert xid(host, 100) == TIMEOUT


def test_no_wait_ends_before_its_time(on_host: Start) -> None:
    host = on_host("h200")
    registered(host)
    host.ask(
        "import time\n"
        "def waited():\n"
        "    began = time.monotonic()\n"
        "    try: n.nvmlEventSetWait(events, 210)\n"
        "    except n.NVMLError_Timeout: return time.monotonic() - began"
    )
    assert host.ask("min(waited() for _ in range(10))") >= 0.21


def test_a_wait_takes_its_time_and_ends_when_the_driver_goes(on_host: Start) -> None:
    host = on_host("h200")
    registered(host)
    began = time.monotonic()
    assert xid(host, 300) == TIMEOUT
    assert time.monotonic() - began >= 0.3
    with pytest.raises(NoAnswer):
        host.ask(WAIT.format(HOUR), within=0.2)
    host.steer("reload")
    assert host.late_answer() == UNINITIALIZED


def test_a_wait_that_is_refused_or_hangs(on_host: Start) -> None:
    host = on_host("h200", "error nvmlEventSetWait_v2 GPU_IS_LOST")
    registered(host)
    assert host.ask(WAIT.format(1000)) == LOST
    host.unsay("error nvmlEventSetWait_v2 GPU_IS_LOST")
    with pytest.raises(NoAnswer):
        host.ask(WAIT.format(HOUR), within=0.2)
    host.steer("hang nvmlEventSetWait_v2")
    with pytest.raises(NoAnswer):
        host.late_answer(0.3)
    host.unsay("hang nvmlEventSetWait_v2")
    host.steer("error nvmlEventSetWait_v2 UNKNOWN")
    assert host.late_answer() == {"error": "UNKNOWN"}


def test_a_card_without_events_registers_none(on_host: Start) -> None:
    host = on_host("t4", "events absent")
    host.init()
    host.ask("events = n.nvmlEventSetCreate()")
    refused = host.ask("n.nvmlDeviceRegisterEvents(h[0], 8, events)")
    assert refused == {"error": "NOT_SUPPORTED"}
    assert host.ask("n.nvmlEventSetFree(events)") is None
    assert host.ask(WAIT.format(10)) == {"error": "INVALID_ARGUMENT"}


def test_who_waits_is_woken_by_the_file_and_not_by_looking_at_it(on_host: Start) -> None:
    host = on_host("h200")
    registered(host)
    host.ask(
        "def switches():\n"
        "    status = open('/proc/thread-self/status').read()\n"
        "    return int(status.split('voluntary_ctxt_switches:')[1].split()[0])\n"
        "def waited():\n"
        "    before = switches()\n"
        f"    {WAIT.format(HOUR)}\n"
        "    return switches() - before"
    )
    with pytest.raises(NoAnswer):
        host.ask("waited()", within=2)
    host.steer("xid 48 gpu 0")
    assert host.late_answer() < 10  # twenty and more where it looks at the file
