"""A real dead mount and a real stuck process, wherever this process may mount FUSE.

Elsewhere nothing is collected here; test_disks.py and test_processes.py ask the same of calls and files
that are made to hang.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

CAP_SYS_ADMIN = 21


def may_mount() -> bool:
    status = Path("/proc/self/status").read_text().splitlines()
    effective = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff"))
    return bool(effective >> CAP_SYS_ADMIN & 1) and os.access("/dev/fuse", os.R_OK | os.W_OK)


if may_mount():

    def test_a_dead_mount_and_what_sleeps_in_it_are_found_and_forgotten(tmp_path: Path) -> None:
        script = Path(__file__).with_name("dead_mount.py")
        ended = subprocess.run(
            [sys.executable, str(script), str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        found = json.loads(ended.stdout)
        folder, child = str(tmp_path), found.pop("child")

        def path(when: str, subject: str) -> list[str]:
            (row,) = (row for row in found[when] if row[:2] == ["disk_path", subject])
            return row[2:]  # type: ignore[no-any-return]

        words = f"{folder} did not answer within 2 s; the mount may be dead"
        assert path("silent", folder) == ["unhealthy", words]
        assert path("dead", folder)[0] == "unhealthy"
        assert "not connected" in path("dead", folder)[1]
        assert path("gone", folder) == ["healthy", f"{folder} answers"]
        assert {path(when, "/")[0] for when in ("silent", "dead", "gone")} == {"healthy"}

        def stuck(when: str) -> list[str]:
            return found[when][0][2:]  # type: ignore[no-any-return]

        assert stuck("asleep")[0] == "healthy"
        assert stuck("stuck")[0] == "unhealthy"
        assert f"nvidia-smi (pid {child})" in stuck("stuck")[1]
        assert stuck("just killed")[0] == "healthy"
        assert f"nvidia-smi (pid {child}, state D after SIGKILL)" in stuck("killed")[1]
        assert f"(pid {child}" not in stuck("awake")[1]
