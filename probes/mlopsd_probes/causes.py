"""The meaning of each kind of failure: the side at fault, the advice, and the time of the next try.

In a fetch a version is at fault only on proof: an unknown failure is the fault of the registry or its store.
In a load and a canary the version's own code runs. There the probe recognises a fault of this host by its
error number, its class, its text or the signal. Any other exception or crash is the fault of the version.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mlopsd.probe import Advice

AtFault = Literal["version", "registry", "host"]
Retry = Literal["soon", "later", "rejected"]
Step = Literal["thresholds", "provenance", "fetch", "load", "canary"]
REGISTRY = "registry"  # any request to a registry or its store of files, including a fetch


@dataclass(frozen=True, slots=True)
class Cause:
    """The consequences of one kind of failure.

    Attributes:
        at_fault: ``registry`` includes its store of files, ``host`` is this machine and its configuration.
        retry: ``soon`` waits 1 s and doubles up to 60 s. ``later`` waits 30 s and doubles up to 5 min; so
            does a fetch that failed after some bytes had come. ``rejected`` waits ``rejected_backoff`` and
            doubles up to six times that.
    """

    at_fault: AtFault
    advice: Advice
    retry: Retry


OF_REGISTRY = Cause("registry", Advice.FIX_REGISTRY, "soon")
OF_CONFIG = Cause("host", Advice.FIX_CONFIG, "soon")
OF_MEMORY = Cause("host", Advice.FREE_RESOURCES, "later")
OF_HOST = Cause("host", Advice.WATCH, "later")
OF_DISK = Cause("host", Advice.CHECK_HARDWARE, "later")
OF_NAMES = Cause("registry", Advice.FIX_MODEL, "soon")  # it answers, and names no version that may serve
OF_VERSION = Cause("version", Advice.FIX_MODEL, "rejected")
SHORT = Cause("host", Advice.FREE_RESOURCES, "soon")

CAUSES: Mapping[tuple[str, str], Cause] = {
    (REGISTRY, "unreachable"): OF_REGISTRY,
    (REGISTRY, "timeout"): OF_REGISTRY,
    (REGISTRY, "server_error"): OF_REGISTRY,
    (REGISTRY, "bad_response"): OF_REGISTRY,
    (REGISTRY, "forbidden"): OF_REGISTRY,
    (REGISTRY, "bad_certificate"): OF_REGISTRY,
    (REGISTRY, "absent"): OF_NAMES,
    (REGISTRY, "not_found"): OF_REGISTRY,
    (REGISTRY, "not_ready"): OF_NAMES,
    (REGISTRY, "not_approved"): OF_NAMES,
    (REGISTRY, "dangling"): OF_NAMES,
    (REGISTRY, "other"): OF_REGISTRY,
    (REGISTRY, "auth"): OF_CONFIG,
    (REGISTRY, "proxy"): OF_CONFIG,
    (REGISTRY, "tls"): OF_CONFIG,
    (REGISTRY, "unresolved"): OF_CONFIG,
    (REGISTRY, "import_error"): OF_CONFIG,
    (REGISTRY, "public_key"): OF_CONFIG,
    (REGISTRY, "no_credentials"): OF_CONFIG,
    (REGISTRY, "not_mounted"): OF_CONFIG,
    (REGISTRY, "disk_full"): SHORT,
    (REGISTRY, "disk"): SHORT,
    (REGISTRY, "scarce"): SHORT,
    (REGISTRY, "killed"): SHORT,
    (REGISTRY, "client"): Cause("host", Advice.WATCH, "soon"),
    ("fetch", "missing"): OF_VERSION,
    ("fetch", "truncated"): OF_VERSION,
    ("thresholds", "error"): OF_VERSION,
    ("provenance", "untagged"): OF_VERSION,
    ("provenance", "unsigned"): OF_VERSION,
    ("provenance", "altered"): OF_VERSION,
    ("load", "error"): OF_VERSION,
    ("load", "died"): OF_VERSION,
    ("load", "timeout"): Cause(
        "host", Advice.WATCH, "rejected"
    ),  # a busy host or a slow version; neither is proven
    ("load", "import_error"): Cause("host", Advice.FIX_CONFIG, "rejected"),
    ("load", "interpreter"): Cause("host", Advice.FIX_CONFIG, "later"),
    ("load", "out_of_memory"): Cause("host", Advice.FREE_RESOURCES, "rejected"),
    ("load", "killed"): OF_MEMORY,
    ("load", "signal"): OF_HOST,
    ("load", "scarce"): OF_MEMORY,
    ("load", "io_error"): OF_DISK,
    ("load", "gpu"): OF_HOST,
    ("load", "corrupt"): Cause("host", Advice.WATCH, "soon"),
    ("canary", "error"): OF_VERSION,
    ("canary", "import_error"): Cause("host", Advice.FIX_CONFIG, "rejected"),
    ("canary", "input"): Cause("host", Advice.FIX_CONFIG, "later"),
    ("canary", "out_of_memory"): Cause("host", Advice.FREE_RESOURCES, "rejected"),
    ("canary", "killed"): OF_MEMORY,
    ("canary", "signal"): OF_HOST,
    ("canary", "scarce"): OF_MEMORY,
    ("canary", "io_error"): OF_DISK,
    ("canary", "gpu"): OF_HOST,
}


def cause_of(step: str, kind: str) -> Cause:
    """Return the cause for a failure of *kind* at *step*; an unknown *kind* has the step's usual cause."""
    if step in ("fetch", REGISTRY):
        return CAUSES.get((step, kind)) or CAUSES.get((REGISTRY, kind), OF_REGISTRY)
    return CAUSES.get((step, kind)) or CAUSES[step, "error"]


def kinds_of(step: str) -> frozenset[str]:
    """Return the kinds of failure that the table has for *step*."""
    return frozenset(kind for place, kind in CAUSES if place == step)
