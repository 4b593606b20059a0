"""Every fault that is injected: what it touches, what must show, how long recovery may take."""

from chaos.fault import FaultKind
from chaos.process_faults import (
    kill_daemon,
    killed,
    starve_host,
    starve_worker,
    stop_daemon,
    stopped,
    take_descriptors,
)
from chaos.stage import INTERVAL, MODEL_TIMEOUT
from chaos.stage_faults import (
    champion_that_fails,
    driver_that,
    fill_disk,
    freeze_registry,
    kill_registry,
    move_alias,
    step_clock,
    stop_heart,
)

HOUR = 3600.0
STARTING = 20.0  # seconds for a registry's client, or the daemon, to be imported on a busy machine
MODEL = 2 * INTERVAL + MODEL_TIMEOUT  # and while a version is on its way, which the reading says
CLIENT = MODEL + STARTING
DAEMON = MODEL + 2 * STARTING  # it starts, then the client


def _of(*names: str) -> frozenset[str]:
    return frozenset(names)


ALL = _of("system", "gpu", "client", "host", "registry", "alias", "daemon")
FAULTS = (
    FaultKind("kill-system", killed("system"), _of("system"), lasts=False),
    FaultKind("kill-gpu", killed("gpu"), _of("gpu"), lasts=False),
    FaultKind("kill-client", killed("client"), _of("client", "alias"), lasts=False, recovers=CLIENT),
    FaultKind(
        "kill-host", killed("host"), _of("host", "alias"), excuses=("host",), lasts=False, recovers=MODEL
    ),
    FaultKind("stop-system", stopped("system"), _of("system"), "system"),
    FaultKind("stop-gpu", stopped("gpu"), _of("gpu"), "gpu"),
    FaultKind("stop-client", stopped("client"), _of("client", "alias"), recovers=CLIENT),
    FaultKind("stop-host", stopped("host"), _of("host", "alias"), "model", ("host",), recovers=MODEL),
    FaultKind("kill-daemon", kill_daemon, ALL, excuses=("host",), lasts=False, recovers=DAEMON),
    FaultKind("stop-daemon", stop_daemon, ALL, excuses=("host",), recovers=CLIENT),
    FaultKind("fill-disk", fill_disk, _of("system"), "system", recovers=MODEL, needs_disk=True),
    FaultKind("no-descriptors", take_descriptors, ALL, excuses=("host", "descriptors"), recovers=MODEL),
    FaultKind(
        "no-memory-host", starve_host, _of("host", "alias"), excuses=("host",), lasts=False, recovers=MODEL
    ),
    FaultKind("no-memory-worker", starve_worker, _of("system")),
    FaultKind("kill-registry", kill_registry, _of("registry", "alias", "client"), "model", recovers=CLIENT),
    FaultKind(
        "freeze-registry", freeze_registry, _of("registry", "alias", "client"), "model", recovers=CLIENT
    ),
    FaultKind("driver-hangs", driver_that("hang nvmlDeviceGetPowerUsage deaf"), _of("gpu"), "gpu"),
    FaultKind("gpu-lost", driver_that("lost gpu 1"), _of("gpu"), "gpu"),
    FaultKind("clock-forward", step_clock(HOUR), _of("clock", "heartbeat"), recovers=MODEL),
    FaultKind("clock-back", step_clock(-HOUR), _of("clock", "heartbeat"), recovers=MODEL),
    FaultKind("heart-stops", stop_heart, _of("heartbeat", "clock"), "heartbeat"),
    FaultKind("move-alias", move_alias, _of("alias", "registry"), lasts=False, recovers=MODEL),
    FaultKind("bad-canary", champion_that_fails("canary"), _of("alias", "registry"), "model", recovers=MODEL),
    FaultKind("bad-load", champion_that_fails("load"), _of("alias", "registry"), "model", recovers=MODEL),
)
