"""Writes tests/testdata/parity: tiny Llama checkpoints with random weights,
the logits that transformers computes with them, and the scores of a few items,
also with a LoRA of peft.

Run with Python 3 and torch, transformers, peft and safetensors installed:
    python3 tests/parity/make_goldens.py
"""

from __future__ import annotations

import json
import math
import pathlib
import random
import shutil

import peft
import torch
import transformers
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).parent.parent / "testdata" / "parity"
VOCAB = 41
LENGTH = 30


def rope(kind: str, **settings) -> dict:
    return {"rope_parameters": {
        "rope_type": kind, "rope_theta": 10000.0, **settings}}


CASES = {
    "gqa": {"num_hidden_layers": 2},
    "tied": {"tie_word_embeddings": True},
    "biases": {"attention_bias": True, "mlp_bias": True, "head_dim": 6},
    "bf16": {"num_hidden_layers": 2},
    "rope_linear": {"tie_word_embeddings": True, **rope("linear", factor=4.0)},
    "rope_dynamic": {"tie_word_embeddings": True,
                     "max_position_embeddings": 20,
                     **rope("dynamic", factor=2.0)},
    "rope_llama3": {"tie_word_embeddings": True, **rope(
        "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=16)},
    "rope_yarn": {"tie_word_embeddings": True, **rope(
        "yarn", factor=4.0, original_max_position_embeddings=16)},
}


@torch.no_grad()
def randomize(model, seed: int):
    """Weights under which attention is far from uniform, gains differ from one
    and logits spread over a few units."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in sorted(model.named_parameters()):
        noise = torch.randn(p.shape, generator=generator)
        if p.ndim == 1:
            p.copy_(noise * 0.2 if name.endswith("bias") else 1 + noise * 0.3)
        else:
            sharp = 1.5 if "q_proj" in name or "k_proj" in name else 1.0
            p.copy_(noise * sharp / math.sqrt(p.shape[1]))
    return model.eval()


def build(changes: dict, seed: int):
    settings = dict(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=24,
        num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=64, tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=1, pad_token_id=None)
    config = transformers.LlamaConfig(**settings | changes)
    return randomize(transformers.LlamaForCausalLM(config), seed)


def as_older_config(path: pathlib.Path) -> None:
    """rope_theta beside rope_scaling, as most published checkpoints have."""
    config = json.loads(path.read_text())
    scaling = config.pop("rope_parameters")
    config["rope_theta"] = scaling.pop("rope_theta")
    config["rope_scaling"] = scaling
    path.write_text(json.dumps(config, indent=2))


def load(path: pathlib.Path):
    return transformers.AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager").eval()


@torch.inference_mode()
def write_case(name: str, changes: dict, seed: int) -> None:
    path = ROOT / name
    model = build(changes, seed)
    if name == "bf16":
        model = model.to(torch.bfloat16)
    model.save_pretrained(path)
    (path / "generation_config.json").unlink(missing_ok=True)
    ids = torch.randint(0, VOCAB, (1, LENGTH),
                        generator=torch.Generator().manual_seed(seed))
    logits = load(path)(ids).logits[0]
    save_file({"ids": ids[0].float(), "logits": logits.contiguous()},
              path / "golden.safetensors")
    if name == "rope_llama3":
        as_older_config(path / "config.json")


def write_lora() -> None:
    settings = peft.LoraConfig(
        r=2, lora_alpha=6, use_rslora=True, rank_pattern={"q_proj": 3},
        target_modules=["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"])
    wrapped = peft.get_peft_model(load(ROOT / "gqa"), settings)
    generator = torch.Generator().manual_seed(77)
    with torch.no_grad():
        for _, p in sorted(wrapped.named_parameters()):
            if p.requires_grad:
                noise = torch.randn(p.shape, generator=generator)
                p.copy_(noise * 0.8 / math.sqrt(p.shape[1]))
    wrapped.save_pretrained(ROOT / "lora")
    (ROOT / "lora" / "README.md").unlink(missing_ok=True)
    config = ROOT / "lora" / "adapter_config.json"
    settings = json.loads(config.read_text())
    settings["base_model_name_or_path"] = "gqa"
    config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


def write_suite(kind: str, metric: str, items: list[dict]) -> None:
    path = ROOT / "suites" / kind
    path.mkdir(parents=True)
    (path / "suite.yaml").write_text(
        f"name: {kind}\nkind: {kind}\nmetric: {metric}\n"
        "splits:\n  gate: items.jsonl\n")
    (path / "items.jsonl").write_text(
        "".join(json.dumps(item) + "\n" for item in items))


def make_items() -> dict[str, list[dict]]:
    rng = random.Random(5)

    def ids(n: int) -> list[int]:
        return [rng.randrange(VOCAB) for _ in range(n)]

    texts = [{"id": f"p{i}", "input_ids": ids(rng.randrange(2, 60))}
             for i in range(6)]
    choices = [{"id": f"m{i}", "context_ids": ids(rng.randrange(1, 20)),
                "choices_ids": [ids(rng.randrange(1, 6)) for _ in range(3)],
                "label": rng.randrange(3)} for i in range(6)]
    return {"perplexity": texts, "multiple_choice": choices}


@torch.inference_mode()
def logprob(model, context: list[int], continuation: list[int]) -> float:
    logits = model(torch.tensor([(context + continuation)[:-1]])).logits[0]
    rows = logits[-len(continuation):].log_softmax(-1)
    return rows.gather(1, torch.tensor(continuation)[:, None]).double().sum(
        ).item()


def score(model, items: dict[str, list[dict]]) -> dict[str, list]:
    texts = [logprob(model, item["input_ids"][:1], item["input_ids"][1:])
             for item in items["perplexity"]]
    choices = [[logprob(model, item["context_ids"], c)
                for c in item["choices_ids"]]
               for item in items["multiple_choice"]]
    return {"perplexity": texts, "multiple_choice": choices}


def main() -> None:
    shutil.rmtree(ROOT, ignore_errors=True)
    for seed, (name, changes) in enumerate(CASES.items()):
        write_case(name, changes, seed)
    write_lora()
    items = make_items()
    write_suite("perplexity", "perplexity", items["perplexity"])
    write_suite("multiple_choice", "acc", items["multiple_choice"])
    base = load(ROOT / "gqa")
    scores = {"base": score(base, items)}
    adapted = peft.PeftModel.from_pretrained(base, ROOT / "lora").eval()
    scores["lora"] = score(adapted, items)
    (ROOT / "scores.json").write_text(json.dumps(scores, indent=1) + "\n")


if __name__ == "__main__":
    main()
