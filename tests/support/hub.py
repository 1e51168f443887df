"""A real hub with people, for tests and benchmarks in Python. Standard library only."""
import json
import os
import pathlib
import random
import struct
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("CAIRN_BIN", ROOT / "build/release/bin"))


def clean_env(**extra):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CAIRN_")}
    return kept | {"NO_COLOR": "1"} | {k: str(v) for k, v in extra.items()}


class Done:
    """How a command ended."""

    def __init__(self, argv, done):
        self.argv = [str(a) for a in argv]
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    def __str__(self):
        return f"{' '.join(self.argv)} ended with {self.code}:\n{self.out}{self.err}"

    @property
    def json(self):
        return json.loads(self.out)


class Hub:
    """`cairnd` under `root`, with the maintainer ada. `inside` is put before every command that runs on the hub's side
    (to enter a network namespace, say); `environment` goes to the hub."""

    def __init__(self, root, address="127.0.0.1", config=None, inside=(), environment=None):
        self.root, self.ip, self.inside = pathlib.Path(root), address, list(inside)
        self.listen = self.http = f"{address}:0"
        self.http = "127.0.0.1:0"
        self.environment = environment or {}
        self.config = None
        if config:
            self.config = self.root / "hub.yaml"
            self.config.write_text(config)
        self.process = None
        made = self._run([BIN / "cairnd", "init", "--data-dir", self.data, "--name", address])
        assert made.code == 0, made
        self.start()
        self.add_person("ada", "maintainer")

    @property
    def data(self):
        return self.root / "hub"

    def _run(self, argv, inside=None, timeout=280, **env):
        argv = (self.inside if inside is None else list(inside)) + [str(a) for a in argv]
        done = subprocess.run(argv, env=clean_env(**env), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=timeout)
        return Done(argv, done)

    def launch(self, **environment):
        """Starts the hub and returns whether it came up."""
        ready = self.root / "ready.json"
        ready.unlink(missing_ok=True)
        argv = [BIN / "cairnd", "--data-dir", self.data, "--listen", self.listen, "--http-listen", self.http,
                "--ready-file", ready]
        if self.config:
            argv += ["--config", self.config]
        with open(self.root / "cairnd.log", "ab") as log:
            self.process = subprocess.Popen(self.inside + [str(a) for a in argv], stdout=log, stderr=log,
                                            env=clean_env(**self.environment, **environment))
        while not ready.exists():
            if self.process.poll() is not None:
                return False
            time.sleep(0.01)
        told = json.loads(ready.read_text())
        self.listen, self.http, self.ca = told["grpc"], told["http"], told["ca"]
        return True

    def start(self, **environment):
        assert self.launch(**environment), (self.root / "cairnd.log").read_text()

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()

    def home(self, who):
        return self.data / "admin" if who == "admin" else self.root / "homes" / who

    def cairn(self, who, *args, inside=None, timeout=280):
        return self._run([BIN / "cairn", *args, "--json", "--no-progress"], inside=inside, timeout=timeout,
                         CAIRN_HOME=self.home(who), CAIRN_HUB=self.listen)

    def must(self, who, *args, **more):
        done = self.cairn(who, *args, **more)
        assert done.code == 0, done
        return done

    def add_person(self, name, role):
        home = self.home(name)
        home.mkdir(parents=True)
        self.must("admin", "admin", "user", "add", name, "--role", role)
        token = self.must("admin", "admin", "token", "create", name).json["token"]
        (home / "token").write_text(token)
        (home / "token").chmod(0o600)
        self.must(name, "init", "--hub", self.listen, "--ca", self.ca, "--identity", name)
        self.must(name, "identity", "register")

    def memory(self, what="VmRSS"):
        """Of the hub's process, in MiB; VmHWM is the most it ever was."""
        pid = self.process.pid
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(what + ":"):
                return int(line.split()[1]) / 1024
        raise AssertionError(what)


def make_checkpoint(folder, megabytes, seed=1, tensors=4):
    """A Hugging Face directory with F32 tensors of random bytes; all but the last depend on `seed` alone."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}))
    elements = int(megabytes * (1 << 20) / 4 / tensors)
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for i in range(tensors):
        header[f"t{i}"] = {"dtype": "F32", "shape": [elements], "data_offsets": [at, at + 4 * elements]}
        at += 4 * elements
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for i in range(tensors):
            out.write(random.Random(seed * 1000 + i).randbytes(4 * elements))
    return folder
