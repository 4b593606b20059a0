"""Crowds at the door: idle, slow, and slow on purpose; who means well is answered all the same."""

import resource
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from mlopsd.web.server.connection import Timeouts
from tests.hostile.conftest import KEYED, Start
from tests.hostile.wire import connect, descriptors, memory, read_all, replies
from tests.keys import KEY
from tests.running import GIVE_UP, Running

CROWD = 10_000
MOST = 512  # [api] max_connections, by default
PER_ADDRESS = 2_000
HALF = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
SLOW_BODY = (
    b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\nContent-Length: 99999\r\n"
)
KEYED_HEAD = SLOW_BODY + f"Expect: 100-continue\r\nX-API-Key: {KEY}\r\n\r\n".encode()
GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.fixture(scope="module", autouse=True)
def room_for_a_crowd() -> Iterator[None]:
    """As many descriptors as this side of ten thousand connections takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CROWD + 1_000
    if hard != resource.RLIM_INFINITY and hard < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))  # needs the rights of root
    else:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextmanager
def crowd(daemon: Running, size: int, says: bytes = b"") -> Iterator[list[socket.socket]]:
    """*size* connections, from as many loopback addresses as their ports take, each of which *says* that."""
    with ExitStack() as stack:
        plugs = []
        for at in range(size):
            plug = stack.enter_context(connect(daemon, f"127.0.1.{1 + at // PER_ADDRESS}"))
            plugs.append(plug)
            if says:
                try:
                    plug.sendall(says)
                except (BrokenPipeError, ConnectionResetError):
                    continue
        yield plugs


def still_open(plugs: list[socket.socket]) -> int:
    """How many of *plugs* the daemon has not closed."""
    poll = select.poll()
    for plug in plugs:
        poll.register(plug, select.POLLRDHUP)  # an answer that nobody has read is no end
    return len(plugs) - len(poll.poll(0))


def answered(plugs: list[socket.socket]) -> None:
    """Wait until each of *plugs* has been answered."""
    for plug in plugs:
        poll = select.poll()
        poll.register(plug, select.POLLIN)
        assert poll.poll(30_000)


def answers_everybody(daemon: Running) -> None:
    """To a balancer over TCP, to a scraper, and to an operator on the Unix socket."""
    for path in ("/livez", "/health/", "/metrics"):
        assert daemon.get(path).status == 200
    assert daemon.ask("GET", "/health/detailed", local=True).status == 200
    assert daemon.ask("POST", "/health/model/check", local=True).status == 200


@pytest.mark.parametrize(("size", "says"), [(CROWD, b""), (CROWD // 10, HALF)])
def test_ten_thousand_connections_that_say_nothing_and_a_thousand_with_half_a_head_keep_nobody_out(
    size: int, says: bytes, daemon: Running
) -> None:
    before = memory(daemon)
    with crowd(daemon, size, says) as plugs:
        answers_everybody(daemon)
        assert still_open(plugs) <= MOST
        assert descriptors(daemon) < MOST + 150
        assert memory(daemon) - before < 60_000_000
        answers_everybody(daemon)


def test_those_who_drip_their_heads_are_gone_after_ten_seconds_however_they_drip(daemon: Running) -> None:
    began = time.monotonic()
    with crowd(daemon, 64, b"GET /livez HTTP/1.1\r\n") as plugs:
        while still_open(plugs):
            assert time.monotonic() - began < GIVE_UP, "they are still there, and still drip"
            for plug in plugs:
                try:
                    plug.sendall(b"X: y\r\n")
                except (BrokenPipeError, ConnectionResetError):
                    continue
            time.sleep(0.5)  # the pace of the attack
        assert time.monotonic() - began >= Timeouts().head
        answers_everybody(daemon)


def test_bodies_that_drip_take_no_place_from_those_who_may_not_send_them(daemon: Running) -> None:
    """Without a key the head is refused, and the rest is waited for no longer than it takes to be polite."""
    with crowd(daemon, 2 * MOST, SLOW_BODY + b"\r\n{") as plugs:
        answered(plugs[-MOST // 2 :])  # then every place is taken by one who was refused
        while still_open(plugs):
            answers_everybody(daemon)
        found = [reply.status for plug in plugs for reply in replies(read_all(plug))]
    assert set(found) <= {401, 503}
    assert 401 in found


def test_when_every_place_is_taken_by_those_who_may_the_next_learns_so_and_the_socket_answers(
    start: Start,
) -> None:
    """Callers with a key can fill the house with bodies that drip, for as long as `request_timeout`."""
    keyed = KEYED.replace("request_timeout = 60", "request_timeout = 600\nmax_connections = 16")
    with start(keyed) as daemon:
        with crowd(daemon, 16, KEYED_HEAD) as plugs:
            assert [plug.recv(len(GO_ON)) for plug in plugs] == [GO_ON] * 16  # each is waited for
            assert daemon.ask("GET", "/livez", local=True).status == 200
            turned_away = daemon.get("/livez")
            assert turned_away.status == 503
            assert turned_away.headers["Retry-After"]
            assert turned_away.json["title"] == "Service Unavailable"
        daemon.until("/health/", lambda reported: reported.get("status") == "healthy")
        answers_everybody(daemon)


def test_a_body_that_drips_is_waited_for_as_long_as_the_configuration_says(start: Start) -> None:
    with start(KEYED.replace("request_timeout = 60", "request_timeout = 1")) as daemon:
        with crowd(daemon, 16, KEYED_HEAD) as plugs:
            found = [reply.status for plug in plugs for reply in replies(read_all(plug))]
        assert found == [100, 408] * 16
        answers_everybody(daemon)


def test_callers_who_never_read_what_they_asked_for_hold_little_and_not_for_long(daemon: Running) -> None:
    before = memory(daemon)
    with crowd(daemon, 50, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100):
        answers_everybody(daemon)
        assert memory(daemon) - before < 60_000_000
