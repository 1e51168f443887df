#!/usr/bin/env python3
"""Writes the golden files that the tests of core/ read, with the reference
libraries: safetensors, peft, torch. Run it in this directory:

    python3 make_formats.py

The files are checked in; run it again only when a format grows.
"""
import json
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save, save_file
from torch import nn

HERE = Path(__file__).parent


def mixed():
    """Tensors of many dtypes: the writer's order and padding."""
    gen = torch.Generator().manual_seed(1)
    tensors = {
        "z.f32": torch.randn(2, 3, generator=gen),
        "a.f32": torch.randn(1, generator=gen),
        "b.bf16": torch.randn(4, 2, generator=gen).bfloat16(),
        "b.f16": torch.randn(3, generator=gen).half(),
        "c.f64": torch.randn(2, generator=gen).double(),
        "d.i64": torch.arange(3),
        "d.i32": torch.arange(3, dtype=torch.int32),
        "d.i16": torch.arange(3, dtype=torch.int16),
        "d.i8": torch.arange(3, dtype=torch.int8),
        "d.u8": torch.arange(3, dtype=torch.uint8),
        "d.u16": torch.arange(3).to(torch.uint16),
        "d.u32": torch.arange(3).to(torch.uint32),
        "d.u64": torch.arange(3).to(torch.uint64),
        "e.bool": torch.tensor([True, False, True]),
        "f.e5m2": torch.randn(4, generator=gen).to(torch.float8_e5m2),
        "f.e4m3": torch.randn(4, generator=gen).to(torch.float8_e4m3fn),
        "g.c64": torch.randn(2, generator=gen).to(torch.complex64),
        "h.scalar": torch.tensor(7.0),
        "h.empty": torch.zeros(0, 4),
        "name \"quoted\" é": torch.ones(1),
    }
    (HERE / "mixed.safetensors").write_bytes(save(tensors, {"format": "pt"}))


def rounding():
    """Floats with their F16 and BF16 roundings by torch, bit for bit."""
    bits = torch.tensor([0x00000000, 0x80000000, 0x3f800000, 0x7f800000, 0xff800000, 0x33000000, 0x33000001,
                         0x33800000, 0x387fe000, 0x387fefff, 0x387ff000, 0x38800000, 0x477fe000, 0x477fefff,
                         0x477ff000, 0x47800000, 0x3f808000, 0x3f808001, 0x3f818000, 0x7f7fffff, 0x00000001,
                         0x3f801000, 0x3f801001, 0x3f803000, 0x00400000], dtype=torch.int64)
    gen = torch.Generator().manual_seed(2)
    more = torch.randint(0, 1 << 32, (2000,), generator=gen)
    more = more[(more & 0x7f800000) != 0x7f800000]
    floats = torch.cat([bits, more]).to(torch.uint32).view(torch.float32)
    save_file({"f32": floats, "f16": floats.half(), "bf16": floats.bfloat16(),
               "all_f16": torch.arange(1 << 16).to(torch.uint16).view(torch.float16)[:0x7c00],
               }, HERE / "rounding.safetensors")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.model = nn.ModuleDict({
            "up_proj": nn.Linear(6, 10, bias=False), "down_proj": nn.Linear(10, 6, bias=False),
            "q_proj": nn.Linear(6, 6, bias=False)})

    def forward(self, x):
        return self.model["down_proj"](self.model["up_proj"](self.model["q_proj"](x)))


def adapter(name, **options):
    """A PEFT adapter, its base, and the weights that merge_and_unload gives."""
    torch.manual_seed(3)
    net = Net()
    out = HERE / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    save_file(net.state_dict(), out / "model.safetensors", {"format": "pt"})
    peft = get_peft_model(net, LoraConfig(**{
        **dict(r=4, lora_alpha=6, target_modules=["up_proj", "down_proj", "q_proj"]), **options}))
    with torch.no_grad():
        for key, p in peft.named_parameters():
            if "lora_B" in key:
                p.normal_(0, 0.3)
    peft.save_pretrained(out)
    (out / "README.md").unlink()
    config = json.loads((out / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "base"
    (out / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    merged = peft.merge_and_unload().state_dict()
    save_file(merged, out / "merged.safetensors", {"format": "pt"})


def main():
    mixed()
    rounding()
    adapter("lora_plain")
    adapter("lora_patterns", use_rslora=True, rank_pattern={"up_proj": 2, "model.q_proj": 3},
            alpha_pattern={"^model\\.down_.*": 9})


if __name__ == "__main__":
    main()
