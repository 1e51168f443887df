#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets' corpora, with nothing but Python: an
independent writer of the formats. Run it in this directory.

The seeds of release_document_fuzzer are signed documents, which the
tests of core/release print.
"""
import hashlib
import json
import struct
from pathlib import Path

HERE = Path(__file__).parent / "corpus"
BASE = "sha256:" + "b" * 64


def put(target, name, data):
    folder = HERE / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def safetensors(header, body=b""):
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def tensor(dtype, shape, begin, end):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def varint(n):
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def sparse(tensors, width=2, dtype="BF16"):
    """tensors: [(name, shape, positions)], sorted by name."""
    table = gaps = values = last = b""
    for name, shape, positions in tensors:
        name = name.encode()
        shared = 0
        while shared < min(len(last), len(name)) and last[shared] == name[shared]:
            shared += 1
        own, previous = b"", -1
        for p in positions:
            own += varint(p - previous - 1)
            previous = p
        table += varint(shared) + varint(len(name) - shared) + name[shared:]
        table += varint(len(dtype)) + dtype.encode() + varint(len(shape)) + b"".join(map(varint, shape))
        table += varint(len(positions)) + varint(len(own))
        gaps += own
        values += bytes(range(width)) * len(positions)
        last = name
    header = {"__metadata__": {"cairn.base": BASE, "cairn.format": "sparse", "cairn.version": "1"}}
    at = 0
    for key, data in (("cairn.gaps", gaps), ("cairn.tensors", table), ("cairn.values", values)):
        header[key] = tensor("U8", [len(data)], at, at + len(data))
        at += len(data)
    return safetensors(header, gaps + table + values)


def bits_to_bytes(bits):
    """The lowest bit of a byte first."""
    bits = bits + [0] * (-len(bits) % 8)
    return bytes(sum(bit << i for i, bit in enumerate(bits[at:at + 8])) for at in range(0, len(bits), 8))


def number_bits(value, count):
    return [value >> i & 1 for i in range(count)]


def gaps_of(positions):
    return [p - q - 1 for p, q in zip(positions, [-1] + positions[:-1])]


def rice_block(positions, low=4):
    bits = []
    for gap in gaps_of(positions):
        bits += [0] * (gap >> low) + [1] + number_bits(gap & (1 << low) - 1, low)
    return bytes([128 + low]) + bits_to_bytes(bits)


def rans_block(positions, frequencies):
    """Gaps below 16, under a table of the block's own."""
    assert sum(frequencies) == 4096
    table = number_bits(len(frequencies) - 1, 8)
    for f in frequencies:  # Elias' gamma code of f + 1
        zeros = (f + 1).bit_length() - 1
        table += [0] * zeros + [1] + number_bits((f + 1) ^ 1 << zeros, zeros)
    states, words = [1 << 31] * 4, []
    gaps = gaps_of(positions)
    for i in reversed(range(len(gaps))):
        f, start = frequencies[gaps[i]], sum(frequencies[:gaps[i]])
        x = states[i % 4]
        if x >= (1 << 51) * f:
            words.append(x & 0xFFFFFFFF)
            x >>= 32
        states[i % 4] = x // f * 4096 + start + x % f
    return (bytes([255, 0, 0, 0, 0]) + bits_to_bytes(table) + struct.pack("<4Q", *states)
            + b"".join(struct.pack("<I", w) for w in reversed(words)))


def coded(form, version, tensors, streams):
    """tensors: [(name, dtype, shape, numbers of the parts)]; streams by name."""
    table = b""
    for name, dtype, shape, numbers in tensors:
        table += varint(0) + varint(len(name)) + name.encode() + varint(len(dtype)) + dtype.encode()
        table += varint(len(shape)) + b"".join(map(varint, [*shape, *numbers]))
    header = {"__metadata__": {"cairn.base": BASE, "cairn.format": form, "cairn.version": version}}
    body = b""
    for key, data in sorted((streams | {"cairn.tensors": table}).items()):
        header[key] = tensor("U8", [len(data)], len(body), len(body) + len(data))
        body += data
    return safetensors(header, body)


def listed(positions, block):
    """The numbers of a list without its form, and its block."""
    return [3, len(positions), len(varint(len(block)) + block)], varint(len(block)) + block


def coded_seeds():
    few, many = [0, 1, 31], sorted(set(range(0, 5000, 3)) | set(range(0, 5000, 7)))
    few_numbers, few_block = listed(few, rice_block(few))
    many_numbers, many_block = listed(many, rans_block(many, [600, 1400, 2096]))
    yield "sparse_2", coded("sparse", "2", [("w", "BF16", [4, 8], [1, *few_numbers, 6])], {
        "cairn.positions": few_block, "cairn.values": bytes(6)})
    yield "sparse_2_rans", coded("sparse", "2", [("w", "BF16", [5000], [1, *many_numbers, 6])], {
        "cairn.positions": many_block, "cairn.values": bytes(2 * len(many))})
    yield "sparse_2_int8", coded("sparse", "2", [("w", "F32", [4, 8], [1, *few_numbers, 3, 2])], {
        "cairn.positions": few_block, "cairn.values": b"\x7f\x81\x05", "cairn.scales": struct.pack("<2f", 0.5, 1e-3)})
    yield "ternary", coded("ternary", "1", [("w", "BF16", [5000], [1, *many_numbers, 5, 0])], {
        "cairn.positions": many_block, "cairn.values": bytes((len(many) + 7) // 8), "cairn.scales": struct.pack("<f", 0.1)})
    yield "bit_rows", coded("bit", "1", [("a", "F16", [3, 5], [1, 2, 5, 5]), ("b", "F32", [2], [1, 2, 0])], {
        "cairn.values": b"\x15\x2a" + bytes(8), "cairn.scales": struct.pack("<3f", 1, 2, 3)})
    yield "int4", coded("int4", "1", [("w", "BF16", [7], [1, 2, 4, 4])], {
        "cairn.values": b"\x17\x98\xf0\x05", "cairn.scales": struct.pack("<2f", 1, 2)})
    yield "low_rank", coded("low-rank", "1", [("w", "BF16", [4, 8], [2, 1, 2, 2, *few_numbers, 0])], {
        "cairn.positions": few_block, "cairn.values": bytes(12), "cairn.factors": bytes(range(48))})


def stream_input(first, mask, streams):
    """An input of coded_update_fuzzer: `mask` is (table, positions) or None."""
    out = bytes([first | (0x80 if mask else 0)])
    for stream in mask or ():
        out += struct.pack("<H", len(stream)) + stream
    for key in ("tensors", "positions", "scales", "factors"):
        stream = streams.get(key, b"")
        out += struct.pack("<H", len(stream)) + stream
    return out + streams.get("values", b"")


def record(name, dtype, shape, numbers):
    return (varint(0) + varint(len(name)) + name.encode() + varint(len(dtype)) + dtype.encode() + varint(len(shape))
            + b"".join(map(varint, [*shape, *numbers])))


def put_streams():
    few = [0, 1, 31]
    numbers, block = listed(few, rice_block(few))
    w = ("w", "BF16", [4, 8])
    mask = (record(*w, [len(few), len(block)]), block)
    for name, first, masked, streams in [
        ("sparse", 0, None, {"tensors": record(*w, [1, *numbers, 6]), "positions": block, "values": bytes(6)}),
        ("sparse_int8", 0, None, {"tensors": record(*w, [1, *numbers, 3, 2]), "positions": block, "values": b"\x7f\x81\x05",
                                  "scales": struct.pack("<2f", 0.5, 1e-3)}),
        ("ternary", 1, None, {"tensors": record(*w, [1, *numbers, 5, 0]), "positions": block, "values": b"\x05",
                              "scales": struct.pack("<f", 0.1)}),
        ("bit", 2, None, {"tensors": record(*w, [1, 2, 5, 8]), "values": b"\x15\x2a\xff\0", "scales": struct.pack("<4f", 1, 2, 3, 4)}),
        ("int8", 3, None, {"tensors": record(*w, [1, 2, 3, 16]), "values": bytes(range(32)), "scales": struct.pack("<2f", 1, 2)}),
        ("int4", 4, None, {"tensors": record(*w, [1, 2, 4, 16]), "values": bytes(range(16)), "scales": struct.pack("<2f", 1, 2)}),
        ("low_rank", 5, None, {"tensors": record(*w, [2, 1, 2, 2, *numbers, 0]), "positions": block, "values": bytes(12),
                               "factors": bytes(range(48))}),
        ("masked", 0, mask, {"tensors": record(*w, [1, 4, 2]), "values": bytes(6)}),
        ("masked_int8", 0, mask, {"tensors": record(*w, [1, 4, 3, 2]), "values": b"\x7f\x81\x05", "scales": struct.pack("<2f", 0.5, 1)}),
    ]:
        put("coded_update_fuzzer", name, stream_input(first, masked, streams))
    header, body = {"__metadata__": {"cairn.format": "mask", "cairn.version": "1"}}, b""
    for key, data in (("cairn.positions", block), ("cairn.tensors", mask[0])):
        header[key] = tensor("U8", [len(data)], len(body), len(body) + len(data))
        body += data
    put("mask_fuzzer", "few", safetensors(header, body))
    put("mask_fuzzer", "cut", safetensors(header, body)[:-3])


def field(number, value):
    """A field of a protobuf message: a number, a text or a message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value if isinstance(value, bytes) else value.encode()
    return varint(number << 3 | 2) + varint(len(data)) + data


def put_messages():
    digest, path, size = "a" * 64, "cairn-update.safetensors", 12
    told = hashlib.sha256(f'file "{path}" {size} {digest}\n'.encode()).hexdigest()
    file = field(1, path) + field(2, size) + field(3, digest)
    manifest = b"".join(field(n, v) for n, v in [
        (1, "h"), (2, "models/m"), (3, "models/m/releases/v1.0.0"), (4, "sha256:" + digest), (6, 7), (7, file), (8, "sha256:" + told),
        (9, digest), (10, "prose"), (11, "Apache-2.0"), (12, "a title"), (13, field(1, 3) + field(2, digest))])
    put("manifest_fuzzer", "contribution", manifest)
    one = field(1, "w") + field(2, "F32") + field(3, varint(2) + varint(3)) + field(4, digest) + field(5, 24) + field(6, "model.safetensors")
    put("manifest_fuzzer", "checkpoint", field(1, one))
    write = field(1, "uploads/u") + field(2, 300) + field(3, b"bytes of a chunk") + varint(4 << 3 | 5) + struct.pack("<I", 77) + field(5, 1)
    put("chunk_message_fuzzer", "write", b"\x05" + write)
    put("chunk_message_fuzzer", "twice", b"\xff" + write + field(3, b"another"))
    put("chunk_message_fuzzer", "group", b"\x03" + varint(9 << 3 | 3) + varint(9 << 3 | 4) + write)


def put_packed_blob():
    """Checksums are the fuzz target's business."""
    planes = (HERE / "delta_codec_fuzzer" / "planes").read_bytes()
    plain, block = planes[1] * 8, planes[2:]
    head = b"CAIRNPK1" + struct.pack("<QII", 2 * plain, plain, 2) + bytes(32) + bytes(8)
    put("packed_blob_fuzzer", "two_blocks", head + struct.pack("<IIII", len(block), 0, len(block), 0) + block + block)


def put_texts():
    index = {"metadata": {"total_size": 16}, "weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
    put("checkpoint_fuzzer", "two_shards", json.dumps(index))
    put("checkpoint_fuzzer", "leaves", json.dumps({"weight_map": {"a": "../1.safetensors"}}))
    for name, text in {"release": "models/m/releases/v1.0.0", "replay": "models/m/releases/v1.0.0/replays/r", "user": "users/ada",
                       "digest": "sha256:" + "a" * 64, "address": "grpcs://[::1]:443", "socket": "unix:/run/hub", "device": "cuda:1"}.items():
        put("names_fuzzer", name, text)
    put("policy_fuzzer", "all", """alpha: 0.1
margin: {perplexity: 0.02, accuracy: 0.03}
eval_dtype: float32
batch: {count: 4, age: 12h, schedule: off}
lambda_grid: [0.5, 1.0]
approvals: 2
review_if: [no_claim]
public: true
""")
    put("policy_fuzzer", "twice", "alpha: 0.1\nalpha: &a [*a]\n")
    put("hub_config_fuzzer", "all", """listen: 0.0.0.0:443
http_listen: "[::1]:80"
behind_proxy: true
plain_listen: unix:/run/hub
tls: {certificate: /c.pem, key: /k.pem, ca: /a.pem}
uploads: {open_max: 2, idle_ttl: 1h, bytes_max: 1000}
quota: {stored_bytes: 1000000, contributions_per_day: 9}
workers: {lease_ttl: 10s, heartbeat: 2s}
log_level: debug
""")
    put("recipe_fuzzer", "ties", """merge_method: ties
base_model: a
models:
- {model: b, parameters: {weight: [0.2, 0.8], density: 0.5}}
- {model: c, parameters: {weight: 1}}
parameters: {normalize: false, lambda: [{filter: mlp, value: 1e-1}, {value: 2}]}
dtype: torch.bfloat16
out_dtype: float32
tokenizer_source: union
""")
    put("recipe_fuzzer", "stages", """name: first
merge_method: slerp
base_model: a
models: [{model: a}, {model: b}]
parameters: {t: 0.3}
---
merge_method: passthrough
slices:
- sources: [{model: c, layer_range: [0, 1]}]
- sources: [{model: b, layer_range: [0, 2], parameters: {scale: 0.5}}]
""")
    put("recipe_fuzzer", "tokenizer", """merge_method: linear
models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 2}}]
tokenizer:
  source: base
  pad_to_multiple_of: 8
  tokens: {x: {source: a}, y: {source: {kind: zero}, force: true}, z: {source: {kind: model_token, model: b, token: w}}}
chat_template: chatml
""")


def put_suites():
    items = {
        "perplexity": ("perplexity", [{"id": "p0", "group": "g", "input_ids": [1, 2, 3]}, {"id": "p1", "input_ids": [4, 5], "text": "a b"}]),
        "multiple_choice": ("acc_norm", [{"id": "m0", "context_ids": [1], "choices_ids": [[2], [3, 4]], "choices": ["x", "yy"], "label": 1}]),
        "classification": ("acc", [{"id": "c0", "input_ids": [1, 2], "attention_mask": [1, 0], "label": 0}]),
        "generation": ("exact_match", [{"id": "g0", "context_ids": [66], "target": "no such thing", "max_new_tokens": 16}]),
    }
    for kind, (metric, lines) in items.items():
        text = f"name: s\nkind: {kind}\nmetric: {metric}\nhigher_is_better: {'false' if kind == 'perplexity' else 'true'}\n"
        text += "description: d\nlicense: Apache-2.0\nsplits: {search: a.jsonl, gate: b.jsonl, audit: c.jsonl}\n"
        if kind == "generation":
            text += 'until: ["\\n", " is"]\nfilters: [{function: regex, regex_pattern: "([a-z]+)"}, {function: take_first}]\n'
            text += 'exact_match: {ignore_case: true, ignore_punctuation: true, regexes_to_ignore: ["\\\\bthe\\\\b"]}\n'
        text = text.encode()
        data = struct.pack("<H", len(text)) + text + "".join(json.dumps(line) + "\n" for line in lines).encode()
        put("suite_fuzzer", kind, data)
        put("suite_items_fuzzer", kind, data)


def put_token_texts():
    vocabulary = {"Ġa": 0, "b": 1, "<0x41>": 2, "▁c": 3, "##d": 4}
    bpe = {"model": {"type": "BPE", "vocab": vocabulary}, "added_tokens": [{"id": 5, "content": "<s>", "special": True}]}
    for name, decoder in {
        "byte_level": {"type": "ByteLevel"},
        "metaspace": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
        "word_piece": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "doubles": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "b"}, "content": "bb"}] * 40},
        "strips_nothing": {"type": "Strip", "content": "", "start": 2**62, "stop": 0},
    }.items():
        put("token_text_fuzzer", name, json.dumps(bpe | {"decoder": decoder}, ensure_ascii=False))


def adapter(config, tensors):
    """tensors: {key below base_model.model.: (dtype, shape, body)}"""
    header, body = {}, b""
    for key, (dtype, shape, data) in tensors.items():
        header["base_model.model." + key] = tensor(dtype, shape, len(body), len(body) + len(data))
        body += data
    text = json.dumps(config, separators=(",", ":")).encode()
    return struct.pack("<H", len(text)) + text + safetensors(header, body)


def floats(*shape):
    count = 1
    for d in shape:
        count *= d
    return "F32", list(shape), struct.pack(f"<{count}f", *(0.25 * (i % 7 - 3) for i in range(count)))


def put_adapters():
    lora = {"peft_type": "LORA", "r": 2}
    pair = {"m.q.lora_A.weight": floats(2, 3), "m.q.lora_B.weight": floats(4, 2)}
    embed = "model.embed_tokens."
    for name, config, tensors in [
        ("linear", lora, pair),
        ("dora", lora | {"use_dora": True}, pair | {"m.q.lora_magnitude_vector": floats(4)}),
        ("bias", lora | {"lora_bias": True}, pair | {"m.q.lora_B.bias": floats(4)}),
        ("convolution", lora, {"c.lora_A.weight": floats(2, 3, 2, 2), "c.lora_B.weight": floats(4, 2, 1, 1)}),
        ("embedding", lora, {embed + "lora_embedding_A": floats(2, 6), embed + "lora_embedding_B": floats(3, 2)}),
        ("experts", lora | {"target_parameters": ["experts.gate_up_proj"]},
         {"m.experts.lora_A.weight": floats(4, 3), "m.experts.lora_B.weight": floats(4, 4)}),
        ("saved", lora, pair | {"m.q.bias": floats(4)}),
        ("tokens", lora | {"trainable_token_indices": [1, 5]}, {embed + "token_adapter.trainable_tokens_delta": floats(2, 3)}),
        ("shrunk", lora, {embed + "weight": floats(5, 3)}),
        ("ia3", {"peft_type": "IA3", "feedforward_modules": ["k"]}, {"m.q.ia3_l": floats(4, 1)}),
        ("shira", {"peft_type": "SHIRA"},
         {"m.q.shira_weight": floats(2), "m.q.shira_indices": ("I32", [2, 2], struct.pack("<4i", 0, 3, 1, 2))}),
    ]:
        put("adapter_fuzzer", name, adapter(config, tensors))


def put_statistics():
    metadata = {"cairn.format": "statistics", "cairn.version": "1", "cairn.grams": '{"q":"in","k":"in"}'}
    header, body = {"__metadata__": metadata}, b""
    for name, (dtype, shape, data) in {
        "fisher/b": floats(2), "fisher.rows/q": floats(2), "fisher.columns/q": floats(3), "gram/in": floats(6),
    }.items():
        header[name] = tensor(dtype, shape, len(body), len(body) + len(data))
        body += data
    put("statistics_fuzzer", "all", safetensors(header, body))
    put("statistics_fuzzer", "cut", safetensors(header, body)[:-9])


def put_tokenizers():
    added = [{"id": 2, "content": "<s>", "special": True}, {"id": 7, "content": "<pad>"}]
    bpe = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 3, "aa": 4}, "merges": ["a b", ["a", "a"]]}, "added_tokens": added}
    put("tokenizer_fuzzer", "bpe", json.dumps(bpe))
    put("tokenizer_fuzzer", "unigram", json.dumps({"model": {"type": "Unigram", "vocab": [["x", 0.5], ["y", -1]]}}))
    put("tokenizer_fuzzer", "added_no_list", json.dumps(bpe | {"added_tokens": {"x": {"id": 9, "content": "y"}}}))
    put("tokenizer_fuzzer", "deep", '{"model":{"vocab":{}},"x":' + "[" * 7000 + "]" * 7000 + "}")
    put("tokenizer_fuzzer", "config", json.dumps(bpe | {"added_tokens_decoder": {"2": {"content": "<s>"}}}))


def put_records():
    record = {
        "formatVersion": 2, "codeVersion": "cairn-merge-3", "directory": "/models", "seed": 7,
        "inputs": [{"model": "a", "content": "xxh3:1"}], "digest": BASE, "tensors": {"w": "0" * 64},
    }
    recipe = {"recipeFile": "r.yaml", "recipe": "merge_method: linear\n", "profile": "mergekit"}
    put("merge_record_fuzzer", "recipe", json.dumps(record | recipe))
    put("merge_record_fuzzer", "adapters", json.dumps(record | {"base": "b", "adapters": [{"path": "p", "weight": 0.5}]}))
    put("merge_record_fuzzer", "seed_past_all", json.dumps(record | recipe | {"seed": 6e139}))
    put("merge_record_fuzzer", "number_for_text", json.dumps(record | {"recipe": 3}))


def put_model_configs():
    sizes = {"vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
    llama = sizes | {"num_key_value_heads": 1, "rms_norm_eps": 1e-6, "max_position_embeddings": 16}
    yarn = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 8}
    longrope = {"type": "longrope", "short_factor": [1.0, 1.0], "long_factor": [2.0, 2.0], "original_max_position_embeddings": 8}
    labels = {"id2label": {"0": "no", "1": "yes"}}
    for name, architecture, keys in [
        ("llama3", "LlamaForCausalLM", llama | {"rope_scaling": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8}}),
        ("yarn", "Qwen2ForCausalLM", llama | {"rope_scaling": yarn, "use_sliding_window": True, "sliding_window": 4}),
        ("longrope", "Phi3ForCausalLM", llama | {"rope_scaling": longrope, "pad_token_id": 0}),
        ("mistral", "MistralForCausalLM", llama | {"sliding_window": 4, "head_dim": 4}),
        ("qwen3", "Qwen3ForCausalLM", llama | {"head_dim": 4, "layer_types": ["full_attention", "sliding_attention"]}),
        ("gemma2", "Gemma2ForCausalLM", llama | {
            "head_dim": 4, "query_pre_attn_scalar": 4, "sliding_window": 4, "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0, "hidden_activation": "gelu_pytorch_tanh"}),
        ("smollm3", "SmolLM3ForCausalLM", llama | {"no_rope_layers": [1, 0], "rope_theta": 5e4}),
        ("gpt2", "GPT2LMHeadModel", {"vocab_size": 8, "n_embd": 8, "n_layer": 2, "n_head": 2, "n_positions": 16}),
        ("neox", "GPTNeoXForCausalLM", sizes | {"rotary_pct": 0.5, "use_parallel_residual": True}),
        ("opt", "OPTForCausalLM", sizes | {"ffn_dim": 12, "word_embed_proj_dim": 8, "do_layer_norm_before": True}),
        ("bert", "BertForSequenceClassification", sizes | labels | {"type_vocab_size": 2, "max_position_embeddings": 16}),
        ("roberta", "RobertaForSequenceClassification", sizes | labels | {"pad_token_id": 1, "max_position_embeddings": 18}),
        ("distilbert", "DistilBertForSequenceClassification", labels | {
            "vocab_size": 8, "dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 12, "max_position_embeddings": 16}),
        ("t5", "T5ForConditionalGeneration", {
            "vocab_size": 8, "d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 2, "num_heads": 2,
            "feed_forward_proj": "gated-gelu", "decoder_start_token_id": 0, "eos_token_id": 1}),
        ("vit", "ViTForImageClassification", sizes | labels | {"image_size": 4, "patch_size": 2, "num_channels": 3}),
        ("clip", "CLIPModel", {
            "projection_dim": 4, "text_config": sizes | {"max_position_embeddings": 16, "eos_token_id": 2},
            "vision_config": sizes | {"image_size": 4, "patch_size": 2}}),
        ("unknown", "MambaForCausalLM", sizes),
    ]:
        put("model_config_fuzzer", name, json.dumps({"architectures": [architecture]} | keys))
    put("model_config_fuzzer", "by_type", json.dumps(llama | {"model_type": "llama"}))
    put("model_config_fuzzer", "deep", '{"architectures":["LlamaForCausalLM"],"x":' + "[" * 7000 + "]" * 7000 + "}")


def main():
    put_adapters()
    put_records()
    put_model_configs()
    put_statistics()
    put_tokenizers()
    put_streams()
    put_messages()
    put_packed_blob()
    put_texts()
    put_suites()
    put_token_texts()
    two = {"a": tensor("F32", [2, 2], 0, 16), "b": tensor("BF16", [3], 16, 22)}
    put("safetensors_fuzzer", "two", safetensors(two, bytes(22)))
    put("safetensors_fuzzer", "metadata", safetensors({"__metadata__": {"format": "pt"}} | two, bytes(22)))
    put("safetensors_fuzzer", "empty", safetensors({}))
    put("safetensors_fuzzer", "scalar_and_empty", safetensors(
        {"s": tensor("F64", [], 0, 8), "e": tensor("I8", [0, 4], 8, 8), "f4": tensor("F4", [4], 8, 10)}, bytes(10)))
    put("safetensors_fuzzer", "hole", safetensors({"a": tensor("U8", [1], 1, 2)}, bytes(2)))
    put("safetensors_fuzzer", "cut", safetensors(two, bytes(22))[:-30])
    put("safetensors_fuzzer", "twice", struct.pack("<Q", 96) + (
        b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
        b'"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}').ljust(96))

    dense = {"__metadata__": {"cairn.base": BASE, "cairn.format": "dense", "cairn.version": "1"}} | two
    put("update_fuzzer", "dense", safetensors(dense, bytes(22)))
    put("update_fuzzer", "sparse", sparse([("model.a.weight", [4, 8], [0, 1, 31]), ("model.b.weight", [400], [7, 399])]))
    put("update_fuzzer", "sparse_long", sparse([("w", [5000], list(range(0, 5000, 2)))]))
    put("update_fuzzer", "sparse_past_end", sparse([("w", [4], [1, 4])]))
    put("update_fuzzer", "sparse_f32", sparse([("w", [300], [200])], 4, "F32"))

    for name, data in coded_seeds():
        put("update_fuzzer", name, data)
    table = varint(0) + varint(1) + b"w" + varint(4) + b"BF16" + varint(2) + varint(4) + varint(8)
    lossless = {"__metadata__": {"cairn.base": BASE, "cairn.format": "dense", "cairn.version": "2"}}
    at, body = 0, b""
    for key, data in (("cairn.blocks", b"\0"), ("cairn.lengths", struct.pack("<I", 1)), ("cairn.tensors", table)):
        lossless[key] = tensor("U8", [len(data)], at, at + len(data))
        at, body = at + len(data), body + data
    put("update_fuzzer", "dense_2_unchanged", safetensors(lossless, body))
    few = [3, 70, 71, 500]
    put("position_codec_fuzzer", "rice", bytes([len(few) - 1, 0, 10]) + rice_block(few, 5))
    dense = [i for i in range(900) if i % 7]
    put("position_codec_fuzzer", "own_table",
        bytes([(len(dense) - 1) % 256, (len(dense) - 1) // 256, 12]) + rans_block(dense, [3500, 596]))

    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "up_proj"]}
    put("adapter_config_fuzzer", "plain", json.dumps(config))
    put("adapter_config_fuzzer", "patterns", json.dumps(config | {
        "use_rslora": True, "rank_pattern": {"q_proj": 2, "^model\\.layers\\.[0-3]\\..*": 4},
        "alpha_pattern": {"up_proj": 0.5}, "target_modules": ".*_proj"}))
    put("adapter_config_fuzzer", "unsupported", json.dumps(config | {"use_dora": True, "bias": "all"}))
    put("adapter_config_fuzzer", "broken_pattern", json.dumps(config | {"rank_pattern": {"((a*)*": 2}}))


if __name__ == "__main__":
    main()
