"""Writes tests/testdata/torchscript: tiny models of families that do not run
here by themselves, exported to TorchScript as a maintainer would, and what
transformers computes with them, also after their weights have changed.

Run with Python 3 and torch, transformers and safetensors installed:
    python3 tests/parity/make_torchscript_goldens.py
"""

from __future__ import annotations

import json
import math
import pathlib
import shutil

import torch
import transformers as tf
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).parent.parent / "testdata" / "torchscript"
VOCAB = 31
TEXTS = [[4, 5, 6], [7, 1, 30, 2, 2, 9, 11, 3], [8] * 12]


@torch.no_grad()
def randomize(model, seed: int):
    generator = torch.Generator().manual_seed(seed)
    for name, p in sorted(model.named_parameters()):
        noise = torch.randn(p.shape, generator=generator)
        p.copy_(noise / math.sqrt(p.shape[-1]) if p.ndim > 1 else
                noise * 0.2 if name.endswith("bias") else 1 + noise * 0.3)
    return model.eval()


def export(model, path: pathlib.Path) -> None:
    """What README.md of merge/model tells maintainers to do."""
    model.config.return_dict = False
    model.config.use_cache = False
    example = torch.tensor([[1, 2, 3, 4, 5]])
    torch.jit.trace(model, example, strict=False).save(
        str(path / "torchscript.pt"))


@torch.inference_mode()
def logits(model, ids: list[int]) -> torch.Tensor:
    return model(torch.tensor([ids]))[0][0].contiguous()


def write(name: str, model, seed: int) -> None:
    path = ROOT / name
    randomize(model, seed).save_pretrained(path)
    (path / "generation_config.json").unlink(missing_ok=True)
    export(model, path)
    goldens = {f"base.{i}": logits(model, ids) for i, ids in enumerate(TEXTS)}
    # The module stays as it is; its parameters come from the checkpoint.
    randomize(model, seed + 1)
    goldens |= {f"other.{i}": logits(model, ids)
                for i, ids in enumerate(TEXTS)}
    other = ROOT / f"{name}-other"
    model.config.return_dict = None
    model.save_pretrained(other)
    save_file(goldens, path / "golden.safetensors")
    shutil.copy(other / "model.safetensors", path / "other.safetensors")
    shutil.rmtree(other)


def main() -> None:
    shutil.rmtree(ROOT, ignore_errors=True)
    eager = {"attn_implementation": "eager"}
    write("gptj", tf.GPTJForCausalLM._from_config(tf.GPTJConfig(
        vocab_size=VOCAB, n_embd=16, n_layer=2, n_head=2, rotary_dim=4,
        n_positions=24, bos_token_id=1, eos_token_id=2), **eager), 1)
    write("albert", tf.AlbertForSequenceClassification._from_config(
        tf.AlbertConfig(vocab_size=VOCAB, hidden_size=16, embedding_size=8,
                        num_hidden_layers=2, num_attention_heads=2,
                        intermediate_size=24, max_position_embeddings=24,
                        num_labels=3), **eager), 5)
    (ROOT / "texts.json").write_text(json.dumps(TEXTS) + "\n")


if __name__ == "__main__":
    main()
