"""Writes tests/testdata/tasks: a tiny Llama with a byte-level tokenizer, suites
of token ids over it, and what lm-evaluation-harness makes of the same texts,
item by item.

Run with Python 3 and torch, transformers, tokenizers, sentencepiece, safetensors
and lm_eval (0.4.13) installed:
    python3 tests/parity/make_task_goldens.py
"""

from __future__ import annotations

import json
import math
import pathlib
import random
import shutil
import tempfile

import sentencepiece
import torch
import transformers
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import simple_evaluate
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

ROOT = pathlib.Path(__file__).parent.parent / "testdata" / "tasks"
WORDS = ("a an answer apple blue caf\u00e9 cat dog eight five four green is it "
         "na\u00efve nine no of one red river seven six stone the three two "
         "under where yes \u6c34").split()
BOS, EOS = "<s>", "</s>"


def sentence(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words))


def make_tokenizer(path: pathlib.Path):
    rng = random.Random(1)
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.train_from_iterator(
        [sentence(rng, 12) + ".\n" for _ in range(200)],
        trainers.BpeTrainer(
            vocab_size=320, special_tokens=[BOS, EOS], show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=BOS, eos_token=EOS, pad_token=EOS)
    tokenizer.save_pretrained(path)
    (path / "special_tokens_map.json").unlink(missing_ok=True)
    return tokenizer


@torch.no_grad()
def make_model(path: pathlib.Path, tokenizer):
    """Weights under which what is written is varied, and mostly words."""
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=128, tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id))
    generator = torch.Generator().manual_seed(3)
    for _, p in sorted(model.named_parameters()):
        noise = torch.randn(p.shape, generator=generator)
        p.copy_(1 + noise * 0.3 if p.ndim == 1 else
                noise * 1.5 / math.sqrt(p.shape[1]))
    # Rather whole words than single bytes.
    words = [i for i in range(len(tokenizer))
             if len(tokenizer.convert_ids_to_tokens(i)) < 3]
    model.lm_head.weight[words] *= 0.5
    model.save_pretrained(path)
    (path / "generation_config.json").unlink(missing_ok=True)
    return transformers.AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager").eval()


def make_sentencepiece(path: pathlib.Path):
    """A tokenizer of sentencepiece, with the class whose ids are its own."""
    rng = random.Random(1)
    path.mkdir()
    with tempfile.TemporaryDirectory() as folder:
        corpus = pathlib.Path(folder) / "corpus.txt"
        corpus.write_text("".join(
            sentence(rng, 12) + ".\n" for _ in range(200)))
        sentencepiece.SentencePieceTrainer.train(
            input=str(corpus), model_prefix=f"{folder}/m", vocab_size=320,
            model_type="bpe", byte_fallback=True, character_coverage=0.99,
            normalization_rule_name="identity", add_dummy_prefix=True,
            remove_extra_whitespaces=False, bos_id=1, eos_id=2, unk_id=0,
            pad_id=-1, minloglevel=2)
        shutil.copy(f"{folder}/m.model", path / "tokenizer.model")
    (path / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "LlamaTokenizer", "add_bos_token": False,
        "add_eos_token": False, "bos_token": BOS, "eos_token": EOS,
        "unk_token": "<unk>", "legacy": False, "added_tokens_decoder": {
            str(i): {"content": token, "special": True}
            for i, token in enumerate(["<unk>", BOS, EOS])}}, indent=1))
    return transformers.LlamaTokenizer.from_pretrained(path)


def run(lm: HFLM, name: str, docs: list[dict], **config) -> list[dict]:
    """Samples of a task of lm-evaluation-harness over the documents."""
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder) / "docs.jsonl"
        data.write_text("".join(json.dumps(doc) + "\n" for doc in docs))
        task = ConfigurableTask(config=dict(
            task=name, dataset_path="json", test_split="test",
            dataset_kwargs={"data_files": {"test": str(data)},
                            "cache_dir": folder}, **config))
        found = simple_evaluate(lm, tasks=[task], log_samples=True,
                                bootstrap_iters=0, cache_requests=False)
    found["samples"][name].sort(key=lambda s: s["doc_id"])
    return found


def write_suite(name: str, kind: str, metric: str, items: list[dict],
                **more) -> None:
    path = ROOT / "suites" / name
    path.mkdir(parents=True)
    about = dict(name=name, kind=kind, metric=metric,
                 splits={"gate": "items.jsonl"}, **more)
    (path / "suite.yaml").write_text("".join(
        f"{key}: {json.dumps(value, ensure_ascii=False)}\n"
        for key, value in about.items()))
    (path / "items.jsonl").write_text("".join(
        json.dumps(item, ensure_ascii=False) + "\n" for item in items))


def perplexity(lm: HFLM, rng: random.Random) -> dict:
    texts = [sentence(rng, rng.randrange(2, 20)) for _ in range(7)]
    texts += [" begins with a space", "ends with one \n", "na\u00efve\u00a0caf\u00e9\t\u6c34"]
    found = run(lm, "rolling", [{"text": text} for text in texts],
                output_type="loglikelihood_rolling", doc_to_text="",
                doc_to_target="{{text}}",
                metric_list=[{"metric": metric} for metric in (
                    "word_perplexity", "byte_perplexity", "bits_per_byte")])
    items = [{"id": f"p{i}", "text": text, "input_ids":
              [lm.prefix_token_id] + lm.tok_encode(text)}
             for i, text in enumerate(texts)]
    write_suite("rolling", "perplexity", "bits_per_byte", items)
    metrics = found["results"]["rolling"]
    return {"metrics": {m: metrics[f"{m},none"] for m in (
        "word_perplexity", "byte_perplexity", "bits_per_byte")},
        "rows": [{"logprob_sum": s["filtered_resps"][0] if isinstance(
            s["filtered_resps"], list) else s["filtered_resps"]}
            for s in found["samples"]["rolling"]]}


def multiple_choice(lm: HFLM, rng: random.Random) -> dict:
    docs = []
    for _ in range(24):
        choices = [sentence(rng, rng.randrange(1, 5)) for _ in range(4)]
        docs.append({"question": sentence(rng, rng.randrange(1, 9)) +
                     rng.choice(["", " ", ":"]),
                     "choices": choices, "label": rng.randrange(4)})
    names = ["acc", "acc_norm", "acc_bytes", "acc_mutual_info"]
    found = run(lm, "choices", docs, output_type="multiple_choice",
                doc_to_text="{{question}}", doc_to_choice="{{choices}}",
                doc_to_target="{{label}}",
                metric_list=[{"metric": name} for name in names])
    items, rows = [], []
    for i, (doc, sample) in enumerate(zip(docs, found["samples"]["choices"])):
        pairs = [lm._encode_pair(doc["question"], " " + choice)
                 for choice in doc["choices"]]
        assert all(pair[0] == pairs[0][0] for pair in pairs)
        items.append({"id": f"m{i}", "context_ids": pairs[0][0],
                      "choices_ids": [pair[1] for pair in pairs],
                      "choices": doc["choices"], "label": doc["label"]})
        rows.append({"choice_logprobs": [
            resp[0] for resp in sample["filtered_resps"]][:4],
            **{name: sample[name] for name in names}})
    metrics = {name: found["results"]["choices"][f"{name},none"]
               for name in names}
    # A context's trailing space belongs to the choice's ids, but not to what
    # lm-evaluation-harness scores without the context.
    plain = [i for i, doc in enumerate(docs)
             if not doc["question"].endswith(" ")]
    metrics["acc_mutual_info"] = sum(
        rows[i]["acc_mutual_info"] for i in plain) / len(plain)
    for name in names:
        write_suite(name, "multiple_choice", name,
                    [items[i] for i in plain] if name == "acc_mutual_info"
                    else items)
    return {"metrics": metrics,
            "rows": {item["id"]: row for item, row in zip(items, rows)}}


def bare_texts() -> dict:
    """The same over suites that hold texts only, and another tokenizer."""
    path = ROOT / "spm"
    tokenizer = make_sentencepiece(path)
    lm = HFLM(pretrained=make_model(path, tokenizer), tokenizer=tokenizer,
              batch_size=1, add_bos_token=False)
    rng = random.Random(11)
    texts = [sentence(rng, rng.randrange(2, 20)) + rng.choice(["", "\n", "!"])
             for _ in range(6)]
    rolling = run(lm, "rolling", [{"text": text} for text in texts],
                  output_type="loglikelihood_rolling", doc_to_text="",
                  doc_to_target="{{text}}",
                  metric_list=[{"metric": "byte_perplexity"}])
    write_suite("text-rolling", "perplexity", "byte_perplexity",
                [{"id": f"p{i}", "text": text} for i, text in enumerate(texts)])
    docs = [{"question": sentence(rng, rng.randrange(1, 9)) +
             rng.choice(["", " ", ":"]), "label": rng.randrange(4),
             "choices": [sentence(rng, rng.randrange(1, 5)) for _ in range(4)]}
            for _ in range(12)]
    choices = run(lm, "choices", docs, output_type="multiple_choice",
                  doc_to_text="{{question}}", doc_to_choice="{{choices}}",
                  doc_to_target="{{label}}", metric_list=[{"metric": "acc"}])
    write_suite("text-choices", "multiple_choice", "acc", [
        {"id": f"m{i}", "context": doc["question"], "choices": doc["choices"],
         "label": doc["label"]} for i, doc in enumerate(docs)])
    return {"text-rolling": {
        "metrics": {"byte_perplexity": rolling["results"]["rolling"][
            "byte_perplexity,none"]},
        "rows": [{"logprob_sum": s["filtered_resps"][0] if isinstance(
            s["filtered_resps"], list) else s["filtered_resps"]}
            for s in rolling["samples"]["rolling"]]},
        "text-choices": {
            "metrics": {"acc": choices["results"]["choices"]["acc,none"]},
            "rows": [{"choice_logprobs": [r[0] for r in s["filtered_resps"]],
                      "acc": s["acc"]} for s in choices["samples"]["choices"]]}}


FILTERS = {
    "first-word": [{"function": "regex", "regex_pattern": "([a-z]+)"},
                   {"function": "take_first"}],
    "last-match": [{"function": "regex", "regex_pattern":
                    " (blue|red|yes)|(under[a-z]*)|ee?", "group_select": -1,
                    "fallback": "nothing"}, {"function": "take_first"}],
    "shout": [{"function": "remove_whitespace"}, {"function": "uppercase"},
              {"function": "take_first"}],
    "mapped": [{"function": "lowercase"},
               {"function": "regex", "regex_pattern": "\\b(no|yes|is|it|a)\\b"},
               {"function": "map", "mapping_dict": {"no": "0", "yes": "1"},
                "default_value": "?"}, {"function": "take_first"}],
}
IGNORED = {"ignore_case": True, "ignore_punctuation": True,
           "regexes_to_ignore": ["\\bthe\\b", "\u6c34"]}
UNTIL = ["\n", " is"]


def generation(lm: HFLM, rng: random.Random) -> dict:
    docs = [{"question": sentence(rng, rng.randrange(1, 8)), "target": "?"}
            for _ in range(24)]
    config = dict(
        output_type="generate_until", doc_to_text="{{question}}",
        doc_to_target="{{target}}",
        generation_kwargs={"until": list(UNTIL), "max_gen_toks": 16,
                           "do_sample": False},
        filter_list=[{"name": name, "filter": steps}
                     for name, steps in FILTERS.items()],
        metric_list=[{"metric": "exact_match", **IGNORED}])
    answers = run(lm, "answers", docs, **config)["samples"]["answers"]
    out = {}
    for name, steps in FILTERS.items():
        # Every other target is what comes out, dressed up.
        found = [s for s in answers if s["filter"] == name]
        for i, (doc, sample) in enumerate(zip(docs, found)):
            said = str(sample["filtered_resps"][0])
            doc["target"] = f"the-{said.upper()}!" if i % 2 else "no such thing"
        again = run(lm, "answers", docs, **config)
        samples = [s for s in again["samples"]["answers"]
                   if s["filter"] == name]
        write_suite(name, "generation", "exact_match", [
            {"id": f"g{i}", "context_ids": lm.tok_encode(doc["question"]),
             "target": doc["target"], "max_new_tokens": 16}
            for i, doc in enumerate(docs)],
            until=UNTIL, filters=steps, exact_match=IGNORED)
        out[name] = {
            "metrics": {"exact_match":
                        again["results"]["answers"][f"exact_match,{name}"]},
            "rows": [{"generated_text": s["resps"][0][0],
                      "filtered_text": str(s["filtered_resps"][0]),
                      "correct": s["exact_match"]} for s in samples]}
    return out


def main() -> None:
    shutil.rmtree(ROOT, ignore_errors=True)
    path = ROOT / "model"
    tokenizer = make_tokenizer(path)
    lm = HFLM(pretrained=make_model(path, tokenizer), tokenizer=tokenizer,
              batch_size=1, add_bos_token=False)
    rng = random.Random(7)
    goldens = {"rolling": perplexity(lm, rng), "choices":
               multiple_choice(lm, rng), **generation(lm, rng), **bare_texts()}
    (ROOT / "goldens.json").write_text(
        json.dumps(goldens, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
