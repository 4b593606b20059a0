"""Who may do what: each rule by itself, over real connections."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mlopsd.probe import Finding, Reading, Status
from mlopsd.web.access import callers
from mlopsd.web.access.callers import Credentials, credentials, is_trusted
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
    built.keys = keys
    built.watch("door", SHUT)
    async with built.on_tcp(host=host) as client:

        async def post(**headers: str) -> Any:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            async with client.post(CHECK, headers=given) as response:
                await response.read()
                return response

        yield post


async def test_the_right_key_in_the_header_acts() -> None:
    async with house("sesame", "other") as post:
        assert (await post(X_API_Key="sesame")).status == 200
        assert (await post(X_API_Key="other")).status == 200


async def test_the_right_key_as_a_bearer_token_acts() -> None:
    async with house("sesame") as post:
        assert (await post(Authorization="Bearer sesame")).status == 200
        assert (await post(Authorization="bearer  sesame")).status == 200


async def test_the_key_is_taken_from_the_header_that_is_configured() -> None:
    async with house("sesame", api={"api_key_header": "X-Door"}) as post:
        assert (await post(X_Door="sesame")).status == 200
        assert (await post(X_API_Key="sesame")).status == 401


@pytest.mark.parametrize("wrong", ["", "sesam", "sesame ", "Sesame", "sésame", "sesame,other"])
async def test_a_wrong_key_is_401(wrong: str) -> None:
    async with house("sesame") as post:
        answer = await post(X_API_Key=wrong + ("x" if wrong.endswith(" ") else ""))
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic c2VzYW1l"}, {"Authorization": "sesame"}])
async def test_no_key_is_401(headers: Mapping[str, str]) -> None:
    async with house("sesame") as post:
        answer = await post(**headers)
        assert answer.status == 401
        assert "WWW-Authenticate" in answer.headers


async def test_an_empty_key_is_no_key() -> None:
    async with house("sesame", debug=False) as post:
        assert (await post(X_API_Key="")).status == 401


async def test_without_keys_everything_that_acts_is_403_with_the_fix() -> None:
    async with house() as post:
        answer = await post(X_API_Key="sesame")
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
    built.keys = ("sesame",)
    built.watch("door", SHUT)
    async with built.on_tcp() as client:
        for path in OPEN_PATHS:
            async with client.get(
                path, headers={"Host": "evil.example", "Origin": "http://evil.example"}
            ) as answer:
                assert answer.status == 200


async def test_a_change_of_the_keys_counts_at_once() -> None:
    built = House()
    built.keys = ("old",)
    built.watch("door", SHUT)
    async with built.on_tcp() as client:
        assert (await client.post(CHECK, headers={"X-API-Key": "old"})).status == 200
        built.keys = ("new",)
        assert (await client.post(CHECK, headers={"X-API-Key": "old"})).status == 401
        assert (await client.post(CHECK, headers={"X-API-Key": "new"})).status == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_an_address_is_no_identity_also_in_debug_mode(host: str) -> None:
    """A proxy on this host asks from loopback for whomever it serves, and need not say so."""
    async with house(host=host, debug=True) as post:
        assert (await post(Host="localhost")).status == 403
    async with house("sesame", host=host, debug=True) as post:
        assert (await post(Host="localhost")).status == 401
        assert (await post(Host="localhost", X_API_Key="open")).status == 401
        assert (await post(Host="evil.example", X_API_Key="sesame")).status == 200


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
    built.keys = ("sesame",)
    built.watch("door", SHUT)
    async with built.on_socket(tmp_path / "s") as client:
        assert (await client.post(CHECK)).status == 200
        assert (await client.get("/health/")).status == 200


async def test_on_the_unix_socket_another_user_reads_and_does_not_act_even_with_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "credentials", lambda _: Credentials(54321, frozenset({54321})))
    built = House(debug=True)
    built.keys = ("sesame",)
    built.watch("door", SHUT)
    async with built.on_socket(tmp_path / "s") as client:
        assert (await client.get("/health/")).status == 200
        async with client.post(CHECK, headers={"X-API-Key": "sesame", "Host": "localhost"}) as answer:
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
