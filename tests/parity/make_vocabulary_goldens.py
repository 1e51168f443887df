"""Writes tests/testdata/vocabularies: tiny models whose tokenizers differ, and what mergekit makes of them.

    models/NAME/          B has a row more than tokens, X and Y have tokens of their own and others in another order, X and Y
                          the same chat template but for white space; Z has a tokenizer that is asked for and no part in merges
    recipes.json          name -> recipe; $NAME stands for the directory of that model
    NAME.safetensors      the merged model
    NAME.json             token -> row of it; mergekit numbers new tokens in another order on every run
    chat.json             name -> chat template of the result, of those recipes that want one

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
    "Z": (["z", "a", "b", "c"], ["<s>"], 5),
}
MERGES = {"B": ["a b"], "X": ["b d"], "Y": [], "Z": []}
TALK = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}"
CHATS = {"B": "{% for m in messages %}{{ m['content'] }}{% endfor %}", "X": TALK, "Y": TALK + "\n"}
LINEAR = "merge_method: linear\nbase_model: $B\nmodels:\n" + "".join(
    f"  - model: ${n}\n    parameters: {{weight: {w}}}\n" for n, w in (("B", 0.5), ("X", 0.3), ("Y", 0.2)))
RECIPES = {
    "union": LINEAR + "tokenizer_source: union\n",
    "base": LINEAR + "tokenizer_source: base\n",
    "model": LINEAR + "tokenizer_source: $X\n",
    "union-without-base": LINEAR.replace("base_model: $B\n", "") + "tokenizer: {source: union}\n",
    "outside": LINEAR + "tokenizer_source: $Z\n",
    "tokens": LINEAR + """tokenizer:
  source: union
  tokens:
    "<new>": {source: {kind: zero}}
    d: {source: $X}
    q: {source: {kind: model_token, model: $Y, token: e}}
    r: {source: {kind: model_token, model: $X, token_id: 6}}
    b: {source: $X}
    a: {source: $Y, force: true}
    c: {force: false}
""",
    "tokens-model": LINEAR + "tokenizer: {source: $X, tokens: {e: {source: $Y}, ab: {source: {kind: model_token, model: $B, token: ab}, force: true}}}\n",
    "padded": LINEAR + "tokenizer: {source: union, pad_to_multiple_of: 8, tokens: {\"<x>\": {source: {kind: zero}, force: true}}}\n",
    "padded-whole": LINEAR + "tokenizer: {source: base, pad_to_multiple_of: 5}\n",
    "stages": "name: first\nmerge_method: linear\nmodels:\n"
              "  - model: $X\n    parameters: {weight: 0.6}\n  - model: $Y\n    parameters: {weight: 0.4}\n"
              "tokenizer: {source: union, pad_to_multiple_of: 4}\n---\n"
              "merge_method: linear\nbase_model: first\nmodels:\n"
              "  - model: first\n    parameters: {weight: 0.3}\n  - model: $B\n    parameters: {weight: 0.7}\ntokenizer_source: union\n",
    "chat-auto": LINEAR + "tokenizer_source: base\nchat_template: auto\n",
    "chat-given": "merge_method: passthrough\nmodels: [{model: $X}]\nchat_template: \"{% if messages %}{{ messages[0]['content'] }}{% endif %}\"\n",
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
    transformers.PreTrainedTokenizerFast(tokenizer_object=fast, chat_template=CHATS.get(name)).save_pretrained(place)


def merge(text, work):
    """Merges documents one after the other, each below `work`; gives the last one's directory."""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions
    made = {}

    def patched(value):
        if isinstance(value, dict):
            return {k: patched(v) for k, v in value.items()}
        return [patched(v) for v in value] if isinstance(value, list) else made.get(value, value)

    for number, document in enumerate(yaml.safe_load_all(text)):
        place = str(Path(work) / str(number))
        name = document.pop("name", None)
        run_merge(MergeConfiguration.model_validate(patched(document)), place, options=MergeOptions(quiet=True, write_model_card=False))
        made[name] = place
    return place


def main():
    warnings.simplefilter("ignore")
    shutil.rmtree(ROOT, ignore_errors=True)
    for seed, name in enumerate(MODELS):
        make_model(name, seed)
    places = {n: str(ROOT / "models" / n) for n in MODELS}
    chats = {}
    for name, text in RECIPES.items():
        with tempfile.TemporaryDirectory() as work:
            place = merge(string.Template(text).substitute(places), work)
            save_file(load_file(Path(place) / "model.safetensors"), ROOT / f"{name}.safetensors")
            tokenizer = transformers.AutoTokenizer.from_pretrained(place)
            (ROOT / f"{name}.json").write_text(json.dumps(tokenizer.get_vocab(), indent=1) + "\n")
            if "chat_template" in text:
                chats[name] = tokenizer.chat_template
    (ROOT / "chat.json").write_text(json.dumps(chats, indent=1) + "\n")
    (ROOT / "recipes.json").write_text(json.dumps(RECIPES, indent=1) + "\n")


if __name__ == "__main__":
    main()
