"""A page of metrics with everything wrong that there is an alert for; nobody's daemon is as ill as this."""

import threading
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from types import TracebackType

from typing_extensions import override

FINDINGS = (
    ("gpu", "xid temperature throttled pcie_width nvlink gpu_answers", "unhealthy", "reset_gpu", "gpu 1"),
    ("gpu", "gpu_count driver", "unhealthy", "reboot", ""),
    ("gpu", "ecc_uncorrected recovery_action", "unhealthy", "reset_gpu", "gpu 1"),
    ("gpu", "orphaned_memory", "degraded", "reset_gpu", "gpu 1"),
    ("system", "memory_errors", "degraded", "check_hardware", "mc0 dimm0"),
    ("system", "clock", "degraded", "fix_config", ""),
    ("model", "serving canary", "unhealthy", "restart_app", ""),
    ("model", "load", "unhealthy", "fix_model", "version 2"),
    ("model", "registry fallback", "degraded", "fix_registry", "http://registry"),
    ("model", "cache", "degraded", "free_resources", ""),
    ("starting", "serving", "unknown", "watch", ""),
    ("system", "disk_space disk_path", "unhealthy", "free_resources", "/"),
    ("system", "memory_available stuck_processes pids load", "unhealthy", "free_resources", ""),
    ("system", "temperature", "degraded", "watch", "coretemp"),
    ("system", "stale", "unknown", "watch", ""),
)
CONSTANT = """
mlopsd_health_status{status="unhealthy"} 1
mlopsd_health_status{status="degraded"} 1
mlopsd_health_advice{advice="reboot"} 1
mlopsd_health_advice{advice="watch"} 0
mlopsd_probe_status{probe="system",status="unknown"} 1
mlopsd_probe_hung{probe="system"} 1
mlopsd_draining 1
mlopsd_config_last_reload_successful 0
mlopsd_model_drift_since_timestamp_seconds{probe="model",model="wine"} 1700000000
mlopsd_model_info{probe="model",model="wine",version="1",registry="http://registry",digest="d1"} 1
mlopsd_model_info{probe="other",model="wine",version="1",registry="http://registry",digest="d2"} 1
mlopsd_model_info{probe="third",model="wine",version="2",registry="http://registry",digest="d3"} 1
mlopsd_model_desired_version{probe="model",model="wine"} 2
mlopsd_model_served_version{probe="model",model="wine"} 1
mlopsd_gpu_devices{probe="gpu"} 1
mlopsd_gpu_recovery_action{probe="gpu",gpu="1",uuid="u"} 1
mlopsd_gpu_xid_errors_total{probe="gpu",gpu="1",uuid="u",xid="48"} 3
mlopsd_gpu_ecc_errors_total{probe="gpu",gpu="1",uuid="u",kind="uncorrected",scope="volatile"} 5
mlopsd_gpu_temperature_celsius{probe="gpu",gpu="1",uuid="u",sensor="gpu"} 91
mlopsd_gpu_throttled{probe="gpu",gpu="1",uuid="u",reason="hw_thermal"} 1
mlopsd_gpu_pcie_link_width{probe="gpu",gpu="1",uuid="u"} 8
mlopsd_gpu_nvlink_up{probe="gpu",gpu="1",uuid="u",link="3"} 0
mlopsd_system_disk_total_bytes{probe="system",path="/"} 1e12
mlopsd_system_memory_available_bytes{probe="system"} 2e9
mlopsd_system_stuck_processes{probe="system"} 4
mlopsd_system_temperature_celsius{probe="system",chip="coretemp"} 99
mlopsd_system_load_average{probe="system",window="5m"} 77
mlopsd_model_prediction_duration_seconds_bucket{probe="model",le="2.5"} 0
mlopsd_event_loop_lag_seconds_bucket{le="0.25"} 0
"""
GROWING = """
mlopsd_errors_total{component="http"} 1
mlopsd_gpu_ecc_errors_total{probe="gpu",gpu="1",uuid="u",kind="corrected",scope="volatile"} 9
mlopsd_event_loop_lag_seconds_bucket{le="0.5"} 5
mlopsd_event_loop_lag_seconds_bucket{le="+Inf"} 5
mlopsd_probe_worker_restarts_total{probe="gpu"} 2
mlopsd_model_host_restarts_total{probe="model",reason="crash"} 2
mlopsd_model_predictions_total{probe="model",result="ok"} 50
mlopsd_model_predictions_total{probe="model",result="too_many"} 50
mlopsd_model_predictions_total{probe="model",result="model_failed"} 50
mlopsd_model_prediction_duration_seconds_bucket{probe="model",le="5"} 100
mlopsd_model_prediction_duration_seconds_bucket{probe="model",le="+Inf"} 100
mlopsd_system_oom_kills_total{probe="system"} 1
process_start_time_seconds 600
"""
FREE_AT_FIRST = 2e11  # bytes; a gigabyte goes with each scrape


def page(scrape: int) -> str:
    """The page at the scrape of that number, which all but the constant part depends on."""
    unknown = f'mlopsd_health_status{{status="unknown"}} {scrape % 2}'
    free = f'mlopsd_system_disk_free_bytes{{probe="system",path="/"}} {FREE_AT_FIRST - scrape * 1e9}'
    return "\n".join([*_findings(), CONSTANT, *_grown(scrape), unknown, free, ""])


def _findings() -> list[str]:
    return [
        f'mlopsd_probe_finding{{probe="{probe}",plugin="{"model" if probe == "starting" else probe}",'
        f'finding="{finding}",subject="{subject}",status="{status}",advice="{advice}"}} 1'
        for probe, findings, status, advice, subject in FINDINGS
        for finding in findings.split()
    ]


def _grown(scrape: int) -> list[str]:
    lines = [line.rsplit(" ", 1) for line in GROWING.split("\n") if line]
    return [f"{series} {float(step) * scrape}" for series, step in lines]


class MadeUp(AbstractContextManager["MadeUp"]):
    """Serves `page`, another one at each scrape."""

    def __enter__(self) -> "MadeUp":
        scrapes = count(1)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.end_headers()
                self.wfile.write(page(next(scrapes)).encode())

            @override
            def log_message(self, format: str, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"
