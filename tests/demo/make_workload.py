"""Turns text of this machine into a workload: python3 make_workload.py OUT.

OUT/text/DOMAIN.txt         training text
OUT/suites/DOMAIN/          a held-out perplexity suite with search, gate and audit splits
OUT/model/                  config.json and tokenizer of a byte-level Llama

Files are taken in an order that depends on their content only; training and the splits share no file.
"""
import hashlib
import json
import random
import sys
from pathlib import Path

WINDOW = 128
# Held-out files of each split. Windows of one file are one group to the gate, so files count, not windows.
HELD_FILES = {"search": 16, "gate": 80, "audit": 40}
WINDOWS_A_FILE = 2
TRAIN_BYTES = 1_500_000
SOURCES = {
    "licenses": [("/usr/share/common-licenses", "*"), ("/usr/share/doc", "*/copyright")],
    "c": [("/usr/include", "**/*.h")],
    "perl": [("/usr/share/perl", "**/*.pm")],
    "python": [("/usr/lib", "python3*/*.py"), ("/usr/lib", "python3*/*/*.py")],
    "cmake": [("/usr/share", "cmake-3*/Modules/**/*.cmake"), ("/usr/lib", "*/cmake/**/*.cmake")],
}
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
    "vocab_size": 257, "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 256,
    "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "attention_bias": False, "mlp_bias": False,
    "tie_word_embeddings": False, "initializer_range": 0.02, "bos_token_id": None, "eos_token_id": 256,
}


def texts(domain):
    """Distinct files of a domain, those with the least digests first."""
    found = {}
    for folder, pattern in SOURCES[domain]:
        for path in Path(folder).glob(pattern):
            if path.is_file() and not path.is_symlink() and 1500 < path.stat().st_size < 120_000:
                content = path.read_bytes()
                found[hashlib.sha256(content).hexdigest()] = content
    if len(found) < 1.5 * sum(HELD_FILES.values()):
        sys.exit(f"too little text for domain {domain}: {len(found)} files under {SOURCES[domain][0][0]}")
    return [found[digest] for digest in sorted(found)]


def take(files, limit):
    """Files up to `limit` bytes together, none more than a tenth of it."""
    kept, size = [], 0
    for content in files:
        kept.append(content[:limit // 10])
        size += len(kept[-1])
        if size > limit:
            break
    return b"\n".join(kept)


def write_suite(folder, domain, files):
    folder.mkdir(parents=True, exist_ok=True)
    files = iter(files)
    for split, count in HELD_FILES.items():
        chance = random.Random(f"{domain}/{split}")
        lines = []
        for source, text in zip(range(count), files):
            for at in chance.sample(range(0, len(text) - WINDOW, WINDOW), WINDOWS_A_FILE):
                lines.append(json.dumps({"id": f"{split}-{len(lines)}", "group": f"file-{source}",
                                         "input_ids": list(text[at:at + WINDOW])}))
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "suite.yaml").write_text(
        f"name: {domain}\nkind: perplexity\nmetric: perplexity\nhigher_is_better: false\n"
        f"description: held-out {domain} text of a Debian machine\nlicense: various\n"
        "splits:\n  search: search.jsonl\n  gate: gate.jsonl\n  audit: audit.jsonl\n")


def tokenizer():
    """One token a byte, id = value, so that any file is valid input: GPT-2's byte alphabet and no merges."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    char, extra = {}, 256
    for byte in range(256):
        char[byte] = chr(byte) if byte in printable else chr(extra)
        extra += byte not in printable
    end = {"id": 256, "content": "<eos>", "single_word": False, "lstrip": False, "rstrip": False,
           "normalized": False, "special": True}
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [end], "normalizer": None,
            "pre_tokenizer": step, "post_processor": None, "decoder": step,
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                      "vocab": {char[b]: b for b in range(256)} | {"<eos>": 256}, "merges": []}}


def make(out):
    for folder in ("text", "model"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for domain in SOURCES:
        files = texts(domain)
        held = sum(HELD_FILES.values())
        write_suite(out / "suites" / domain, domain, files[:held])
        (out / "text" / f"{domain}.txt").write_bytes(take(files[held:], TRAIN_BYTES))
    (out / "model" / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    (out / "model" / "tokenizer.json").write_text(json.dumps(tokenizer()) + "\n")
    (out / "model" / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<eos>", "model_max_length": 256}) + "\n")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
