"""Times a merge against raw copies, interleaved; shared by other benchmarks.

Prints, for each case, the minimum wall time of each side over the rounds,
their ratio, and the processor seconds a GB (client, hub and worker together),
because disks vary more between runs than processors do. Standard library only.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = ROOT / "build/release/bin"
TOOLS = ROOT / "build/release/tests/bench"
TICKS = os.sysconf("SC_CLK_TCK")
ADAPTERS = 8


def clean_env(**extra):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CAIRN_")}
    return kept | {"NO_COLOR": "1"} | {k: str(v) for k, v in extra.items()}


def warm(path):
    """Reads a file, so that no side waits for the input."""
    with open(path, "rb") as file:
        while file.read(1 << 24):
            pass


def run(*argv, **env):
    done = subprocess.run([str(a) for a in argv], env=clean_env(**env),
                          stdin=subprocess.DEVNULL, capture_output=True,
                          text=True)
    if done.returncode:
        sys.exit(f"{argv} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def children_cpu():
    times = os.times()
    return times.children_user + times.children_system


def process_cpu(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text()
    fields = fields.rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


class Timed:
    """Wall and processor seconds of a block, with those of running servers."""

    def __init__(self, *servers):
        self.servers = servers

    def _cpu(self):
        return children_cpu() + sum(process_cpu(s) for s in self.servers)

    def __enter__(self):
        os.sync()
        self.cpu, self.wall = -self._cpu(), -time.monotonic()
        return self

    def __exit__(self, *_):
        self.wall += time.monotonic()
        self.cpu += self._cpu()


class Hub:
    """A real hub on loopback, with a maintainer and a contributor."""

    def __init__(self, root, *flags):
        self.root, self.flags = root, flags
        run(BIN / "cairnd", "init", "--data-dir", root / "hub", "--name",
            "127.0.0.1")
        self.start()
        for name, role in (("ada", "maintainer"), ("bob", "contributor")):
            self.add_person(name, role)

    def start(self):
        ready = self.root / "ready.json"
        ready.unlink(missing_ok=True)
        with open(self.root / "cairnd.log", "wb") as log:
            self.process = subprocess.Popen(
                [BIN / "cairnd", "--data-dir", self.root / "hub", "--listen",
                 "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
                 "--ready-file", ready, *self.flags], stdout=log, stderr=log,
                env=clean_env())
        while not ready.exists():
            time.sleep(0.05)
            if self.process.poll() is not None:
                sys.exit((self.root / "cairnd.log").read_text())
        told = json.loads(ready.read_text())
        self.address, self.ca = told["grpc"], told["ca"]
        self.plain = told.get("plain")

    def cairn(self, who, *args, hub=None):
        home = self.root / ("hub/admin" if who == "admin" else f"homes/{who}")
        return run(BIN / "cairn", *args, "--json", "--no-progress",
                   CAIRN_HOME=home, CAIRN_HUB=hub or self.address)

    def add_person(self, name, role):
        home = self.root / "homes" / name
        home.mkdir(parents=True)
        self.cairn("admin", "admin", "user", "add", name, "--role", role)
        token = json.loads(self.cairn("admin", "admin", "token", "create", name))
        (home / "token").write_text(token["token"])
        (home / "token").chmod(0o600)
        self.cairn(name, "init", "--hub", self.address, "--ca", self.ca,
                   "--identity", name)
        self.cairn(name, "identity", "register")

    def stop(self):
        self.process.terminate()
        self.process.wait(60)


class RawServer:
    """The baseline's server, with the hub's own certificate."""

    def __init__(self, hub, folder):
        ready = folder / "raw.ready"
        tls = hub.root / "hub/tls"
        self.process = subprocess.Popen(
            [TOOLS / "raw_stream", "serve", tls / "server.pem",
             tls / "server.key", folder, ready], env=clean_env())
        while not ready.exists() or not ready.read_text().endswith("\n"):
            time.sleep(0.05)
        self.address, self.plain = ready.read_text().split()

    def stop(self):
        self.process.kill()
        self.process.wait()


def report(rows, rounds):
    print(f"\n{'case':34} {'ours s':>8} {'raw s':>8} {'raw/ours':>9} "
          f"{'cpu s/GB':>9} {'raw cpu':>8}   minimum of {rounds} rounds")
    for row in rows:
        print(f"{row['case']:34} {row['ours_s']:8.2f} {row['raw_s']:8.2f} "
              f"{row['ratio']:9.2f} {row['ours_cpu_s_per_gb']:9.2f} "
              f"{row['raw_cpu_s_per_gb']:8.2f}", flush=True)


def row_of(case, ours, raw, size):
    best = lambda runs, what: min(getattr(t, what) for t in runs)
    gb = size / 1e9
    return {"case": case, "bytes": size, "ours_s": best(ours, "wall"),
            "raw_s": best(raw, "wall"),
            "ratio": best(raw, "wall") / best(ours, "wall"),
            "ours_cpu_s_per_gb": best(ours, "cpu") / gb,
            "raw_cpu_s_per_gb": best(raw, "cpu") / gb}


def bench_merge(inputs, work, rounds):
    """Eight LoRAs into 1 GiB of BF16 against cp + sync of it."""
    adapters = [part for i in range(1, ADAPTERS + 1)
                for part in ("--adapter", f"{inputs}/lora-{i}:{1 / ADAPTERS}")]
    ours, raw = [], []
    for _ in range(rounds):
        with Timed() as one:
            run("sh", "-c", f"cp -r {inputs}/base {work}/copy && sync")
        raw.append(one)
        with Timed() as one:
            run(BIN / "cairn-merge", "--base", inputs / "base", *adapters,
                work / "merged")
        ours.append(one)
        shutil.rmtree(work / "copy")
        shutil.rmtree(work / "merged")
    size = (inputs / "base/model.safetensors").stat().st_size
    return [row_of("merge 8 LoRA / cp + sync", ours, raw, size)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=pathlib.Path,
                        default=ROOT / "build/bench",
                        help="where files are made; give a tmpfs to leave "
                             "the disk out (default: %(default)s)")
    given = parser.parse_args()
    inputs, work = given.work / "inputs", given.work / "run"
    if not (inputs / "lora-8/adapter_model.safetensors").exists():
        run(TOOLS / "make_big_model", inputs)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    rows = bench_merge(inputs, work, given.rounds)
    shutil.rmtree(work)
    report(rows, given.rounds)
    (given.work / "results.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
