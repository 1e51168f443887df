"""Times durable pushes and pulls against raw baselines, interleaved.

    transfer.py [push|pull] [--gib 4] [--rounds 5] [--work DIR]

For each case the minimum wall time of each side over the rounds, their ratio
(baseline over ours: 1 is as fast), and processor seconds a GB beside it. Ours
is always over TLS: hashed at both ends, checked by chunk, durable and recorded.
The baselines are one gRPC stream of the same bytes with fsync (pushes also
hashed by the receiver), plain and over TLS, and `dd conv=fsync`. A work folder
on a tmpfs leaves the disk out. Standard library only.
"""

import argparse
import json
import os
import pathlib
import shutil
import sys

from bench import BIN, ROOT, TOOLS, Hub, RawServer, Timed, report, row_of, run

LAYERS_PER_GIB = 10


def make_inputs(folder, gib):
    """A base and a dense update of `gib` GiB on it."""
    if (folder / "done").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    run(TOOLS / "make_big_model", folder, LAYERS_PER_GIB * gib)
    run(BIN / "cairn", "compress", "--base", folder / "base", "--tuned",
        folder / "tuned", "--encoding", "dense", folder / "dense")
    for spare in [folder / "tuned", *folder.glob("lora-*")]:
        shutil.rmtree(spare)
    (folder / "done").touch()


def warm(path):
    """Reads a file, so that no side waits for the input."""
    with open(path, "rb") as file:
        while file.read(1 << 24):
            pass


class Cases:
    def __init__(self):
        self.ours, self.raw = {}, {}

    def rows(self, size):
        return [row_of(f"{kind} / {name}", self.ours[kind], timed, size)
                for (kind, name), timed in self.raw.items()]

    def add_raw(self, kind, name, timed):
        self.raw.setdefault((kind, name), []).append(timed)


def push_round(hub, server, cases, folder, update):
    file = update / "cairn-update.safetensors"
    warm(file)
    for name, ca, address in (("plain stream, sha256", "-", server.plain),
                              ("TLS stream, sha256", hub.ca, server.address)):
        with Timed(server.process) as raw:
            run(TOOLS / "raw_stream", "push", ca, address, file)
        cases.add_raw("push", name, raw)
        (folder / "received").unlink()
    with Timed(hub.process) as ours:
        hub.cairn("bob", "push", "big", update, "--license", "MIT")
    cases.ours.setdefault("push", []).append(ours)
    with Timed() as raw:
        run("dd", f"if={file}", f"of={folder}/copy", "bs=1M", "conv=fsync")
    cases.add_raw("push", "dd conv=fsync", raw)
    (folder / "copy").unlink()


def pull_round(hub, server, cases, folder, model_file):
    warm(model_file)
    for name, ca, address in (("plain stream", "-", server.plain),
                              ("TLS stream", hub.ca, server.address)):
        with Timed(server.process) as raw:
            run(TOOLS / "raw_stream", "pull", ca, address, model_file,
                folder / "received")
        cases.add_raw("pull", name, raw)
        (folder / "received").unlink()
    with Timed(hub.process) as ours:
        hub.cairn("bob", "pull", "big@v1.0.0", folder / "pulled")
    cases.ours.setdefault("pull", []).append(ours)
    shutil.rmtree(folder / "pulled")


def peak_rss(process):
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def run_rounds(given, inputs, work):
    cases, rss = Cases(), 0.0
    for number in range(given.rounds):
        folder = work / f"round-{number}"
        folder.mkdir(parents=True)
        hub = Hub(folder)
        try:
            hub.cairn("ada", "model", "create", "big", "--from",
                      inputs / "base", "--license", "MIT")
            server = RawServer(hub, folder)
            try:
                if given.only != "pull":
                    push_round(hub, server, cases, folder, inputs / "dense")
                if given.only != "push":
                    pull_round(hub, server, cases, folder,
                               inputs / "base/model.safetensors")
            finally:
                server.stop()
            rss = max(rss, peak_rss(hub.process))
        finally:
            hub.stop()
            shutil.rmtree(folder)
    return cases, rss


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("only", nargs="?", choices=["push", "pull"])
    parser.add_argument("--gib", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=pathlib.Path,
                        default=ROOT / "build/bench")
    given = parser.parse_args()
    inputs = given.work / f"transfer-inputs-{given.gib}"
    work = given.work / f"transfer-run-{os.getpid()}"
    make_inputs(inputs, given.gib)
    try:
        cases, rss = run_rounds(given, inputs, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    rows = cases.rows((inputs / "base/model.safetensors").stat().st_size)
    report(rows, given.rounds)
    print(f"peak RSS of the hub: {rss:.0f} MiB")
    (given.work / "transfer-results.json").write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
