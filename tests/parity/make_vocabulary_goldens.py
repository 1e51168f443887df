"""Writes tests/testdata/vocabularies: tiny models whose tokenizers differ, and what mergekit makes of them.

    models/NAME/          B has a row more than tokens, X and Y have tokens of their own and others in another order
    recipes.json          name -> recipe; $NAME stands for the directory of that model
    NAME.safetensors      the merged model
    NAME.json             token -> row of it; mergekit numbers new tokens in another order on every run

Run with Python 3 and torch, transformers, mergekit, PyYAML and safetensors installed:
    python3 tests/parity/make_vocabulary_goldens.py
"""
import json
import os
import shutil
import string
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import tokenizers  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
import yaml  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

ROOT = Path(__file__).parent.parent / "testdata" / "vocabularies"
MODELS = {  # plain tokens, added tokens, rows
    "B": (["a", "b", "c", "ab"], ["<s>"], 6),
    "X": (["b", "a", "d", "c", "bd"], ["<s>", "<x>"], 7),
    "Y": (["c", "d", "e", "a"], ["<y>"], 5),
}
MERGES = {"B": ["a b"], "X": ["b d"], "Y": []}
LINEAR = "merge_method: linear\nbase_model: $B\nmodels:\n" + "".join(
    f"  - model: ${n}\n    parameters: {{weight: {w}}}\n" for n, w in (("B", 0.5), ("X", 0.3), ("Y", 0.2)))
RECIPES = {
    "union": LINEAR + "tokenizer_source: union\n",
    "base": LINEAR + "tokenizer_source: base\n",
    "model": LINEAR + "tokenizer_source: $X\n",
    "union-without-base": LINEAR.replace("base_model: $B\n", "") + "tokenizer: {source: union}\n",
    "task": "merge_method: task_arithmetic\nbase_model: $B\nmodels:\n"
            "  - model: $X\n    parameters: {weight: 0.6}\n  - model: $Y\n    parameters: {weight: 0.4}\ntokenizer_source: union\n",
}


def make_model(name, seed):
    plain, added, rows = MODELS[name]
    place = ROOT / "models" / name
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2,
                                      num_key_value_heads=1, vocab_size=rows, max_position_embeddings=16)
    transformers.LlamaForCausalLM(config).save_pretrained(place)
    (place / "generation_config.json").unlink(missing_ok=True)
    model = tokenizers.models.BPE({t: i for i, t in enumerate(plain)}, [tuple(m.split(" ")) for m in MERGES[name]])
    fast = tokenizers.Tokenizer(model)
    fast.add_special_tokens([tokenizers.AddedToken(t, special=True) for t in added])
    transformers.PreTrainedTokenizerFast(tokenizer_object=fast).save_pretrained(place)


def main():
    warnings.simplefilter("ignore")
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions
    shutil.rmtree(ROOT, ignore_errors=True)
    for seed, name in enumerate(MODELS):
        make_model(name, seed)
    places = {n: str(ROOT / "models" / n) for n in MODELS}
    for name, text in RECIPES.items():
        with tempfile.TemporaryDirectory() as work:
            config = MergeConfiguration.model_validate(yaml.safe_load(string.Template(text).substitute(places)))
            run_merge(config, work, options=MergeOptions(quiet=True, write_model_card=False))
            save_file(load_file(Path(work) / "model.safetensors"), ROOT / f"{name}.safetensors")
            tokens = transformers.AutoTokenizer.from_pretrained(work).get_vocab()
            (ROOT / f"{name}.json").write_text(json.dumps(tokens, indent=1) + "\n")
    (ROOT / "recipes.json").write_text(json.dumps(RECIPES, indent=1) + "\n")


if __name__ == "__main__":
    main()
