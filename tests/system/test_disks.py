"""Disks that are silent, dead, absent or odd, each at its own expense."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlopsd.probe import Advice, Finding, Reading, Status
from mlopsd_probes.background_call import BackgroundCall
from mlopsd_probes.system import filesystem
from mlopsd_probes.system.disks import Disks, PathCall
from mlopsd_probes.system.options import SystemOptions
from tests.running import GIVE_UP


class Hang:
    """A statvfs that is real except for one path, on which it waits until it is let go.

    Whoever lets it go waits until no call of it is left.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.calls: list[str] = []
        self.dead = True

    def __call__(self, path: str) -> os.statvfs_result:
        self.calls.append(path)
        if path == self.path and self.dead:
            self.wait()
        return os.statvfs("/")

    def wait(self) -> None:
        raise NotImplementedError

    def let_go(self) -> None:
        raise NotImplementedError


class EventHang(Hang):
    """Waits in Python."""

    def __init__(self, path: str, folder: Path) -> None:
        super().__init__(path)
        self.event = threading.Event()

    def wait(self) -> None:
        self.event.wait()

    def let_go(self) -> None:
        self.dead = False
        self.event.set()
        assert no_thread_is_left(self.path)


class FifoHang(Hang):
    """Waits in the kernel, in an open(2) of a pipe that nobody writes to."""

    def __init__(self, path: str, folder: Path) -> None:
        super().__init__(path)
        self.fifo = folder / "fifo"
        os.mkfifo(self.fifo)

    def wait(self) -> None:
        os.close(os.open(self.fifo, os.O_RDONLY))

    def let_go(self) -> None:
        self.dead = False
        writer = os.open(self.fifo, os.O_RDWR)  # for who waits, and who is about to
        assert no_thread_is_left(self.path)
        os.close(writer)


@pytest.fixture(params=[EventHang, FifoHang])
def hang(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hang]:
    hang: Hang = request.param("/dead", tmp_path)
    yield hang
    hang.let_go()


class OneSilent(Disks):
    """The timeout is the dead path's alone: the others have answered before it begins."""

    def start_call(self, path: str) -> PathCall:
        question = super().start_call(path)
        if path != "/dead":
            question.answer.exception(10)
        return question


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def options(*paths: str, timeout: float = 0.05) -> SystemOptions:
    """Options with a *timeout* that may be longer than a check, so that no busy machine reaches it."""
    return SystemOptions(paths=paths).model_copy(update={"path_timeout": timeout})


def of(path: str, reading: Reading) -> dict[str, Finding]:
    return {finding.name: finding for finding in reading.findings if finding.subject == path}


def up(reading: Reading) -> dict[str, float]:
    return {
        dict(sample.labels)["path"]: sample.value
        for sample in reading.samples
        if sample.name == "disk_path_up"
    }


def no_thread_is_left(path: str) -> bool:
    threads = [thread for thread in threading.enumerate() if thread.name == f"statvfs {path}"]
    for thread in threads:
        thread.join(GIVE_UP)
    return not any(thread.is_alive() for thread in threads)


def test_a_dead_mount_costs_its_own_finding_and_not_the_others(hang: Hang) -> None:
    disks = OneSilent(options("/dead", "/"), hang, Clock())
    reading = disks.collect()
    silent = of("/dead", reading)["disk_path"]
    assert (silent.status, silent.advice, silent.limit) == (Status.UNHEALTHY, Advice.WATCH, 0.05)
    assert silent.summary == "/dead did not answer within 50 ms; the mount may be dead"
    assert of("/", reading)["disk_path"].status is Status.HEALTHY
    assert {"disk_space", "disk_path"} <= of("/", reading).keys()
    assert set(of("/dead", reading)) == {"disk_path"}
    assert up(reading) == {"/dead": 0.0, "/": 1.0}


def test_a_stuck_path_is_not_asked_again_until_its_old_call_has_returned(hang: Hang) -> None:
    disks = OneSilent(options("/dead", "/"), hang)
    readings = [disks.collect() for _ in range(5)]
    assert hang.calls.count("/dead") == 1
    assert hang.calls.count("/") == 5
    assert all(of("/dead", reading)["disk_path"].status is Status.UNHEALTHY for reading in readings)


def test_a_stuck_path_recovers_by_itself_with_a_fresh_answer(hang: Hang) -> None:
    disks = Disks(options("/dead", timeout=GIVE_UP), hang)
    disks.timeout = 0.05
    disks.collect()
    hang.let_go()
    disks.timeout = GIVE_UP
    reading = disks.collect()
    assert of("/dead", reading)["disk_path"].status is Status.HEALTHY
    assert "disk_space" in of("/dead", reading)
    assert hang.calls.count("/dead") == 2


def test_only_the_first_check_of_a_stuck_path_waits(hang: Hang, monkeypatch: pytest.MonkeyPatch) -> None:
    disks = Disks(options("/dead"), hang)
    disks.collect()
    waited_for: list[object] = []
    monkeypatch.setattr(
        "mlopsd_probes.system.disks.wait_for", lambda questions, _: waited_for.extend(questions)
    )
    disks.collect()
    assert waited_for == []


def test_how_long_a_path_has_been_silent_is_reported(tmp_path: Path) -> None:
    hang, clock = EventHang("/dead", tmp_path), Clock()
    disks = Disks(options("/dead"), hang, clock)
    disks.collect()
    clock.now = 46.0
    finding = of("/dead", disks.collect())["disk_path"]
    hang.let_go()
    fix = "the mount is dead: umount -l /dead, and mount it again"
    assert finding.summary == f"/dead did not answer within 50 ms (46 s so far); {fix}"
    assert finding.advice is Advice.FIX_CONFIG, "it lasts, so somebody has to act"
    assert finding.observed == 46.0


def wait_at(gate: threading.Event) -> Callable[[str], os.statvfs_result]:
    def statvfs(path: str) -> os.statvfs_result:
        gate.wait()
        return os.statvfs("/")

    return statvfs


def test_many_dead_mounts_cost_one_deadline_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    deadlines: list[float] = []
    paths = [f"/dead{number}" for number in range(5)]

    def one_wait(questions: object, timeout: float) -> None:
        deadlines.append(timeout)

    monkeypatch.setattr("mlopsd_probes.system.disks.wait_for", one_wait)
    reading = Disks(options(*paths), wait_at(gate)).collect()
    gate.set()
    assert deadlines == [0.05]
    assert {finding.status for finding in reading.findings} == {Status.UNHEALTHY}


def test_a_question_is_a_daemon_thread_and_keeps_nobody_from_leaving(hang: Hang) -> None:
    Disks(options("/dead"), hang).collect()
    (thread,) = (thread for thread in threading.enumerate() if thread.name == "statvfs /dead")
    assert thread.daemon


def failing(error: OSError) -> Callable[[str], os.statvfs_result]:
    def statvfs(path: str) -> os.statvfs_result:
        if path == "/":
            return os.statvfs(path)
        raise error

    return statvfs


@pytest.mark.parametrize(
    ("number", "status", "advice", "samples"),
    [
        (errno.ENOENT, Status.DEGRADED, Advice.FIX_CONFIG, 0.0),
        (errno.ENOTDIR, Status.DEGRADED, Advice.FIX_CONFIG, 0.0),
        (errno.EACCES, Status.UNKNOWN, Advice.FIX_CONFIG, None),
        (errno.ENOTCONN, Status.UNHEALTHY, Advice.FIX_CONFIG, 0.0),
        (errno.ESTALE, Status.UNHEALTHY, Advice.FIX_CONFIG, 0.0),
        (errno.EIO, Status.UNHEALTHY, Advice.FIX_CONFIG, 0.0),
        (errno.ETIMEDOUT, Status.UNHEALTHY, Advice.FIX_CONFIG, 0.0),
    ],
)
def test_an_error_is_a_finding_of_that_path(
    number: int, status: Status, advice: Advice, samples: float | None
) -> None:
    error = OSError(number, os.strerror(number))
    reading = Disks(options("/data", "/", timeout=GIVE_UP), failing(error)).collect()
    finding = of("/data", reading)["disk_path"]
    assert (finding.status, finding.advice) == (status, advice)
    assert finding.summary.count("/data") == 1
    assert of("/", reading)["disk_path"].status is Status.HEALTHY
    assert up(reading).get("/data") == samples


def test_a_path_whose_mount_procfs_does_not_report_is_unknown_and_not_absent(tmp_path: Path) -> None:
    def blind(path: str) -> os.statvfs_result:
        filesystem.is_read_only(7, tmp_path)
        return os.statvfs(path)

    (finding,) = Disks(options("/", timeout=GIVE_UP), blind).collect().findings
    assert finding.status is Status.UNKNOWN
    assert f"cannot read {tmp_path}/fdinfo/7: No such file or directory" in finding.summary


def test_a_real_path_that_does_not_exist_is_named_with_the_fix(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    (finding,) = Disks(options(missing, timeout=GIVE_UP)).collect().findings
    assert finding.summary == f"{missing} does not exist; mount or create it, or take it out of paths"


def test_a_host_without_a_thread_to_spare_is_unknown_and_not_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        (finding,) = Disks(options("/")).collect().findings
    assert finding.status is Status.UNKNOWN
    assert "can't start new thread" in finding.summary


def test_a_call_that_raises_leaves_its_error_in_the_answer() -> None:
    def call() -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        BackgroundCall(call, "call").answer.result(10)


def numbers(**fields: int) -> os.statvfs_result:
    usual = {"f_bsize": 512, "f_frsize": 4096, "f_blocks": 1000, "f_bfree": 600, "f_bavail": 500}
    usual |= {"f_files": 100, "f_ffree": 90, "f_favail": 80, "f_flag": 0, "f_namemax": 255}
    return os.statvfs_result(tuple({**usual, **fields}.values()))


def samples(reading: Reading) -> dict[str, float]:
    return {sample.name: sample.value for sample in reading.samples}


def test_sizes_are_in_fragments_and_what_is_kept_for_root_is_not_free() -> None:
    reading = Disks(options("/", timeout=GIVE_UP), lambda path: numbers()).collect()
    assert samples(reading) == {
        "disk_path_up": 1,
        "disk_read_only": 0,
        "disk_total_bytes": 4096 * 1000,
        "disk_free_bytes": 4096 * 500,
        "disk_inodes": 100,
        "disk_inodes_free": 80,
    }


def test_a_file_system_without_inodes_or_blocks_has_no_such_numbers() -> None:
    btrfs = Disks(options("/", timeout=GIVE_UP), lambda path: numbers(f_files=0, f_favail=0)).collect()
    assert not {"disk_inodes", "disk_inodes_free"} & samples(btrfs).keys()
    assert set(of("/", btrfs)) == {"disk_path", "disk_writable", "disk_space"}
    bucket = Disks(options("/", timeout=GIVE_UP), lambda path: numbers(f_files=0, f_blocks=0)).collect()
    assert samples(bucket).keys() == {"disk_path_up", "disk_read_only"}
    assert set(of("/", bucket)) == {"disk_path", "disk_writable"}


def test_an_image_is_always_full_and_is_not_judged_for_it() -> None:
    image = numbers(f_bavail=0, f_favail=0, f_flag=os.ST_RDONLY)
    reading = Disks(options("/", timeout=GIVE_UP), lambda path: image).collect()
    assert [(finding.name, finding.status) for finding in reading.findings] == [("disk_path", Status.HEALTHY)]
    assert samples(reading)["disk_read_only"] == 1


def test_a_disk_that_becomes_read_only_is_broken_until_it_is_writable_again() -> None:
    flags = iter([0, os.ST_RDONLY, os.ST_RDONLY, 0])
    disks = Disks(options("/", timeout=GIVE_UP), lambda path: numbers(f_flag=next(flags)))
    found = [of("/", disks.collect())["disk_writable"] for _ in range(4)]
    assert [finding.status for finding in found] == [
        Status.HEALTHY,
        Status.UNHEALTHY,
        Status.UNHEALTHY,
        Status.HEALTHY,
    ]
    assert found[1].advice is Advice.REBOOT


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE])
def test_a_disk_that_went_read_only_and_then_dies_still_wants_a_reboot(error: int) -> None:
    answers = iter([numbers(), numbers(f_flag=os.ST_RDONLY)])

    def statvfs(path: str) -> os.statvfs_result:
        if (answer := next(answers, None)) is None:
            raise OSError(error, "dead")
        return answer

    disks = Disks(options("/", timeout=GIVE_UP), statvfs)
    readings = [disks.collect() for _ in range(4)]
    for reading in readings[1:]:
        finding = of("/", reading)["disk_writable"]
        assert (finding.status, finding.advice) == (Status.UNHEALTHY, Advice.REBOOT)
        assert finding.lasting
    assert of("/", readings[3])["disk_path"].advice is Advice.FIX_CONFIG


def test_a_disk_that_went_read_only_and_then_hangs_still_wants_a_reboot(hang: Hang) -> None:
    disks = Disks(options("/dead"), hang)
    disks.filesystems["/dead"].reading(numbers())
    disks.filesystems["/dead"].reading(numbers(f_flag=os.ST_RDONLY))
    assert of("/dead", disks.collect())["disk_writable"].advice is Advice.REBOOT


def test_a_disk_with_enough_free_is_not_short_whatever_its_share() -> None:
    huge = numbers(f_blocks=10**10, f_bavail=10**8)  # 41 TB, 1 % free: 410 GB
    reading = Disks(options("/", timeout=GIVE_UP), lambda path: huge).collect()
    assert of("/", reading)["disk_space"].status is Status.HEALTHY
    strict = SystemOptions(paths=("/",), path_timeout=4, disk_free_enough="1TB")  # type: ignore[arg-type]
    assert of("/", Disks(strict, lambda path: huge).collect())["disk_space"].status is Status.UNHEALTHY
