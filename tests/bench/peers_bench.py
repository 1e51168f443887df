"""The hub's memory while many peers use it, most of them slowly.

    python3 tests/bench/peers_bench.py [--seconds 30]

Prints for each case the most memory the hub had (resident, MiB) beside the bound. Peers that are refused a stream come
again when the hub told them to.
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from hub import ROOT, Hub, make_checkpoint  # noqa: E402

PEERS = ROOT / "build/release/tests/bench/slow_peers"
# All peers are one identity here.
CONFIG = "uploads: {open_max: 10000, caller_streams_max: 4096}\nquota: {stored_bytes: -1}\n"


class Watch:
    """The most memory the hub had meanwhile."""

    def __init__(self, hub):
        self.hub, self.most, self.is_over = hub, 0, False
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.is_over:
            self.most = max(self.most, self.hub.memory())
            time.sleep(0.1)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over = True
        self.thread.join()


def peers(*args):
    done = subprocess.run([str(a) for a in (PEERS, *args)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"slow_peers ended with {done.returncode}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def with_hub(work, case):
    root = work / "hub-root"
    root.mkdir()
    hub = Hub(root, config=CONFIG)
    try:
        return case(hub)
    finally:
        hub.kill()
        shutil.rmtree(root)


def uploads(count, connections, moving, bound, given):
    def case(hub):
        before = hub.memory()
        with Watch(hub) as watch:
            told = peers("upload", hub.listen, hub.ca, hub.home("ada") / "token", count, connections, moving,
                         given.seconds)
        report(f"{count} uploads open, {moving} moving", before, watch.most, bound, told)
    return case


def readers(count, bound, work, given):
    def case(hub):
        source = make_checkpoint(work / "source", 256)
        hub.must("ada", "model", "create", "m", "--from", source, "--license", "MIT")
        shutil.rmtree(source)
        # Once at full speed, so that what any reader costs is there before.
        hub.must("ada", "pull", "m", work / "pulled")
        shutil.rmtree(work / "pulled")
        before = hub.memory()
        with Watch(hub) as watch:
            told = peers("read", hub.listen, hub.ca, hub.home("ada") / "token", "models/m/releases/v1.0.0",
                         "model.safetensors", count, given.seconds)
        report(f"{count} slow readers (added)", 0, watch.most - before, bound, told)
    return case


def report(case, before, most, bound, told):
    verdict = "holds" if most <= bound else "FAILS"
    print(f"{case:36} {most:7.0f} MiB, at most {bound} MiB: {verdict}   (before {before:.0f} MiB; {told})", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=30, help="of each case, once all are there")
    parser.add_argument("--work", type=pathlib.Path, help="where the hub keeps its bytes")
    given = parser.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="cairn-peers-", dir=given.work))
    try:
        with_hub(work, uploads(1000, 250, 64, 512, given))
        with_hub(work, uploads(5000, 500, 0, 1024, given))
        with_hub(work, readers(100, 64, work, given))
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
