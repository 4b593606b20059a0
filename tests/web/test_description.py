"""The API's description is valid, complete and true: what is really answered is held against it."""

import asyncio
import copy
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
from aiohttp.test_utils import make_mocked_request
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from yarl import URL

from mlopsd.config.errors import ConfigIssue, ConfigurationError
from mlopsd.predictor import PredictionError
from mlopsd.probe import Advice, Finding, Reading, ReloadRefused, Status
from mlopsd.web.api import openapi, schemas
from mlopsd.web.api.endpoint import Endpoint
from mlopsd.web.api.openapi import Description
from mlopsd.web.app import ROUTES, make_app
from mlopsd.web.server.connection import Timeouts
from tests.running import GIVE_UP
from tests.web.fakes import House

DOCUMENT = Path(__file__).parents[2] / "docs/reference/http.md"
SICK = Finding("heat", Status.UNHEALTHY, "hot", "gpu 2", 99.5, "celsius", 90, Advice.RESET_GPU)
KEY = {"X-API-Key": "sesame-0123456789"}
TYPES = {name: found for name, found in vars(schemas).items() if hasattr(found, "__required_keys__")}
NOT_DRIVEN = {("GET", 500)}  # /metrics stands for the others: a bug is a bug wherever it is


def a_house(**api: Any) -> House:
    house = House(debug=False, api=api)
    house.let_in("sesame-0123456789")
    house.watch("well", Reading(findings=[Finding("door", Status.HEALTHY, "shut")], facts={"a": [1, None]}))
    house.watch("stuck", reloads=False)
    house.oracle("model", "wine/red")
    house.board.record("model", Reading(findings=[Finding("canary", Status.HEALTHY, "sings")]), 0.1)
    return house


def routes() -> tuple[Endpoint, ...]:
    house = House()
    return make_app(house.parts, local=False)[ROUTES]


async def description(house: House) -> Any:
    async with house.on_tcp() as client, client.get("/openapi.json") as answer:
        return await answer.json()


def strict(schema: Any) -> Any:
    """*schema* with no key allowed that it does not name."""
    if isinstance(schema, dict):
        closed = {key: strict(value) for key, value in schema.items()}
        return {**closed, "additionalProperties": False} if "properties" in schema else closed
    return [strict(item) for item in schema] if isinstance(schema, list) else schema


class Witness:
    """Holds answers against the description, and remembers which were seen."""

    def __init__(self, document: Any) -> None:
        self.document = document
        self.seen: set[tuple[str, str, int]] = set()

    async def hold(self, client: Any, method: str, path: str, at: str | URL, **more: Any) -> int:
        """Ask and compare; *path* is the described path, *at* the one to ask."""
        async with client.request(method, at, **more) as answer:
            body = await answer.read()
        described = self.document["paths"][path][method.lower()]["responses"].get(str(answer.status))
        assert described is not None, f"{method} {at} gave {answer.status}, which is not described: {body!r}"
        content = {name.partition(";")[0]: given for name, given in described["content"].items()}
        assert answer.content_type in content
        for header in described["headers"]:
            assert header in answer.headers
        if schema := content[answer.content_type].get("schema"):
            together = {**strict(schema), "components": strict(copy.deepcopy(self.document["components"]))}
            Draft202012Validator(together).validate(json.loads(body))
        self.seen.add((method, path, answer.status))
        return int(answer.status)


async def test_the_description_is_valid_openapi() -> None:
    document = await description(a_house())
    assert document["openapi"] == "3.1.0"
    validate(document)


async def test_the_description_is_made_once_and_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    made_in: list[threading.Thread] = []

    def described(*_: object) -> bytes:
        made_in.append(threading.current_thread())
        return b"{}"

    monkeypatch.setattr(openapi, "described", described)
    kept = Description(a_house().parts, tuple)
    for _ in range(2):
        answer = await kept.answer(make_mocked_request("GET", "/openapi.json"))
        assert answer.body == b"{}"
    (thread,) = made_in
    assert thread is not threading.main_thread()
    assert thread.daemon


async def test_the_description_names_the_configured_header_also_after_a_change() -> None:
    house = a_house(api_key_header="X-Door")
    async with house.on_tcp() as client:
        for header in ("X-Door", "X-Gate"):
            api = house.settings.api.model_copy(update={"api_key_header": header})
            house.settings = house.settings.model_copy(update={"api": api})
            schemes = (await (await client.get("/openapi.json")).json())["components"]["securitySchemes"]
            assert schemes["key"] == {"type": "apiKey", "in": "header", "name": header}


async def test_what_acts_and_nothing_else_asks_for_a_key() -> None:
    document = await description(a_house())
    guarded = {
        (method, path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if "security" in operation
    }
    assert guarded == {("post", route.path) for route in routes() if route.method == "POST"}


@pytest.mark.parametrize(
    ("name", "taken", "refused"),
    [
        ("probe", ("model", "gpu_2"), ("Model", "2gpu", "re.compile", "a" * 33)),
        ("wait", ("0", "15", "1.5s", " 2 min "), ("soon", "-1", "1e3", "15 hours")),
        ("dry_run", ("true", "0", ""), ("perhaps", "2")),
    ],
)
async def test_a_described_parameter_takes_what_the_daemon_takes(
    name: str, taken: tuple[str, ...], refused: tuple[str, ...]
) -> None:
    document = await description(a_house())
    (schema,) = [
        parameter["schema"]
        for parameter in document["paths"]["/health/{probe}/reload"]["post"]["parameters"]
        if parameter["name"] == name
    ]
    valid = Draft202012Validator(schema).is_valid
    assert [value for value in (*taken, *refused) if valid(value)] == list(taken)


async def test_the_description_says_that_predictions_alone_may_need_no_key() -> None:
    paths = (await description(a_house()))["paths"]
    assert {} in paths["/invocations"]["post"]["security"]
    assert {} not in paths["/reload"]["post"]["security"]


async def test_every_documented_answer_is_given_and_is_as_documented() -> None:
    house = a_house(request_timeout=60, max_body_size=10)
    witness = Witness(await description(house))
    async with house.on_tcp(Timeouts(linger=0.05)) as client:
        await _reading(witness, house, client)
        await _acting(witness, house, client)
        await _predicting(witness, house, client)
        await _readiness(witness, house, client)
        await _about(witness, house, client)
        await _refused_readers(witness, house, client)
    missing = set(_described(witness.document)) - witness.seen
    assert {(method, code) for method, _, code in missing} <= NOT_DRIVEN | {("POST", 500), ("GET", 504)}


async def _reading(witness: Witness, house: House, client: Any) -> None:
    for path in ("/health/", "/health/detailed", "/readyz", "/livez"):
        await witness.hold(client, "GET", path, path)
    assert await witness.hold(client, "GET", "/health/{probe}", "/health/well") == 200
    assert await witness.hold(client, "GET", "/health/{probe}", "/health/stuck") == 503
    assert await witness.hold(client, "GET", "/health/{probe}", "/health/none") == 404
    house.board.record("stuck", Reading(findings=[SICK]), 1.0)
    assert await witness.hold(client, "GET", "/health/{probe}", "/health/stuck") == 503
    house.board.record("stuck", Reading(findings=[Finding("x", Status.HEALTHY, "well")]), 1.0)
    house.board.record("stuck", Reading(findings=[Finding("x", Status.HEALTHY, "well")]), 1.0)
    for path in ("/health/", "/health/detailed", "/readyz"):
        assert await witness.hold(client, "GET", path, path) == 200


async def _acting(witness: Witness, house: House, client: Any) -> None:
    check, reload, configuration = "/health/{probe}/check", "/health/{probe}/reload", "/reload"
    for path, at in (
        (check, "/health/well/check"),
        (reload, "/health/well/reload"),
        (configuration, "/reload"),
    ):
        await _refusals(witness, house, client, path, at)
    for path in (check, reload):
        assert await witness.hold(client, "POST", path, path.format(probe="none"), headers=KEY) == 404
        watches, house.parts.watches = house.parts.watches, {}
        assert await witness.hold(client, "POST", path, path.format(probe="well"), headers=KEY) == 503
        house.parts.watches = watches
    await _checks(witness, house, client, check)
    await _reloads(witness, house, client, reload)
    await _configuration(witness, house, client)


async def _refusals(witness: Witness, house: House, client: Any, path: str, at: str) -> None:
    await _not_admitted(witness, house, client, path, at)
    assert await witness.hold(client, "POST", path, f"{at}?nonsense=1", headers=KEY) == 400


async def _not_admitted(witness: Witness, house: House, client: Any, path: str, at: str) -> None:
    assert await witness.hold(client, "POST", path, at) == 401
    house.let_in()
    assert await witness.hold(client, "POST", path, at, headers={"Via": "1.1 proxy"}) == 403
    house.let_in("sesame-0123456789")
    assert await witness.hold(client, "POST", path, at, headers=KEY, data=b"x" * 11) == 413

    async def never() -> Any:
        yield b"x"
        await asyncio.sleep(GIVE_UP)

    with impatience(house):
        assert await witness.hold(client, "POST", path, at, headers=KEY, data=never()) == 408


async def _checks(witness: Witness, house: House, client: Any, path: str) -> None:
    assert await witness.hold(client, "POST", path, "/health/well/check", headers=KEY) == 200
    house.watches["well"].hold = asyncio.Event()
    with impatience(house):
        assert await witness.hold(client, "POST", path, "/health/well/check", headers=KEY) == 504


@contextmanager
def impatience(house: House) -> Iterator[None]:
    """Let no request take its time, and no other be late for that."""
    before = house.settings
    hasty = before.api.model_copy(update={"request_timeout": 0.05})
    house.settings = before.model_copy(update={"api": hasty})
    yield
    house.settings = before


async def _reloads(witness: Witness, house: House, client: Any, path: str) -> None:
    at = "/health/well/reload"
    assert await witness.hold(client, "POST", path, at, headers=KEY) == 202
    assert await witness.hold(client, "GET", "/health/{probe}", "/health/well") == 200
    assert await witness.hold(client, "POST", path, at, headers=KEY) == 409
    house.watches["well"].end(ReloadRefused("not good enough"))
    assert await witness.hold(client, "GET", "/health/{probe}", "/health/well") == 200
    house.watches["well"].ends_with = "done it"
    assert await witness.hold(client, "POST", path, f"{at}?wait=1", headers=KEY) == 200
    house.watches["well"].ends_with = ReloadRefused("not good enough")
    assert await witness.hold(client, "POST", path, f"{at}?wait=1", headers=KEY) == 409
    assert await witness.hold(client, "POST", path, "/health/stuck/reload", headers=KEY) == 405


async def _configuration(witness: Witness, house: House, client: Any) -> None:
    assert await witness.hold(client, "POST", "/reload", "/reload", headers=KEY) == 200

    async def bad() -> Any:
        raise ConfigurationError([ConfigIssue("api.port", "no")])

    house.reloading = bad
    assert await witness.hold(client, "POST", "/reload", "/reload", headers=KEY) == 409


async def _predicting(witness: Witness, house: House, client: Any) -> None:
    oracle: Any = house.watches["model"].predictor
    for path, at in (("/invocations", "/invocations"), ("/invocations/{probe}", "/invocations/model")):
        await _not_admitted(witness, house, client, path, at)
        assert await witness.hold(client, "POST", path, at, headers=KEY, data=b"1") == 200
        for code in (400, 413, 415, 429, 500, 503, 504):
            oracle.failure = PredictionError(code, "not so; otherwise")
            assert await witness.hold(client, "POST", path, at, headers=KEY) == code
        oracle.failure = None
        configured, house.parts.configured = house.parts.configured, ()
        assert await witness.hold(client, "POST", path, at, headers=KEY) == 404
        house.parts.configured = configured


async def _readiness(witness: Witness, house: House, client: Any) -> None:
    model: tuple[str, str | URL] = (
        "/v2/models/{model}/ready",
        URL("/v2/models/wine%2Fred/ready", encoded=True),
    )
    questions: list[tuple[str, str | URL]] = [
        (path, path) for path in ("/ping", "/version", "/v2/health/live", "/v2/health/ready")
    ]
    for path, at in (*questions, model):
        assert await witness.hold(client, "GET", path, at) == 200
    house.draining = True
    for path, at in (questions[0], questions[3], model):
        assert await witness.hold(client, "GET", path, at) == 503
    house.draining, configured, house.parts.configured = False, house.parts.configured, ()
    for path, at in (*questions[:2], questions[3], model):
        assert await witness.hold(client, "GET", path, at) == 404
    house.parts.configured = configured


async def _about(witness: Witness, house: House, client: Any) -> None:
    for path in ("/info", "/", "/openapi.json", "/metrics", "/health/history"):
        assert await witness.hold(client, "GET", path, path) == 200
    assert await witness.hold(client, "GET", "/health/history", "/health/history?since=soon") == 400
    browser = {"Accept": "text/html"}
    assert await witness.hold(client, "GET", "/", "/", headers=browser) == 200
    async with client.get("/", headers=browser) as answer:
        known = browser | {"If-None-Match": answer.headers["ETag"]}
    assert await witness.hold(client, "GET", "/", "/", headers=known) == 304
    house.metrics.failure = RuntimeError("a bug")
    assert await witness.hold(client, "GET", "/metrics", "/metrics") == 500
    for folder, script in (("docs", "swagger-ui.css"), ("redoc", "redoc.standalone.js")):
        assert await witness.hold(client, "GET", f"/{folder}", f"/{folder}") == 404
        assert await witness.hold(client, "GET", f"/{folder}/{{file}}", f"/{folder}/{script}") == 404
    house.settings = house.settings.model_copy(update={"debug": True, "metrics": _off(house)})
    for folder, script in (("docs", "swagger-ui.css"), ("redoc", "redoc.standalone.js")):
        assert await witness.hold(client, "GET", f"/{folder}", f"/{folder}") == 200
        assert await witness.hold(client, "GET", f"/{folder}/{{file}}", f"/{folder}/{script}") == 200
    assert await witness.hold(client, "GET", "/metrics", "/metrics") == 404


async def _refused_readers(witness: Witness, house: House, client: Any) -> None:
    for path, operations in witness.document["paths"].items():
        if "get" not in operations:
            continue
        at = path.format(probe="well", model="wine", file="x")
        twice = [("Origin", "http://a.example"), ("Origin", "http://b.example")]
        assert await witness.hold(client, "GET", path, at, headers=twice) == 400
        if path not in ("/livez", "/readyz", "/ping"):
            assert await witness.hold(client, "GET", path, at, headers={"Host": "evil.example"}) == 403
            before = house.settings
            house.settings = before.model_copy(
                update={"api": before.api.model_copy(update={"reading": "key"})}
            )
            assert await witness.hold(client, "GET", path, at) == 401
            house.settings = before


def _off(house: House) -> Any:
    return house.settings.metrics.model_copy(update={"enabled": False})


def _described(document: Any) -> Iterator[tuple[str, str, int]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for code in operation["responses"]:
                yield method.upper(), path, int(code)


def test_the_words_of_status_and_advice_are_those_of_the_contract() -> None:
    assert get_args(schemas.StatusWord) == tuple(map(str, Status))
    assert get_args(schemas.AdviceWord) == tuple(map(str, Advice))


def test_the_document_lists_every_route_with_its_codes() -> None:
    rows = re.findall(
        r"^\| `(GET|POST) (\S+)` \|.*\| ([0-9 ]+) \|$", DOCUMENT.read_text("utf-8"), re.MULTILINE
    )
    listed = {(method, path): set(map(int, codes.split())) for method, path, codes in rows}
    assert listed == {
        (route.method, route.path): {answer.code for answer in route.answers} - {500} for route in routes()
    }


def test_the_document_lists_every_key_of_every_answer() -> None:
    text = DOCUMENT.read_text("utf-8")
    listed = {
        name: set(re.findall(r"`(\w+)`", keys))
        for name, keys in re.findall(r"^\| (\w+) \| ((?:`\w+`\??,? ?)+) \|", text, re.MULTILINE)
    }
    assert listed == {name: set(found.__annotations__) for name, found in TYPES.items()}


def test_the_document_marks_the_keys_that_may_be_missing() -> None:
    text = DOCUMENT.read_text("utf-8")
    for name, found in TYPES.items():
        (row,) = re.findall(rf"^\| {name} \| (.*?) \|", text, re.MULTILINE)
        assert set(re.findall(r"`(\w+)`\?", row)) == set(found.__optional_keys__), name


@pytest.mark.parametrize("name", sorted(TYPES))
def test_every_answer_says_what_it_is(name: str) -> None:
    assert TYPES[name].__doc__
