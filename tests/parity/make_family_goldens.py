"""Writes tests/testdata/families: tiny checkpoints of every family of models with random weights, and what
transformers computes with them in F32.

Run with Python 3 and torch, transformers and safetensors installed:
    python3 tests/parity/make_family_goldens.py

Each folder holds config.json, model.safetensors and golden.safetensors. The golden file has the inputs (integers are
stored as F32) and the outputs: `ids` -> `logits`, and `generated`, which greedy search writes after the first ids;
`context`, `ids` -> `logits` of an encoder-decoder; `ids`, `mask`, `types` or `pixels` -> `logits` of a classifier;
`pixels`, `ids` -> `image`, `text` (unit vectors) and `scale` of CLIP.
"""

from __future__ import annotations

import math
import pathlib
import shutil

import torch
import transformers as tf
from safetensors.torch import save_file
from transformers.pytorch_utils import Conv1D

ROOT = pathlib.Path(__file__).parent.parent / "testdata" / "families"
VOCAB = 41
LENGTH = 30
NEW_TOKENS = 64
END = 40


def decoder(model, config, **changes):
    settings = dict(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=False, bos_token_id=0,
        eos_token_id=END, pad_token_id=None)
    return lambda: model(config(**settings | changes))


def encoder(model, config, **changes):
    settings = dict(
        vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=40, pad_token_id=2, num_labels=3)
    return lambda: model(config(**settings | changes))


def t5(**changes):
    settings = dict(
        vocab_size=VOCAB, d_model=16, d_kv=6, d_ff=24, num_layers=2, num_decoder_layers=2, num_heads=4,
        relative_attention_num_buckets=8, relative_attention_max_distance=16, pad_token_id=0, eos_token_id=END,
        decoder_start_token_id=0)
    return lambda: tf.T5ForConditionalGeneration(tf.T5Config(**settings | changes))


def clip(end: int):
    tower = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2)
    text = dict(tower, vocab_size=VOCAB, max_position_embeddings=12, bos_token_id=0, eos_token_id=end, pad_token_id=3)
    return lambda: tf.CLIPModel(tf.CLIPConfig(
        text_config=text, vision_config=dict(tower, image_size=8, patch_size=4), projection_dim=10))


LONG_ROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0, 1.5],
             "long_factor": [2.0, 5.0], "original_max_position_embeddings": 20}

CAUSAL = {
    "mistral": decoder(tf.MistralForCausalLM, tf.MistralConfig, sliding_window=7),
    "qwen2": decoder(tf.Qwen2ForCausalLM, tf.Qwen2Config, tie_word_embeddings=True),
    "qwen3": decoder(tf.Qwen3ForCausalLM, tf.Qwen3Config, head_dim=6),
    "smollm3": decoder(tf.SmolLM3ForCausalLM, tf.SmolLM3Config, no_rope_layer_interval=2),
    "gemma": decoder(tf.GemmaForCausalLM, tf.GemmaConfig, head_dim=6, tie_word_embeddings=True),
    "gemma2": decoder(
        tf.Gemma2ForCausalLM, tf.Gemma2Config, head_dim=6, sliding_window=7, query_pre_attn_scalar=24,
        attn_logit_softcapping=3.0, final_logit_softcapping=6.0, tie_word_embeddings=True),
    "phi3": decoder(tf.Phi3ForCausalLM, tf.Phi3Config),
    "phi3_longrope": decoder(
        tf.Phi3ForCausalLM, tf.Phi3Config, rope_parameters=LONG_ROPE, original_max_position_embeddings=20),
    "gpt2": lambda: tf.GPT2LMHeadModel(tf.GPT2Config(
        vocab_size=VOCAB, n_embd=16, n_layer=2, n_head=4, n_positions=128, bos_token_id=0, eos_token_id=END,
        scale_attn_by_inverse_layer_idx=True)),
    "neox": lambda: tf.GPTNeoXForCausalLM(tf.GPTNeoXConfig(
        vocab_size=VOCAB, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=3,
        rotary_pct=0.5, max_position_embeddings=128, bos_token_id=0, eos_token_id=END, tie_word_embeddings=False)),
    "neox_sequential": lambda: tf.GPTNeoXForCausalLM(tf.GPTNeoXConfig(
        vocab_size=VOCAB, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=3,
        use_parallel_residual=False, max_position_embeddings=128, bos_token_id=0, eos_token_id=END,
        tie_word_embeddings=False)),
    "opt": lambda: tf.OPTForCausalLM(tf.OPTConfig(
        vocab_size=VOCAB, hidden_size=16, ffn_dim=24, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=128, word_embed_proj_dim=16, bos_token_id=0, eos_token_id=END, pad_token_id=1)),
    "opt_after": lambda: tf.OPTForCausalLM(tf.OPTConfig(
        vocab_size=VOCAB, hidden_size=16, ffn_dim=24, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=128, word_embed_proj_dim=8, do_layer_norm_before=False, bos_token_id=0,
        eos_token_id=END, pad_token_id=1)),
}
SEQ2SEQ = {"t5": t5(), "flan_t5": t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False)}
TEXT = {
    "bert": encoder(tf.BertForSequenceClassification, tf.BertConfig),
    "roberta": encoder(tf.RobertaForSequenceClassification, tf.RobertaConfig, type_vocab_size=1),
    "distilbert": lambda: tf.DistilBertForSequenceClassification(tf.DistilBertConfig(
        vocab_size=VOCAB, dim=16, hidden_dim=24, n_layers=2, n_heads=4, max_position_embeddings=40, pad_token_id=2,
        num_labels=3)),
}
IMAGE = {"vit": lambda: tf.ViTForImageClassification(tf.ViTConfig(
    hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, image_size=8, patch_size=4,
    num_labels=3))}
CLIP = {"clip": clip(5), "clip_legacy": clip(2)}


@torch.no_grad()
def randomize(model, seed: int):
    """Weights under which attention is far from uniform, gains differ from one and logits spread over some units."""
    generator = torch.Generator().manual_seed(seed)
    turned = {id(m.weight) for m in model.modules() if isinstance(m, Conv1D)}
    gain = 0.0 if model.config.model_type.startswith("gemma") else 1.0
    for name, p in sorted(model.named_parameters()):
        noise = torch.randn(p.shape, generator=generator)
        if name.endswith("logit_scale"):
            p.fill_(2.3)
        elif p.ndim == 1 and name.endswith("bias"):
            p.copy_(noise * 0.2)
        elif p.ndim == 1 and "embedding" not in name:
            p.copy_(gain + noise * 0.3)
        elif p.ndim == 1 or "embed" in name or "relative" in name or "token" in name:
            p.copy_(noise * 0.7)
        else:
            fan_in = p.shape[0] if id(p) in turned else p[0].numel()
            p.copy_(noise * 1.5 / math.sqrt(fan_in))
    return model.eval()


def some_ids(count: int, seed: int) -> torch.Tensor:
    return torch.randint(6, VOCAB - 1, (1, count), generator=torch.Generator().manual_seed(seed))


def run_causal(model, seed: int) -> dict:
    ids = some_ids(LENGTH, seed)
    context = ids[:, :5]
    new = model.generate(context, attention_mask=torch.ones_like(context), do_sample=False,
                         max_new_tokens=NEW_TOKENS, use_cache=False)[:, context.shape[1]:]
    top = model(torch.cat([context, new], 1)).logits[0, 4:-1].topk(2).values
    print(f"  least margin of greedy search: {(top[:, 0] - top[:, 1]).min():.2g}, {new.shape[1]} tokens")
    return {"ids": ids, "logits": model(ids).logits[0], "generated": new}


def run_seq2seq(model, seed: int) -> dict:
    context, ids = some_ids(LENGTH, seed), some_ids(9, seed + 100)
    ids[0, 0] = model.config.decoder_start_token_id
    return {"context": context, "ids": ids, "logits": model(input_ids=context, decoder_input_ids=ids).logits[0]}


def run_text(model, seed: int) -> dict:
    ids, mask, types = some_ids(20, seed), torch.ones(1, 20).long(), torch.zeros(1, 20).long()
    ids[0, 15:], mask[0, 15:] = 2, 0
    out = {"ids": ids, "mask": mask}
    if getattr(model.config, "type_vocab_size", 1) > 1:
        types[0, 9:] = 1
        out["types"] = types
    inputs = {"input_ids": ids, "attention_mask": mask} | ({"token_type_ids": types} if "types" in out else {})
    return out | {"logits": model(**inputs).logits[0]}


def run_image(model, seed: int) -> dict:
    pixels = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return {"pixels": pixels, "logits": model(pixel_values=pixels).logits[0]}


def run_clip(model, seed: int) -> dict:
    pixels = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    ids = some_ids(9, seed)
    ids[0, 6] = 5 if model.config.text_config.eos_token_id == 5 else VOCAB - 1
    out = model(input_ids=ids, pixel_values=pixels)
    return {"pixels": pixels, "ids": ids, "image": out.image_embeds[0], "text": out.text_embeds[0],
            "scale": model.logit_scale.exp()}


@torch.no_grad()
def main() -> None:
    shutil.rmtree(ROOT, ignore_errors=True)
    tf.logging.set_verbosity_error()
    kinds = ((CAUSAL, run_causal), (SEQ2SEQ, run_seq2seq), (TEXT, run_text), (IMAGE, run_image), (CLIP, run_clip))
    seed = 0
    for cases, run in kinds:
        for name, build in cases.items():
            seed += 1
            print(name)
            torch.manual_seed(seed)
            model = randomize(build(), seed)
            model.set_attn_implementation("eager")
            model.save_pretrained(ROOT / name)
            (ROOT / name / "generation_config.json").unlink(missing_ok=True)
            golden = {k: v.detach().float().squeeze(0).contiguous() if v.dim() > 1 and v.shape[0] == 1
                      else v.detach().float().contiguous() for k, v in run(model, seed).items()}
            save_file(golden, ROOT / name / "golden.safetensors")


if __name__ == "__main__":
    main()
