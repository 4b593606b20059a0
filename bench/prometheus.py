"""A real Prometheus, and what it says of its own scrapes."""

import json
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.server import Server, program
from tests.running import free_port

Series = list[dict[str, Any]]


class Prometheus(Server):
    """Scrapes *jobs*, the ports of each by its name, every *interval* seconds, with *rules* loaded.

    Raises:
        Missing: it is not installed.
    """

    def __init__(
        self, room: Path, jobs: Mapping[str, Sequence[int]], interval: float, rules: Iterable[Path] = ()
    ) -> None:
        command = program("prometheus", "prometheus")
        room.mkdir(parents=True)
        config = room / "prometheus.yml"
        config.write_text(
            json.dumps(_configuration(jobs, interval, rules)), "utf-8"
        )  # YAML is more than JSON
        port = free_port()
        options = [f"--config.file={config}", f"--storage.tsdb.path={room / 'data'}"]
        address = f"--web.listen-address=127.0.0.1:{port}"
        super().__init__([command, *options, address, "--log.level=warn"], port, room / "log", {})

    def ask(self, query: str, at: float | None = None) -> Series:
        """Return the result of *query*, now or at the Unix time *at*."""
        wanted = {"query": query} | ({} if at is None else {"time": f"{at:.3f}"})
        found: Series = self._get(f"query?{urllib.parse.urlencode(wanted)}")["result"]
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Every rule that it has loaded."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _get(self, what: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{what}", timeout=60) as answer:
            return json.load(answer)["data"]


def _configuration(
    jobs: Mapping[str, Sequence[int]], interval: float, rules: Iterable[Path]
) -> dict[str, Any]:
    every = f"{round(interval * 1000)}ms"
    return {
        "global": {"scrape_interval": every, "scrape_timeout": every},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [
            {
                "job_name": job,
                "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}],
            }
            for job, ports in jobs.items()
        ],
    }
