#include "merge/recipe/named_templates.h"

#include <string>

#include "absl/strings/str_join.h"

namespace cairn {
namespace {

struct NamedTemplate {
  absl::string_view name;
  absl::string_view text;
};

// Turns are parted by a blank line; `user_context` is Alpaca's input.
constexpr absl::string_view kAlpaca =
    R"jinja({% set headings = {'system': '', 'user': '### Instruction:\n', 'user_context': '### Input:\n', 'assistant': '### Response:\n'} -%}
{% for message in messages -%}
{% if message['role'] not in headings %}{{ raise_exception('alpaca has no role ' + message['role']) }}{% endif -%}
{{ ('' if loop.first else '\n\n') + headings[message['role']] + message['content'] | trim -}}
{% endfor -%}
{% if add_generation_prompt %}{{ '\n\n### Response:\n' }}{% endif -%}
)jinja";

constexpr absl::string_view kChatMl = R"jinja({% for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' -}}
{% endfor -%}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif -%}
)jinja";

// A chat without a system message begins with an empty one; the end of a
// user's turn is a line break alone.
constexpr absl::string_view kExaone = R"jinja({% for message in messages -%}
{% if loop.first and message['role'] != 'system' %}{{ '[|system|][|endofturn|]\n' }}{% endif -%}
{{ '[|' + message['role'] + '|]' + message['content'] + ('\n' if message['role'] == 'user' else '[|endofturn|]\n') -}}
{% endfor -%}
{% if add_generation_prompt %}{{ '[|assistant|]' }}{% endif -%}
)jinja";

constexpr absl::string_view kLlama3 = R"jinja({{ bos_token -}}
{% for message in messages -%}
{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' -}}
{% endfor -%}
{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif -%}
)jinja";

// The system message goes into the first instruction; turns alternate.
constexpr absl::string_view kMistral =
    R"jinja({% set has_system = messages[0]['role'] == 'system' -%}
{% set first = messages[0]['content'] + '\n\n' if has_system else '' -%}
{{ bos_token -}}
{% for message in (messages[1:] if has_system else messages) -%}
{% if message['role'] != ('user' if loop.index0 is even else 'assistant') %}{{ raise_exception('mistral wants the turns user, assistant, user, and so on, after at most one of system') }}{% endif -%}
{% if message['role'] == 'user' -%}
{{ ' [INST] ' + (first if loop.first else '') + message['content'] + ' [/INST]' -}}
{% else -%}
{{ ' ' + message['content'] + eos_token -}}
{% endif -%}
{% endfor -%}
)jinja";

constexpr NamedTemplate kTemplates[] = {
    {"alpaca", kAlpaca}, {"chatml", kChatMl},   {"exaone", kExaone},
    {"llama3", kLlama3}, {"mistral", kMistral},
};

}  // namespace

absl::string_view NamedChatTemplate(absl::string_view name) {
  for (const NamedTemplate& one : kTemplates) {
    if (one.name == name) return one.text;
  }
  return {};
}

std::string ChatTemplateNames() {
  return absl::StrJoin(kTemplates, ", ",
                       [](std::string* out, const NamedTemplate& one) {
                         out->append(one.name.data(), one.name.size());
                       });
}

}  // namespace cairn
