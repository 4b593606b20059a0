"""What the steered probes say in the four states of a host; each probe's file is written from here."""

import json
from pathlib import Path
from typing import Any

Telling = dict[str, Any]
REGISTRY = "https://registry.example:5000"
SERVED = {"version": "6", "candidate": "@champion", "registry": REGISTRY}
HOST = {"pid": 4711, "rss_bytes": 812_000_000, "restarts": 0}


def finding(
    name: str, status: str, summary: str, subject: str | None = None, advice: str = "none"
) -> Telling:
    return {"name": name, "status": status, "summary": summary, "subject": subject, "advice": advice}


WELL_SYSTEM: Telling = {
    "findings": [
        finding("memory", "healthy", "41 GB of 128 GB available"),
        finding("disk_space", "healthy", "63 % free", "/"),
        finding("disk_space", "healthy", "71 % free", "/var"),
        finding("load", "healthy", "1.2 on 16 CPUs"),
    ],
    "facts": {"kernel": "6.1.0-26-amd64", "cpus": 16, "absent": ["swap", "sensors"]},
}
WELL_GPU: Telling = {
    "findings": [
        finding("temperature", "healthy", "61 °C, slowdown at 90 °C", f"gpu {number}") for number in range(4)
    ],
    "facts": {"driver": "560.35.03", "gpus": [{"name": "NVIDIA H200", "index": n} for n in range(4)]},
}
WELL_MODEL: Telling = {
    "findings": [
        finding("serving", "healthy", "version 6 (@champion) answers"),
        finding("canary", "healthy", "version 6 predicted 5 rows in 0.012 s"),
    ],
    "facts": {"model": "churn", "desired": SERVED, "served": SERVED, "host": HOST},
}
FETCHING: Telling = {
    "findings": [
        finding(
            "version_drift",
            "degraded",
            "the registry wants version 7, this host serves version 6, for 12 min; fetching version 7",
            advice="watch",
        ),
        *WELL_MODEL["findings"],
    ],
    "facts": {
        **WELL_MODEL["facts"],
        "desired": {**SERVED, "version": "7"},
        "drift_since": "{now-740}",
        "progress": {
            "step": "fetch",
            "version": "7",
            "since": "{now-95}",
            "bytes": 3_000_000_000,
            "total_bytes": 10_000_000_000,
        },
        "rejected": [
            {
                "version": "8",
                "step": "thresholds",
                "reason": "accuracy 0.71 is below 0.8",
                "until": "{now+1500}",
            }
        ],
    },
}
FETCHING_FIRST: Telling = {
    "findings": [
        finding(
            "serving", "unknown", "no version serves yet: fetching version 7, 3.0 of 10.0 GB", advice="watch"
        )
    ],
    "facts": {
        key: value for key, value in FETCHING["facts"].items() if key in ("model", "desired", "progress")
    },
}
SICK_GPU: Telling = {
    "findings": [
        finding(
            "ecc", "unhealthy", "3 uncorrected memory errors since the driver loaded", "gpu 2", "reset_gpu"
        ),
        finding("temperature", "degraded", "88 °C, slowdown at 90 °C", "gpu 3", "watch"),
        *WELL_GPU["findings"][:2],
    ],
    "facts": WELL_GPU["facts"],
}
LOST_MODEL: Telling = {
    "findings": [
        finding(
            "serving",
            "unhealthy",
            "the model's process ended: out of memory; it is tried again by itself",
            advice="restart_app",
        )
    ],
    "facts": {"model": "churn", "desired": SERVED, "rejected": FETCHING["facts"]["rejected"]},
}
SCENES: dict[str, dict[str, Telling]] = {
    "healthy": {"gpu": WELL_GPU, "model": WELL_MODEL, "system": WELL_SYSTEM},
    "degraded": {"gpu": WELL_GPU, "model": FETCHING, "system": WELL_SYSTEM},
    "unknown": {"gpu": WELL_GPU, "model": FETCHING_FIRST, "system": WELL_SYSTEM},
    "unhealthy": {"gpu": SICK_GPU, "model": LOST_MODEL, "system": WELL_SYSTEM},
}


def steer(folder: Path, probe: str, telling: Telling) -> None:
    """Let *probe* say *telling* from its next check on."""
    whole = folder / f"{probe}.new"
    whole.write_text(json.dumps(telling), "utf-8")
    whole.replace(folder / f"{probe}.json")


def play(folder: Path, scene: str) -> None:
    """Let every probe say what it says in *scene*."""
    for probe, telling in SCENES[scene].items():
        steer(folder, probe, telling)


def tables(folder: Path, *probes: str, interval: float = 0.2) -> str:
    """The configuration of the steered *probes*."""
    return "".join(
        f'[probes.{probe}]\nuse = "steered"\npath = "{folder / probe}.json"\ninterval = {interval}\n'
        for probe in probes
    )
