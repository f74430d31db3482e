"""What reading a table costs: 2,000 images and 2,000 sounds, decoded once, opened again.

    python benchmarks/table_decoding.py --rows 2000

Prints, and writes as JSON, the seconds of the first and of the second start (the second in a
process of its own, imports and all), the processors that were busy, and the most anonymous memory
(RssAnon + RssShmem) of the process and all that it started, sampled every 50 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
from PIL import Image

ROOT = Path(__file__).parents[1]


def write_table(folder: Path, rows: int, side: int = 256, seconds: float = 2.0) -> Path:
    """Photographs as JPEG, sounds as WAV in 44.1 kHz stereo, and a CSV that names them."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, rows)
    slope = np.linspace(0, 1, side)[:, None, None]
    time_ = np.arange(int(44_100 * seconds)) / 44_100
    for row, label in enumerate(labels):
        noise = rng.integers(0, 60, (side, side, 3))
        pixels = np.clip(noise + slope * rng.integers(60, 190, 3) + 20 * label, 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{row}.jpg", quality=85)
        wave = np.sin(2 * np.pi * (300 + 200 * label) * time_)[:, None] * [0.3, 0.2]
        wave += rng.normal(0, 0.05, wave.shape)
        soundfile.write(folder / f"{row}.wav", wave, 44_100)
    frame = pd.DataFrame({
        "photo": [f"{row}.jpg" for row in range(rows)],
        "sound": [f"{row}.wav" for row in range(rows)],
        "label": np.where(labels, "yes", "no"),
    })  # fmt: skip
    frame.to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def anonymous_mb(root: int) -> float:
    """RssAnon + RssShmem of a process and all below it, in MB."""
    parents, memory = {}, {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        except (OSError, ValueError):
            continue
        pid = int(fields["Pid"])
        parents[pid] = int(fields["PPid"])
        kilobytes = [fields.get(name, "0 kB").split()[0] for name in ("RssAnon", "RssShmem")]
        memory[pid] = sum(map(int, kilobytes)) / 1000

    def below(pid: int) -> bool:
        while pid in parents and pid != root:
            pid = parents[pid]
        return pid == root

    return sum(used for pid, used in memory.items() if below(pid))


def start(table: Path) -> dict[str, Any]:
    """Open the table's dataset; what it cost."""
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], anonymous_mb(os.getpid()))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    began = time.perf_counter()
    from polymix.datasets.own_table import TableOptions, open_table_dataset

    dataset = open_table_dataset(table, TableOptions(target="label"))
    seconds = time.perf_counter() - began
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True)  # so that the children's time is counted
    done.set()
    watcher.join()
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(u.ru_utime + u.ru_stime for u in usage)
    return {"rows": len(dataset), "seconds": seconds, "cpu_seconds": cpu,
            "processors": cpu / seconds, "peak_anonymous_mb": peak[0],
            "fingerprint": dataset.fingerprint}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--out", type=Path, help="a JSON file")
    parser.add_argument("--start", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.start is not None:
        print(json.dumps(start(arguments.start)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "table"
        folder.mkdir()
        table = write_table(folder, arguments.rows)
        size = sum(path.stat().st_size for path in folder.iterdir())
        environment = os.environ | {"POLYMIX_CACHE": str(Path(scratch) / "cache")}
        found: dict[str, Any] = {"rows": arguments.rows, "megabytes": size / 1e6,
                                 "cores": os.cpu_count()}  # fmt: skip
        for name in ("first", "second"):
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, __file__, "--start", str(table)],
                env=environment, check=True, capture_output=True, text=True,
            )  # fmt: skip
            found[name] = json.loads(done.stdout)
            found[name]["process_seconds"] = time.perf_counter() - began
    text = json.dumps(found, indent=2)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
