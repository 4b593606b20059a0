"""What each process of a server is, by its command line."""

from pathlib import Path

KINDS = {  # a part of the command line, and what that process is
    "mlopsd_host": "model host",
    "mlopsd_probes.registry.child": "registry client",
    "mlopsd.worker": "system probe",
    "uvicorn": "mlflow models serve: uvicorn",
    "mlflow": "mlflow models serve: the command",
}
DRIVER = "libnvidia-ml"  # which the GPU probe's process alone has loaded


def kind(pid: int) -> str:
    """In words; the command line itself where it is none that is known."""
    command = Path(f"/proc/{pid}/cmdline").read_text("utf-8")
    if "\0run\0" in command:
        return "daemon's own process"
    if "mlopsd.worker" in command and DRIVER in Path(f"/proc/{pid}/maps").read_text("utf-8"):
        return "GPU probe"
    return next((kind for part, kind in KINDS.items() if part in command), command)
