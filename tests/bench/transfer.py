"""Times durable pushes and pulls against raw baselines, interleaved.

    transfer.py [push|pull] [--gib 4] [--rounds 5] [--work DIR] [--add]

For each case the minimum wall time of each side over the rounds, their ratio
(baseline over ours: 1 is as fast), and processor seconds a GB beside it. Ours
is hashed at both ends, checked by chunk, durable and recorded, over TLS and,
as on the hub's own machine, without. Each is held against one gRPC stream of
the same bytes, over the same kind of connection, with fsync (pushes also
hashed by the receiver), and pushes against `dd conv=fsync` too: the bar is
the slower of both. A work folder on a tmpfs leaves the disk out. With --add
the rounds of earlier calls count as well, so that long ones can be cut up.
Standard library only.
"""

import argparse
import json
import os
import pathlib
import shutil
import sys
import time

from bench import (BIN, ROOT, TOOLS, Hub, RawServer, Timed, process_cpu,
                   report, run, warm)

LAYERS_PER_GIB = 10


def make_inputs(folder, gib):
    """A base and a dense update of `gib` GiB on it."""
    if (folder / "done").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    run(TOOLS / "make_big_model", folder, LAYERS_PER_GIB * gib)
    write_whole_tensors(folder)
    for spare in [folder / "tuned", *folder.glob("lora-*")]:
        shutil.rmtree(spare)
    (folder / "done").touch()


def read_header(file):
    """The header of a safetensors file, which is left where values begin."""
    return json.loads(file.read(int.from_bytes(file.read(8), "little")))


def write_whole_tensors(folder):
    """Writes the tuned model as a dense update of version 1, which holds whole
    tensors: what is coded would be too short to time."""
    update = folder / "dense/cairn-update.safetensors"
    run(BIN / "cairn", "compress", "--base", folder / "base", "--tuned",
        folder / "tuned", "--encoding", "dense", folder / "dense")
    with open(update, "rb") as coded:
        about = read_header(coded)["__metadata__"] | {"cairn.version": "1"}
    with open(folder / "tuned/model.safetensors", "rb") as tuned, \
            open(update, "wb") as whole:
        text = json.dumps(read_header(tuned) | {"__metadata__": about}).encode()
        text += b" " * (-len(text) % 8)
        whole.write(len(text).to_bytes(8, "little") + text)
        shutil.copyfileobj(tuned, whole, 1 << 24)


def touch_last_byte(path):
    """Makes a file that nobody has sent yet; the last byte is of a value."""
    with open(path, "r+b") as file:
        file.seek(-2, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-2, os.SEEK_END)
        file.write(bytes([byte ^ 1]))


def settle(process):
    """Waits until the hub has looked through what was pushed before."""
    while True:
        before = process_cpu(process)
        time.sleep(0.5)
        if process_cpu(process) - before < 0.03:
            return


def kinds_of(hub, server, turn):
    """Each kind of connection: the raw one's CA and address, our address. In
    an order that changes, as what comes first finds other memory free."""
    kinds = [("plain", "-", server.plain, hub.plain),
             ("TLS", hub.ca, server.address, hub.address)]
    return kinds[::-1] if turn % 2 else kinds


def push_round(hub, server, folder, inputs, turn):
    update = inputs / "dense"
    file = update / "cairn-update.safetensors"
    times = {}

    def raw(kind, ca, address):
        with Timed(server.process) as times[f"stream, {kind}"]:
            run(TOOLS / "raw_stream", "push", ca, address, file)
        (folder / "received").unlink()

    def ours(kind, address):
        with Timed(hub.process) as times[f"push, {kind}"]:
            hub.cairn("bob", "push", "big", update, "--license", "MIT",
                      hub=address)

    for kind, ca, raw_address, our_address in kinds_of(hub, server, turn):
        touch_last_byte(file)
        sides = [lambda: raw(kind, ca, raw_address),
                 lambda: ours(kind, our_address)]
        for side in sides[::-1] if turn % 4 >= 2 else sides:
            settle(hub.process)
            warm(file)
            side()
    settle(hub.process)
    with Timed() as times["dd"]:
        run("dd", f"if={file}", f"of={folder}/copy", "bs=1M", "conv=fsync")
    (folder / "copy").unlink()
    return times


def pull_round(hub, server, folder, inputs, turn):
    file = inputs / "base/model.safetensors"
    # Of the base alone: nothing else was stored yet.
    blobs = [path for path in (folder / "hub/blobs").rglob("*")
             if path.is_file()]
    times = {}
    settle(hub.process)

    def raw(kind, ca, address):
        with Timed(server.process) as times[f"stream, {kind}"]:
            run(TOOLS / "raw_stream", "pull", ca, address, file,
                folder / "received")
        (folder / "received").unlink()

    def ours(kind, address):
        with Timed(hub.process) as times[f"pull, {kind}"]:
            hub.cairn("bob", "pull", "big@v1.0.0", folder / "pulled",
                      hub=address)
        shutil.rmtree(folder / "pulled")

    for kind, ca, raw_address, our_address in kinds_of(hub, server, turn):
        sides = [([file], lambda: raw(kind, ca, raw_address)),
                 (blobs, lambda: ours(kind, our_address))]
        for inputs_of_side, side in sides[::-1] if turn % 4 >= 2 else sides:
            for path in inputs_of_side:
                warm(path)
            side()
    return times


def rows_of(what, rounds, size):
    """Of the rounds of one direction: each a wall and a processor time."""
    def least(name, index):
        return min(times[name][index] for times in rounds)

    rows = []
    for kind in ("plain", "TLS"):
        ours = f"{what}, {kind}"
        for raw in [f"stream, {kind}"] + ["dd"] * (what == "push"):
            rows.append({
                "case": f"{ours} / {raw}", "bytes": size,
                "ours_s": least(ours, 0), "raw_s": least(raw, 0),
                "ratio": least(raw, 0) / least(ours, 0),
                "ours_cpu_s_per_gb": least(ours, 1) / (size / 1e9),
                "raw_cpu_s_per_gb": least(raw, 1) / (size / 1e9)})
    return rows


def peak_rss(process):
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def run_rounds(given, inputs, work, noted):
    """Adds the times of each direction of each round to `noted`."""
    rss = 0.0
    for number in range(given.rounds):
        folder = work / f"round-{number}"
        folder.mkdir(parents=True)
        hub = Hub(folder, "--plain-listen", "127.0.0.1:0")
        try:
            hub.cairn("ada", "model", "create", "big", "--from",
                      inputs / "base", "--license", "MIT", hub=hub.plain)
            server = RawServer(hub, folder)
            try:
                for what, measure in (("pull", pull_round),
                                      ("push", push_round)):
                    if given.only not in (None, what):
                        continue
                    turn = len(read_rounds(noted).get(what, []))
                    add_round(noted, what,
                              measure(hub, server, folder, inputs, turn))
            finally:
                server.stop()
            rss = max(rss, peak_rss(hub.process))
        finally:
            hub.stop()
            shutil.rmtree(folder)
    return rss


def add_round(noted, what, times):
    line = {name: (time.wall, time.cpu) for name, time in times.items()}
    with open(noted, "a", encoding="ascii") as out:
        out.write(json.dumps([what, line]) + "\n")


def read_rounds(noted):
    rounds = {}
    if noted.exists():
        for line in noted.read_text().splitlines():
            what, times = json.loads(line)
            rounds.setdefault(what, []).append(times)
    return rounds


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("only", nargs="?", choices=["push", "pull"])
    parser.add_argument("--gib", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--add", action="store_true",
                        help="count the rounds of earlier calls too")
    parser.add_argument("--work", type=pathlib.Path,
                        default=ROOT / "build/bench")
    given = parser.parse_args()
    inputs = given.work / f"transfer-inputs-{given.gib}"
    work = given.work / f"transfer-run-{os.getpid()}"
    make_inputs(inputs, given.gib)
    noted = given.work / f"transfer-rounds-{given.gib}.jsonl"
    if not given.add:
        noted.unlink(missing_ok=True)

    try:
        rss = run_rounds(given, inputs, work, noted)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    size = (inputs / "base/model.safetensors").stat().st_size
    rounds, rows = read_rounds(noted), []
    for what, some in rounds.items():
        rows += rows_of(what, some, size)
    report(rows, max(map(len, rounds.values())))
    print(f"peak RSS of the hub: {rss:.0f} MiB")
    (given.work / "transfer-results.json").write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
