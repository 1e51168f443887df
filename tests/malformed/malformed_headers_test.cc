// Broken safetensors files and adapter configurations: each is refused with its
// exact code and reason, in a message that names what is wrong.
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/tensor/safetensors.h"
#include "core/update/adapter_config.h"
#include "tests/malformed/refusal_table.h"

namespace cairn {
namespace {

constexpr char kMalformed[] = "MALFORMED_FILE";
constexpr char kUnsupported[] = "UNSUPPORTED";

// A safetensors file: a header of any text and some bytes of tensors.
std::string File(const std::string& json, size_t bytes = 0) {
  const uint64_t length = json.size();
  std::string out(8, '\0');
  std::memcpy(&out[0], &length, 8);
  return out + json + std::string(bytes, '\1');
}

absl::Status Header(const std::string& file) {
  return SafetensorsHeader::Read(*MakeMemorySource(file), "m.safetensors")
      .status();
}

// One tensor "w" with the given fields.
std::string W(const std::string& fields) { return "{\"w\":{" + fields + "}}"; }

constexpr char kGood[] = R"("dtype":"F32","shape":[2],"data_offsets":[0,8])";

std::string HugeCount() {
  std::string file = File("{}");
  file.replace(0, 8, std::string(7, '\xff') + '\x7f');
  return file;
}

std::string ManyTensors() {
  std::string json = "{";
  for (int i = 0; i <= kSafetensorsTensorsMax; ++i) {
    absl::StrAppend(&json, i > 0 ? "," : "", "\"", i,
                    R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})");
  }
  return File(json + "}");
}

TEST(MalformedHeaderTest, FilesThatAreNoSafetensors) {
  ASSERT_TRUE(Header(File(W(kGood), 8)).ok());
  ExpectRefusals({
      {"empty", Header(""), kMalformed, {"m.safetensors", "has 0 bytes"}},
      {"seven bytes", Header("1234567"), kMalformed, {"at least 8"}},
      {"count past the end", Header(HugeCount()), kMalformed, {"cut short"}},
      {"header past our limit",
       Header(File(std::string((16 << 20) + 1, ' '))),
       "LIMIT_EXCEEDED",
       {"16777217", "at most 16777216"}},
      {"empty header",
       Header(File("")),
       kMalformed,
       {"does not begin with '{'"}},
      {"leading space",
       Header(File(" {}")),
       kMalformed,
       {"does not begin with '{'"}},
      {"an array", Header(File("[]")), kMalformed, {"does not begin with '{'"}},
      {"a pickle",
       Header("\x80\x02}q\x01(X\x06\x00 weights"),
       kMalformed,
       {"safetensors"}},
  });
}

TEST(MalformedHeaderTest, HeadersThatAreNoJson) {
  ExpectRefusals({
      {"not JSON", Header(File("{\"w\":")), kMalformed, {"not JSON", "byte"}},
      {"text after the end", Header(File("{} {}")), kMalformed, {"not JSON"}},
      {"NUL padding",
       Header(File(std::string("{}\0\0", 4))),
       kMalformed,
       {"NUL"}},
      {"bad UTF-8", Header(File("{\"\xff\":{}}")), kMalformed, {"not JSON"}},
      {"deep nesting",
       Header(File("{\"w\":" + std::string(5000, '['))),
       kMalformed,
       {"\"w\" is an array"}},
      {"tensor twice",
       Header(File(std::string("{\"w\":{") + kGood + "},\"w\":{" + kGood + "}}",
                   8)),
       kMalformed,
       {"tensor \"w\" stands twice"}},
      {"key twice",
       Header(File(W(std::string("\"dtype\":\"F32\",") + kGood), 8)),
       kMalformed,
       {"tensor \"w\"", "key \"dtype\" stands twice"}},
  });
}

TEST(MalformedHeaderTest, Metadata) {
  ExpectRefusals({
      {"metadata twice",
       Header(File(R"({"__metadata__":{},"__metadata__":{}})")),
       kMalformed,
       {"__metadata__", "twice"}},
      {"metadata key twice",
       Header(File(R"({"__metadata__":{"a":"b","a":"c"}})")),
       kMalformed,
       {"\"a\" stands twice"}},
      {"metadata no string",
       Header(File(R"({"__metadata__":{"a":1}})")),
       kMalformed,
       {"\"a\"", "must be a string"}},
      {"metadata nested",
       Header(File(R"({"__metadata__":{"a":{}}})")),
       kMalformed,
       {"\"a\" is an object"}},
      {"metadata a list",
       Header(File(R"({"__metadata__":[]})")),
       kMalformed,
       {"must be an object"}},
  });
}

TEST(MalformedHeaderTest, FieldsOfTensors) {
  ExpectRefusals({
      {"tensor a number",
       Header(File(R"({"w":1})")),
       kMalformed,
       {"\"w\" is a number"}},
      {"unknown key",
       Header(File(W(std::string(kGood) + ",\"x\":1"), 8)),
       kMalformed,
       {"unknown key \"x\""}},
      {"no dtype",
       Header(File(W(R"("shape":[2],"data_offsets":[0,8])"), 8)),
       kMalformed,
       {"\"w\"", "has no \"dtype\""}},
      {"no shape",
       Header(File(W(R"("dtype":"F32","data_offsets":[0,8])"), 8)),
       kMalformed,
       {"has no \"shape\""}},
      {"no offsets",
       Header(File(W(R"("dtype":"F32","shape":[2])"), 8)),
       kMalformed,
       {"has no \"data_offsets\""}},
      {"unknown dtype",
       Header(File(W(R"("dtype":"F31","shape":[2],"data_offsets":[0,8])"), 8)),
       kMalformed,
       {"\"w\"", "\"F31\""}},
      {"dtype a number",
       Header(File(W(R"("dtype":32,"shape":[2],"data_offsets":[0,8])"), 8)),
       kMalformed,
       {"dtype is a number"}},
  });
}

TEST(MalformedHeaderTest, Shapes) {
  ExpectRefusals({
      {"shape a string",
       Header(File(W(R"("dtype":"F32","shape":"2","data_offsets":[0,8])"), 8)),
       kMalformed,
       {"shape is a string"}},
      {"negative dimension",
       Header(File(W(R"("dtype":"F32","shape":[-2],"data_offsets":[0,8])"), 8)),
       kMalformed,
       {"shape holds a negative number"}},
      {"fractional dimension",
       Header(
           File(W(R"("dtype":"F32","shape":[2.5],"data_offsets":[0,8])"), 8)),
       kMalformed,
       {"no integer"}},
      {"dimension past 63 bits",
       Header(File(
           W(R"("dtype":"F32","shape":[18446744073709551615],"data_offsets":[0,8])"),
           8)),
       kMalformed,
       {"63 bits"}},
      {"overflowing shape",
       Header(File(
           W(R"("dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8])"),
           8)),
       kMalformed,
       {"\"w\"", "overflows"}},
      {"65 dimensions",
       Header(File(W("\"dtype\":\"U8\",\"shape\":[1" +
                     [] {
                       std::string more;
                       for (int i = 0; i < 64; ++i) more += ",1";
                       return more;
                     }() +
                     "],\"data_offsets\":[0,1]"),
                   1)),
       kMalformed,
       {"more than 64 dimensions"}},
      {"half a byte",
       Header(File(W(R"("dtype":"F4","shape":[3],"data_offsets":[0,2])"), 2)),
       kMalformed,
       {"not whole bytes"}},
  });
}

TEST(MalformedHeaderTest, Offsets) {
  ExpectRefusals({
      {"one offset",
       Header(File(W(R"("dtype":"F32","shape":[2],"data_offsets":[0])"), 8)),
       kMalformed,
       {"must hold two numbers"}},
      {"three offsets",
       Header(
           File(W(R"("dtype":"F32","shape":[2],"data_offsets":[0,8,8])"), 8)),
       kMalformed,
       {"a third offset"}},
      {"offsets swapped",
       Header(File(W(R"("dtype":"F32","shape":[2],"data_offsets":[8,0])"), 8)),
       kMalformed,
       {"[8, 0]"}},
      {"offsets past the end",
       Header(File(W(R"("dtype":"F32","shape":[2],"data_offsets":[0,8])"), 7)),
       kMalformed,
       {"\"w\"", "[0, 8]", "7 bytes"}},
      {"length that does not fit",
       Header(File(W(R"("dtype":"F32","shape":[3],"data_offsets":[0,8])"), 8)),
       kMalformed,
       {"span 8 bytes", "takes 12"}},
      {"hole before",
       Header(
           File(W(R"("dtype":"F32","shape":[2],"data_offsets":[4,12])"), 12)),
       kMalformed,
       {"without holes"}},
      {"bytes after the last",
       Header(File(W(kGood), 9)),
       kMalformed,
       {"the tensors end", "but the file at"}},
      {"overlap",
       Header(File(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                   R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                   12)),
       kMalformed,
       {"\"b\"", "without overlap"}},
      {"aliased",
       Header(File(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                   R"("b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
                   8)),
       kMalformed,
       {"without overlap"}},
  });
}

TEST(MalformedHeaderTest, Names) {
  ExpectRefusals({
      {"empty name",
       Header(File(R"({"":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})")),
       kMalformed,
       {"tensor name", "is empty"}},
      {"control character in a name",
       Header(
           File(R"({"a\nb":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})")),
       kMalformed,
       {"control characters"}},
      {"too many tensors",
       Header(ManyTensors()),
       "LIMIT_EXCEEDED",
       {"more than 100000 tensors"}},
  });
}

absl::Status Config(const std::string& fields) {
  return AdapterConfig::Parse("{\"peft_type\":\"LORA\"" + fields + "}",
                              "adapter_config.json")
      .status();
}

absl::Status RawConfig(const std::string& text) {
  return AdapterConfig::Parse(text, "adapter_config.json").status();
}

TEST(MalformedHeaderTest, ConfigsThatAreNone) {
  ASSERT_TRUE(Config("").ok());
  ASSERT_TRUE(
      Config(R"(,"some_new_key":5,"use_new":false,"x_config":null)").ok());
  ExpectRefusals({
      {"not JSON",
       RawConfig("r: 8"),
       kMalformed,
       {"adapter_config.json", "not JSON"}},
      {"a list", RawConfig("[]"), kMalformed, {"must be an object"}},
      {"no type", RawConfig("{}"), kMalformed, {"peft_type"}},
      {"key twice",
       Config(R"(,"r":8,"r":4)"),
       kMalformed,
       {"\"r\" stands twice"}},
      {"too deep",
       Config(",\"x\":" + std::string(40, '[') + std::string(40, ']')),
       "LIMIT_EXCEEDED",
       {"deeper"}},
      {"another type",
       RawConfig(R"({"peft_type":"ADALORA"})"),
       kUnsupported,
       {"peft_type", "\"ADALORA\"", "LORA, IA3 and SHIRA"}},
      {"rank a string", Config(R"(,"r":"8")"), kMalformed, {"r is a string"}},
      {"rank zero", Config(R"(,"r":0)"), kMalformed, {"r is 0"}},
      {"rank negative", Config(R"(,"r":-4)"), kMalformed, {"r is -4"}},
      {"rank fractional", Config(R"(,"r":8.5)"), kMalformed, {"r is a number"}},
      {"rank huge",
       Config(R"(,"r":1099511627776)"),
       kMalformed,
       {"r is 1099511627776"}},
      {"alpha a list",
       Config(R"(,"lora_alpha":[])"),
       kMalformed,
       {"lora_alpha is an array"}},
      {"rslora a string",
       Config(R"(,"use_rslora":"yes")"),
       kMalformed,
       {"use_rslora is a string"}},
  });
}

TEST(MalformedHeaderTest, Patterns) {
  ExpectRefusals({
      {"rank_pattern a list",
       Config(R"(,"rank_pattern":[])"),
       kMalformed,
       {"rank_pattern is an array"}},
      {"rank_pattern zero",
       Config(R"(,"rank_pattern":{"q":0})"),
       kMalformed,
       {"rank_pattern[\"q\"] is 0"}},
      {"alpha_pattern a string",
       Config(R"(,"alpha_pattern":{"q":"1"})"),
       kMalformed,
       {"alpha_pattern[\"q\"]"}},
      {"broken pattern",
       Config(R"(,"rank_pattern":{"q(":4})"),
       kMalformed,
       {"rank_pattern", "\"q(\""}},
      {"long pattern",
       Config(",\"rank_pattern\":{\"" + std::string(1025, 'q') + "\":4}"),
       "LIMIT_EXCEEDED",
       {"1025 bytes"}},
      {"targets a number",
       Config(R"(,"target_modules":3)"),
       kMalformed,
       {"target_modules is an integer"}},
      {"targets of numbers",
       Config(R"(,"target_modules":[3])"),
       kMalformed,
       {"target_modules"}},
      {"broken target",
       Config(R"(,"target_modules":"q[")"),
       kMalformed,
       {"target_modules", "\"q[\""}},
  });
}

TEST(MalformedHeaderTest, WhatFactorsAloneDoNotSay) {
  ExpectRefusals({
      {"DoRA that is no switch",
       Config(R"(,"use_dora":"yes")"),
       kMalformed,
       {"use_dora is a string"}},
      {"QALoRA", Config(R"(,"use_qalora":true)"), kUnsupported, {"use_qalora"}},
      {"biases of a new kind",
       Config(R"(,"bias":"some")"),
       kUnsupported,
       {"bias", "\"some\"", "lora_only"}},
      {"tied weights",
       Config(R"(,"ensure_weight_tying":true)"),
       kUnsupported,
       {"ensure_weight_tying"}},
      {"replicated layers",
       Config(R"(,"layer_replication":[[0,4]])"),
       kUnsupported,
       {"layer_replication"}},
      {"Megatron",
       Config(R"(,"megatron_config":{"a":1})"),
       kUnsupported,
       {"megatron_config"}},
      {"Arrow",
       Config(R"(,"arrow_config":{"a":1})"),
       kUnsupported,
       {"arrow_config"}},
      {"aLoRA",
       Config(R"(,"alora_invocation_tokens":[1])"),
       kUnsupported,
       {"alora_invocation_tokens"}},
      {"trainable tokens without places",
       Config(R"(,"trainable_token_indices":["a"])"),
       kMalformed,
       {"trainable_token_indices", "an array of indices"}},
      {"trainable tokens before the first",
       Config(R"(,"trainable_token_indices":{"wte":[-1]})"),
       kMalformed,
       {"trainable_token_indices"}},
      {"parameters that are numbers",
       Config(R"(,"target_parameters":[1])"),
       kMalformed,
       {"target_parameters"}},
      {"PiSSA",
       Config(R"(,"init_lora_weights":"pissa_niter_4")"),
       kUnsupported,
       {"init_lora_weights", "pissa"}},
      {"a switch of the future",
       Config(R"(,"use_something":true)"),
       kUnsupported,
       {"use_something"}},
      {"a config of the future",
       Config(R"(,"something_config":{"a":1})"),
       kUnsupported,
       {"something_config"}},
  });
}

}  // namespace
}  // namespace cairn
