"""Predictions through the application: who may have them, whose they are, and what else can come back."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from mlopsd.config.schema import Api
from mlopsd.peer import Credentials
from mlopsd.predictor import PredictionError
from mlopsd.probe import Finding, Reading, Status
from mlopsd.web.access import callers
from mlopsd.web.server.connection import Timeouts
from mlopsd.web.server.listener import Listener
from tests.running import GIVE_UP
from tests.web.fakes import House, until

KEY = {"X-API-Key": "sesame-0123456789"}
JSON = {"Content-Type": "application/json"}
BY_DEFAULT = "/invocations"
WELL = Reading(findings=[Finding("canary", Status.HEALTHY, "the canary sings")])
PAGE = "https://grafana.example"


def a_house(predictions: str = "open", **tables: Any) -> House:
    house = House(api={"predictions": predictions, **tables.pop("api", {})}, **tables)
    house.oracle("model", default=True)
    return house


def oracle(house: House, name: str = "model") -> Any:
    return house.watches[name].predictor


async def post(client: aiohttp.ClientSession, path: str = BY_DEFAULT, **more: Any) -> Any:
    async with client.post(path, **{"data": b"1", **more}) as answer:
        await answer.read()
        return answer


async def test_a_prediction_is_what_the_probe_says_to_what_was_sent() -> None:
    house = a_house()
    sent: dict[str, Any] = {
        "data": b'{"inputs": [1]}',
        "headers": {"Content-Type": "application/json; format=pandas"},
    }
    async with house.on_tcp() as client:
        for path in (BY_DEFAULT, "/invocations/model"):
            async with client.post(path, **sent) as answer:
                assert (answer.status, answer.content_type) == (200, "application/json")
                assert await answer.read() == b'{"predictions": [{"inputs": [1]}]}'
    assert oracle(house).asked == [(b'{"inputs": [1]}', "application/json; format=pandas")] * 2


async def test_a_body_without_a_type_is_for_the_probe_to_judge() -> None:
    house = a_house()
    async with house.on_tcp() as client:
        await post(client, skip_auto_headers=["Content-Type"])
    assert oracle(house).asked == [(b"1", "")]


@pytest.mark.parametrize(
    ("code", "after", "header"),
    [
        *((code, None, None) for code in (400, 413, 415, 500, 504)),
        *((429, None, "5"), (429, 2.5, "3"), (503, 60, "60")),
    ],
)
async def test_no_prediction_is_a_problem_with_its_code_and_when_to_ask_again(
    code: int, after: float | None, header: str | None
) -> None:
    house = a_house()
    oracle(house).failure = PredictionError(code, "the field 'ash' is missing; send it", after)
    async with house.on_tcp() as client, client.post(BY_DEFAULT) as answer:
        problem = await answer.json(content_type="application/problem+json")
    assert answer.status == problem["status"] == code
    assert problem["detail"] == "the field 'ash' is missing; send it"
    assert answer.headers.get("Retry-After") == header


async def test_a_probe_that_raises_anything_else_is_a_500_that_reveals_nothing() -> None:
    house = a_house()
    oracle(house).failure = ZeroDivisionError("secret input")
    async with house.on_tcp() as client, client.post(BY_DEFAULT) as answer:
        assert answer.status == 500
        assert "secret" not in await answer.text()
    assert house.metrics.errors == ["http"]


async def test_a_prediction_may_take_longer_than_the_request_timeout() -> None:
    house = a_house(api={"request_timeout": 0.5})
    oracle(house).hold = asyncio.Event()
    async with house.on_tcp() as client:
        asking = asyncio.ensure_future(post(client))
        await until(lambda: oracle(house).asked)
        await asyncio.sleep(1)  # twice the timeout
        oracle(house).hold.set()
        assert (await asking).status == 200


async def test_a_caller_who_hangs_up_disturbs_nobody() -> None:
    house = a_house()
    oracle(house).hold = asyncio.Event()
    async with house.serving(Listener.tcp("127.0.0.1", 0)) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n1")
        await until(lambda: oracle(house).asked)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{listener.port}") as client:
            other = asyncio.ensure_future(post(client, data=b"2"))
            await until(lambda: len(oracle(house).asked) == 2)
            writer.close()
            await writer.wait_closed()
            oracle(house).hold.set()
            assert (await other).status == 200
            await until(lambda: oracle(house).answered == 2)
            assert (await post(client)).status == 200
    assert house.metrics.errors == []
    assert reader.at_eof()


@pytest.mark.parametrize("path", [BY_DEFAULT, "/invocations/model"])
async def test_a_prediction_is_posted(path: str) -> None:
    async with a_house().on_tcp() as client, client.get(path) as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")


async def test_without_a_name_the_only_predictor_answers_whatever_it_is_called() -> None:
    house = House(api={"predictions": "open"})
    house.watch("system", WELL)
    house.oracle("wine")
    async with house.on_tcp() as client:
        assert (await post(client)).status == 200
    assert oracle(house, "wine").answered == 1


async def test_without_a_name_the_default_answers_and_by_name_each() -> None:
    house = a_house()
    house.oracle("challenger")
    async with house.on_tcp() as client:
        assert (await post(client)).status == 200
        assert oracle(house).answered == 1
        assert (await post(client, "/invocations/challenger")).status == 200
    assert (oracle(house).answered, oracle(house, "challenger").answered) == (1, 1)


async def test_while_the_default_is_replaced_no_other_answers_for_it() -> None:
    house = a_house()
    house.oracle("challenger")
    del house.watches["model"]
    async with house.on_tcp() as client:
        for path in (BY_DEFAULT, "/invocations/model"):
            async with client.post(path) as answer:
                assert answer.status == 503
                assert int(answer.headers["Retry-After"]) >= 1
                assert "is being made or replaced; try again" in (await answer.json())["detail"]
    assert oracle(house, "challenger").asked == []


async def test_before_its_first_check_a_probe_is_not_there_yet() -> None:
    house = a_house()
    house.watches["model"].predictor = None
    async with house.on_tcp() as client:
        assert (await post(client)).status == 503


async def test_a_probe_that_does_not_predict_is_404_with_the_nearest_that_does() -> None:
    house = a_house()
    house.watch("system", WELL)
    async with house.on_tcp() as client:
        for name, hint in (("system", "there is 'model'"), ("modle", "did you mean 'model'?")):
            async with client.post(f"/invocations/{name}") as answer:
                assert answer.status == 404
                assert (await answer.json())["detail"] == f"no probe '{name}' predicts; {hint}"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("POST", path) for path in (BY_DEFAULT, "/invocations/model")),
        *(("GET", path) for path in ("/ping", "/version", "/v2/health/ready", "/v2/models/wine/ready")),
    ],
)
async def test_where_nothing_predicts_that_is_404_with_the_fix(method: str, path: str) -> None:
    house = House(api={"predictions": "open"})
    house.watch("system", WELL)
    async with house.on_tcp() as client, client.request(method, path) as answer:
        assert answer.status == 404
        assert "add a table [probes.model]" in (await answer.json())["detail"]


CODES = {  # by rule, and whether keys are configured: without, with the right, with a wrong key
    ("key", False): (403, 403, 403),
    ("key", True): (401, 200, 401),
    ("open", False): (200, 200, 200),
    ("open", True): (200, 200, 200),
}


@pytest.mark.parametrize(("rule", "keys"), CODES)
@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("origin", [{}, {"Origin": "http://evil.example"}, {"X-Forwarded-For": "10.0.0.1"}])
async def test_over_tcp_the_rule_and_the_keys_decide_and_nothing_else(
    rule: str,
    *,
    keys: bool,
    debug: bool,
    origin: Mapping[str, str],
) -> None:
    house = a_house(rule, debug=debug)
    house.let_in(*(("sesame-0123456789",) if keys else ()))
    async with house.on_tcp() as client:
        codes = [
            (await post(client, headers={**origin, **key})).status
            for key in ({}, KEY, {"Authorization": "Bearer open"})
        ]
    assert tuple(codes) == CODES[rule, keys]
    assert oracle(house).answered == codes.count(200)


async def test_without_a_rule_a_key_is_needed() -> None:
    house = House()
    house.oracle("model", default=True)
    async with house.on_tcp() as client:
        assert (await post(client)).status == 403
        house.let_in("sesame-0123456789")
        assert (await post(client)).status == 401
        assert (await post(client, headers=KEY)).status == 200


async def test_where_no_key_is_set_the_refusal_names_each_fix() -> None:
    async with a_house("key").on_tcp() as client, client.post(BY_DEFAULT) as answer:
        assert answer.status == 403
        assert (await answer.json())["detail"] == (
            "cannot predict over TCP: no API key is set; "
            'set [api] api_keys_file, or predictions = "open", or use the Unix socket'
        )


async def test_who_may_predict_may_not_act() -> None:
    async with a_house("open").on_tcp() as client:
        assert (await post(client)).status == 200
        assert (await client.post("/health/model/check")).status == 403


@pytest.mark.parametrize(("rule", "code"), [("key", 403), ("open", 200)])
async def test_on_the_unix_socket_another_user_needs_the_rule_to_be_open(
    rule: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callers, "credentials", lambda _: Credentials(54321, frozenset({54321})))
    house = a_house(rule)
    house.let_in("sesame-0123456789")
    async with house.on_socket(tmp_path / "s") as client:
        assert (await post(client, headers=KEY)).status == code


@pytest.mark.parametrize("rule", ["key", "open"])
async def test_on_the_unix_socket_the_daemons_own_user_needs_no_key(rule: str, tmp_path: Path) -> None:
    house = a_house(rule)
    house.let_in("sesame-0123456789")
    async with house.on_socket(tmp_path / "s") as client:
        assert (await post(client)).status == 200


async def test_a_body_is_not_read_from_a_caller_who_may_not() -> None:
    house = a_house("key")
    house.let_in("sesame-0123456789")
    async with house.serving(Listener.tcp("127.0.0.1", 0)) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(
            b"POST /invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nConnection: close\r\n\r\n"
        )
        assert b" 401 " in await reader.readline()
        writer.close()


async def test_a_configured_origin_predicts_with_a_key_or_where_all_may() -> None:
    house = a_house("key", api={"cors_origins": [PAGE]})
    house.let_in("sesame-0123456789")
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-api-key, content-type",
    }
    async with house.on_tcp() as client:
        async with client.options(BY_DEFAULT, headers={"Origin": PAGE, **asked}) as answer:
            assert answer.status == 200
            assert answer.headers["Access-Control-Allow-Origin"] == PAGE
        assert (await post(client, headers={"Origin": PAGE})).status == 401
        answer = await post(client, headers={"Origin": PAGE, **JSON, **KEY})
        assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, PAGE)
        house.settings = house.settings.model_copy(update={"api": Api(predictions="open")})
        assert (await post(client, headers={"Origin": PAGE})).status == 200


async def test_a_body_over_the_limit_is_413_and_never_asked() -> None:
    house = a_house(api={"max_body_size": 100})
    async with house.on_tcp(Timeouts(linger=0.05)) as client:
        assert (await post(client, data=b"x" * 100)).status == 200
        assert (await post(client, data=b"x" * 101)).status == 413
    assert len(oracle(house).asked) == 1


async def test_a_body_that_does_not_come_is_408_and_never_asked() -> None:
    house = a_house(api={"request_timeout": 0.05})

    async def never() -> Any:
        yield b"x"
        await asyncio.sleep(GIVE_UP)

    async with house.on_tcp(Timeouts(linger=0.05)) as client:
        assert (await post(client, data=never())).status == 408
    assert oracle(house).asked == []


async def test_while_balancers_have_not_noticed_the_stop_predictions_are_answered() -> None:
    house = a_house()
    oracle(house).hold = asyncio.Event()
    async with house.on_tcp() as client:
        in_flight = asyncio.ensure_future(post(client))
        await until(lambda: oracle(house).asked)
        house.draining = True
        new = asyncio.ensure_future(post(client))
        await until(lambda: len(oracle(house).asked) == 2)
        oracle(house).hold.set()
        assert (await in_flight).status == 200
        assert (await new).status == 200


async def test_while_stopping_a_body_that_was_on_its_way_is_still_answered() -> None:
    house = a_house()
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> Any:
        yield b"1"
        arrived.set()
        await go_on.wait()
        yield b"2"

    async with house.on_tcp() as client:
        asking = asyncio.ensure_future(post(client, data=slowly()))
        await arrived.wait()
        await client.get("/livez")  # so that the head of the one before has been seen
        house.draining = True
        go_on.set()
        assert (await asking).status == 200


async def test_ping_is_mlflows_and_goes_by_every_predictor() -> None:
    house = a_house()
    house.oracle("challenger")
    async with house.on_tcp() as client:

        async def ping() -> int:
            async with client.get("/ping") as answer:
                assert await answer.read() == b"\n"
                assert ("Retry-After" in answer.headers) == (answer.status == 503)
                return int(answer.status)

        assert await ping() == 200
        oracle(house, "challenger").serving = None
        assert await ping() == 503
        oracle(house, "challenger").serving = "1"
        del house.watches["model"]
        assert await ping() == 503


async def test_ping_is_503_while_stopping() -> None:
    house = a_house()
    house.draining = True
    async with house.on_tcp() as client:
        assert (await client.get("/ping")).status == 503


@pytest.mark.parametrize(("installed", "code"), [("3.17.2", 200), (None, 404)])
async def test_version_is_that_of_mlflow_if_it_is_here(installed: str | None, code: int) -> None:
    house = a_house()
    house.info = replace(house.info, mlflow=installed)
    async with house.on_tcp() as client, client.get("/version") as answer:
        assert answer.status == code
        output = await answer.text()
    assert output == installed or "pip install 'mlopsd[model]'" in output


async def test_open_inference_asks_whether_the_server_is_live_and_ready() -> None:
    house = a_house()
    house.board.record("model", WELL, 0.1)

    async with house.on_tcp() as client:

        async def output(path: str) -> tuple[int, Any]:
            async with client.get(path) as answer:
                return answer.status, await answer.json()

        assert await output("/v2/health/live") == (200, {"live": True})
        assert await output("/v2/health/ready") == (200, {"ready": True})
        oracle(house).serving = None
        assert await output("/v2/health/ready") == (503, {"ready": False})
        oracle(house).serving = "3"
        house.watch("gpu", Reading(findings=[Finding("heat", Status.UNHEALTHY, "hot")]))
        assert await output("/v2/health/ready") == (503, {"ready": False})
        assert await output("/v2/models/wine/ready") == (200, {"name": "wine", "ready": True})


@pytest.mark.parametrize(
    "model",
    [
        "wine",
        "a b",
        "wine/red",
        "main.wines.red",
        "wine%2Fred",
        "%",
        "{wine}",
        "wïne",
        "酒",
        "?#&+;=",
        "..",
        "a\nb",
        "model.ready",
    ],
)
async def test_a_model_is_asked_for_by_its_registered_name_whatever_is_in_it(model: str) -> None:
    house = House()
    house.oracle("model", model)
    async with house.on_tcp() as client:
        base = str(client._base_url).rstrip("/")
        url = URL(f"{base}/v2/models/{quote(model, safe='')}/ready", encoded=True)
        async with client.get(url) as answer:
            assert (answer.status, await answer.json()) == (200, {"name": model, "ready": True})


async def test_a_model_of_two_probes_is_ready_if_either_serves() -> None:
    house = a_house()
    house.oracle("spare")
    oracle(house).serving = None
    async with house.on_tcp() as client:
        assert (await client.get("/v2/models/wine/ready")).status == 200
        oracle(house, "spare").serving = None
        assert (await client.get("/v2/models/wine/ready")).status == 503


async def test_a_model_that_is_being_replaced_is_not_ready_and_one_that_nobody_has_is_404() -> None:
    house = a_house()
    house.watches.clear()
    async with house.on_tcp() as client:
        assert (await client.get("/v2/models/wine/ready")).status == 503
        async with client.get("/v2/models/wines/ready") as answer:
            assert answer.status == 404
            assert (await answer.json())["detail"] == "no probe has a model 'wines'; did you mean 'wine'?"


async def test_predictions_are_counted_by_route_and_do_not_fill_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "mlopsd.http")
    house = a_house()
    async with house.on_tcp() as client:
        await post(client)
        await post(client, "/invocations/model")
        await post(client, "/invocations/none")
        await client.get("/v2/models/any%2Fthing/ready")
    assert house.metrics.requests == [
        ("POST", BY_DEFAULT, 200),
        ("POST", "/invocations/{probe}", 200),
        ("POST", "/invocations/{probe}", 404),
        ("GET", "/v2/models/{model}/ready", 404),
    ]
    levels = [record.levelno for record in caplog.records if record.name == "mlopsd.http"]
    assert levels == [logging.DEBUG, logging.DEBUG, logging.INFO, logging.INFO]
