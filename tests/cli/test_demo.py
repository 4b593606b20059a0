"""``mlopsd demo``: the folder, the training, and what it proposes to try."""

import fcntl
import json
import os
import shlex
import subprocess
import sys
import time
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from mlopsd.cli.client import format_url
from mlopsd.cli.demo import training
from mlopsd.cli.demo.command import PATIENT, DemoHints
from mlopsd.cli.demo.folder import DemoFolder, default_folder
from mlopsd.cli.errors import CommandError
from mlopsd.config.load import load
from mlopsd_probes.model.demo.champion import champion
from tests.cli.command import environment, mlopsd, on_a_terminal
from tests.cli.demonstration import TRAINING_SECONDS
from tests.running import GIVE_UP

REPOSITORY = Path(__file__).parents[2]
MISLEADING = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:1", "MLFLOW_RUN_ID": "nobody's"}
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def folder(tmp_path: Path) -> DemoFolder:
    """A folder that is made, in a path that wants quotes everywhere."""
    made = DemoFolder(tmp_path / "a démo's")
    assert made.create()
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


def command(folder: DemoFolder, *arguments: str) -> list[str]:
    return [
        *(sys.executable, "-m", training.TRAINING, str(folder.path)),
        *("--model", folder.MODEL, *arguments),
    ]


def train(folder: DemoFolder, *arguments: str) -> list[dict[str, Any]]:
    """What the training tells when it is started with *arguments*."""
    with subprocess.Popen(
        command(folder, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder.path,
        env=environment(MISLEADING),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        reports = [json.loads(line) for line in process.stdout]
        said = process.stderr.read()
    assert reports, said
    return reports


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
        timeout=TRAINING_SECONDS,
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
    for name, limits in options.features.items():
        assert limits.min is not None
        assert limits.max is not None
        assert limits.min <= PATIENT[name] <= limits.max


def test_a_configuration_that_was_changed_stays(folder: DemoFolder) -> None:
    folder.config.write_text("debug = false\n")
    assert not folder.create()
    assert folder.config.read_text() == "debug = false\n"


def test_a_folder_with_files_of_others_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    done = mlopsd("demo", "--folder", tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        f"mlopsd: cannot use the folder {tmp_path}: it contains files of other programs; "
        "choose an empty folder with --folder\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = mlopsd("demo", "--folder", tmp_path / "file" / "demo")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "Not a directory; choose another with --folder" in line


def test_a_path_that_mlflow_would_misread_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"MLflow would misread '\?'"):
        DemoFolder(tmp_path / "what?").create()


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

    monkeypatch.setattr(training, "version", version)
    with pytest.raises(CommandError, match="cannot train the demo's model") as failure:
        training.check_packages()
    assert str(failure.value).endswith(line)


def test_the_cure_names_an_extra_that_there_is() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    extra = project["optional-dependencies"]["demo"]
    assert any(requirement.startswith("scikit-learn") for requirement in extra)
    assert any("model" in requirement and "system" in requirement for requirement in extra)


# The training


def test_a_terminal_sees_the_steps_and_what_came_of_it(set_up: tuple[DemoFolder, str]) -> None:
    drawn = set_up[1].split("\r\x1b[K")
    assert drawn[1] == "[------------------------] checking for a champion … 0 s"
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


def test_what_is_there_is_not_trained_again_nor_is_mlflow_imported(trained: DemoFolder) -> None:
    decoy = trained.path / "mlflow.py"  # found before the installed one: it runs in this folder
    decoy.write_text("raise AssertionError('MLflow takes 4 s to import')\n", "ascii")
    try:
        reports = train(trained)
    finally:
        decoy.unlink()
    assert reports == [{"step": "checking for a champion"}, {"version": "1", "metrics": None}]


ENDLESS = """
import sys, time
from mlopsd_probes.model.demo import __main__ as training, registry
registry.{last} = lambda *_: time.sleep(3600)
sys.exit(training.main())
"""  # the training, which does not get past *last*


def test_a_training_that_is_killed_at_any_step_is_finished_by_the_next(folder: DemoFolder) -> None:
    for step, last in (
        ("making the registry", "Path.replace"),
        ("registering the version", "Registry._crown"),
    ):
        kill_at(folder, step, last)
        assert champion(folder.path / "mlflow.db", folder.MODEL) is None
    assert train(folder)[-1]["version"] == "1"
    states = asked_of_mlflow(
        folder, "[run.info.status for run in client.search_runs(['0', '1'], order_by=['start_time'])]"
    )
    assert states[-1] == "FINISHED"
    assert "RUNNING" not in states


def kill_at(folder: DemoFolder, step: str, last: str) -> None:
    """Start the training, and kill it in *step*, which *last* would end: of making tables, with some made."""
    with subprocess.Popen(
        [sys.executable, "-c", ENDLESS.format(last=last), str(folder.path), "--model", folder.MODEL],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=folder.path,
    ) as process:
        assert process.stdout is not None
        assert any(json.loads(line).get("step") == step for line in process.stdout)
        while step == "making the registry" and not list(folder.path.glob(".*.part")):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()


def test_a_version_without_an_alias_is_crowned_and_not_trained_again(trained: DemoFolder) -> None:
    asked_of_mlflow(trained, "client.delete_registered_model_alias(name, 'champion')")
    reports = train(trained)
    assert reports[-1] == {"version": "1", "metrics": None}
    assert {"step": "training the model"} not in reports
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
        assert process.wait(GIVE_UP) == 1


def test_two_at_a_time_train_once(folder: DemoFolder) -> None:
    with (folder.path / ".mlopsd-demo").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(command(folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert b"checking for a champion" in process.stdout.readline()
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


# What to try


def test_commands_name_the_folder_only_where_it_is_not_found_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    default, other = (
        DemoHints(DemoFolder(tmp_path / "mlopsd-demo")),
        DemoHints(DemoFolder(tmp_path / "an other")),
    )
    *_, retrain = default.after_setting_up("http://127.0.0.1:9178")
    assert retrain.endswith("demo --retrain")
    *_, retrain = other.after_setting_up("http://127.0.0.1:9178")
    assert shlex.split(retrain)[-3:] == ["--retrain", "--folder", f"{tmp_path}/an other"]


@pytest.mark.parametrize(
    ("host", "asked"),
    [("0.0.0.0", "http://127.0.0.1:1"), ("::", "http://[::1]:1"), ("10.0.0.7", "http://10.0.0.7:1")],
)
def test_commands_ask_where_the_daemon_listens(folder: DemoFolder, host: str, asked: str) -> None:
    assert format_url(host, 1) == asked
    assert any(f"{asked}/" in line for line in DemoHints(folder).after_setting_up(asked))


def test_the_daemons_process_imports_nothing_of_the_training() -> None:
    program = (
        "import sys, mlopsd.cli.demo.command;"
        "print([n for n in ('mlflow', 'sklearn', 'pandas') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=os.sep
    )
    assert done.stdout == "[]\n"
