"""Times merges of whole models and of adapters against cp and sync.

Base and three models in BF16, page cache warm, and eight LoRAs of rank 16;
every round runs each side once, in turn, and the minimum of each side counts.
Digests of the output are computed on the way. Prints wall seconds over those
of `cp -r` and `sync` of one model, processor seconds a GB of output, and the
largest resident memory. Standard library only; see run.sh.

  merging.py                       all methods, on the disk
  merging.py ties della            these
  merging.py --work /dev/shm/b --layers 5    without the disk
  merging.py --memory-only         four inputs of 8 GB, for their memory
"""

import argparse
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import time

from bench import BIN, ROOT, TOOLS, clean_env, run

# Of cp + sync, and what is said of each model in the recipe.
METHODS = {
    "linear": (1.4, ""),
    "task_arithmetic": (1.4, ""),
    "ties": (2.5, ", density: 0.2"),
    "dare_ties": (2.5, ", density: 0.5"),
    "della": (4.0, ", density: 0.5, epsilon: 0.1"),
    "slerp": (1.6, None),
    "model_stock": (2.0, None),
    "8-loras": (1.6, None),
}
MEMORY_MAX_MIB = 512


def recipe(method, base, tuned):
    lines = [f"merge_method: {method}", "dtype: bfloat16"]
    if method == "slerp":
        lines.append(f"base_model: {tuned[0]}")
        models = [f"{{model: {model}}}" for model in tuned[:2]]
        lines.append("parameters: {t: 0.4}")
    else:
        extra = METHODS[method][1]
        given = ("" if extra is None
                 else f", parameters: {{weight: 0.3{extra}}}")
        models = [f"{{model: {model}{given}}}" for model in tuned]
        if method != "linear":
            lines.append(f"base_model: {base}")
        if method not in ("linear", "model_stock"):
            lines.append("parameters: {normalize: false}")
    lines.append(f"models: [{', '.join(models)}]")
    return "\n".join(lines) + "\n"


def timed(command, out):
    """(wall seconds with sync, processor seconds, peak MiB) of a command."""
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.monotonic()
    process = subprocess.Popen([str(part) for part in command],
                               stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, env=clean_env())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    os.sync()
    wall = time.monotonic() - began
    if process.returncode:
        sys.exit(f"{command} ended with {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = (after.ru_utime + after.ru_stime - before.ru_utime -
           before.ru_stime)
    return wall, cpu, usage.ru_maxrss / 1024


def command_of(method, inputs, work, out, base=None, tuned=None):
    base = base or inputs / "base"
    tuned = tuned or [inputs / f"tuned-{k}" for k in (1, 2, 3)]
    if method == "8-loras":
        adapters = [part for k in range(1, 9)
                    for part in ("--adapter", f"{inputs}/lora-{k}:0.3")]
        return [BIN / "cairn-merge", "--base", base, *adapters, out]
    path = work / f"{method}.yml"
    path.write_text(recipe(method, base, tuned))
    return [BIN / "cairn-merge", path, out, "--profile", "mergekit"]


def bench(methods, inputs, work, rounds):
    out = work / "out"
    runs = {case: [] for case in ["cp", *methods]}
    for _ in range(rounds):
        for case in runs:
            command = (["cp", "-r", inputs / "base", out] if case == "cp"
                       else command_of(case, inputs, work, out))
            runs[case].append(timed(command, out))
    shutil.rmtree(out)
    gb = (inputs / "base/model.safetensors").stat().st_size / 1e9
    best = {case: [min(one) for one in zip(*each)]
            for case, each in runs.items()}
    rows = []
    for case, (wall, cpu, _) in best.items():
        peak = max(one[2] for one in runs[case])
        bar = METHODS[case][0] if case != "cp" else None
        rows.append({"case": case, "wall_s": wall, "cpu_s_per_gb": cpu / gb,
                     "peak_mib": peak, "ratio": wall / best["cp"][0],
                     "bar": bar})
        print(f"{case:16} {wall:7.2f} s  x{rows[-1]['ratio']:.2f}"
              f"{'' if bar is None else f' (bar {bar})':11}"
              f" cpu s/GB {cpu / gb:5.2f}  {peak:5.0f} MiB", flush=True)
    return rows


def bench_memory(methods, inputs, work):
    """Four inputs of 8 GB: one directory under four names."""
    names = [work / f"big-{k}" for k in range(4)]
    for name in names:
        name.mkdir()
        for file in (inputs / "base").iterdir():
            os.link(file, name / file.name)
    rows = []
    for case in methods:
        command = command_of(case, inputs, work, work / "out", names[0],
                             names[1:])
        wall, cpu, peak = timed(command, work / "out")
        rows.append({"case": case, "wall_s": wall, "cpu_s": cpu,
                     "peak_mib": peak, "bar_mib": MEMORY_MAX_MIB})
        print(f"{case:16} {wall:7.2f} s  {peak:5.0f} MiB "
              f"(bar {MEMORY_MAX_MIB})", flush=True)
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", help=", ".join(METHODS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layers", type=int, default=None,
                        help="of a tenth of a GiB each (default: 20, and 76 "
                             "for --memory-only)")
    parser.add_argument("--memory-only", action="store_true")
    parser.add_argument("--work", type=pathlib.Path,
                        default=ROOT / "build/bench",
                        help="where files are made (default: %(default)s)")
    given = parser.parse_args()
    methods = given.methods or list(METHODS)
    layers = given.layers or (76 if given.memory_only else 20)
    inputs, work = given.work / f"merge-{layers}", given.work / "merging"
    if not (inputs / "lora-8/adapter_model.safetensors").exists():
        kind = [] if given.memory_only else ["merge"]
        run(TOOLS / "make_big_model", inputs, layers, *kind)
        shutil.rmtree(inputs / "tuned", ignore_errors=True)  # not needed
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    rows = (bench_memory(methods, inputs, work) if given.memory_only
            else bench(methods, inputs, work, given.rounds))
    shutil.rmtree(work)
    (given.work / "merging.json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
