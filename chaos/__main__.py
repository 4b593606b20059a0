"""``python -m chaos [--minutes 20] [--seed N]``: faults in a random order; exit 1 if a promise was broken."""

import asyncio
import secrets
import shutil
import sys
import tempfile
import time
from argparse import ArgumentParser
from pathlib import Path

from chaos.faults import FAULTS
from chaos.run import Run
from chaos.timeline import Timeline

REPORTED_LINES = 60  # of the daemon's log, where a promise was broken


def main() -> int:
    """Run, and say what came of it."""
    parser = ArgumentParser(prog="python -m chaos", description="Faults on the whole daemon, under load.")
    parser.add_argument("--minutes", type=float, default=20.0, help="how long (default 20)")
    parser.add_argument("--seed", type=int, help="of the order; printed, and repeatable; else a random one")
    parser.add_argument("--only", nargs="+", choices=[fault.name for fault in FAULTS], help="no other faults")
    parser.add_argument("--keep", action="store_true", help="keep the folder of the run")
    arguments = parser.parse_args()
    seed = secrets.randbelow(2**31) if arguments.seed is None else arguments.seed
    print(f"seed {seed}; again: python -m chaos --minutes {arguments.minutes:g} --seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    timeline = Timeline(loud=True)
    chosen = [fault for fault in FAULTS if not arguments.only or fault.name in arguments.only]
    run = Run(seed, arguments.minutes * 60, folder, timeline, chosen)
    try:
        asyncio.run(run.play())
    except asyncio.CancelledError:
        print("ended from outside")
        return 130
    except TimeoutError as error:
        timeline.violate("recovers", str(error))
    finally:
        if not arguments.keep:
            time.sleep(0.2)  # a lazy unmount
            shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(reported(run)))
    return 1 if timeline.violations else 0


def reported(run: Run) -> list[str]:
    """Return the outcome in lines, with the last lines of the daemon's log if a promise was broken."""
    tale, timeline = run.tale, run.timeline
    lines = [f"faults: {sum(tale.faults.values())} in {tale.seconds:.0f} s"]
    lines += [
        f"  {name:18} {times:3} times, longest recovery {tale.recoveries.get(name, 0):5.1f} s"
        for name, times in sorted(tale.faults.items())
    ]
    lines += run.figures()
    if timeline.violations:
        lines += ["", "last lines of the daemon's log:", *run.journal[-REPORTED_LINES:]]
        lines += ["", f"seed {tale.seed}: {len(timeline.violations)} violations", *timeline.violations[:40]]
    else:
        lines.append(f"seed {tale.seed}: no violation")
    return lines


if __name__ == "__main__":
    sys.exit(main())
