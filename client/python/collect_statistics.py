"""Writes cairn-statistics.safetensors beside an update: what a model learnt from some examples, for hubs that merge by
the strategies fisher and regmean.

    python3 collect_statistics.py MODEL_DIR UPDATE_DIR EXAMPLES.jsonl [--fisher rows|whole] [--gram MAX_SIDE] [--base DIGEST]

MODEL_DIR is a Hugging Face causal language model or, with a PEFT adapter in UPDATE_DIR, its base. A line of EXAMPLES is
{"input_ids": [...]}. Fisher: the mean over examples of the squared gradient of the log-probability of labels drawn from
the model itself, one example at a time. Gram: the mean over tokens of x x^T of what every linear layer got as input;
layers that got the same input share one matrix. Needs torch, transformers, safetensors and, for adapters, peft.
"""
import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

FORMAT = {"cairn.format": "statistics", "cairn.version": "1"}


def load(model_dir, update_dir):
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    if (Path(update_dir) / "adapter_config.json").exists():
        from peft import PeftModel
        model = PeftModel.from_pretrained(model, update_dir).merge_and_unload()
    return model.eval().requires_grad_(True)


def touched(update_dir, names):
    """The tensors that an adapter changes; all of them for other updates."""
    if not (Path(update_dir) / "adapter_config.json").exists():
        return set(names)
    from safetensors import safe_open
    with safe_open(str(Path(update_dir) / "adapter_model.safetensors"), "pt") as file:
        keys = [key.removeprefix("base_model.model.") for key in file.keys()]
    return {name for name in names if any(key.startswith(name.rpartition(".")[0] + ".") for key in keys)}


def fisher(model, examples, wanted, generator):
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters() if name in wanted}
    for ids in examples:
        model.zero_grad(set_to_none=True)
        scores = torch.log_softmax(model(input_ids=ids[None]).logits[0], dim=-1)
        drawn = torch.multinomial(scores.detach().exp(), 1, generator=generator)
        scores.gather(1, drawn).sum().backward()
        for name, p in model.named_parameters():
            if name in total and p.grad is not None:
                total[name] += p.grad.square()
    return {name: value / len(examples) for name, value in total.items()}


def grams(model, examples, wanted, side_max):
    """name of a weight -> (matrix, number): equal numbers share a matrix."""
    sums, owner, seen, hooks = {}, {}, {}, []

    def hook(name):
        def collect(_, inputs):
            x = inputs[0].detach().flatten(0, -2)
            # Layers that are handed the very same tensor share its matrix; it
            # is held, so that no address is used twice in one example.
            first, _ = seen.setdefault((inputs[0].data_ptr(), x.shape), (name, inputs[0]))
            owner.setdefault(name, first)
            if first == name:
                sums[name] = sums.get(name, 0) + x.T @ x
        return collect

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and f"{name}.weight" in wanted and module.in_features <= side_max:
            hooks.append(module.register_forward_pre_hook(hook(f"{name}.weight")))
    tokens = 0
    with torch.no_grad():
        for ids in examples:
            seen.clear()
            model(input_ids=ids[None])
            tokens += len(ids)
    for handle in hooks:
        handle.remove()
    return {name: value / tokens for name, value in sums.items()}, owner


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("update")
    parser.add_argument("examples")
    parser.add_argument("--fisher", choices=["rows", "whole", "none"], default="rows",
                        help="sums of rows and columns, every element, or nothing")
    parser.add_argument("--gram", type=int, default=8192, help="largest side of a Gram matrix; 0 for none")
    parser.add_argument("--base", help="digest of the base, \"sha256:...\"")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    model = load(options.model, options.update)
    wanted = touched(options.update, [name for name, _ in model.named_parameters()])
    lines = Path(options.examples).read_text().splitlines()
    examples = [torch.tensor(json.loads(line)["input_ids"]) for line in lines if line.strip()]
    tensors, metadata = {}, dict(FORMAT)
    if options.base:
        metadata["cairn.base"] = options.base
    if options.fisher != "none":
        generator = torch.Generator().manual_seed(options.seed)
        for name, value in fisher(model, examples, wanted, generator).items():
            if options.fisher == "whole" or value.dim() < 2:
                # BF16 has the range of F32, which squares of gradients need.
                tensors[f"fisher/{name}"] = value.to(torch.bfloat16)
                continue
            matrix = value.flatten(1)
            tensors[f"fisher.rows/{name}"] = matrix.sum(1)
            tensors[f"fisher.columns/{name}"] = matrix.sum(0)
    if options.gram:
        sums, owner = grams(model, examples, wanted, options.gram)
        for name, matrix in sums.items():
            low = torch.tril_indices(*matrix.shape)
            tensors[f"gram/{name}"] = matrix[low[0], low[1]]
        if sums:
            metadata["cairn.grams"] = json.dumps(owner, separators=(",", ":"))
    if not tensors:
        parser.error("nothing to write: the update changes no parameter of the model")
    save_file({name: value.contiguous() for name, value in tensors.items()},
              str(Path(options.update) / "cairn-statistics.safetensors"), metadata)


if __name__ == "__main__":
    main()
