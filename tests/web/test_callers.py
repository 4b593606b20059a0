"""Who may do what: each rule by itself, over real connections."""

import asyncio
import base64
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlopsd.config.api_keys import parse_line
from mlopsd.peer import Credentials, credentials
from mlopsd.probe import Finding, Reading, Status
from mlopsd.web.access import callers
from mlopsd.web.access.callers import is_trusted
from mlopsd.web.server.listener import Listener
from tests.keys import KEY, line_of
from tests.web.fakes import OPEN_PATHS, House

SHUT = Reading(findings=[Finding("door", Status.HEALTHY, "the door is shut")])
CHECK = "/health/door/check"
ASK_FROM_A_SOCKET = """
import os, socket, sys
if os.geteuid() == 0:
    os.setgroups([int(group) for group in sys.argv[2:]])
    os.setgid(65534)
    os.setuid(65534)
with socket.socket(socket.AF_UNIX) as asking:
    asking.connect(sys.argv[1])
    asking.sendall(b"POST /health/door/check HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
    print(asking.makefile("rb").readline().split()[1].decode())
"""


@asynccontextmanager
async def house(*keys: str, host: str = "127.0.0.1", **tables: Any) -> AsyncIterator[Any]:
    """A house and a function that posts with given headers and returns the answer."""
    built = House(**tables)
    built.let_in(*keys)
    built.watch("door", SHUT)
    async with built.on_tcp(host=host) as client:

        async def post(**headers: str) -> Any:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            async with client.post(CHECK, headers=given) as response:
                await response.read()
                return response

        yield post


async def test_the_right_key_in_the_header_acts() -> None:
    async with house(KEY, "other-0123456789") as post:
        assert (await post(X_API_Key=KEY)).status == 200
        assert (await post(X_API_Key="other-0123456789")).status == 200


async def test_the_right_key_as_a_bearer_token_acts() -> None:
    async with house(KEY) as post:
        assert (await post(Authorization="Bearer sesame-0123456789")).status == 200
        assert (await post(Authorization="bearer  sesame-0123456789")).status == 200


async def test_the_key_is_taken_from_the_header_that_is_configured() -> None:
    async with house(KEY, api={"api_key_header": "X-Door"}) as post:
        assert (await post(X_Door=KEY)).status == 200
        assert (await post(X_API_Key=KEY)).status == 401


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        KEY[:-1],
        KEY + " ",
        KEY.upper(),
        f"é{KEY}",
        f"{KEY},other",
    ],
)
async def test_a_wrong_key_is_401(wrong: str) -> None:
    async with house(KEY) as post:
        answer = await post(X_API_Key=wrong + ("x" if wrong.endswith(" ") else ""))
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic c2VzYW1l"}, {"Authorization": KEY}])
async def test_no_key_is_401(headers: Mapping[str, str]) -> None:
    async with house(KEY) as post:
        answer = await post(**headers)
        assert answer.status == 401
        assert "WWW-Authenticate" in answer.headers


async def test_an_empty_key_is_no_key() -> None:
    async with house(KEY, debug=False) as post:
        assert (await post(X_API_Key="")).status == 401


async def test_without_keys_everything_that_acts_is_403_with_the_fix() -> None:
    async with house() as post:
        answer = await post(X_API_Key=KEY)
        assert answer.status == 403
        assert "api_keys" in (await answer.json())["detail"]


async def test_a_refused_caller_starts_nothing() -> None:
    built = House()
    watch = built.watch("door", SHUT)
    async with built.on_tcp() as client:
        for path in (CHECK, "/health/door/reload", "/reload"):
            assert (await client.post(path)).status == 403
    assert watch.checks == 0
    assert watch.asked == []


async def test_reading_is_open_to_everybody() -> None:
    built = House()
    built.let_in(KEY)
    built.watch("door", SHUT)
    async with built.on_tcp() as client:
        for path in OPEN_PATHS:
            async with client.get(path, headers={"Origin": "http://evil.example"}) as answer:
                assert answer.status == 200


async def test_a_change_of_the_keys_counts_at_once() -> None:
    built = House()
    built.let_in("old-0123456789ab")
    built.watch("door", SHUT)
    async with built.on_tcp() as client:
        assert (await client.post(CHECK, headers={"X-API-Key": "old-0123456789ab"})).status == 200
        built.let_in("new-0123456789ab")
        assert (await client.post(CHECK, headers={"X-API-Key": "old-0123456789ab"})).status == 401
        assert (await client.post(CHECK, headers={"X-API-Key": "new-0123456789ab"})).status == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_address_is_no_identity_also_in_debug_mode(host: str) -> None:
    """A proxy on this host asks from loopback for whomever it serves, and need not say so."""
    async with house(host=host, debug=True) as post:
        assert (await post(Host="localhost")).status == 403
    async with house(KEY, host=host, debug=True) as post:
        assert (await post(Host="localhost")).status == 401
        assert (await post(Host="localhost", X_API_Key="open")).status == 401
        assert (await post(Host="evil.example", X_API_Key=KEY)).status == 200


@pytest.mark.parametrize(
    ("caller", "trusted"),
    [
        (Credentials(0, frozenset({5})), True),
        (Credentials(990, frozenset({5})), True),
        (Credentials(1000, frozenset({5, 991})), True),
        (Credentials(1000, frozenset({991})), True),
        (Credentials(1000, frozenset({5, 0})), False),
        (Credentials(991, frozenset({990})), False),
    ],
)
def test_root_the_daemons_user_and_its_group_are_trusted(caller: Credentials, *, trusted: bool) -> None:
    assert is_trusted(caller, uid=990, gid=991) is trusted


def test_the_kernel_gives_the_callers_user_and_groups() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert credentials(ours) == Credentials(
            os.getuid(), frozenset({os.getgid(), *os.getgroups()}), os.getpid()
        )


async def test_on_the_unix_socket_the_daemons_own_user_acts_without_a_key(tmp_path: Path) -> None:
    built = House()
    built.let_in(KEY)
    built.watch("door", SHUT)
    async with built.on_socket(tmp_path / "s") as client:
        assert (await client.post(CHECK)).status == 200
        assert (await client.get("/health/")).status == 200


async def test_on_the_unix_socket_another_user_reads_and_does_not_act_even_with_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "credentials", lambda _: Credentials(54321, frozenset({54321})))
    built = House(debug=True)
    built.let_in(KEY)
    built.watch("door", SHUT)
    async with built.on_socket(tmp_path / "s") as client:
        assert (await client.get("/health/")).status == 200
        async with client.post(CHECK, headers={"X-API-Key": KEY, "Host": "localhost"}) as answer:
            assert answer.status == 403
            assert "uid 54321 may not act here" in (await answer.json())["detail"]


@pytest.mark.parametrize("groups", [[], [os.getegid()]])
async def test_on_the_unix_socket_the_kernel_decides_about_another_process(groups: list[int]) -> None:
    """Root can be somebody else for this, in the daemon's group or not; anyone else is himself."""
    built = House()
    built.watch("door", SHUT)
    path = Path(f"/tmp/mlopsd-test-{os.getpid()}.sock")
    async with built.on_socket(path):
        os.chmod(path, 0o666)  # noqa: PTH101  # ASYNC240 would object to Path.chmod
        command = (sys.executable, "-I", "-S", "-c", ASK_FROM_A_SOCKET, str(path), *map(str, groups))
        asking = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        output, _ = await asking.communicate()
    assert output.decode().strip() == ("403" if os.geteuid() == 0 and not groups else "200")


def basic(password: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'anybody:{password}'.encode()).decode()}"}


READER, PREDICTOR, ACTOR = ("reader-0123456789", "predictor-0123456789", "actor-0123456789")
GETS = (*OPEN_PATHS, "/health/history", "/openapi.json", "/version", "/v2/health/live", "/docs")
ALWAYS_OPEN = {"/livez", "/readyz", "/ping"}


def roles_house(**tables: Any) -> House:
    built = House(**tables)
    built.watch("door", SHUT)
    built.oracle("wine")
    keys = {READER: "read", PREDICTOR: "predict", ACTOR: "act"}
    built.parts.loaded = replace(
        built.parts.loaded,
        api_keys=tuple(parse_line(line_of(key, name=role, role=role)) for key, role in keys.items()),  # type: ignore[arg-type]
    )
    return built


@pytest.mark.parametrize(
    ("key", "codes"), [(READER, (403, 403)), (PREDICTOR, (200, 403)), (ACTOR, (200, 200))]
)
async def test_each_role_includes_those_before_it_and_no_more(key: str, codes: tuple[int, int]) -> None:
    built = roles_house(api={"reading": "key"})
    async with built.on_tcp() as client:
        for headers in ({"X-API-Key": key}, {"Authorization": f"Bearer {key}"}):
            assert (await client.get("/health/", headers=headers)).status == 503
            predicted = await client.post("/invocations", data=b"1", headers=headers)
            acted = await client.post(CHECK, headers=headers)
            assert (predicted.status, acted.status) == codes
            if acted.status == 403:
                assert "may not change anything: its role is" in (await acted.json())["detail"]


async def test_a_key_of_fewer_than_sixteen_characters_is_refused_although_it_is_known() -> None:
    async with house("x" * 15, "y" * 16) as post:
        assert (await post(X_API_Key="x" * 15)).status == 401
        assert (await post(X_API_Key="y" * 16)).status == 200


@pytest.mark.parametrize("path", GETS)
async def test_with_reading_by_key_every_get_needs_one(path: str) -> None:
    built = roles_house(api={"reading": "key"})
    built.board.record("wine", SHUT, 0.25)
    async with built.on_tcp() as client:
        for headers in (
            {},
            {"X-API-Key": READER + "x"},
            basic("wrong-0123456789abc"),
            {"X-API-Key": "short"},
        ):
            async with client.get(path, headers=headers) as answer:
                if path in ALWAYS_OPEN:
                    assert answer.status == 200
                else:
                    assert answer.status == 401
                    assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")
        for headers in ({"X-API-Key": READER}, {"Authorization": f"Bearer {READER}"}, basic(READER)):
            async with client.get(path, headers=headers) as answer:
                assert answer.status not in (401, 403)
            assert (await client.head(path, headers=headers)).status not in (401, 403)


async def test_with_reading_by_key_and_no_key_nobody_reads_over_tcp() -> None:
    built = House(api={"reading": "key"})
    async with built.on_tcp() as client:
        answer = await client.get("/health/")
        assert answer.status == 403
        assert 'reading = "open"' in (await answer.json())["detail"]


async def test_a_password_reads_and_never_acts_since_a_browser_sends_it_by_itself() -> None:
    built = roles_house(api={"reading": "key"})
    async with built.on_tcp() as client:
        assert (await client.get("/info", headers=basic(ACTOR))).status == 200
        for path in (CHECK, "/reload", "/invocations"):
            answer = await client.post(path, headers=basic(ACTOR), data=b"1")
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("broken", ["Basic", "Basic !", "Basic YQ==", "Basic " + "/" * 4, "Basic \xe9"])
async def test_a_broken_password_is_none(broken: str) -> None:
    built = roles_house(api={"reading": "key"})
    async with built.on_tcp() as client:
        assert (await client.get("/info", headers={"Authorization": broken})).status == 401


async def test_with_reading_by_key_another_user_of_the_socket_does_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = roles_house(api={"reading": "key"})
    async with built.on_socket(tmp_path / "s") as client:
        assert (await client.get("/info")).status == 200
        monkeypatch.setattr(callers, "credentials", lambda _: Credentials(54321, frozenset({54321})))
        assert (await client.get("/info")).status == 403
        assert (await client.get("/livez")).status == 200


async def test_the_name_of_the_key_is_on_the_line_of_the_request(caplog: pytest.LogCaptureFixture) -> None:
    built = roles_house()
    with caplog.at_level(logging.DEBUG, "mlopsd.http"):
        async with built.on_tcp() as client:
            await client.get("/info", headers={"X-API-Key": READER})
            await client.post("/invocations", data=b"1", headers={"X-API-Key": PREDICTOR})
            await client.post(CHECK, headers={"X-API-Key": ACTOR})
            await client.get("/info")
    by = [getattr(record, "by", None) for record in caplog.records if record.getMessage() == "request"]
    assert by == [f"key {role} from 127.0.0.1" for role in ("read", "predict", "act")] + [None]
    acted = [record for record in caplog.records if getattr(record, "history", False)]
    assert [getattr(record, "by", None) for record in acted] == ["key act from 127.0.0.1"]


FOREIGN = (
    "evil.example",
    "rebound.evil.example:9178",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "x",
)
OWN = ("localhost", "LOCALHOST:80", "app.localhost", "127.0.0.1:9178", "[::1]:9178", "10.1.2.3", "localhost.")


@pytest.mark.parametrize("listening", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
async def test_a_page_that_was_rebound_to_loopback_reads_nothing(listening: str) -> None:
    built = roles_house(api={"predictions": "open"})
    async with built.on_tcp(host=listening) as client:
        for host in FOREIGN:
            for path in set(OPEN_PATHS) - ALWAYS_OPEN:
                assert (await client.get(path, headers={"Host": host})).status == 403, (host, path)
            assert (await client.get("/livez", headers={"Host": host})).status == 200
            assert (await client.post("/invocations", data=b"1", headers={"Host": host})).status == 403
            assert (await client.get("/info", headers={"Host": host, "X-API-Key": READER})).status == 200
        for host in (*OWN, socket.gethostname()):
            assert (await client.get("/info", headers={"Host": host})).status == 200, host


async def test_configured_names_are_known_and_then_hold_everywhere() -> None:
    built = roles_house(api={"hosts": ["GPU1.example", "gpu1"]})
    async with built.on_tcp() as client:
        for host, code in (
            ("gpu1.example:80", 200),
            ("gpu1", 200),
            ("localhost", 200),
            ("gpu2.example", 403),
        ):
            assert (await client.get("/info", headers={"Host": host})).status == code
        built.settings = built.settings.model_copy(
            update={"api": built.settings.api.model_copy(update={"hosts": ("*",)})}
        )
        assert (await client.get("/info", headers={"Host": "evil.example"})).status == 200


@pytest.mark.parametrize(
    "twice",
    [
        [("Origin", "http://good.example"), ("Origin", "http://evil.example")],
        [("Authorization", f"Bearer {ACTOR}"), ("Authorization", "Bearer other")],
        [("X-API-Key", ACTOR), ("X-API-Key", "other")],
    ],
)
async def test_a_header_that_decides_and_is_there_twice_is_400(twice: list[tuple[str, str]]) -> None:
    built = roles_house(api={"cors_origins": ["http://good.example"]})
    async with built.on_tcp() as client:
        for ask in (client.get("/livez", headers=twice), client.get("/info", headers=twice)):
            assert (await ask).status == 400
        assert (await client.post(CHECK, headers=twice)).status == 400
        preflight = [*twice, ("Access-Control-Request-Method", "POST")]
        assert (await client.options(CHECK, headers=preflight)).status == (400 if len(twice) > 1 else 200)


@pytest.mark.parametrize(
    ("target", "host", "code"),
    [
        ("http://localhost/info", "localhost", 200),
        ("http://LOCALHOST/info", "localhost", 200),
        ("http://evil.example/info", "localhost", 400),
        ("http://localhost/info", "evil.example", 400),
        ("http://localhost@evil.example/info", "localhost", 400),
        ("http://evil.example/livez", "localhost", 400),
        ("http://[/info", "localhost", 400),
    ],
)
async def test_an_absolute_target_names_the_host_of_the_header(target: str, host: str, code: int) -> None:
    built = roles_house()
    async with built.serving(Listener.tcp("127.0.0.1", 0)) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        assert int((await reader.readline()).split()[1]) == code
        writer.close()
