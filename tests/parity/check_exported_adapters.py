"""Lets peft read what `cairn merge --as lora` and `--as ia3` write: the one adapter has to do to its base what peft does with
the several that it was merged of.

Run with Python 3, torch, transformers, peft and safetensors installed:
    python3 tests/parity/check_exported_adapters.py build/release/bin/cairn-merge
"""
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from peft import PeftModel

ROOT = Path(__file__).parent.parent / "testdata" / "merge"
CASES = [("lora", "llama", [("linear", 1.0), ("rslora-patterns", -0.6)]), ("lora", "llama", [("embedding", 0.75), ("linear", 2.0)]),
         ("lora", "gpt2", [("conv1d", 0.75), ("conv1d", 0.5)]), ("lora", "resnet", [("conv2d", 1.0), ("conv2d", 0.25)]),
         ("ia3", "biased", [("ia3", 1.0), ("ia3", 1.0)]), ("ia3", "gpt2", [("ia3-conv1d", 1.0), ("ia3-conv1d", 1.0)])]


def load(base):
    kind = transformers.AutoModel if base == "resnet" else transformers.AutoModelForCausalLM
    return kind.from_pretrained(ROOT / "bases" / base, torch_dtype=torch.float32)


def merged(base, adapter):
    return PeftModel.from_pretrained(load(base), adapter).merge_and_unload().state_dict()


def expected(kind, base, adapters):
    before = load(base).state_dict()
    if kind == "ia3":
        model = load(base)
        for name, _ in adapters:
            model = PeftModel.from_pretrained(model, ROOT / "adapters" / name).merge_and_unload()
        return model.state_dict()
    total = {k: v.double() for k, v in before.items()}
    for name, weight in adapters:
        for key, value in merged(base, ROOT / "adapters" / name).items():
            total[key] += weight * (value.double() - before[key].double())
    return total


def main():
    for kind, base, adapters in CASES:
        with tempfile.TemporaryDirectory() as work:
            out = Path(work) / "one"
            flags = [f for name, weight in adapters for f in ("--adapter", f"{ROOT / 'adapters' / name}:{weight}")]
            subprocess.run([sys.argv[1], "--base", ROOT / "bases" / base, *flags, "--as", kind, out, "--quiet"], check=True)
            config = json.loads((out / "adapter_config.json").read_text())
            got, want = merged(base, out), expected(kind, base, adapters)
            assert got.keys() == want.keys()
            worst = max(((got[k].double() - want[k].double()).abs().max() / want[k].double().abs().max().clamp(min=1e-30)).item()
                        for k in want if want[k].is_floating_point())
            changed = sum(not torch.equal(got[k], v) for k, v in load(base).state_dict().items())
            print(f"{kind} {base} {[a for a, _ in adapters]}: {changed} tensors changed, worst difference {worst:.2g}, peft_type {config['peft_type']}")
            assert changed > 0 and worst < 1e-6


if __name__ == "__main__":
    main()
