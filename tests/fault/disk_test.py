"""What a real hub does when its disk is full, tears its last write or turns a bit.

CAIRN_SEED chooses the places. Filling a disk mounts a small tmpfs and is left out where that is not allowed.
"""
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
from hub import Hub, make_checkpoint  # noqa: E402

SEED = int(os.environ.get("CAIRN_SEED", "20265"))


class DiskTest(unittest.TestCase):
    def setUp(self):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="cairn-disk-"))
        self.addCleanup(shutil.rmtree, self.work, ignore_errors=True)
        self.random = random.Random(SEED)
        self.hub = None

    def open_hub(self, root=None, config=None):
        root = root or self.work / "hub-root"
        root.mkdir(exist_ok=True)
        self.hub = Hub(root, config=config)
        self.addCleanup(self.hub.kill)
        return self.hub

    def create(self, name, megabytes, seed=1):
        folder = self.work / f"{name}-source"
        if not folder.exists():
            make_checkpoint(folder, megabytes, seed)
        return self.hub.cairn("ada", "model", "create", name, "--from", folder, "--license", "MIT")

    def assert_whole(self, name):
        out = self.work / f"{name}-pulled"
        shutil.rmtree(out, ignore_errors=True)
        self.hub.must("ada", "pull", name, out)
        self.hub.must("ada", "verify", out)
        source = self.work / f"{name}-source/model.safetensors"
        self.assertEqual((out / "model.safetensors").read_bytes(), source.read_bytes())

    def check(self):
        return self.hub.cairn("ada", "admin", "check", "--read-blobs")

    # A full disk

    def mount(self, megabytes):
        target = self.work / "small"
        target.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "cairn-small", target],
                              capture_output=True, text=True)
        if done.returncode:
            self.skipTest(f"cannot mount a tmpfs: {done.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", "-l", target])
        return target

    def fill(self, disk):
        filler = disk / "filler"
        with open(filler, "ab", buffering=0) as out:
            for size in (1 << 20, 1 << 12):
                try:
                    while True:
                        out.write(b"\0" * size)
                except OSError:
                    pass
        return filler

    def test_full_disk_refuses_reads_on_and_recovers(self):
        disk = self.mount(64)
        hub = self.open_hub(disk / "root")
        self.assertEqual(self.create("first", 4).code, 0)
        # Less room than the checkpoint needs: the upload runs into the end.
        filler = self.fill(disk)
        os.truncate(filler, filler.stat().st_size - (6 << 20))
        refused = self.create("second", 16, seed=2)
        self.assertNotEqual(refused.code, 0)
        self.assertEqual(refused.json["error"]["reason"], "STORAGE_FULL", str(refused))
        self.assertRegex(refused.json["error"]["message"], "ma[dk]e room", str(refused))
        self.assertIsNone(hub.process.poll(), "the hub died")
        self.assert_whole("first")
        # No room at all, for records neither.
        self.fill(disk)
        for i in range(3):
            user = hub.cairn("admin", "admin", "user", "add", f"late{i}", "--role", "reader")
            if user.code:
                self.assertEqual(user.json["error"]["reason"], "STORAGE_FULL", str(user))
        self.assert_whole("first")
        filler.unlink()
        again = self.create("second", 16, seed=2)
        self.assertEqual(again.code, 0, str(again))
        self.assert_whole("second")
        hub.must("admin", "admin", "user", "add", "later", "--role", "reader")
        self.assertEqual(self.check().code, 0, str(self.check()))
        hub.kill()
        hub.start()
        self.assert_whole("first")
        self.assertEqual(self.check().code, 0)

    # A torn or damaged log

    def log(self):
        logs = sorted((self.hub.data / "metadata").glob("*.log"))
        return max(logs, key=lambda p: p.stat().st_mtime)

    def users(self):
        items = self.hub.must("admin", "admin", "user", "list").json
        items = items.get("items", items) if isinstance(items, dict) else items
        return {user["name"].split("/")[-1] for user in items}

    def add_user(self, name):
        self.hub.must("admin", "admin", "user", "add", name, "--role", "reader")

    def test_torn_last_record_is_dropped_and_nothing_before_it(self):
        hub = self.open_hub()
        known = {"ada", "admin"}
        for i in range(6):
            self.add_user(f"kept{i}")
            known.add(f"kept{i}")
            whole = self.log().stat().st_size
            self.add_user(f"torn{i}")
            hub.kill()
            log = self.log()
            cut = self.random.randrange(whole + 1, log.stat().st_size)
            os.truncate(log, cut)
            hub.start()
            self.assertEqual(self.users(), known, f"seed {SEED}, cut at {cut} of {log}")
            self.assertEqual(self.check().code, 0)

    def test_damage_before_the_last_record_is_refused(self):
        hub = self.open_hub()
        start = self.log().stat().st_size
        for i in range(4):
            self.add_user(f"user{i}")
        hub.kill()
        log = self.log()
        bytes_ = bytearray(log.read_bytes())
        at = self.random.randrange(start // 2, start)
        bytes_[at] ^= 1 << self.random.randrange(8)
        log.write_bytes(bytes_)
        self.assertFalse(hub.launch(), f"seed {SEED}: a bit of {log} at {at} was turned and nobody noticed")
        self.assertEqual(hub.process.returncode, 7)
        self.assertIn("metadata", (hub.root / "cairnd.log").read_text())

    # A turned bit

    def test_turned_bit_is_reported_with_its_blob_and_all_that_use_it(self):
        hub = self.open_hub()
        self.assertEqual(self.create("one", 2).code, 0)
        shutil.copytree(self.work / "one-source", self.work / "two-source")
        self.assertEqual(self.create("two", 2).code, 0)
        self.assertEqual(self.check().code, 0, str(self.check()))
        blobs = [p for p in (hub.data / "blobs").rglob("*") if p.is_file() and p.stat().st_size > 100_000]
        self.assertEqual(len(blobs), 4)
        victim = self.random.choice(blobs)
        at = self.random.randrange(victim.stat().st_size)
        with open(victim, "r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << self.random.randrange(8)]))
        found = self.check()
        self.assertEqual(found.code, 7, str(found))
        digest = victim.name.split(".")[0]
        for named in (digest, "models/one/releases/v1.0.0", "models/two/releases/v1.0.0"):
            self.assertIn(named, found.out, f"seed {SEED}, byte {at} of {victim}")
        pulled = hub.cairn("ada", "pull", "one", self.work / "damaged")
        self.assertEqual(pulled.code, 7, str(pulled))
        self.assertFalse((self.work / "damaged/model.safetensors").exists())


if __name__ == "__main__":
    unittest.main()
