"""Push and pull over a long line: 60 ms there and back, 200 Mbit/s, without and with loss.

    python3 tests/bench/far_bench.py [--megabytes 256] [--loss 0 1] [--rounds 3]

Two network namespaces with an emulated line between them (far_link.cc); the hub is in one, the client in the other.
Prints the share of the line that a push (`cairn model create`, the whole command) and a pull reach, beside one plain TCP
connection over the same line. Needs root.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from hub import ROOT, Hub, make_checkpoint  # noqa: E402

TOOLS = ROOT / "build/release/tests/bench"
HUB_NS, CLIENT_NS = f"cairn-hub-{os.getpid()}", f"cairn-far-{os.getpid()}"
HUB_IP, CLIENT_IP = "10.77.0.1", "10.77.0.2"
SINK = """
import socket, sys
server = socket.create_server(("10.77.0.1", 9000))
print("ready", flush=True)
while True:
    peer, _ = server.accept()
    while peer.recv(1 << 20):
        pass
    peer.sendall(b"x")
    peer.close()
"""
SOURCE = """
import socket, sys
peer = socket.create_connection(("10.77.0.1", 9000))
block = bytes(1 << 20)
for _ in range(int(sys.argv[1])):
    peer.sendall(block)
peer.shutdown(socket.SHUT_WR)
assert peer.recv(1) == b"x"
"""


def inside(netns):
    return ["ip", "netns", "exec", netns]


class FarLine:
    """The two namespaces and the line between them."""

    def __init__(self, one_way_ms, mbit, loss, seed):
        for netns in (HUB_NS, CLIENT_NS):
            subprocess.run(["ip", "netns", "add", netns], check=True)
        self.process = subprocess.Popen(
            [TOOLS / "far_link", HUB_NS, CLIENT_NS, str(one_way_ms), str(mbit), str(loss), str(seed)],
            stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "ready\n":
            sys.exit("far_link did not start")
        for netns, ip in ((HUB_NS, HUB_IP), (CLIENT_NS, CLIENT_IP)):
            for command in (f"addr add {ip}/30 dev far0", "link set far0 up txqueuelen 2000", "link set lo up"):
                subprocess.run(["ip", "-n", netns, *command.split()], check=True)

    def close(self):
        self.process.kill()
        self.process.wait()
        for netns in (HUB_NS, CLIENT_NS):
            subprocess.run(["ip", "netns", "del", netns], check=False)


def timed(work):
    start = time.monotonic()
    work()
    return time.monotonic() - start


def plain_tcp(megabytes):
    sink = subprocess.Popen([*inside(HUB_NS), sys.executable, "-c", SINK], stdout=subprocess.PIPE, text=True)
    sink.stdout.readline()
    argv = [*inside(CLIENT_NS), sys.executable, "-c", SOURCE, str(megabytes)]
    seconds = timed(lambda: subprocess.run(argv, check=True))
    sink.kill()
    sink.wait()
    return seconds


def measure(loss, given, work):
    rate = given.mbit * 1e6 / 8
    line = FarLine(given.round_trip / 2, given.mbit, loss, given.seed)
    best = {}

    def note(what, seconds):
        best[what] = min(best.get(what, seconds), seconds)

    hub = None
    try:
        root = work / f"hub-{loss}"
        root.mkdir()
        hub = Hub(root, address=HUB_IP, inside=inside(HUB_NS))
        for i in range(given.rounds):
            note("plain TCP", plain_tcp(given.megabytes))
            source = make_checkpoint(work / f"source-{loss}-{i}", given.megabytes, seed=100 + i)
            note("push", timed(lambda: hub.must("ada", "model", "create", f"m{i}", "--from", source, "--license", "MIT",
                                                inside=inside(CLIENT_NS))))
            out = work / f"out-{loss}-{i}"
            note("pull", timed(lambda: hub.must("ada", "pull", f"m{i}", out, inside=inside(CLIENT_NS))))
            assert (out / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
            shutil.rmtree(source)
            shutil.rmtree(out)
    finally:
        if hub:
            hub.kill()
        line.close()
    for what, seconds in best.items():
        share = given.megabytes * (1 << 20) / seconds / rate
        print(f"{what:10} {loss:>4} % loss {seconds:8.2f} s  {100 * share:5.1f} % of {given.mbit} Mbit/s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--mbit", type=float, default=200)
    parser.add_argument("--round-trip", type=float, default=60, help="milliseconds")
    parser.add_argument("--loss", type=float, nargs="+", default=[0, 1], help="percent, each way")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=20266)
    given = parser.parse_args()
    work = pathlib.Path(tempfile.mkdtemp(prefix="cairn-far-"))
    try:
        for loss in given.loss:
            measure(loss, given, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
