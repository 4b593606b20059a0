"""A real daemon with a stranger's predictor in it, for callers who mean no good."""

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import STRANGE
from tests.installed import installed
from tests.keys import KEY, line_of
from tests.running import CALM_SYSTEM, Running

PREDICTOR = '[probes.model]\nuse = "mind"\nmodel = "minds"\n'
KEYED = f'[api]\napi_keys = ["{line_of(KEY)}"]\nmax_body_size = "1MB"\nrequest_timeout = 60\n'
Start = Callable[..., Running]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Starts a daemon in which the predictor that minds what it is sent is installed."""
    environment = installed(tmp_path_factory.mktemp("hostile"), {"mind": "minding:Minder"}, STRANGE)

    def start(text: str) -> Running:
        own = tmp_path_factory.mktemp("daemon")
        return Running(own, f"{text}{PREDICTOR}{CALM_SYSTEM}", environment=environment)

    return start


@pytest.fixture(scope="module")
def daemon(start: Start) -> Iterator[Running]:
    """A daemon in production mode with a key for a whole module, which is as well afterwards as before."""
    with start(KEYED) as running:
        yield running
        assert running.get("/livez").status == 200
        assert running.get("/health/").json["status"] == "healthy"
        assert not [line for line in running.events("request") if line["status"] == 500]
        assert not [line for line in running.log if "traceback" in line or line["event"] == "no json"], (
            "faults in the log"
        )
        running.stop()
        assert running.process.returncode == 0
