"""Writes tests/testdata/merge: tiny models and adapters, and what mergekit and peft make of them.

    recipes.json     name -> recipe; $NAME stands for the directory of that model
    models/NAME/     inputs of the recipes
    recipes/NAME.safetensors     what mergekit gives
    adapters.json    name -> base
    bases/NAME/  adapters/NAME/  inputs of the adapter merges
    merged/NAME.safetensors      what peft's merge_and_unload changes in the base
    combined/TYPE.safetensors    ... once two adapters have become one in that way
    statistics/NAME.safetensors  what collect_statistics.py measures of two of them
    statistics/fisher, regmean   what the papers' equations make of the two by that

Run with Python 3 and torch, transformers, peft, mergekit, PyYAML and safetensors installed:
    python3 tests/parity/make_merge_goldens.py
"""
import json
import os
import shutil
import string
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
import yaml  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

ROOT = Path(__file__).parent.parent / "testdata" / "merge"
LLAMA = dict(hidden_size=8, intermediate_size=12, num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1,
             vocab_size=11, max_position_embeddings=16, bos_token_id=1, eos_token_id=2, pad_token_id=0)
SMALL = LLAMA | {"num_hidden_layers": 1}
GPT2 = dict(n_embd=8, n_layer=1, n_head=2, n_positions=8, vocab_size=11, bos_token_id=1, eos_token_id=2)
MOE = dict(hidden_size=8, intermediate_size=6, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
           vocab_size=11, num_local_experts=3, num_experts_per_tok=2, bos_token_id=1, eos_token_id=2, pad_token_id=0)
BASES = {
    "llama": ("AutoModelForCausalLM", "LlamaConfig", SMALL),
    "tied": ("AutoModelForCausalLM", "LlamaConfig", SMALL | {"tie_word_embeddings": True}),
    "biased": ("AutoModelForCausalLM", "LlamaConfig", SMALL | {"attention_bias": True, "mlp_bias": True}),
    "gpt2": ("AutoModelForCausalLM", "GPT2Config", GPT2),
    "resnet": ("AutoModel", "ResNetConfig", dict(num_channels=3, embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1], layer_type="bottleneck")),
    "vit": ("AutoModelForImageClassification", "ViTConfig", dict(hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2, image_size=4, patch_size=2, num_labels=3)),
    "mixtral": ("AutoModelForCausalLM", "MixtralConfig", MOE),
    "granitemoe": ("AutoModelForCausalLM", "GraniteMoeConfig", MOE),
    "gpt_oss": ("AutoModelForCausalLM", "GptOssConfig", MOE | {"head_dim": 4}),
}
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
ADAPTERS = {
    "linear": ("llama", dict(r=3, lora_alpha=5, target_modules=ALL)),
    "rslora-patterns": ("llama", dict(r=3, use_rslora=True, target_modules=ALL, rank_pattern={"q_proj": 2}, alpha_pattern={r"layers\.0\.mlp\..*": 20})),
    "embedding": ("llama", dict(r=3, lora_alpha=2, target_modules=["embed_tokens"])),
    "conv1d": ("gpt2", dict(r=2, target_modules=["c_attn", "wte"], fan_in_fan_out=True)),
    "conv2d": ("resnet", dict(r=2, target_modules=["convolution"])),
    "lora-bias": ("biased", dict(r=2, lora_alpha=3, lora_bias=True, target_modules=["q_proj"])),
    "bias-all": ("biased", dict(r=2, bias="all", target_modules=["q_proj"])),
    "dora": ("llama", dict(r=2, use_dora=True, target_modules=["q_proj", "down_proj", "embed_tokens"])),
    "dora-conv1d": ("gpt2", dict(r=2, use_dora=True, target_modules=["c_attn"], fan_in_fan_out=True)),
    "dora-conv2d": ("resnet", dict(r=2, use_dora=True, target_modules=["convolution"])),
    "modules-to-save": ("llama", dict(r=2, target_modules=["q_proj"], modules_to_save=["lm_head", "norm"])),
    "unties": ("tied", dict(r=2, target_modules=["q_proj"], modules_to_save=["embed_tokens"])),
    "tokens": ("llama", dict(r=2, target_modules=["q_proj"], trainable_token_indices=[3, 0, 9])),
    "names-of-memory": ("vit", dict(r=2, bias="lora_only", target_modules=["q_proj", "fc1", "fc2"], modules_to_save=["classifier", "layernorm_before"])),
    "experts-per-file": ("mixtral", dict(r=2, lora_alpha=3, target_modules=["q_proj"], target_parameters=EXPERTS)),
    "experts-fused": ("granitemoe", dict(r=2, lora_alpha=3, target_modules=[], target_parameters=["experts.gate_up_proj", "experts.down_proj"])),
    "experts-in-first": ("gpt_oss", dict(r=2, lora_alpha=3, target_modules=["v_proj"], target_parameters=EXPERTS)),
    "ia3": ("biased", dict(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])),
    "ia3-conv1d": ("gpt2", dict(target_modules=["c_attn", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"], fan_in_fan_out=True)),
    "ia3-names-of-memory": ("vit", dict(target_modules=["k_proj", "fc2"], feedforward_modules=["fc2"])),
    "ia3-conv2d": ("resnet", dict(target_modules=["convolution"], feedforward_modules=[])),
    "shira": ("llama", dict(r=2, random_seed=3, target_modules=["q_proj", "down_proj"])),
    "second": ("llama", dict(r=3, lora_alpha=7, target_modules=["q_proj", "down_proj"])),
    "grown": ("llama", dict(r=2, target_modules=["q_proj"])),
    "shrunk": ("llama", dict(r=2, target_modules=["q_proj"])),
}
VOCABULARY = {"grown": 14, "shrunk": 9}
# What add_weighted_adapter makes of "linear" and "second", without what it does at random.
COMBINATIONS = ("cat", "svd", "linear", "ties", "ties_svd", "magnitude_prune", "magnitude_prune_svd")
KINDS = {"ia3": "IA3Config", "shira": "ShiraConfig"}
WEIGHTS = ("0.5", "0.2", "0.9")
DENSITIES = ("0.4", "0.75", "0.15")


def recipe(method, per_model="", shared="", models=3, base=True, top=""):
    """`per_model` with {w} and {d} for each model's weight and density."""
    lines = [f"merge_method: {method}"] + (["base_model: $B"] if base else []) + ["models:"]
    for k in range(models):
        lines.append(f"  - model: $M{k + 1}")
        if per_model:
            lines.append("    parameters: {" + per_model.format(w=WEIGHTS[k], d=DENSITIES[k]) + "}")
    return "\n".join(lines + ([f"parameters: {{{shared}}}"] if shared else []) + ([top] if top else [])) + "\n"


W, D = "weight: {w}", "weight: {w}, density: {d}"
RECIPES = {
    "linear": recipe("linear", W, base=False),
    "linear-gradient": recipe("linear", "weight: [{{filter: mlp, value: [0.1, {w}]}}, {{value: 0.7}}]", base=False),
    "slerp": recipe("slerp", models=1, shared="t: [{filter: self_attn, value: [0, 0.5, 1]}, {value: 0.3}]"),
    "nuslerp": recipe("nuslerp", W, models=2), "nuslerp-rows": recipe("nuslerp", W, "nuslerp_flatten: false", 2, False),
    "nuslerp-columns": recipe("nuslerp", W, "nuslerp_flatten: false, nuslerp_row_wise: true", 2),
    "multislerp": recipe("multislerp", W, base=False), "karcher": recipe("karcher", base=False),
    "task_arithmetic": recipe("task_arithmetic", W, "lambda: 0.7"), "task_arithmetic-normalized": recipe("task_arithmetic", W, "normalize: true"),
    "ties": recipe("ties", D), "ties-rescaled": recipe("ties", D, "rescale: true, normalize: false, lambda: 1.3"),
    "breadcrumbs": recipe("breadcrumbs", D + ", gamma: 0.05"), "breadcrumbs_ties": recipe("breadcrumbs_ties", D),
    "dare_linear": recipe("dare_linear", W), "della": recipe("della", W),  # with density 1 nothing is drawn
    "sce": recipe("sce", shared="select_topk: 0.4"), "ram": recipe("ram", shared="epsilon: 0.05"),
    "ramplus_tl": recipe("ramplus_tl", shared="epsilon: 0.05, r: 0.5, alpha: 0.9"),
    "model_stock": recipe("model_stock"), "model_stock-rows": recipe("model_stock", shared="filter_wise: true"),
    "nearswap": recipe("nearswap", models=1, shared="t: 0.02"), "arcee_fusion": recipe("arcee_fusion", models=1),
    "passthrough": "merge_method: passthrough\nslices:\n  - sources: [{model: $M1, layer_range: [0, 2]}]\n"
                   "  - sources: [{model: $M2, layer_range: [1, 3], parameters: {scale: [{filter: o_proj, value: 0.5}, {value: 1.0}]}}]\n",
    "cast-first": recipe("linear", W, base=False, top="dtype: bfloat16\nout_dtype: float32"),
    "stages": "name: first\nmerge_method: slerp\nbase_model: $M1\nmodels: [{model: $M1}, {model: $M2}]\nparameters: {t: 0.3}\n---\n"
              "merge_method: task_arithmetic\nbase_model: $B\nmodels: [{model: first, parameters: {weight: 0.6}}, {model: $M3, parameters: {weight: 0.2}}]\n",
}


def new_model(kind, seed):
    name, config, options = kind
    torch.manual_seed(seed)
    model = getattr(transformers, name).from_config(getattr(transformers, config)(**options))
    with torch.no_grad():
        for n, p in sorted(model.named_parameters()):
            p.copy_(torch.randn(p.shape) * 0.3 + (1.0 if "norm" in n and n.endswith("weight") else 0.0))
    return model


def make_models():
    kind = ("AutoModelForCausalLM", "LlamaConfig", LLAMA)
    base = new_model(kind, 0)
    base.save_pretrained(ROOT / "models" / "B")
    for k in (1, 2, 3):
        other, step = new_model(kind, 0), new_model(kind, k)
        with torch.no_grad():
            for (n, p), (_, q) in zip(other.named_parameters(), step.named_parameters()):
                p.add_(0.3 * (q - (1.0 if "norm" in n else 0.0)))
        other.save_pretrained(ROOT / "models" / f"M{k}")


def mergekit(text, out, work):
    from mergekit.config import MergeConfiguration
    from mergekit.graph import Executor
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions
    from mergekit.scripts.multimerge import load_config, make_tasks
    options = MergeOptions(quiet=True, copy_tokenizer=False, write_model_card=False)
    documents = list(yaml.safe_load_all(text))
    if len(documents) == 1:
        run_merge(MergeConfiguration.model_validate(documents[0]), str(out), options=options)
        return
    stages = Path(work) / "stages"
    stages.mkdir()
    configs, needs = load_config(text, str(stages))
    Executor(make_tasks(configs, needs, options, str(stages), str(out), lazy=False), math_device="cpu", storage_device="cpu").execute()


def make_recipes():
    places = {p.name: str(p) for p in (ROOT / "models").iterdir()}
    (ROOT / "recipes").mkdir()
    for name, text in RECIPES.items():
        with tempfile.TemporaryDirectory() as work:
            mergekit(string.Template(text).substitute(places), Path(work) / "out", work)
            save_file(load_file(Path(work) / "out" / "model.safetensors"), ROOT / "recipes" / f"{name}.safetensors")
    (ROOT / "recipes.json").write_text(json.dumps(RECIPES, indent=1) + "\n")


def make_adapters():
    for name, kind in BASES.items():
        new_model(kind, 5).save_pretrained(ROOT / "bases" / name)
    (ROOT / "merged").mkdir()
    for name, (base, options) in ADAPTERS.items():
        auto = getattr(transformers, BASES[base][0])
        config = getattr(peft, KINDS.get(name.split("-")[0], "LoraConfig"))

        def load():
            model = auto.from_pretrained(ROOT / "bases" / base)
            if name in VOCABULARY:
                model.resize_token_embeddings(VOCABULARY[name])
            return model

        model = peft.get_peft_model(load(), config(**options))
        g = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for n, p in sorted(model.named_parameters()):
                if p.requires_grad:
                    p.copy_((p if "lora_B" not in n else 0) + torch.randn(p.shape, generator=g) * 0.3)
        place = ROOT / "adapters" / name
        model.save_pretrained(place)
        (place / "README.md").unlink(missing_ok=True)
        settings = json.loads((place / "adapter_config.json").read_text())
        settings["base_model_name_or_path"] = base
        (place / "adapter_config.json").write_text(json.dumps(settings, indent=1) + "\n")
        with tempfile.TemporaryDirectory() as work:
            fresh = peft.PeftModel.from_pretrained(load(), place)
            fresh.merge_and_unload().save_pretrained(work)
            before, after = load_file(ROOT / "bases" / base / "model.safetensors"), load_file(Path(work) / "model.safetensors")
            changed = {n: t for n, t in after.items() if n not in before or t.shape != before[n].shape or not torch.equal(t, before[n])}
            save_file(changed, ROOT / "merged" / f"{name}.safetensors")
    (ROOT / "adapters.json").write_text(json.dumps({n: b for n, (b, _) in ADAPTERS.items()}, indent=1) + "\n")


def make_combinations():
    (ROOT / "combined").mkdir()
    before = load_file(ROOT / "bases" / "llama" / "model.safetensors")
    for kind in COMBINATIONS:
        model = transformers.AutoModelForCausalLM.from_pretrained(ROOT / "bases" / "llama")
        model = peft.PeftModel.from_pretrained(model, ROOT / "adapters" / "linear", adapter_name="a")
        model.load_adapter(ROOT / "adapters" / "second", adapter_name="b")
        pruned = {} if kind in ("cat", "svd", "linear") else {"density": 0.6}
        model.add_weighted_adapter(["a", "b"], [0.7, -0.4], "c", combination_type=kind, **pruned)
        model.set_adapter("c")
        with tempfile.TemporaryDirectory() as work:
            model.merge_and_unload(adapter_names=["c"]).save_pretrained(work)
            after = load_file(Path(work) / "model.safetensors")
        save_file({n: t for n, t in after.items() if not torch.equal(t, before[n])}, ROOT / "combined" / f"{kind}.safetensors")


def full_fisher(file, name, shape):
    if f"fisher/{name}" in file:
        return file[f"fisher/{name}"].float()
    rows, columns = file[f"fisher.rows/{name}"], file[f"fisher.columns/{name}"]
    return torch.outer(rows, columns).reshape(shape) / columns.sum()


def full_gram(file, owner, name):
    half = file[f"gram/{owner[name]}"]
    size = int((8 * len(half) + 1) ** 0.5 - 1) // 2
    matrix = torch.zeros(size, size, dtype=torch.float64)
    low = torch.tril_indices(size, size)
    matrix[low[0], low[1]] = matrix[low[1], low[0]] = half.double()
    return matrix


def make_statistics():
    place = ROOT / "statistics"
    place.mkdir()
    script = ROOT.parent.parent.parent / "client" / "python" / "collect_statistics.py"
    base = load_file(ROOT / "bases" / "llama" / "model.safetensors")
    files, owners, taus = {}, {}, {}
    for k, name in enumerate(("linear", "second")):
        with tempfile.TemporaryDirectory() as work:
            update = Path(work) / "update"
            shutil.copytree(ROOT / "adapters" / name, update)
            g = torch.Generator().manual_seed(k)
            lines = [json.dumps({"input_ids": torch.randint(0, 11, (12,), generator=g).tolist()}) for _ in range(6)]
            (Path(work) / "examples.jsonl").write_text("\n".join(lines))
            subprocess.run([sys.executable, script, ROOT / "bases" / "llama", update, Path(work) / "examples.jsonl"], check=True)
            shutil.copy(update / "cairn-statistics.safetensors", place / f"{name}.safetensors")
        files[name] = load_file(place / f"{name}.safetensors")
        with safe_open(str(place / f"{name}.safetensors"), "pt") as file:
            owners[name] = json.loads(file.metadata()["cairn.grams"])
        after = load_file(ROOT / "merged" / f"{name}.safetensors")
        taus[name] = {n: t.double() - base[n].double() for n, t in after.items()}
    fisher, regmean = {}, {}
    for name in sorted(set(taus["linear"]) | set(taus["second"])):
        who = [n for n in taus if name in taus[n]]
        weights = [full_fisher(files[n], name, base[name].shape).double() for n in who]
        weights = [torch.clamp(f / f.square().mean().sqrt(), min=1e-6) for f in weights]
        fisher[name] = (base[name] + sum(f * taus[n][name] for f, n in zip(weights, who)) / sum(weights)).float()
        grams = [full_gram(files[n], owners[n], name) for n in who]
        grams = [0.9 * g + 0.1 * torch.diag(g.diagonal()) for g in grams]
        total = sum(grams)
        total = total + torch.eye(len(total)) * 1e-9 * total.trace() / len(total)
        right = sum(g @ taus[n][name].T for g, n in zip(grams, who))
        regmean[name] = (base[name] + torch.linalg.solve(total, right).T).float()
    save_file({n: t.contiguous() for n, t in fisher.items()}, place / "fisher.safetensors")
    save_file({n: t.contiguous() for n, t in regmean.items()}, place / "regmean.safetensors")


def main():
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    shutil.rmtree(ROOT, ignore_errors=True)
    ROOT.mkdir(parents=True)
    make_models()
    make_recipes()
    make_adapters()
    make_combinations()
    make_statistics()
    for path in ROOT.rglob("generation_config.json"):
        path.unlink()


if __name__ == "__main__":
    main()
