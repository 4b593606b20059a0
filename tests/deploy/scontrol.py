"""Stands in for Slurm's ``scontrol``: one node in a file, shown and changed as slurmctld does it.

Of ``slurm_sprint_node_table`` (the one-line form), ``node_state_string_complete`` and ``update_node``: DRAIN
takes the place of FAIL, RESUME ends DRAIN and FAIL and brings up a node that is DOWN, UNDRAIN ends DRAIN;
a reason goes with the last of them. Every call is a line in ``calls`` beside the file.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

LINE = (
    "NodeName={name} Arch=x86_64 CoresPerSocket=32  CPUAlloc=0 CPUEfctv=128 CPUTot=128 CPULoad=0.03 "
    "AvailableFeatures=(null) ActiveFeatures=(null) Gres=gpu:h100:8(S:0-1) "
    "NodeAddr={name} NodeHostName={name} Version=23.11.4 OS=Linux 6.1.0-18-amd64 #1 SMP PREEMPT_DYNAMIC"
    "  RealMemory=2063937 "
    "AllocMem=0 FreeMem=2018442 Sockets=2 Boards=1 State={state} ThreadsPerCore=2 TmpDisk=0 Weight=1 "
    "Owner=N/A MCS_label=N/A Partitions=gpu  BootTime=2026-03-01T08:00:00 "
    "SlurmdStartTime=2026-03-01T08:01:00 LastBusyTime=2026-03-02T10:11:12 ResumeAfterTime=None "
    "CfgTRES=cpu=128,mem=2063937M,billing=128,gres/gpu=8 AllocTRES= CurrentWatts=0 AveWatts=0"
)
FLAGS = {"DRAIN": {"DRAIN": True, "FAIL": False}, "UNDRAIN": {"DRAIN": False}}
RESUME = {"DRAIN": False, "FAIL": False, "REBOOT_REQUESTED": False}


def main(words: list[str]) -> int:
    file = Path(os.environ["FAKE_SLURM"])
    with file.with_name("calls").open("a", encoding="utf-8") as calls:
        calls.write(" ".join(words) + "\n")
    node = json.loads(file.read_text("utf-8"))
    if "hangs" in node:
        time.sleep(3600)
    if "fails" in node:
        print(node["fails"], file=sys.stderr)
        return 1
    if words[:2] == ["show", "node"]:
        return show(node, words[2])
    if words[0] == "update":
        file.write_text(json.dumps(update(node, dict(word.split("=", 1) for word in words[1:]))), "utf-8")
        return 0
    return 1


def show(node: dict[str, Any], name: str) -> int:
    if name != node["name"]:
        print(f"Node {name} not found")
        return 1
    line = LINE.format(name=name, state="+".join([node["base"], *node["flags"]]))
    if node["reason"]:
        line += f" Reason={node['reason']} [{node.get('by', 'root')}@2026-03-03T04:05:06]"
    print(line + node.get("after", " Comment=rack 7"))
    return 0


def update(node: dict[str, Any], changes: dict[str, str]) -> dict[str, Any]:
    assert changes["NodeName"] == node["name"]
    state = changes["State"]
    if state == "RESUME" and node["base"] == "DOWN":
        node["base"] = "IDLE"
    flags = dict.fromkeys(node["flags"], True) | (RESUME if state == "RESUME" else FLAGS[state])
    node["flags"] = [flag for flag, is_set in flags.items() if is_set]
    node["reason"] = changes.get("Reason", node["reason"])
    if node["base"] != "DOWN" and not {"DRAIN", "FAIL"} & set(node["flags"]):
        node["reason"] = ""
    return node


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
