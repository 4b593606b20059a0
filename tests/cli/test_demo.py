"""``mlopsd demo``: the folder, the training, and all of it with the daemon, as printed."""

import fcntl
import http.client
import json
import os
import queue
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from mlopsd.cli import demo_training
from mlopsd.cli.demo_folder import DemoFolder, default_folder
from mlopsd.cli.demo_next import PATIENT, Next
from mlopsd.cli.failure import Failure
from mlopsd.settings.load import load
from mlopsd_probes.model.demo.champion import champion
from tests.cli.command import environment, mlopsd, on_a_terminal
from tests.running import CALM_SYSTEM

REPOSITORY = Path(__file__).parents[2]
TRAINING_SECONDS = 120.0  # 12 s on two idle cores, most of it MLflow's imports and its tables
MISLEADING = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1", "MLFLOW_RUN_ID": "nobody's"}
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def folder(tmp_path: Path) -> DemoFolder:
    """A folder that is made, in a path that wants quotes everywhere."""
    made = DemoFolder(tmp_path / "a démo's")
    assert made.make()
    return made


@pytest.fixture(scope="module")
def set_up(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoFolder, str]:
    """A folder with a champion, and what its training wrote to a terminal."""
    folder = DemoFolder(tmp_path_factory.mktemp("demo") / "a démo's")
    status, text = on_a_terminal("demo", "--retrain", "--folder", folder.path, env=MISLEADING)
    assert status == 0, text
    return folder, text


@pytest.fixture
def trained(set_up: tuple[DemoFolder, str]) -> DemoFolder:
    return set_up[0]


def command(folder: DemoFolder, *words: str) -> list[str]:
    return [
        *(sys.executable, "-m", demo_training.TRAINING, str(folder.path)),
        *("--model", folder.MODEL, *words),
    ]


def train(folder: DemoFolder, *words: str) -> list[dict[str, Any]]:
    """What the training tells when it is started with *words*."""
    with subprocess.Popen(
        command(folder, *words),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder.path,
        env=environment(MISLEADING),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        told = [json.loads(line) for line in process.stdout]
        said = process.stderr.read()
    assert told, said
    return told


def asked_of_mlflow(folder: DemoFolder, question: str) -> Any:
    """The value of the expression *question* over ``client``, ``name`` and ``mlflow``, in another process."""
    program = (
        "import json, mlflow\n"
        "from sklearn.datasets import load_diabetes\n"
        f"mlflow.set_tracking_uri({folder.registry!r})\n"
        f"client, name = mlflow.MlflowClient(), {folder.MODEL!r}\n"
        f"print(json.dumps({question}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        cwd=folder.path,
    )
    return json.loads(done.stdout)


# The folder


def test_the_default_is_in_the_users_state_home() -> None:
    assert default_folder({"HOME": "/home/u"}) == Path("/home/u/.local/state/mlopsd-demo")
    assert default_folder({"HOME": "/home/u", "XDG_STATE_HOME": "/s"}) == Path("/s/mlopsd-demo")


def test_the_configuration_is_good_and_everything_in_it_is_in_the_folder(folder: DemoFolder) -> None:
    from mlopsd_probes.model.options import ModelOptions

    settings = load(folder.config, environment={}).settings
    assert settings.state_dir == folder.path / "state"
    assert settings.socket == folder.path / "mlopsd.sock"
    options = ModelOptions.model_validate(settings.probes["model"].own)
    assert options.model == folder.MODEL
    assert [registry.uri for registry in options.registries] == [f"sqlite:///{folder.path}/mlflow.db"]
    assert set(options.features) <= set(PATIENT)
    assert all(
        options.features[name].holds(value) for name, value in PATIENT.items() if name in options.features
    )


def test_a_configuration_that_was_changed_stays(folder: DemoFolder) -> None:
    folder.config.write_text("debug = false\n")
    assert not folder.make()
    assert folder.config.read_text() == "debug = false\n"


def test_a_folder_with_files_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    done = mlopsd("demo", "--folder", tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        f"mlopsd: cannot use the folder {tmp_path}: it holds files of others; "
        "choose an empty one with --folder\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = mlopsd("demo", "--folder", tmp_path / "file" / "demo")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "Not a directory; choose another with --folder" in line


def test_a_path_that_mlflow_would_misread_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"MLflow would misread '\?'"):
        DemoFolder(tmp_path / "what?").make()


# What it needs


@pytest.mark.parametrize(
    ("installed", "line"),
    [
        ({}, "mlflow is not installed; pip install 'mlopsd[demo]'"),
        ({"mlflow": "3.1.0"}, "scikit-learn is not installed; pip install 'mlopsd[demo]'"),
        ({"mlflow": "2.22.5"}, "mlflow 2.22.5 is older than 3; pip install 'mlflow>=3'"),
    ],
)
def test_what_is_not_installed_is_one_line_with_the_cure(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], line: str
) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(demo_training, "version", version)
    with pytest.raises(Failure, match="cannot train the demo's model") as failure:
        demo_training.check_packages()
    assert str(failure.value).endswith(line)


def test_the_cure_names_an_extra_that_there_is() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    extra = project["optional-dependencies"]["demo"]
    assert any(requirement.startswith("scikit-learn") for requirement in extra)
    assert any("model" in requirement and "system" in requirement for requirement in extra)


# The training


def test_a_terminal_sees_the_steps_and_what_came_of_it(set_up: tuple[DemoFolder, str]) -> None:
    drawn = set_up[1].split("\r\x1b[K")
    assert drawn[1] == "[------------------------] looking at what is there … 0 s"
    assert any(line.startswith("[####") and "making the registry … " in line for line in drawn)
    assert any("training the model … " in line for line in drawn)
    assert drawn[-1].startswith("trained version 1 of diabetes-progression (r2 0.")
    assert "is champion" in drawn[-1]


def test_a_champion_is_trained_and_logged_with_all_that_the_probe_asks_for(trained: DemoFolder) -> None:
    assert champion(trained.path / "mlflow.db", trained.MODEL) == "1"
    version, metrics, experiment, inputs, example, (prediction,), patient = asked_of_mlflow(
        trained,
        "[(version := client.get_model_version_by_alias(name, 'champion')).version,"
        " (run := client.get_run(version.run_id)).data.metrics,"
        " client.get_experiment(run.info.experiment_id).name,"
        " (model := mlflow.pyfunc.load_model(f'models:/{name}@champion'))"
        ".metadata.get_input_schema().input_names(),"
        " len(model.input_example),"
        " list(model.predict(row := load_diabetes(as_frame=True, scaled=False).data.head(1))),"
        " row.iloc[0].to_dict()]",
    )
    assert (str(version), experiment) == ("1", "mlopsd-demo")
    own = load(trained.config, environment={}).settings.probes["model"].own
    assert metrics["r2"] > own["thresholds"]["r2"]["min"]
    assert metrics["mean_absolute_error"] < own["thresholds"]["mean_absolute_error"]["max"]
    assert inputs == list(PATIENT)
    assert example == 3
    assert min(own["prediction"]["buckets"]) < prediction < max(own["prediction"]["buckets"])
    assert patient == PATIENT, "the printed patient is a real one"


def test_everything_is_kept_in_the_folder_and_nothing_half_made(trained: DemoFolder) -> None:
    found = {path.name for path in trained.path.iterdir()} - {"state", "training.log", "mlopsd.sock"}
    assert found == {".mlopsd-demo", "artifacts", "config.toml", "mlflow.db"}


def test_what_is_there_is_not_trained_again(trained: DemoFolder) -> None:
    began = time.monotonic()
    told = train(trained)
    assert time.monotonic() - began < 5, "MLflow alone takes 4 s"
    assert told == [{"step": "looking at what is there"}, {"version": "1", "metrics": None}]


def test_a_training_that_is_killed_at_any_step_is_finished_by_the_next(folder: DemoFolder) -> None:
    for step in ("making the registry", "registering the version"):
        kill_at(folder, step)
        assert champion(folder.path / "mlflow.db", folder.MODEL) is None
    assert train(folder)[-1]["version"] == "1"
    states = asked_of_mlflow(
        folder, "[run.info.status for run in client.search_runs(['0', '1'], order_by=['start_time'])]"
    )
    assert states[-1] == "FINISHED"
    assert "RUNNING" not in states


def kill_at(folder: DemoFolder, step: str) -> None:
    """Start the training, and kill it in the middle of *step*: of making tables, when there are some."""
    with subprocess.Popen(
        command(folder),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=folder.path,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line).get("step") == step:
                break
        while step == "making the registry" and not list(folder.path.glob(".*.part")):
            time.sleep(0.01)
        process.kill()


def test_a_version_without_an_alias_is_crowned_and_not_trained_again(trained: DemoFolder) -> None:
    asked_of_mlflow(trained, "client.delete_registered_model_alias(name, 'champion')")
    told = train(trained)
    assert told[-1] == {"version": "1", "metrics": None}
    assert {"step": "training the model"} not in told
    assert champion(trained.path / "mlflow.db", trained.MODEL) == "1"


def test_a_named_experiment_is_where_the_champion_comes_from(trained: DemoFolder) -> None:
    assert train(trained, "--experiment", "mlopsd-demo")[-1] == {"version": "1", "metrics": None}
    assert train(trained, "--experiment", "another")[-1]["version"] == "2"
    states = asked_of_mlflow(
        trained,
        "[client.get_experiment(client.get_run(version.run_id).info.experiment_id).name for version in"
        " client.search_model_versions(f\"name='{name}'\", order_by=['version_number ASC'])]"
        " + [client.set_registered_model_alias(name, 'champion', '1')]",
    )
    assert states == ["mlopsd-demo", "another", None]


def test_the_training_ends_with_whoever_started_it(folder: DemoFolder) -> None:
    with subprocess.Popen(
        command(folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdin.close()
        assert process.wait(20) == 1


def test_two_at_a_time_train_once(folder: DemoFolder) -> None:
    with (folder.path / ".mlopsd-demo").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(command(folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert b"looking" in process.stdout.readline()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1)
            process.kill()


def test_a_registry_that_cannot_be_used_is_one_line(folder: DemoFolder) -> None:
    (folder.path / "mlflow.db").write_text("this is no database, whatever MLflow would like it to be\n")
    done = mlopsd("demo", "--retrain", "--folder", folder.path, seconds=TRAINING_SECONDS)
    assert done.returncode == 1
    failed = done.stderr.splitlines()[-1]
    assert failed.startswith("mlopsd: cannot set up the demo: ")
    assert failed.endswith(f"; see {folder.log}")
    assert "Traceback" not in done.stderr


# All of it


class Demo:
    """``mlopsd demo`` in *folder*, with what it prints."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        command = [sys.executable, "-m", "mlopsd", "demo", "--folder", str(folder), *words]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment()
        )
        self.lines: list[str] = []
        self._coming: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def until(self, wanted: Callable[[str], bool], seconds: float = TRAINING_SECONDS) -> str:
        """The first line from now on that is *wanted*."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._coming.get(timeout=max(deadline - time.monotonic(), 0.01))
            except queue.Empty:
                pytest.fail("not printed; printed:\n" + "".join(self.lines))
            self.lines.append(line)
            if wanted(line):
                return line
            assert line, "it has ended; printed:\n" + "".join(self.lines)

    @property
    def commands(self) -> list[str]:
        """What it says is worth trying."""
        return [line.strip() for line in self.lines if line.startswith(("  curl ", "  /", "  mlopsd "))]

    def stop(self) -> int:
        """End it as Ctrl-C does; its exit status."""
        self.process.send_signal(signal.SIGINT)
        status = self.process.wait(20)
        self._reader.join(5)
        return status

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(5)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._coming.put(line)
        self._coming.put("")


@contextmanager
def demo(folder: Path, port: int) -> Iterator[Demo]:
    """The demo as soon as its daemon listens, which is after it has said all that it says itself."""
    with closing(Demo(folder, "--port", str(port))) as running:
        running.until(lambda line: line.startswith("Ctrl-C ends"))
        running.until(lambda line: " listening " in line)
        yield running


def tried(line: str) -> str:
    """What *line*, given to a shell, prints."""
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=TRAINING_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def model(port: int, wanted: Callable[[dict[str, Any]], bool], seconds: float = 60) -> dict[str, Any]:
    """The model's reading, as soon as it is *wanted*."""
    deadline = time.monotonic() + seconds
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        with closing(connection):
            connection.request("GET", "/health/model")
            reading: dict[str, Any] = json.loads(connection.getresponse().read())
        if wanted(reading):
            return reading
        assert time.monotonic() < deadline, reading
        time.sleep(0.2)


def serves(number: str) -> Callable[[dict[str, Any]], bool]:
    def wanted(reading: dict[str, Any]) -> bool:
        served = reading.get("facts", {}).get("served") or {}
        return reading["status"] == "healthy" and served.get("version") == number

    return wanted


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def calm(path: Path) -> None:
    """Change the configuration in *path*: no busy host may fail a test."""
    folder = DemoFolder(path)
    folder.make()
    folder.config.write_text(folder.config.read_text().replace("\n[probes.system]\n", CALM_SYSTEM))


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose socket has a path that is short enough."""
    return tmp_path_factory.mktemp("d") / "my demo"


def test_it_all_works_as_printed(short: Path) -> None:
    port = free_port()
    calm(short)
    with demo(short, port) as running:
        model(port, serves("1"))
        health, prediction, retrain = running.commands
        assert tried(health).startswith("HTTP/1.1 200 OK\n")
        (first,) = json.loads(tried(prediction))["predictions"]
        assert 25 < first < 346
        assert "--folder" in retrain, "it is not where the demo is by default"
        told = tried(retrain)
        assert "version 2 of diabetes-progression" in told
        model(port, serves("2"))
        (second,) = json.loads(tried(prediction))["predictions"]
        assert second != first
        status, reload = [line.strip() for line in told.splitlines() if line.startswith("  MLOPSD_CONFIG=")]
        assert "model" in tried(status)
        assert tried(reload)
        assert running.stop() == 0


def test_run_again_it_starts_from_what_is_there_with_what_was_changed_and_only_once(short: Path) -> None:
    port = free_port()
    with demo(short, port) as first:
        model(port, serves("1"))
        assert any("wrote" in line for line in first.lines)
        assert first.stop() == 0
    calm(short)
    began = time.monotonic()
    with demo(short, port) as second:
        assert time.monotonic() - began < 10
        assert not any("training" in line or "wrote" in line for line in second.lines)
        model(port, serves("1"))
        another = mlopsd("demo", "--folder", short, "--port", str(free_port()))
        assert (another.returncode, another.stdout) == (1, "")
        assert f"another mlopsd (pid {second.process.pid}) uses {short}/state" in another.stderr
        assert second.stop() == 0
    assert "load_degraded" in (short / "config.toml").read_text()


def test_a_port_that_is_taken_is_one_line_before_anything_is_trained(short: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = mlopsd("demo", "--folder", short, "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    cure = "stop what holds it or choose another with --port"
    assert done.stderr == f"mlopsd: cannot listen on 127.0.0.1:{port}: address already in use; {cure}\n"
    assert not (short / "mlflow.db").exists()


def test_a_mistake_in_the_users_configuration_is_one_line(short: Path) -> None:
    folder = DemoFolder(short)
    folder.make()
    folder.config.write_text(folder.config.read_text().replace("interval", "intervall"))
    done = mlopsd("demo", "--folder", short)
    assert done.returncode == 1
    assert "probes.model.intervall" in done.stderr
    assert "did you mean 'interval'?" in done.stderr


def test_commands_name_the_folder_only_where_it_is_not_found_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    default, other = Next(DemoFolder(tmp_path / "mlopsd-demo")), Next(DemoFolder(tmp_path / "an other"))
    *_, retrain = default.after_setting_up("127.0.0.1", 9178)
    assert retrain.endswith("demo --retrain")
    *_, retrain = other.after_setting_up("127.0.0.1", 9178)
    assert shlex.split(retrain)[-3:] == ["--retrain", "--folder", f"{tmp_path}/an other"]


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("0.0.0.0", "http://127.0.0.1:1/"),
        ("::", "http://[::1]:1/"),
        ("10.0.0.7", "http://10.0.0.7:1/"),
    ],
)
def test_commands_ask_where_the_daemon_listens(folder: DemoFolder, host: str, address: str) -> None:
    assert any(address in line for line in Next(folder).after_setting_up(host, 1))


def test_the_daemons_process_imports_nothing_of_the_training() -> None:
    program = (
        "import sys, mlopsd.cli.demo; print([n for n in ('mlflow', 'sklearn', 'pandas') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=os.sep
    )
    assert done.stdout == "[]\n"
