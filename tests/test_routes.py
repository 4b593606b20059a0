"""HTTP routes of probes: what may be declared, and what a third party's routes do in a real daemon."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from mlopsd.config import probes
from mlopsd.config.errors import ConfigurationError
from mlopsd.config.load import load
from mlopsd.config.plugins import Plugin
from mlopsd.probe import (
    Context,
    HttpRequest,
    HttpResponse,
    Options,
    Probe,
    Reading,
    Route,
    declared_routes,
)
from tests.installed import installed
from tests.running import Running

SESAME = "sesame-0123456789"
KEY = {"X-API-Key": SESAME}
KEYED = '[api]\napi_keys = ["tests:act:754840467716f32606cd61fa2b90cb2ecfda8ce0b620e6e19d592b615aecba69"]\n'
SWITCH = '[probes.hall]\nuse = "switch"\n'
OTHER = '[probes.cellar]\nuse = "switch"\n'
Start = Callable[[str], Running]
FAULTS = (
    "error",
    "exit",
    "cancel",
    "nothing",
    "text",
    "code",
    "refusal",
    "split",
    "cors",
    "length",
    "made_up",
    "name",
    "hop",
    "bytes",
    "for_ever",
)  # switching.py


async def answer(_request: HttpRequest) -> HttpResponse:
    return HttpResponse()


def plain(_request: HttpRequest) -> Any:
    return HttpResponse()


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"path": "open"}, "route GET open: the path must begin with /; write /open"),
        ({"path": "/open/"}, "the path is not made of segments"),
        ({"path": "/"}, "the path is not made of segments"),
        ({"path": "/a//b"}, "the path is not made of segments"),
        ({"path": "/../b"}, "the path is not made of segments"),
        ({"path": "/{a}b"}, "the path is not made of segments"),
        ({"path": "/a?b=c"}, "the path is not made of segments"),
        ({"path": "/{a}/{a}"}, "two parameters have the same name"),
        ({"method": "TURN"}, "unknown method; use GET, POST, PUT, PATCH, DELETE"),
        ({"method": "get"}, "unknown method"),
        ({"access": "anyone"}, "unknown access 'anyone'; use read, act, predict"),
        ({"method": "POST"}, "access read needs a GET"),
        ({"summary": " "}, "the summary is empty"),
        ({"handler": plain}, "the handler is not a coroutine function; write async def"),
    ],
)
def test_a_route_that_cannot_be_is_an_error_that_names_it(changed: dict[str, Any], complaint: str) -> None:
    right: dict[str, Any] = {
        "method": "GET",
        "path": "/a/{b}",
        "handler": answer,
        "summary": "A",
        "access": "read",
    }
    assert Route(**right).parameters == ("b",)
    with pytest.raises(ValueError, match=r"^route ") as caught:
        Route(**{**right, **changed})
    assert complaint in str(caught.value)


class Routed(Probe):
    """It declares whatever it is given."""

    given: Any = ()

    def check(self) -> Reading:
        return Reading()

    def routes(self) -> Sequence[Route]:
        return self.given  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["/a"], "routes() returned str '/a'; return a list of mlopsd.probe.Route"),
        (
            [Route("POST", "/a/{b}", answer, "A"), Route("POST", "/a/{c}", answer, "B")],
            "two routes match the same requests: POST /a/{b} and POST /a/{c}; change or remove one",
        ),
    ],
)
def test_routes_that_cannot_stand_together_are_an_error(given: Any, complaint: str, tmp_path: Path) -> None:
    probe = Routed(Options(), Context("door", tmp_path, None, {}, None))  # type: ignore[arg-type]
    assert declared_routes(probe) == ()
    probe.given = given
    with pytest.raises((TypeError, ValueError)) as caught:
        declared_routes(probe)
    assert complaint in str(caught.value)


def test_a_probe_with_routes_may_not_run_in_a_process(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[probes.door]\nuse = "routed"\nisolation = "process"\n', "utf-8")
    with pytest.raises(ConfigurationError) as caught:
        probes.configure(load(path, {}, {}), [Plugin("routed", f"{__name__}:Routed")])
    line = 'the HTTP routes of its plugin run in the daemon, not in a process; use "thread"'
    assert str(caught.value) == f"{path}: probes.door.isolation = 'process': {line}"


@pytest.fixture
def start(strange_path: Path, tmp_path: Path) -> Start:
    """Starts a daemon in which the third party's probe is installed, for whoever asks it."""
    environment = installed(tmp_path, {"switch": "switching:Switch", "cave": "echoing:Echo"}, strange_path)
    return lambda text: Running(tmp_path, KEYED + text, environment=environment)


def test_the_routes_of_a_probe_answer_as_the_daemons_own(start: Start) -> None:
    with start(SWITCH) as daemon:
        hall = "/probes/hall/switches"
        off = daemon.get(f"{hall}/lamp")
        assert (off.status, off.json["detail"]) == (404, "switch 'lamp' is off; turn it on")
        assert (off.headers["Retry-After"], off.json["title"]) == ("7", "Not Found")
        sent = {
            "Content-Type": "text/x",
            "Authorization": f"Bearer {SESAME}",
            "Cookie": "a=b",
            "X-Mine": "1",
        }
        on = daemon.ask("POST", f"{hall}/lamp", sent, body=b"now")
        assert (on.status, on.json["type"], on.json["body"]) == (201, "text/x", "now")
        assert "X-Mine" in on.json["headers"]
        assert not {"Authorization", "Cookie"} & set(on.json["headers"])
        state = daemon.get(f"{hall}/lamp?as=said", **{"X-Request-ID": "mine"})
        assert (state.status, state.body, state.headers["X-Switch"]) == (200, b"on\n", "said")
        assert (state.headers["X-Request-ID"], state.headers["Server"]) == ("mine", "mlopsd")
        assert state.headers["Content-Type"] == "text/plain"
        assert daemon.get(f"{hall}/all").json == ["lamp"], "a path without parameters comes first"
        head = daemon.ask("HEAD", f"{hall}/lamp")
        assert (head.status, head.body) == (200, b"")
        assert daemon.ask("DELETE", f"{hall}/lamp", KEY).status == 204
        wrong = daemon.ask("PUT", f"{hall}/lamp")
        assert (wrong.status, wrong.headers["Allow"]) == (405, "DELETE,GET,HEAD,POST")
        for path in ("/probes/hall", "/probes/hall/", "/probes/hall/nope", "/probes/none/switches/all"):
            assert daemon.get(path).json["detail"] == f"no endpoint at {path}; see /info for the endpoints"


@pytest.mark.parametrize("text", ["..%2f..%2fetc%2fpasswd", "%2e%2e", "%2e", "a%2fb", "a%00b", "a%0ab"])
def test_a_handler_gets_no_parameter_that_leaves_its_place(text: str, start: Start) -> None:
    with start(SWITCH) as daemon:
        answer = daemon.get(f"/probes/hall/switches/{text}")
    assert answer.status in (400, 404), answer.body
    assert "is off" not in answer.body.decode()


def test_a_page_elsewhere_may_ask_every_method_of_a_path(start: Start) -> None:
    """Though two routes have it, whose parameters differ in their names."""
    with start('cors_origins = ["https://ops.example"]\n' + SWITCH) as daemon:
        for method, allowed in (("GET", 200), ("POST", 200), ("DELETE", 200), ("PUT", 403)):
            asked = {"Origin": "https://ops.example", "Access-Control-Request-Method": method}
            for path in ("/probes/hall/switches/lamp", "/probes/hall/switches/all"):
                assert daemon.ask("OPTIONS", path, asked).status == allowed, (method, path)


def test_the_core_alone_decides_who_may_ask(start: Start) -> None:
    with start(SWITCH) as daemon:
        for path in ("/probes/hall/switches/lamp", "/probes/hall/guess"):
            assert daemon.ask("POST", path, body=b"{}").status == 401
            assert daemon.ask("POST", path, {"X-API-Key": "wrong"}, body=b"{}").status == 401
            assert daemon.ask("POST", path, KEY, body=b"{}").status in (200, 201)
            assert daemon.ask("POST", path, local=True, body=b"{}").status in (200, 201)
        assert daemon.get("/probes/hall/switches/lamp").status == 200
        limits = f'predictions = "open"\nmax_body_size = 10\nrequest_timeout = 0.5\n{SWITCH}'
        daemon.config.write_text(daemon.framed(KEYED + limits), "utf-8")
        assert daemon.ask("POST", "/reload", local=True).status == 200
        assert daemon.ask("POST", "/probes/hall/guess", body=b"{}").body == b"{}"
        assert daemon.ask("POST", "/probes/hall/guess", body=b"x" * 11).status == 413
        assert daemon.ask("POST", "/probes/hall/switches/lamp", body=b"{}").status == 401
        assert daemon.get("/probes/hall/slow").status == 504


def test_a_handler_that_fails_is_a_500_with_its_probe_and_nothing_more(start: Start) -> None:
    with start(SWITCH) as daemon:
        for which in FAULTS:
            failed = daemon.ask("POST", f"/probes/hall/fault/{which}", KEY)
            assert failed.status == 500, which
            assert failed.headers["Content-Type"] == "application/problem+json"
            assert failed.json["detail"].startswith("probe 'hall' returned no valid response"), which
            assert b"secret" not in failed.body
            line = daemon.wait_for(lambda line: line["event"] == "request failed")
            assert (line["probe"], line["route"]) == ("hall", "/probes/hall/fault/{which}")
            assert ("ZeroDivisionError: a secret" in line["traceback"]) == (which == "error")
        assert daemon.get("/livez").status == 200
        assert daemon.get("/health/hall").json["status"] == "healthy"


def test_requests_are_counted_by_the_pattern_of_their_route(start: Start) -> None:
    with start(SWITCH) as daemon:
        for name in ("a", "b", "c"):
            daemon.get(f"/probes/hall/switches/{name}")
            daemon.get(f"/probes/{name}/switches/{name}")
        page = daemon.get("/metrics").body.decode()
    counted = [line for line in page.splitlines() if line.startswith("mlopsd_http_requests_total")]
    pattern = '{method="GET",route="/probes/hall/switches/{switch}",status="404"} 3'
    assert [line for line in counted if "/probes/" in line] == [f"mlopsd_http_requests_total{pattern}"]


def test_the_routes_follow_a_reload_of_the_configuration(start: Start) -> None:
    def reload(text: str) -> None:
        daemon.config.write_text(daemon.framed(KEYED + text), "utf-8")
        assert daemon.ask("POST", "/reload", local=True).status == 200

    def listed() -> set[str]:
        document = daemon.get("/openapi.json").json
        validate(document)
        at = {path for path in document["paths"] if path.startswith("/probes/")}
        named = {one["path"] for one in daemon.get("/info").json["endpoints"]}
        assert at == {path for path in named if path.startswith("/probes/")}
        return {path.split("/")[2] for path in at}

    with start(SWITCH) as daemon:
        assert listed() == {"hall"}
        reload(OTHER)
        assert daemon.get("/probes/hall/switches/all").status == 404
        daemon.until("/health/cellar", lambda found: found["status"] == "healthy")
        assert daemon.get("/probes/cellar/switches/all").json == []
        assert listed() == {"cellar"}
        reload(SWITCH + OTHER)
        daemon.until("/health/hall", lambda found: found["status"] == "healthy")
        assert listed() == {"hall", "cellar"}


def test_the_description_says_who_may_ask(start: Start) -> None:
    with start(SWITCH) as daemon:
        paths = daemon.get("/openapi.json").json["paths"]
    switch = paths["/probes/hall/switches/{switch}"]
    assert switch["get"]["summary"] == "The state of a switch"
    assert [one["name"] for one in switch["get"]["parameters"]] == ["switch"]
    assert "security" not in switch["get"]
    assert {} not in switch["post"]["security"]
    assert {} in paths["/probes/hall/guess"]["post"]["security"]


def test_impossible_declarations_are_in_the_probes_reading(start: Start) -> None:
    with start(f"{SWITCH}twice = true\n") as daemon:
        reading = daemon.until("/health/hall", lambda found: found["findings"])
        assert (
            "two routes match the same requests: GET /switches/all and GET /switches/all"
            in reading["summary"]
        )
        pending = daemon.get("/probes/hall/switches/all")
        assert pending.status == 503
        assert "see GET /health/hall" in pending.json["detail"]
        assert pending.headers["Retry-After"]


def test_predictions_come_through_the_route_of_the_predictor(start: Start) -> None:
    with start('[probes.cave]\nmodel = "caves"\n') as daemon:
        for path in ("/invocations", "/invocations/cave"):
            sent = {**KEY, "Content-Type": "application/json"}
            assert daemon.ask("POST", path, sent, body=b"1").json == {"echo": 1}
        assert daemon.ask("POST", "/probes/cave/invocations", KEY, body=b"1").status == 404
