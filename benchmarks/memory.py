"""Anonymous and shared memory of a command and its children at their peak.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/memory.py --out memory.json -- \
        polymix search avmnist --raw RAW --time-limit 10m

RssAnon + RssShmem, summed over the processes, sampled ten times a second: pages of mapped files,
which the system may drop at any time, do not count. Linux alone.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import time
from pathlib import Path

from common import report  # isort: skip

COUNTED = ("RssAnon:", "RssShmem:")


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [one for child in task.read_text().split() for one in family(int(child))]
    return found


def held(pid: int) -> int:
    """Bytes held by one process."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(COUNTED))


def peak(command: list[str]) -> tuple[int, int, float]:
    """Exit status, most bytes held at one time, and seconds."""
    began, most = time.monotonic(), 0
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            # One of them may end between the listing and the look.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                most = max(most, sum(held(pid) for pid in family(process.pid)))
            time.sleep(0.1)
    return process.returncode, most, time.monotonic() - began


def main() -> None:
    """Run the command and print what it held."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--out", type=Path)
    options.add_argument("command", nargs="+")
    arguments = options.parse_args()
    status, most, seconds = peak(arguments.command)
    report(
        {
            "benchmark": "memory",
            "command": arguments.command,
            "status": status,
            "peak_mb": most / 1e6,
            "wall_s": seconds,
        },
        arguments.out,
    )


if __name__ == "__main__":
    main()
