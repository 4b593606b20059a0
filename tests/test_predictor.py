"""Predictors from their tables to a real daemon: a stranger's, which comes in by an entry point."""

import threading
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from mlopsd.config import probes
from mlopsd.config.errors import ConfigurationError
from mlopsd.config.load import load
from mlopsd.config.plugins import Plugin, PluginError
from mlopsd.config.probes import default_predictor
from mlopsd.daemon.preflight import keyless
from mlopsd.predictor import Prediction, Predictor, PredictorOptions
from mlopsd.probe import Options, Reading
from tests.installed import installed
from tests.keys import line_of
from tests.running import GIVE_UP, Answer, Running

NO_CHOICE = (
    "probes.side: POST /invocations can go to [probes.front], [probes.back] or [probes.side], "
    "and none is the default; set default = true in one table"
)
TWO_CHOICES = (
    "probes.side.default = true: POST /invocations has only one default, but [probes.front] is one too; "
    "keep one"
)
JSON = {"Content-Type": "application/json"}
CAVE = '[probes.{name}]\nuse = "cave"\nmodel = "{name}s"\n'


class Plain(Predictor):
    """All that a predictor needs to be configured."""

    @property
    def served_version(self) -> str | None:
        return None

    async def check(self) -> Reading:
        return Reading()

    async def predict(self, body: bytes, content_type: str) -> Prediction:
        return Prediction(body, content_type)


class Mute(Plain):
    """It declares no model."""

    Options = Options


class Blocking(Plain):
    """Its check would hold the loop."""

    def check(self) -> Reading:  # type: ignore[override]
        return Reading()


class Unable(Predictor):
    """It cannot predict."""

    async def check(self) -> Reading:
        return Reading()


class Versionless(Unable):
    """It does not say what it serves."""

    async def predict(self, body: bytes, content_type: str) -> Prediction:
        return Prediction(body, content_type)


class PredictsAtOnce(Plain):
    """Its prediction would hold the loop."""

    def predict(self, body: bytes, content_type: str) -> Prediction:  # type: ignore[override]
        return Prediction(body, content_type)


class ReconfiguresAtOnce(Plain):
    """Nothing can wait for its new options."""

    def reconfigure(self, options: PredictorOptions) -> bool:  # type: ignore[override]
        return True


class VersionMethod(Plain):
    """Its version is a method, which is true whatever it returns."""

    def served_version(self) -> str | None:  # type: ignore[override]
        return None


class VersionCoroutine(Plain):
    """Its version is a coroutine, which is true too."""

    @property
    async def served_version(self) -> str | None:  # type: ignore[override]
        return None


def caves(*names: str, default: tuple[str, ...] = ()) -> str:
    return "".join(CAVE.format(name=name) + "default = true\n" * (name in default) for name in names)


def configure(folder: Path, text: str, target: str = "Plain") -> Any:
    path = folder / "config.toml"
    path.write_text(text, "utf-8")
    return probes.configure(load(path, {}, {}), [Plugin("cave", f"{__name__}:{target}")])


@pytest.mark.parametrize(
    ("names", "default", "chosen"),
    [
        (("front",), (), "front"),
        (("front",), ("front",), "front"),
        (("front", "back"), ("back",), "back"),
        (("front", "back", "side"), ("side",), "side"),
    ],
)
def test_the_default_is_the_only_one_or_the_one_that_says_so(
    names: tuple[str, ...], default: tuple[str, ...], chosen: str, tmp_path: Path
) -> None:
    found = default_predictor(configure(tmp_path, caves(*names, default=default)))
    assert found is not None
    assert found.name == chosen


def test_a_table_that_rests_is_no_rival(tmp_path: Path) -> None:
    found = default_predictor(configure(tmp_path, caves("front", "back") + "enabled = false\n"))
    assert found is not None
    assert found.name == "front"


@pytest.mark.parametrize(
    ("default", "line"),
    [((), NO_CHOICE), (("front", "side"), TWO_CHOICES)],
)
def test_no_choice_and_two_choices_are_one_line_with_every_rival(
    default: tuple[str, ...], line: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        configure(tmp_path, caves("front", "back", "side", default=default))
    assert str(caught.value) == f"{tmp_path / 'config.toml'}: {line}"


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_what_predicts_runs_on_the_loop_and_nowhere_else(isolation: str, tmp_path: Path) -> None:
    (fine,) = configure(tmp_path, caves("front"))
    assert fine.isolation == "loop"
    with pytest.raises(ConfigurationError) as caught:
        configure(tmp_path, f'{caves("front")}isolation = "{isolation}"\n')
    line = 'a probe that predicts runs on the event loop; write "loop" or remove the key'
    assert str(caught.value).endswith(f"probes.front.isolation = '{isolation}': {line}")


@pytest.mark.parametrize(
    ("target", "complaint"),
    [
        ("Mute", "are not a subclass of mlopsd.predictor.PredictorOptions"),
        ("Blocking", "predicts, but its check() is not a coroutine; write async def check"),
        ("Unable", "predicts, but has no predict; write one"),
        ("Versionless", "predicts, but has no served_version; write one"),
        (
            "PredictsAtOnce",
            "PredictsAtOnce is not a coroutine; write async def predict",
        ),
        ("ReconfiguresAtOnce", "is not a coroutine; write async def reconfigure"),
        ("VersionMethod", "is a method, which is always true; write @property above it"),
        ("VersionCoroutine", "is a coroutine, which is always true; write def served_version"),
    ],
)
def test_a_predictor_that_lacks_what_it_needs_is_not_loaded(target: str, complaint: str) -> None:
    with pytest.raises(PluginError, match=complaint.replace("(", r"\(").replace(")", r"\)")):
        Plugin("cave", f"{__name__}:{target}").load()


@pytest.fixture
def start(strange_path: Path, tmp_path: Path) -> Callable[[str], Running]:
    """Starts a daemon in which the stranger's predictor is installed, for whoever asks it."""
    environment = installed(tmp_path, {"cave": "echoing:Echo"}, strange_path)
    environment["MLOPSD_API__PREDICTIONS"] = "open"
    return lambda text: Running(tmp_path, text, environment=environment)


def predict(daemon: Running, path: str = "/invocations", **more: Any) -> Answer:
    return daemon.ask("POST", path, JSON, body=b"[1]", **more)


def test_a_third_partys_predictor_answers_over_every_door(start: Callable[[str], Running]) -> None:
    with start(caves("front", "back", default=("back",))) as daemon:
        for local in (False, True):
            answer = predict(daemon, local=local)
            assert (answer.status, answer.json) == (200, {"echo": [1]})
        assert predict(daemon, "/invocations/front").status == 200
        assert (
            daemon.ask("POST", "/invocations", body=b"1").json["detail"]
            == "'' has no echo; send application/json"
        )
        assert daemon.get("/ping").body == b"\n"
        assert daemon.get("/v2/health/ready").json == {"ready": True}
        assert daemon.get("/v2/models/fronts/ready").json == {"name": "fronts", "ready": True}
        count = 'mlopsd_http_requests_total{method="POST",route="/invocations",status="200"} 2'
        assert count in daemon.get("/metrics").body.decode()
        logged = daemon.wait_for(lambda line: line["event"] == "request")
        assert daemon.events("request") == [logged]
        assert (logged["route"], logged["status"]) == ("/invocations", 415)


def test_a_changed_table_is_taken_up_and_a_choice_that_is_none_is_refused(
    start: Callable[[str], Running],
) -> None:
    with start(caves("front")) as daemon:
        assert predict(daemon).json == {"echo": [1]}
        daemon.config.write_text(daemon.framed(caves("front", "back")), "utf-8")
        answer = daemon.ask("POST", "/reload", local=True)
        assert answer.status == 409
        (line,) = answer.json["mistakes"]
        assert "[probes.front] or [probes.back]" in line
        assert predict(daemon).json == {"echo": [1]}
        daemon.config.write_text(daemon.framed(caves("front") + 'voice = "reply"\n'), "utf-8")
        assert daemon.ask("POST", "/reload", local=True).status == 200
        assert wait_until(lambda: predict(daemon), lambda answer: answer.status != 503).json == {"reply": [1]}
        daemon.config.write_text(daemon.framed(caves("back")), "utf-8")
        assert daemon.ask("POST", "/reload", local=True).status == 200
        assert wait_until(lambda: predict(daemon), lambda answer: answer.status != 503).json == {"echo": [1]}
        assert predict(daemon, "/invocations/front").status == 404


def test_a_prediction_in_flight_is_answered_before_the_end(
    start: Callable[[str], Running], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    with start(f'{caves("front")}gate = "{gate}"\n') as daemon:
        answers: list[Answer] = []
        asking = threading.Thread(target=lambda: answers.append(predict(daemon)))
        asking.start()
        wait_until(gate.with_suffix(".asked").exists, bool)
        daemon.process.terminate()
        daemon.wait_for(lambda line: line["event"] == "stopping")
        gate.touch()
        asking.join(GIVE_UP)
        assert daemon.process.wait(GIVE_UP) == 0
    assert [(answer.status, answer.json) for answer in answers] == [(200, {"echo": [1]})]


def test_a_daemon_that_stops_predicts_until_balancers_have_noticed(start: Callable[[str], Running]) -> None:
    with start(f"[api]\ndrain_delay = 20\n{caves('front')}") as daemon:
        daemon.process.terminate()
        daemon.wait_for(lambda line: line["event"] == "stopping")
        assert daemon.get("/ping").status == 503
        assert predict(daemon).status == 200


def test_version_is_that_of_the_mlflow_that_is_installed(start: Callable[[str], Running]) -> None:
    try:
        expected = (200, version("mlflow"))
    except PackageNotFoundError:
        expected = (404, "pip install 'mlopsd[model]'")
    with start(caves("front")) as daemon:
        answer = daemon.get("/version")
    assert answer.status == expected[0]
    assert expected[1] in answer.body.decode()


def wait_until(ask: Callable[[], Any], wanted: Callable[[Any], bool], seconds: float = GIVE_UP) -> Any:
    """What *ask* says as soon as it is *wanted*."""
    deadline = time.monotonic() + seconds
    while not wanted(found := ask()):
        assert time.monotonic() < deadline, found
        time.sleep(0.01)
    return found


def test_where_nobody_can_ask_over_tcp_that_is_logged_once_at_the_start(
    strange_path: Path, tmp_path: Path
) -> None:
    environment = installed(tmp_path, {"cave": "echoing:Echo"}, strange_path)
    with Running(tmp_path, caves("front"), environment=environment) as daemon:
        refusal = predict(daemon)
        assert refusal.status == 403
        daemon.logged("configuration warning")
        (logged,) = daemon.events("configuration warning")
        for text in (logged["warning"], refusal.json["detail"]):
            assert all(fix in text for fix in ("api_keys_file", 'predictions = "open"', "Unix socket"))
        assert predict(daemon, local=True).status == 200


@pytest.mark.parametrize(
    ("api", "doubts"),
    [
        ("", 1),
        ('predictions = "open"', 0),
        (f'api_keys = ["{line_of()}"]', 0),
        ('predictions = "key"', 1),
    ],
)
def test_a_doubt_is_only_where_a_model_is_configured_and_no_key(
    api: str, doubts: int, tmp_path: Path
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f"[api]\n{api}\n{caves('front')}", "utf-8")
    loaded = load(path, {}, {})
    able = probes.configure(loaded, [Plugin("cave", f"{__name__}:Plain")])
    assert len(list(keyless(loaded, able))) == doubts
    assert not list(keyless(loaded, ()))
