"""``mlopsd digest`` with a real registry: what it prints, the tag that it sets, and what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest

from mlopsd_probes.registry.version import File, digest_of
from tests.cli.command import Done, environment, mlopsd
from tests.model import meddler as meddling
from tests.model.asking import clients
from tests.model.meddler import Meddler
from tests.model.registrar import Registrar
from tests.model.registry_server import Shop, embedded, installed, newest
from tests.running import GIVE_UP, free_port

__all__ = ["embedded", "installed", "newest"]
pytestmark = pytest.mark.timeout(600)  # a registry is filled
FILES = {"MLmodel": b"flavors:", "data/weights": b"0123456789"}
TABLE = """
[probes.model]
model = "{model}"
registries = [{{ uri = "{uri}" }}]
require_tags = {{ approved = "yes" }}
digest_tag = "{tag}"
"""


@pytest.fixture(scope="module")
def model(newest: Shop, tmp_path_factory: pytest.TempPathFactory) -> Registrar:
    """A registered model with one version, which an alias names."""
    folder = tmp_path_factory.mktemp("logged")
    for path, content in FILES.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(content)
    made = Registrar(newest.uri, "digested")
    made.point(made.register(folder))
    return made


@pytest.fixture(scope="module")
def right() -> str:
    return digest_of(File(path, len(content), sha256(content).hexdigest()) for path, content in FILES.items())


def digest(folder: Path, *words: str, uri: str | None = None) -> Done:
    """``mlopsd digest`` with *words*, which must leave nothing in *folder*."""
    folder.mkdir(exist_ok=True)
    named = {} if uri is None else {"MLFLOW_TRACKING_URI": uri}
    done = mlopsd("digest", *words, env={**named, "TMPDIR": str(folder)})
    assert list(folder.iterdir()) == []
    assert "Traceback" not in done.stderr
    return done


def tags(model: Registrar) -> dict[str, str]:
    found = model.version("1").get("tags", [])
    return {tag["key"]: tag["value"] for tag in found}


@pytest.mark.parametrize("version", ["/1", "@champion", "/latest"])
def test_a_version_of_the_registry_in_the_environment(
    model: Registrar, tmp_path: Path, right: str, version: str
) -> None:
    done = digest(tmp_path / "tmp", f"models:/{model.name}{version}", uri=model.uri)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{right}\n", "")


def test_json_has_the_files_too(model: Registrar, tmp_path: Path, right: str) -> None:
    done = digest(tmp_path / "tmp", f"models:/{model.name}/1", "--registry", model.uri, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        **{"model": model.name, "version": "1", "registry": model.uri, "digest": right},
        **{"files": 2, "bytes": 18, "tag": None},
    }


@pytest.mark.parametrize(
    ("words", "tag"), [(["--tag"], "mlopsd.sha256"), (["--tag", "sha of files"], "sha of files")]
)
def test_the_tag_is_set_in_the_registry(
    model: Registrar, tmp_path: Path, right: str, words: list[str], tag: str
) -> None:
    model.tag("1", tag, "another")
    done = digest(tmp_path / "tmp", f"models:/{model.name}@champion", *words, uri=model.uri)
    assert (done.returncode, done.stdout) == (0, f"{right}\n")
    assert done.stderr == f"version 1 in {model.uri} has the tag {tag}\n"
    assert tags(model)[tag] == right


def test_the_registry_and_the_tag_of_the_table_with_this_model(
    model: Registrar, tmp_path: Path, right: str
) -> None:
    """A version can be tagged before it has what the table requires of it."""
    config = tmp_path / "config.toml"
    config.write_text(TABLE.format(model=model.name, uri=model.uri, tag="of the table"), "utf-8")
    other = f"http://127.0.0.1:{free_port()}"
    words = [f"models:/{model.name}/1", "--tag", "--config", str(config)]
    done = digest(tmp_path / "tmp", *words, uri=other)
    assert (done.returncode, done.stdout) == (0, f"{right}\n"), done.stderr
    assert tags(model)["of the table"] == right


@pytest.mark.parametrize(
    ("uri", "part"),
    [
        ("digested/1", "cannot read the version 'digested/1': it is no URI of MLflow; write models:/NAME"),
        ("models:/digested", "write models:/NAME/VERSION or models:/NAME@ALIAS"),
        ("models:/digested/99", "cannot find 99 of digested: "),
        ("models:/digested@nobody", "cannot find @nobody of digested: "),
        ("models:/nonesuch/1", "check the name"),
    ],
)
def test_a_version_that_there_is_not_is_one_line(
    model: Registrar, tmp_path: Path, uri: str, part: str
) -> None:
    done = digest(tmp_path / "tmp", uri, "--registry", model.uri)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert part in line


def test_without_a_registry_the_line_says_how_to_name_one(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("[probes.system]\n", "utf-8")
    done = digest(tmp_path / "tmp", "models:/wine/2", "--config", str(config))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "mlopsd: cannot ask for wine: no table of a model probe has it; "
        "add --registry URI, or set MLFLOW_TRACKING_URI\n"
    )


def test_a_registry_that_does_not_answer_or_take_the_tag_is_named(model: Registrar, tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    done = digest(tmp_path / "tmp", "models:/wine/2", "--registry", nobody)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"cannot find 2 of wine: {nobody}: connection refused" in done.stderr
    with Meddler(model.uri) as meddler:
        forbidden = b'{"error_code": "PERMISSION_DENIED", "message": "no"}'
        meddler.meddle("set-tag", meddling.status(403, "application/json", forbidden))
        done = digest(tmp_path / "tmp", f"models:/{model.name}/1", "--tag", "t", "--registry", meddler.uri)
        assert (done.returncode, done.stdout) == (1, "")
        assert "cannot set the tag t of version 1" in done.stderr
    assert "t" not in tags(model)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_and_nothing_is_left(
    model: Registrar, tmp_path: Path, number: int, status: int
) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    with Meddler(model.uri) as meddler:
        meddler.meddle("data/weights", meddling.silence)
        words = ["digest", f"models:/{model.name}/1", "--registry", meddler.uri]
        running = subprocess.Popen(
            [sys.executable, "-m", "mlopsd", *words],
            env=environment({"TMPDIR": str(folder)}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + GIVE_UP
        while not any("data/weights" in asked.path for asked in meddler.asked):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        children = clients(running.pid)
        os.kill(running.pid, number)
        assert running.communicate(timeout=GIVE_UP) == ("", "")
    assert running.returncode == status
    assert list(folder.iterdir()) == []
    assert children
    assert not any(Path(f"/proc/{child}").exists() for child in children)
