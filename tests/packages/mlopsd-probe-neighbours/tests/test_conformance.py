"""The kit, run on each probe of this package; then what is special about each."""

from mlopsd.testing import ProbeConformance


class TestTcpPort(ProbeConformance):
    name = "tcp_port"
    table = {"port": 9}  # the discard port: nothing listens, which is a reading too
    may_be_absent = frozenset({"connect_seconds"})


class TestHeartbeatFile(ProbeConformance):
    name = "heartbeat_file"
    table = {"path": __file__}


class TestNetworkMount(ProbeConformance):
    name = "network_mount"
    table = {"path": "/proc"}


class TestFormula(ProbeConformance):
    name = "formula"
    table = {"model": "formula", "path": "/dev/null"}  # no weights: it refuses, and says why
