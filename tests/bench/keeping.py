"""Times the keeping of checkpoints against cp, sync and openssl, interleaved.

Importing a checkpoint on the hub's machine and exporting it again, verifying a
pulled directory, size at rest and random reads. Prints the minimum of each
side over the rounds and their ratio. Standard library only; see run.sh.
"""

import argparse
import json
import os
import pathlib
import shutil
import time

from bench import BIN, ROOT, TOOLS, Hub, Timed, run, warm


class ExchangeHub(Hub):
    """A hub that opens a directory of its machine."""

    def __init__(self, root, exchange, storage="pack_bytes_per_second: 0"):
        (root / "hub.yaml").write_text(
            f"storage: {{exchange: {exchange}, {storage}}}\n")
        super().__init__(root, "--config", root / "hub.yaml")

    def make_model(self, checkpoint):
        self.cairn("ada", "model", "create", "big", "--from", checkpoint,
                   "--license", "MIT", "--on-hub")

    def export(self, folder):
        self.cairn("ada", "pull", "big@v1.0.0", folder, "--on-hub")


def best(runs, what="wall"):
    return min(getattr(one, what) for one in runs)


def compare(case, ours, raw, size, bar):
    """Ours over raw: at most `bar`."""
    row = {"case": case, "bytes": size, "ours_s": best(ours),
           "raw_s": best(raw), "ratio": best(ours) / best(raw), "bar": bar,
           "ours_cpu_s_per_gb": best(ours, "cpu") / size * 1e9,
           "raw_cpu_s_per_gb": best(raw, "cpu") / size * 1e9}
    print(f"{case:34} {row['ours_s']:8.2f} s {row['raw_s']:8.2f} s  "
          f"x{row['ratio']:.2f} (bar {bar})  cpu s/GB "
          f"{row['ours_cpu_s_per_gb']:.2f} / {row['raw_cpu_s_per_gb']:.2f}",
          flush=True)
    return row


def bytes_of(folder):
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def time_copy(checkpoint, folder):
    """cp and sync. The copy goes at once: memory that a file was in is faster
    than memory that a virtual machine never touched, and the other side is to
    find as much of it."""
    with Timed() as raw:
        run("sh", "-c", f"cp -r {checkpoint} {folder}/copy && sync")
    shutil.rmtree(folder / "copy")
    return raw


def bench_exchange(checkpoint, work, rounds):
    size = bytes_of(checkpoint)
    sides = {"import": ([], []), "export": ([], [])}
    for number in range(rounds):
        folder = work / f"exchange-{number}"
        folder.mkdir()
        hub = ExchangeHub(folder, work.parent)
        try:
            sides["import"][1].append(time_copy(checkpoint, folder))
            with Timed(hub.process) as ours:
                hub.make_model(checkpoint)
            sides["import"][0].append(ours)
            sides["export"][1].append(time_copy(checkpoint, folder))
            # As cp finds its source. What was imported is on the disk alone.
            for blob in (folder / "hub/blobs").rglob("*"):
                if blob.is_file():
                    warm(blob)
            with Timed(hub.process) as ours:
                hub.export(folder / "out")
            sides["export"][0].append(ours)
        finally:
            hub.stop()
            shutil.rmtree(folder)
    return [compare(f"{case} / cp + sync", *both, size, bar)
            for (case, both), bar in zip(sides.items(), (2.0, 1.3))]


def bench_packed(checkpoint, work, rounds):
    """The export of blobs that were packed meanwhile."""
    folder = work / "packed"
    folder.mkdir()
    hub = ExchangeHub(folder, work.parent,
                      "pack_after: 0s, pack_bytes_per_second: 8589934592")
    size = bytes_of(checkpoint)
    ours, raw = [], []
    try:
        hub.make_model(checkpoint)
        # A hub begins to look for what to pack when it starts.
        hub.stop()
        hub.start()
        while bytes_of(folder / "hub/blobs") > 0.75 * size:
            time.sleep(0.5)
        for _ in range(rounds):
            raw.append(time_copy(checkpoint, folder))
            with Timed(hub.process) as one:
                hub.export(folder / "out")
            ours.append(one)
            shutil.rmtree(folder / "out")
    finally:
        hub.stop()
        shutil.rmtree(folder)
    return compare("export of packed / cp + sync", ours, raw, size, 1.3)


def bench_verify(checkpoint, work, rounds):
    folder = work / "verify"
    folder.mkdir()
    hub = ExchangeHub(folder, work.parent)
    try:
        hub.make_model(checkpoint)
        hub.export(folder / "out")
        ours, raw = [], []
        for _ in range(rounds):
            with Timed() as one:
                run("sh", "-c", f"find {folder}/out -type f | xargs -P "
                    f"{os.cpu_count()} -n 1 openssl sha256")
            raw.append(one)
            with Timed() as one:
                hub.cairn("ada", "verify", folder / "out")
            ours.append(one)
    finally:
        hub.stop()
    size = bytes_of(folder / "out")
    shutil.rmtree(folder)
    return compare("verify / openssl on all cores", ours, raw, size, 1.15)


def bench_at_rest(checkpoint, work):
    figures = json.loads(run(TOOLS / "at_rest", "measure", checkpoint,
                             work / "at-rest"))
    for name, value in figures.items():
        print(f"{name:34} {value:.3f}" if isinstance(value, float)
              else f"{name:34} {value}", flush=True)
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("only", nargs="?",
                        choices=["exchange", "packed", "verify", "at-rest"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gigabytes", type=float, default=2.2)
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--work", type=pathlib.Path,
                        default=ROOT / "build/bench",
                        help="where files are made; give a tmpfs to leave "
                             "the disk out (default: %(default)s)")
    given = parser.parse_args()
    work = given.work / "keeping"
    checkpoint = given.work / f"checkpoint-{given.gigabytes}-{given.shards}"
    if not checkpoint.exists():
        run(TOOLS / "at_rest", "make", checkpoint, given.gigabytes,
            given.shards)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    rows = {}
    if given.only in (None, "exchange"):
        rows["exchange"] = bench_exchange(checkpoint, work, given.rounds)
    if given.only in (None, "packed"):
        rows["packed"] = bench_packed(checkpoint, work, given.rounds)
    if given.only in (None, "verify"):
        rows["verify"] = bench_verify(checkpoint, work, given.rounds)
    if given.only in (None, "at-rest"):
        rows["at_rest"] = bench_at_rest(checkpoint, work)
    shutil.rmtree(work)
    (given.work / "keeping.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
