"""Runs the whole way of an update on real text: python3 demo.py DIR (made anew). See README.md."""
import array
import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import make_workload
from community import AT_REST, BIN, Community, Failed, cairn, wait_for

MODEL = "byte-llama"
PROTECTED, MARGIN = "licenses", 0.05
DOMAINS = list(make_workload.SOURCES)
# The model knows licence texts and little else; contributors bring a language each, and rehearse what it knows.
# Contributor: domain, method.
SPECIALISTS = {"ada": ("c", "lora"), "bela": ("perl", "lora"), "chen": ("python", "sparse"), "dara": ("cmake", "sparse")}
METHODS = {"lora": ["--rank", "4", "--alpha", "8", "--lr", "1.5e-3"], "sparse": ["--density", "0.005", "--lr", "6e-3"]}
PRETRAIN_STEPS, SPECIALIST_STEPS = 400, 110
KEPT_MIN = 0.5                    # share of a specialist's own gain that the release must keep
STARTED = time.monotonic()


def say(text):
    print(f"[{time.monotonic() - STARTED:5.1f} s] {text}", flush=True)


def mixture(root, weights):
    return [arg for domain, weight in weights.items() for arg in ("--data", f"{root}/workload/text/{domain}.txt:{weight}")]


def train(out, *args):
    log = open(f"{out}.log", "w")
    done = subprocess.run([BIN / "cairn", "train", *map(str, args), "--batch", "16", "--quiet", out], stderr=log,
                          stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise Failed(f"training {out}: exit {done.returncode}; see {log.name}")


def pretrain(root):
    weights = {domain: 0.84 if domain == PROTECTED else 0.04 for domain in DOMAINS}
    train(root / "base", "--init-config", root / "workload/model/config.json", *mixture(root, weights),
          "--method", "full", "--steps", PRETRAIN_STEPS, "--lr", "5e-3", "--seed", 1, "--threads", 2)


def specialise(root, name):
    domain, method = SPECIALISTS[name]
    weights = {d: {domain: 0.30, PROTECTED: 0.60}.get(d, 0.04) for d in DOMAINS}
    train(root / "updates" / name, "--model", root / "base", *mixture(root, weights), "--method", method,
          *METHODS[method], "--steps", SPECIALIST_STEPS, "--seed", 1 + list(SPECIALISTS).index(name), "--threads", 1)


def spoil(root):
    """A poisoned update, strong noise with the values of a real one, and a file cut off in the middle."""
    for name in ("mallory", "oscar"):
        shutil.copytree(root / "updates" / "ada", root / "updates" / name)
    config = root / "updates" / "mallory" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"lora_alpha": 80}))
    poison = root / "updates" / "mallory" / "adapter_model.safetensors"
    content = poison.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    values = array.array("f", content[start:])
    values.reverse()
    poison.write_bytes(content[:start] + values.tobytes())
    broken = root / "updates" / "oscar" / "adapter_model.safetensors"
    broken.write_bytes(broken.read_bytes()[:100_000])


def push(community, root, name):
    domain = SPECIALISTS.get(name, ("c",))[0]
    folder = root / "updates" / name
    recipe = ["--recipe", folder / "recipe.json"] if name in SPECIALISTS else []
    answer = community.people[name]("push", MODEL, folder, "--claim", domain,
                                    "--license", "Apache-2.0", *recipe, "--wait", expect=None)
    size = sum(f.stat().st_size for f in folder.iterdir() if f.name != "recipe.json")
    reasons = {r["code"] for v in answer.json.get("verdicts", []) for r in v.get("reasons", [])}
    reasons |= {answer.json.get("error", {}).get("reason")} - {None, ""}
    state = answer.json.get("state") or "REFUSED"
    say(f"  {name}: {state} after {answer.seconds:.1f} s {' '.join(sorted(reasons))}")
    return {"name": answer.json.get("name"), "state": state, "reasons": reasons, "code": answer.code, "size": size,
            "seconds": answer.seconds, "errors": answer.errors}


def check_pushes(pushes):
    for name in SPECIALISTS:
        if pushes[name]["state"] not in ("QUEUED", "NEEDS_REVIEW"):
            raise Failed(f"the good update of {name} was not accepted: {pushes[name]}")
    if pushes["mallory"]["code"] != 6 or not pushes["mallory"]["reasons"] & {"NORM_TOO_LARGE", "SUITE_REGRESSED"}:
        raise Failed(f"the poisoned update got through, or not for its fault: {pushes['mallory']}")
    if pushes["oscar"]["code"] != 6 or "MALFORMED_FILE" not in pushes["oscar"]["reasons"]:
        raise Failed(f"the broken file got through, or not for its fault: {pushes['oscar']}")


def release(maintainer, names):
    """Merges what is queued; returns the release once every contribution rests."""
    for name in names:
        if maintainer("status", name).json["state"] == "NEEDS_REVIEW":
            maintainer("review", "show", name)
            maintainer("review", "approve", name, "--note", "reviewed by the demo")
    batch = maintainer("batch", "start", MODEL, "--strategy", "task_arithmetic").json["name"]

    def settled():
        states = {name: maintainer("status", name).json["state"] for name in names}
        if maintainer("batch", "show", batch).json["state"] == "FAILED":
            raise Failed(f"the batch failed: {json.dumps(maintainer('batch', 'show', batch).json['reasons'])}")
        return states if set(states.values()) <= AT_REST else None
    states = wait_for(settled, 180, "the batch to be released")
    if set(states.values()) != {"RELEASED"}:
        raise Failed(f"not every good update was released: {states}")
    return maintainer("release", "show", f"{MODEL}@latest").json


def perplexities(root, model, adapters=()):
    """Suite -> perplexity on the audit split, one list a model or adapter."""
    values = {}
    for domain in DOMAINS:
        args = [arg for adapter in adapters for arg in ("--adapter", adapter)]
        report = cairn("evaluate", "--model", model, "--suite", root / "workload/suites" / domain, "--split", "audit",
                       "--threads", 2, *args).json
        values[domain] = [item["value"] for item in report.get("items") or [report]] if adapters else [report["value"]]
    return values


def print_tables(scores, kept, pushes, model_bytes):
    names = list(SPECIALISTS)
    titles = ["base", *(f"{n}:{'-'.join(SPECIALISTS[n])}" for n in names), "release"]
    widths = [max(10, len(t)) for t in titles]
    print("\nPerplexity on the audit split (lower is better)")
    print("suite      " + "  ".join(f"{t:>{w}}" for t, w in zip(titles, widths)) + "   gain kept")
    for domain in DOMAINS:
        mark = "*" if domain == PROTECTED else " "
        share = f"{kept[domain]:10.0%}" if domain in kept else " protected" if mark == "*" else ""
        print(f"{domain:9}{mark} " + "  ".join(f"{v:{w}.3f}" for v, w in zip(scores[domain], widths)) + f"  {share}")
    print("\nupdate    encoding      bytes  of model  vetted in  verdict")
    for name, pushed in pushes.items():
        method = SPECIALISTS.get(name, ("", "lora"))[1]
        print(f"{name:9} {method:8} {pushed['size']:10,} {pushed['size'] / model_bytes:8.2%} {pushed['seconds']:8.1f} s"
              f"  {'RELEASED' if name in SPECIALISTS else 'REJECTED'} {' '.join(sorted(pushed['reasons']))}")


def judge(scores):
    """Share of each specialist's gain that the release keeps; raises when a promise is broken."""
    kept, broken = {}, []
    for index, (domain, _) in enumerate(SPECIALISTS.values()):
        base, own, merged = scores[domain][0], scores[domain][1 + index], scores[domain][-1]
        kept[domain] = (base - merged) / (base - own) if own < base else 0.0
        if merged >= base:
            broken.append(f"the release does not beat the base on {domain}")
        elif kept[domain] < KEPT_MIN:
            broken.append(f"the release keeps {kept[domain]:.0%} of the gain on {domain}, less than {KEPT_MIN:.0%}")
    if scores[PROTECTED][-1] > scores[PROTECTED][0] * (1 + MARGIN):
        broken.append(f"the release hurts {PROTECTED} by more than {MARGIN:.0%}")
    return kept, broken


def farewell(community, root):
    home = f"CAIRN_HOME={root}/homes/mara CAIRN_HUB={community.address}"
    print(f"""
Everything is kept in {root}. To look further, start the hub again and ask it:
  {BIN}/cairnd --data-dir {root}/hub --listen {community.address} &
  export {home}
  {BIN}/cairn log {MODEL} --graph
  {BIN}/cairn release show {MODEL}@latest
  {BIN}/cairn contribution list {MODEL}
  {BIN}/cairn verify {root}/pulled""")


def community_life(root, community):
    maintainer = community.person("mara", "maintainer")
    for index in (1, 2):
        community.worker(f"worker-{index}")
    for name in [*SPECIALISTS, "mallory", "oscar"]:
        community.person(name, "contributor")
    maintainer("model", "create", MODEL, "--from", root / "base", "--license", "Apache-2.0")
    for domain in DOMAINS:
        extra = ["--protected", "--margin", MARGIN] if domain == PROTECTED else []
        maintainer("suite", "add", MODEL, domain, "--from", root / "workload/suites" / domain, *extra)
    say("the hub serves the model with five held-out suites and two workers; six contributors push")
    people = [*SPECIALISTS, "mallory", "oscar"]
    with ThreadPoolExecutor(len(people)) as pool:
        pushes = dict(zip(people, pool.map(lambda name: push(community, root, name), people)))
    check_pushes(pushes)
    say("the queue is merged, evaluated again and released")
    released = release(maintainer, [pushes[name]["name"] for name in SPECIALISTS])
    record = released["mergeRecord"]
    coefficients = ", ".join(f"{given['coefficient']:g}" for given in record["inputs"])
    say(f"{released['version']}: {record['strategy']}, coefficients {coefficients}")
    reader = community.person("rosa", "reader")
    reader("pull", f"{MODEL}@latest", root / "pulled")
    reader("verify", root / "pulled")
    replayed = maintainer("release", "replay", f"{MODEL}@latest").json["digest"]
    if replayed != released["digest"]:
        raise Failed(f"replaying the merge gave {replayed}, not {released['digest']}")
    say("pulled, verified offline, and replayed to the same digest")
    return pushes


def main():
    root = Path(sys.argv[1]).resolve()
    shutil.rmtree(root, ignore_errors=True)
    (root / "updates").mkdir(parents=True)
    make_workload.make(root / "workload")
    say("pre-training a byte-level Llama on text of this machine")
    pretrain(root)
    say("training four specialists")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: specialise(root, name), SPECIALISTS))
    spoil(root)
    with Community(root) as community:
        pushes = community_life(root, community)
    conclude(root, community, pushes)


def conclude(root, community, pushes):
    """Measures on the audit split with the local commands, prints the table and judges."""
    before, after = perplexities(root, root / "base"), perplexities(root, root / "pulled")
    alone = perplexities(root, root / "base", [root / "updates" / name for name in SPECIALISTS])
    scores = {domain: before[domain] + alone[domain] + after[domain] for domain in DOMAINS}
    kept, broken = judge(scores)
    print_tables(scores, kept, pushes, (root / "base" / "model.safetensors").stat().st_size)
    if broken:
        raise Failed("; ".join(broken))
    farewell(community, root)
    say("done: the release is better than its base on every contributed domain")


if __name__ == "__main__":
    try:
        main()
    except Failed as failure:
        print(f"\nthe demo failed: {failure}", file=sys.stderr)
        sys.exit(1)
