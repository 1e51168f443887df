"""Writes tests/testdata/papers: what the papers' equations give for one small tensor, written down plainly in double.

    cases.json            name -> method, parameters (shared and of each model), models, tensors beside them
    tensors.safetensors   inputs, and under each case's name the result
    recipes.json          name -> [profile, recipe] over tests/testdata/merge/models, $NAME being the directory of one
    NAME.safetensors      what its equation gives for all tensors of those models
    fisher-K.safetensors, gram-K.safetensors  statistics of model K

A case names its inputs: "base" first, then the models; "fisher" and "gram" name a tensor for each model.
Run with Python 3 and numpy installed:
    python3 tests/parity/make_paper_goldens.py
"""
import json
import struct
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent / "testdata" / "papers"
random = np.random.default_rng(7)


def f32(x):
    return np.asarray(x, dtype=np.float32)


def save(path, tensors):
    header, blobs, at = {}, [], 0
    for name, value in sorted(tensors.items()):
        data = f32(value).tobytes()
        header[name] = {"dtype": "F32", "shape": list(np.shape(value)), "data_offsets": [at, at + len(data)]}
        blobs.append(data)
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def load(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    return {name: np.frombuffer(data, np.float32, int(np.prod(e["shape"])), 8 + size + e["data_offsets"][0]).reshape(e["shape"]).astype(float)
            for name, e in header.items()}


def svd(m):
    u, s, vt = np.linalg.svd(m, full_matrices=False)
    return u, s, vt


def tsv_m(taus):  # arXiv 2412.00081
    r = min(taus[0].shape) // len(taus)
    parts = [svd(t) for t in taus]
    u = np.concatenate([p[0][:, :r] for p in parts], axis=1)
    s = np.concatenate([p[1][:r] for p in parts])
    vt = np.concatenate([p[2][:r] for p in parts], axis=0)
    pu, _, qu = svd(u)
    pv, _, qv = svd(vt)
    return pu @ qu @ np.diag(s) @ pv @ qv


def iso_c(taus):  # arXiv 2502.04959
    u, s, vt = svd(sum(taus))
    return u @ np.diag(np.full_like(s, s.mean())) @ vt


def iso_cts(taus, fraction):
    n, count = min(taus[0].shape), len(taus)
    common = int(n * fraction)
    each = round((n - common) / count)
    common = n - each * count
    u, s, vt = svd(sum(taus))
    us, ss, vs = [], [], []
    for tau in taus:
        rest = tau - u[:, :common] @ u[:, :common].T @ tau
        a, b, c = svd(rest)
        us.append(a[:, :each]), ss.append(b[:each]), vs.append(c[:each])
    us.append(u[:, :common]), ss.append(s[:common]), vs.append(vt[:common])
    pu, _, qu = svd(np.concatenate(us, axis=1))
    pv, _, qv = svd(np.concatenate(vs, axis=0))
    mean = np.concatenate(ss).mean()
    return (pu @ qu) * mean @ (pv @ qv)


def svc(merged, taus, alpha):  # arXiv 2602.05536
    u, s, vt = svd(merged)
    new = s.copy()
    for r in range(len(s)):
        total = 0.0
        for tau in taus:
            row = u[:, r] @ tau
            total += max(alpha, (u[:, r] @ merged) @ row / (row @ row))
        new[r] = s[r] * len(taus) / total
    return u @ np.diag(new) @ vt


def keep_largest(x, density):
    magnitudes = np.sort(np.abs(x).ravel())[::-1]
    return np.where(np.abs(x) >= magnitudes[int(density * x.size) - 1], x, 0)


def ties(parts, density):  # arXiv 2306.01708
    kept = np.stack([keep_largest(p, density) for p in parts])
    sign = np.sign(kept.sum(axis=0))
    agree = np.where(kept * sign > 0, kept, 0)
    return agree.sum(axis=0) / np.maximum(1, (agree != 0).sum(axis=0))


def knots_ties(taus, density):  # arXiv 2410.19735
    u, s, vt = svd(np.concatenate(taus, axis=1))
    u, sv = u[:, s > 1e-5], (np.diag(s) @ vt)[s > 1e-5]
    return u @ ties(np.split(sv, len(taus), axis=1), density)


def opcm(taus, alpha):  # arXiv 2501.09522
    merged, norms = taus[0].copy(), [np.linalg.norm(taus[0])]
    for tau in taus[1:]:
        u, s, vt = np.linalg.svd(merged, full_matrices=True)
        split = int(np.argmax(np.cumsum(s) / s.sum() > alpha))
        projected = u.T @ tau @ vt.T
        np.fill_diagonal(projected, 0)
        projected[:split, :split] = 0
        merged = merged + u @ projected @ vt
        norms.append(np.linalg.norm(tau))
    return merged * np.mean(norms) / np.linalg.norm(merged)


def regmean(base, models, grams, alpha):  # arXiv 2212.09849, of whole weights
    shrunk = [alpha * g + (1 - alpha) * np.diag(np.diag(g)) for g in grams]
    return np.linalg.solve(sum(shrunk), sum(g @ m.T for g, m in zip(shrunk, models))).T - base


def fisher(base, models, diagonals, weights):  # arXiv 2111.09832, of whole weights
    scaled = [w * f / np.sqrt(np.mean(f * f)) for w, f in zip(weights, diagonals)]
    scaled = [np.maximum(f, 1e-6) for f in scaled]
    return sum(f * m for f, m in zip(scaled, models)) / sum(scaled) - base


def diloco(base, models, momentum, rate, mu):  # arXiv 2311.08105
    gradient = base - np.mean(models, axis=0)
    buffer = mu * momentum + gradient
    return -rate * (gradient + mu * buffer), buffer


def pcb(taus, ratio):  # arXiv 2410.02396
    def clamp(x, low, high):
        ordered, n = np.sort(x), x.size
        return np.clip(x, ordered[int(n * low)], ordered[int(n * (1 - high) - 1)])

    def normalize(x):
        return (x - x.min()) / (x.max() - x.min())

    flat = np.stack([t.ravel() for t in taus])
    magnitudes = np.stack([clamp(np.abs(t), 1e-4, 1e-4) for t in flat])
    score = np.exp(len(taus) * np.stack([normalize(m) for m in magnitudes]) ** 2) * np.tanh(flat * flat.sum(axis=0))
    weight = np.stack([normalize(clamp(s, 1 - ratio, 0)) for s in score])
    merged = (np.sign(flat) * magnitudes * weight).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-12)
    return merged.reshape(taus[0].shape)


def main():
    ROOT.mkdir(parents=True, exist_ok=True)
    tensors, cases = {}, {}

    def inputs(prefix, shape, rank=None):
        tensors[f"{prefix}-base"] = base = f32(random.normal(size=shape))
        names = []
        for k in (1, 2, 3):
            tau = random.normal(size=shape) * (0.1 * k) if rank is None else random.normal(size=(shape[0], rank)) @ random.normal(size=(rank, shape[1])) * 0.1
            names.append(f"{prefix}-{k}")
            tensors[names[-1]] = f32(base + tau)
        return names

    def add(name, method, prefix, models, merged, shared=None, each=None, **beside):
        tensors[name] = f32(merged)
        cases[name] = dict(method=method, base=f"{prefix}-base", models=models, parameters=shared or {},
                           each=each or {}, **beside)

    for prefix, shape in (("wide", (13, 22)), ("tall", (24, 9)), ("square", (16, 16))):
        models = inputs(prefix, shape)
        base = tensors[f"{prefix}-base"].astype(float)
        whole = [tensors[m].astype(float) for m in models]
        taus = [w - base for w in whole]
        add(f"tsv_m-{prefix}", "tsv_m", prefix, models, base + 0.8 * tsv_m(taus), {"lambda": 0.8})
        add(f"iso_c-{prefix}", "iso_c", prefix, models, base + iso_c(taus))
        add(f"iso_cts-{prefix}", "iso_cts", prefix, models, base + iso_cts(taus, 0.6), {"common": 0.6})
        add(f"svc-{prefix}", "svc", prefix, models, base + svc(sum(taus), taus, 0.3), {"alpha": 0.3})
        add(f"knots_ties-{prefix}", "knots_ties", prefix, models, base + 0.6 * knots_ties(taus, 0.3), {"density": 0.3})
        add(f"opcm-{prefix}", "opcm", prefix, models, base + opcm(taus, 0.5))
        add(f"pcb-{prefix}", "pcb", prefix, models, base + 1.2 * pcb(taus, 0.2), {"density": 0.2})
        grams, fishers = [], []
        for k in range(3):
            x = random.normal(size=(40, shape[1])) * random.uniform(0.5, 2, size=shape[1])
            grams.append(f"{prefix}-gram-{k + 1}")
            tensors[grams[-1]] = f32(x.T @ x)
            fishers.append(f"{prefix}-fisher-{k + 1}")
            tensors[fishers[-1]] = f32(random.gamma(0.5, size=shape) * 10.0 ** (-3 * k))
        g = [tensors[n].astype(float) for n in grams]
        add(f"regmean-{prefix}", "regmean", prefix, models, base + regmean(base, whole, g, 0.9), gram=grams)
        f = [tensors[n].astype(float) for n in fishers]
        add(f"fisher-{prefix}", "fisher", prefix, models, base + fisher(base, whole, f, (1, 2, 0.5)),
            each={"weight": [1, 2, 0.5]}, fisher=fishers)
        # The merge of the third is calibrated by the first two.
        add(f"svc-merged-{prefix}", "svc", prefix, models, base + svc(taus[2], taus[:2], 0.4), {"alpha": 0.4},
            {"merged": [0, 0, 1]})
        buffer = whole[2]
        step, new = diloco(base, whole[:2], buffer, 0.7, 0.9)
        add(f"diloco-{prefix}", "diloco", prefix, models, base + step, each={"momentum": [0, 0, 1]})
        add(f"diloco-buffer-{prefix}", "diloco", prefix, models, new, {"as_momentum": 1}, {"momentum": [0, 0, 1]})
    # Task vectors of rank 2: only what they span counts.
    models = inputs("low", (20, 14), rank=2)
    base = tensors["low-base"].astype(float)
    taus = [tensors[m].astype(float) - base for m in models]
    u, s, vt = svd(sum(taus))
    low = (u[:, :6] * s[:6].mean()) @ vt[:6]
    add("iso_c-low", "iso_c", "low", models, base + low, {"tolerance": 1e-4})
    (ROOT / "cases.json").write_text(json.dumps(cases, indent=1, sort_keys=True) + "\n")
    save(ROOT / "tensors.safetensors", tensors)
    whole_models()


def whole_models():
    """Methods that look at whole models, with recipes for the command."""
    root = ROOT.parent / "merge" / "models"
    base = load(root / "B" / "model.safetensors")
    models = [load(root / f"M{k}" / "model.safetensors") for k in (1, 2, 3)]
    names = sorted(base)
    taus = [f32(np.concatenate([(f32(m[n]) - f32(base[n])).ravel() for n in names])).astype(float) for m in models]

    def unflatten(tau):
        result, at = {}, 0
        for n in names:
            result[n] = base[n] + tau[at:at + base[n].size].reshape(base[n].shape)
            at += base[n].size
        return result

    def recipe(method, parameters="", top="", each=("", "", "")):
        lines = [f"merge_method: {method}", "base_model: $B", "models:"]
        for k in range(3):
            lines.append(f"  - model: $M{k + 1}" + (f"\n    parameters: {{{each[k]}}}" if each[k] else ""))
        return "\n".join(lines + ([f"parameters: {{{parameters}}}"] if parameters else []) + ([top] if top else [])) + "\n"

    recipes = {}

    def add(name, profile, text, tau):
        recipes[name] = [profile, text]
        save(ROOT / f"{name}.safetensors", tau if isinstance(tau, dict) else unflatten(tau))

    weights = (0.5, 2.0, 1.0)
    add("ties-whole", "paper", recipe("ties", "density: 0.2, weight: 1.0, lambda: 0.7"), 0.7 * ties(taus, 0.2))

    # Signs by values before their weights, which count after.
    def counted(parts):
        sign = np.where(np.sum(parts, axis=0) >= 0, 1.0, -1.0)
        agree = [p * sign > 0 for p in parts]
        return sum(w * np.where(a, p, 0) for w, p, a in zip(weights, parts, agree)) / np.maximum(1, np.sum(agree, axis=0))

    parts = []
    for k in range(3):
        flat = [(f32(models[k][n]) - f32(base[n])).ravel().astype(float) for n in names]
        kept = []
        for tau in flat:
            out = np.zeros_like(tau)
            top = np.argsort(np.abs(tau), kind="stable")[::-1][:int(0.4 * tau.size)]
            out[top] = tau[top]
            kept.append(out)
        parts.append(np.concatenate(kept))
    each = [f"weight: {w}" for w in weights]
    add("ties-peft", "peft", recipe("ties", "density: 0.4", each=each), counted(parts))
    add("signs-peft", "peft", recipe("dare_ties", "", each=each), counted(taus))

    norms = [np.linalg.norm(t) for t in taus]
    median = float(np.median(norms))
    clipped = [t * min(1.0, median / n) for t, n in zip(taus, norms)]
    add("clipped", "mergekit", recipe("task_arithmetic", "weight: 1.0", "clip_norm: median"), sum(clipped))
    add("clipped-to", "mergekit", recipe("task_arithmetic", "weight: 1.0", "clip_norm: 2.5"), sum(t * min(1.0, 2.5 / n) for t, n in zip(taus, norms)))

    def scores(near):
        return [sum(sorted(np.sum((a - b) ** 2) for j, b in enumerate(taus) if j != i)[:near]) for i, a in enumerate(taus)]

    order = np.argsort(scores(1), kind="stable")
    add("krum", "mergekit", recipe("krum"), taus[order[0]])
    add("multi_krum", "mergekit", recipe("multi_krum", "select: 2"), (taus[order[0]] + taus[order[1]]) / 2)

    # Statistics in files: a Fisher diagonal of everything, Gram matrices of some layers.
    fishers, grams = [], []
    for k in (1, 2, 3):
        fishers.append({n: f32(random.gamma(0.5, size=base[n].shape)) for n in names})
        save(ROOT / f"fisher-{k}.safetensors", fishers[-1])
        found = {}
        for n in names:
            if n.endswith(("q_proj.weight", "down_proj.weight")):
                x = random.normal(size=(60, base[n].shape[1]))
                found[n] = f32(x.T @ x)
        grams.append(found)
        save(ROOT / f"gram-{k}.safetensors", found)
    result = {n: base[n] + fisher(base[n], [m[n] for m in models], [f[n].astype(float) for f in fishers], (1, 1, 1)) for n in names}
    add("fisher-files", "mergekit", recipe("fisher", each=[f"fisher: $DATA/fisher-{k}.safetensors" for k in (1, 2, 3)]), result)
    result = {}
    for n in names:
        if n in grams[0]:
            result[n] = base[n] + regmean(base[n], [m[n] for m in models], [g[n].astype(float) for g in grams], 0.9)
        else:
            result[n] = np.mean([m[n] for m in models], axis=0)
    add("regmean-files", "mergekit", recipe("regmean", each=[f"gram: $DATA/gram-{k}.safetensors" for k in (1, 2, 3)]), result)
    (ROOT / "recipes.json").write_text(json.dumps(recipes, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
