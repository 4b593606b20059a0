"""A host whose model misbehaves once it is loaded, and what the model can reach from there."""

import asyncio
import errno
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from mlopsd.predictor import PredictionError
from mlopsd.process.reaper import adopt_orphans
from mlopsd_probes.model.serving.host import HostDied, ModelHost
from tests.model.asking import hosts_left_in
from tests.model.models.saved import host_context, kept, options, rows, troubled
from tests.running import GIVE_UP

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

LOG = logging.getLogger("mlopsd.test.host")
JSON = "application/json"
PATIENCE = 600.0  # eight processes import MLflow at once, beside those of another worker's tests


def ask(*deeds: str) -> bytes:
    return rows(["do", "x"], *([deed, float(at)] for at, deed in enumerate(deeds, 1)))


class House:
    """Loads hosts in a folder of its own, several at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.canary_input = folder / "canary.json"
        self.secret = folder / "state/secret.txt"
        self.token = folder / "token"
        self.keys = folder / "keys"
        self._hosts: list[ModelHost] = []

    async def load(self, name: str, what: str = "", **table: Any) -> ModelHost:
        registry = {"uri": "sqlite:///x", "token_file": self.token}
        host = await ModelHost.load(
            kept(self.folder / "state" / (name if what else "model")),
            options(
                canary={"input": self.canary_input, "min": -5, "max": 50, "rows": "same"},
                registries=[registry],
                **table,
            ),
            host_context(self.folder / "state/scratch"),
            hidden=[self.folder / "state", self.keys],
        )
        self._hosts.append(host)
        return host

    async def clear(self) -> None:
        await asyncio.gather(*(host.kill() for host in self._hosts))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("house"))
    troubled(house.folder / "state/model")
    troubled(house.folder / "state/talker", "talk 3000000")
    for file in (house.secret, house.token, house.keys, house.folder / "elsewhere.txt"):
        file.write_text("secret", "utf-8")
    house.canary_input.write_bytes(ask("", ""))
    adopt_orphans()  # as the daemon does
    before = psutil.Process().num_fds()
    yield house
    assert psutil.Process().num_fds() <= before + 3  # the event loop of the module is still there
    assert not list((house.folder / "state/scratch").iterdir())
    assert not hosts_left_in(house.folder)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hosts(house: House) -> AsyncIterator[dict[str, ModelHost]]:
    """One to ask, and one for each death."""
    os.environ["AWS_SECRET_ACCESS_KEY"] = os.environ["MLFLOW_TRACKING_PASSWORD"] = "secret"
    try:
        names = (
            "model",
            "crashes",
            "leaves",
            "hangs",
            "is_killed",
            "has_children",
            "is_left",
            "nests",
            "talker",
        )
        loaded = await asyncio.gather(
            *(house.load(name, "talk" if name == "talker" else "", load_timeout=PATIENCE) for name in names)
        )
    finally:
        del os.environ["AWS_SECRET_ACCESS_KEY"], os.environ["MLFLOW_TRACKING_PASSWORD"]
    yield dict(zip(names, loaded, strict=True))
    await house.clear()


async def value(host: ModelHost, deed: str) -> Any:
    body = (await host.predict(ask(deed), JSON, PATIENCE)).body.decode()
    return body.removeprefix('{"predictions": [').removesuffix("]}")


ALLOW_NAN = '; if this is right, set […canary] nan = "any"'


@pytest.mark.parametrize(
    ("deeds", "reason"),
    [
        (("number nan", ""), f"NaN in 1 of 2 rows{ALLOW_NAN}"),
        (("number inf", "number -inf"), f"infinity in 2 of 2 rows{ALLOW_NAN}"),
        (("another", ""), '3 rows were answered to 2; if this is right, set […canary] rows = "any"'),
        (("number 50.5", ""), "it predicted 50.5, above the configured maximum 50"),
        (("number -6", ""), "it predicted -6, below the configured minimum -5"),
        (("fail secret words", ""), "the model failed: ValueError"),
        (("quit_by_exception 3", ""), "the model failed: SystemExit"),
    ],
)
async def test_a_canary_names_what_is_wrong(
    hosts: dict[str, ModelHost], house: House, deeds: tuple[str, ...], reason: str
) -> None:
    house.canary_input.write_bytes(ask(*deeds))

    canary = await hosts["model"].canary(PATIENCE)

    assert (canary.passed, canary.source, canary.reason) == (False, "configured", reason)
    assert hosts["model"].alive


async def test_a_canary_names_a_module_that_only_a_prediction_needs(
    hosts: dict[str, ModelHost], house: House
) -> None:
    house.canary_input.write_bytes(ask("need not_installed_anywhere"))

    canary = await hosts["model"].canary(PATIENCE)

    assert (canary.passed, canary.kind) == (False, "import_error")
    assert "it needs the module 'not_installed_anywhere', which " in canary.reason


@pytest.mark.parametrize(
    ("deed", "kind", "reason"),
    [
        ("lack 24", "scarce", "Too many open files"),
        ("lack 5", "io_error", "Input/output error"),
        ("fail CUDA error: out of memory", "out_of_memory", "not enough memory (ValueError)"),
        ("fail No CUDA GPUs are available", "gpu", "the GPU's library says 'No CUDA GPUs are available'"),
    ],
)
async def test_a_canary_names_a_trouble_of_the_host_that_the_model_met(
    hosts: dict[str, ModelHost], house: House, deed: str, kind: str, reason: str
) -> None:
    house.canary_input.write_bytes(ask(deed))

    canary = await hosts["model"].canary(PATIENCE)

    assert (canary.passed, canary.kind, canary.was_asked) == (False, kind, True)
    assert canary.reason == f"this host could not make its canary prediction: {reason}"


async def test_a_canary_of_text_is_in_no_range(hosts: dict[str, ModelHost], house: House) -> None:
    house.canary_input.write_bytes(ask("word a", "word b"))

    canary = await hosts["model"].canary(PATIENCE)

    assert (canary.passed, canary.rows, canary.minimum) == (False, 2, None)
    assert canary.reason == "it predicted no number, and a minimum or maximum is configured"


async def test_a_canary_without_its_file_or_with_nonsense_in_it_fails(
    hosts: dict[str, ModelHost], house: House
) -> None:
    house.canary_input.write_bytes(b"{")
    nonsense = await hosts["model"].canary(PATIENCE)
    house.canary_input.unlink()
    missing = await hosts["model"].canary(PATIENCE)

    assert "no JSON" in nonsense.reason
    assert (nonsense.kind, missing.kind) == ("input", "input")
    assert missing.reason == f"its input {house.canary_input} cannot be read: No such file or directory"


async def test_a_canary_is_made_where_the_daemon_has_no_descriptor_to_read_its_input_again(
    hosts: dict[str, ModelHost], house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(path: Path) -> bytes:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    house.canary_input.write_bytes(ask("", ""))
    assert (await hosts["model"].canary(PATIENCE)).passed
    monkeypatch.setattr(Path, "read_bytes", cannot)
    assert (await hosts["model"].canary(PATIENCE)).passed


async def test_a_canary_that_is_too_slow_fails_and_the_host_answers_afterwards(
    hosts: dict[str, ModelHost], house: House
) -> None:
    house.canary_input.write_bytes(ask("sleep 1"))

    canary = await hosts["model"].canary(0.2)

    assert (canary.passed, canary.reason) == (False, "no answer within 0.2 s")
    assert await value(hosts["model"], "") == "1.0"


async def test_rows_that_fail_cost_only_their_request(hosts: dict[str, ModelHost]) -> None:
    host = hosts["model"]
    asked = [ask("fail secret 31337") if number % 3 == 0 else ask("") for number in range(12)]

    answers = await asyncio.gather(
        *(host.predict(body, JSON, PATIENCE) for body in asked), return_exceptions=True
    )

    for number, answer in enumerate(answers):
        if number % 3:
            assert not isinstance(answer, BaseException)
        else:
            assert isinstance(answer, PredictionError)
            assert (answer.code, answer.detail) == (500, "the model failed: ValueError")


@pytest.mark.parametrize(
    ("name", "deed", "how"),
    [("crashes", "crash", "was killed by SIGSEGV"), ("leaves", "leave 9", "ended with exit status 9")],
)
async def test_a_death_is_reported_to_all_who_wait(
    hosts: dict[str, ModelHost], name: str, deed: str, how: str
) -> None:
    host = hosts[name]
    dying = asyncio.create_task(host.died())
    waiting = [asyncio.create_task(host.predict(ask(what), JSON, PATIENCE)) for what in (deed, "", "")]

    results = await asyncio.gather(*waiting, return_exceptions=True)

    assert {(type(result), str(result)) for result in results} == {(HostDied, how)}
    assert await dying == how
    assert (host.alive, host.in_flight, await host.rss()) == (False, 0, None)
    with pytest.raises(HostDied):
        await host.predict(ask(""), JSON, PATIENCE)
    assert (await host.canary(1)).reason == "its process was gone before it answered"


async def test_a_hang_shows_and_is_ended(hosts: dict[str, ModelHost]) -> None:
    host = hosts["hangs"]
    assert await value(host, "") == "1.0"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await host.predict(ask("hold_the_gil"), JSON, PATIENCE)

    assert host.in_flight == 1
    await _within(GIVE_UP, host.end(0.1))
    assert not psutil.pid_exists(host.pid)


async def test_the_end_waits_for_what_is_in_flight(house: House, hosts: dict[str, ModelHost]) -> None:
    host = hosts["has_children"]
    await host.predict(ask("start_children"), JSON, PATIENCE)
    family = psutil.Process(host.pid).children(recursive=True)
    answer = asyncio.create_task(host.predict(ask("sleep 0.3"), JSON, PATIENCE))
    await asyncio.sleep(0)

    await host.end(PATIENCE)

    assert (await answer).body == b'{"predictions": [1.0]}'
    assert len(family) >= 3
    await _until(lambda: not any(map(_lives, family)))


async def test_folders_deeper_than_python_recurses_and_closed_ones_go_with_their_host(
    house: House, hosts: dict[str, ModelHost]
) -> None:
    host = hosts["nests"]
    await value(host, "nest 3000")

    await host.kill()

    assert not psutil.pid_exists(host.pid)
    assert host._folder not in list((house.folder / "state/scratch").iterdir())


async def test_who_stops_waiting_for_the_end_leaves_nothing_behind(hosts: dict[str, ModelHost]) -> None:
    host = hosts["is_left"]
    asking = asyncio.create_task(host.predict(ask("sleep 600"), JSON, PATIENCE))
    ending = asyncio.create_task(host.end(PATIENCE))
    await asyncio.sleep(0.1)

    ending.cancel()

    with pytest.raises(asyncio.CancelledError):
        await ending
    with pytest.raises(HostDied):
        await asking
    await _until(lambda: not psutil.pid_exists(host.pid))


async def test_what_nobody_waits_for_holds_nobody_up(hosts: dict[str, ModelHost]) -> None:
    host = hosts["model"]
    impatient = [asyncio.create_task(_impatiently(host, 0.3)) for _ in range(100)]
    await asyncio.sleep(0.5)

    async with asyncio.timeout(GIVE_UP):  # all of them would have taken five minutes
        assert await value(host, "") == "1.0"

    assert await asyncio.gather(*impatient) == ["too late"] * 100


async def _impatiently(host: ModelHost, seconds: float) -> str:
    try:
        async with asyncio.timeout(seconds):
            await host.predict(ask("sleep 3"), JSON, seconds)
    except TimeoutError:
        return "too late"
    return "in time"


async def test_children_of_a_host_that_dies_die_too(house: House, hosts: dict[str, ModelHost]) -> None:
    host = hosts["is_killed"]
    await host.predict(ask("start_children"), JSON, PATIENCE)
    family = psutil.Process(host.pid).children(recursive=True)

    psutil.Process(host.pid).kill()

    assert await host.died() == "was killed by SIGKILL"
    await _until(lambda: not any(map(_lives, family)))


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_what_a_model_prints_goes_to_the_log_and_not_into_answers(
    hosts: dict[str, ModelHost], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert await value(hosts["model"], "talk 600000") == "1.0"
        assert await value(hosts["model"], "") == "1.0"
        await _until(lambda: "straight to the descriptor" in _printed(caplog))

    assert "a child talks" in _printed(caplog)


def _printed(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(getattr(record, "line", "") for record in caplog.records)


async def test_a_model_that_prints_while_it_loads_is_loaded(hosts: dict[str, ModelHost]) -> None:
    assert await value(hosts["talker"], "") == "1.0"


@pytest.mark.parametrize(
    ("deed", "reached"),
    [
        ("read {secret}", False),
        ("write {secret}", False),
        ("read {token}", False),
        ("read {keys}", False),
        ("read {environment}", False),
        ("read {elsewhere}", True),
        ("read {model}/MLmodel", True),
        ("write {model}/MLmodel", False),
        ("write {model}/new", False),
        ("write {scratch}", True),
        ("read /dev/null", True),
        ("reach {port}", False),
        ("reach_process {pid}", False),
        ("variable AWS_SECRET_ACCESS_KEY", False),
        ("variable MLFLOW_TRACKING_PASSWORD", False),
        ("variable MLFLOW_DISABLE_TELEMETRY", True),
        ("niceness", False),
        ("dumpable", False),
    ],
)
async def test_a_model_reaches_what_it_needs_and_no_more(
    hosts: dict[str, ModelHost], house: House, deed: str, *, reached: bool
) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        deed = deed.format(
            secret=house.secret,
            token=house.token,
            keys=house.keys,
            environment=f"/proc/{os.getpid()}/environ",
            elsewhere=house.folder / "elsewhere.txt",
            model=house.folder / "state/model",
            scratch="scribble.txt",
            port=listening.getsockname()[1],
            pid=os.getpid(),
        )

        assert await value(hosts["model"], deed) == ("1.0" if reached else "0.0")


async def test_a_host_gives_up_rights_and_dumps_and_goes_first_when_memory_runs_out(
    hosts: dict[str, ModelHost],
) -> None:
    process = Path(f"/proc/{hosts['model'].pid}")
    status = (process / "status").read_text("ascii")

    assert "NoNewPrivs:\t1" in status
    assert "CapPrm:\t0000000000000000" in status
    assert (process / "oom_score_adj").read_text("ascii") == "1000\n"
    core = next(line for line in (process / "limits").read_text("ascii").splitlines() if "core" in line)
    assert core.split()[4:6] == ["0", "0"]


async def _within(seconds: float, waiting: Awaitable[Any]) -> None:
    async with asyncio.timeout(seconds):
        await waiting


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(GIVE_UP):
        while not condition():
            await asyncio.sleep(0.05)


async def test_a_model_loads_nicely_and_predicts_at_full_pace(hosts: dict[str, ModelHost]) -> None:
    assert await value(hosts["model"], "niceness_of_the_load") == "5.0"
    assert await value(hosts["model"], "niceness") == "0.0"
    assert niceness_of_the_session(hosts["model"].pid) == 0


async def test_a_model_loads_under_a_daemon_that_is_nicer_already(house: House, tmp_path: Path) -> None:
    nicer = tmp_path / "nicer"
    nicer.write_text(f'#!/bin/sh\nexec nice -n 10 {sys.executable} "$@"\n', "utf-8")
    nicer.chmod(0o755)
    host = await house.load("model", python=nicer)
    assert await value(host, "niceness_of_the_load") == "10.0"
    await host.kill()


def niceness_of_the_session(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/autogroup").read_text("ascii").split()[-1])
    except FileNotFoundError:  # this kernel schedules no session as a group
        return 0
