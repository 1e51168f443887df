"""A hub on loopback with workers and people, driven through the installed programs."""
import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

BIN = Path(os.environ["CAIRN_BIN"])
AT_REST = {"RELEASED", "REJECTED", "WITHDRAWN", "SUPERSEDED", "REVERTED"}


class Failed(Exception):
    """Something the demo promises did not happen."""


@dataclass
class Answer:
    code: int
    json: dict
    seconds: float
    errors: str


def wait_for(check, seconds, what):
    end = time.monotonic() + seconds
    while not (result := check()):
        if time.monotonic() > end:
            raise Failed(f"waited {seconds} s for {what}")
        time.sleep(0.2)
    return result


def cairn(*args, expect=0, **env):
    """Runs `cairn ARGS --json`; `expect` is the exit code that must come back, None for any."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("CAIRN_")}
    start = time.monotonic()
    done = subprocess.run([BIN / "cairn", *map(str, args), "--json", "--no-progress"], env=clean | env,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if expect is not None and done.returncode != expect:
        raise Failed(f"cairn {' '.join(map(str, args))}: exit {done.returncode}\n{done.stderr}{done.stdout}")
    try:
        document = json.loads(done.stdout) if done.stdout.strip() else {}
    except ValueError:
        document = {}
    return Answer(done.returncode, document, time.monotonic() - start, done.stderr)


class Person:
    def __init__(self, home, hub):
        self.home, self.hub = Path(home), hub

    def __call__(self, *args, expect=0):
        return cairn(*args, expect=expect, CAIRN_HOME=str(self.home), CAIRN_HUB=self.hub)


class Community:
    """`with Community(root) as community:` ends every process it started."""

    def __init__(self, root):
        self.root, self.processes, self.people = Path(root), [], {}
        self.data = self.root / "hub"

    def __enter__(self):
        try:
            subprocess.run([BIN / "cairnd", "init", "--data-dir", self.data, "--name", "127.0.0.1",
                            "--name", "localhost"], check=True,
                           stdout=open(self.root / "init.log", "w"))
            ready = self.root / "ready.json"
            hub = self.spawn("cairnd", "--data-dir", self.data, "--listen", "127.0.0.1:0",
                             "--http-listen", "127.0.0.1:0", "--ready-file", ready)

            def told():
                if hub.poll() is not None:
                    raise Failed(f"cairnd ended; see {self.root}/cairnd.log")
                try:
                    return json.loads(ready.read_text())
                except (OSError, ValueError):
                    return None
            where = wait_for(told, 30, "cairnd to be ready")
            self.address, self.ca = where["grpc"], where["ca"]
            self.admin = Person(self.data / "admin", self.address)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()

    def spawn(self, program, *args, label=None):
        log = open(self.root / f"{label or program}.log", "ab")
        process = subprocess.Popen([BIN / program, *map(str, args)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def person(self, name, role):
        """A user with a home, a token and a registered key."""
        home = self.root / "homes" / name
        home.mkdir(parents=True)
        self.admin("admin", "user", "add", name, "--role", role)
        token = home / "token"
        token.touch(0o600)
        token.write_text(self.admin("admin", "token", "create", name).json["token"])
        person = self.people[name] = Person(home, self.address)
        person("init", "--hub", self.address, "--ca", self.ca, "--identity", name)
        person("identity", "register")
        return person

    def worker(self, name):
        home = self.person(name, "worker").home
        self.spawn("cairn-worker", "--hub", self.address, "--home", home, "--scratch", self.root / "scratch" / name,
                   "--threads", 1, label=name)
