"""Chat formats that are known by name, each as a Jinja reference and as a Go template with its stop strings.

``autodetect`` finds the format of a model by how little its Jinja differs from a reference: what ``create`` reports as
``using autodetected template chatml``. A format whose special tokens are not in the text is never taken.
"""

from __future__ import annotations

from dataclasses import dataclass

NEAR = 100  # edits


@dataclass(frozen=True, slots=True)
class Known:
    """``marks`` must all be in a Jinja template of this format."""

    name: str
    jinja: str
    go: str
    stop: tuple[str, ...]
    marks: tuple[str, ...]


def autodetect(jinja: str) -> tuple[str, str, dict[str, list[str]]] | None:
    """Name, Go template and parameters of the nearest format less than 100 edits away."""
    best, score = None, NEAR
    for known in KNOWN:
        if abs(len(known.jinja) - len(jinja)) < score and all(mark in jinja for mark in known.marks):
            edits = distance(known.jinja, jinja)
            if edits < score:
                best, score = known, edits
    return None if best is None else (best.name, best.go, {"stop": list(best.stop)})


def distance(a: str, b: str) -> int:
    """Levenshtein's, by the bit-parallel method of Myers: one column of the table is one integer."""
    if not a or not b:
        return len(a) + len(b)
    places: dict[str, int] = {}
    for at, character in enumerate(a):
        places[character] = places.get(character, 0) | 1 << at
    full, last = (1 << len(a)) - 1, 1 << (len(a) - 1)
    plus, minus, edits = full, 0, len(a)
    for character in b:
        equal = places.get(character, 0)
        vertical = equal | minus
        horizontal = (((equal & plus) + plus) ^ plus) | equal
        up, down = minus | ~(horizontal | plus) & full, plus & horizontal
        edits += bool(up & last) - bool(down & last)
        up, down = (up << 1 | 1) & full, (down << 1) & full
        plus, minus = down | ~(vertical | up) & full, up & vertical
    return edits


GENERATION = "{% if add_generation_prompt %}{{ '", "' }}{% endif %}"


def _each(turn: str, generation: str) -> str:
    """The Jinja of a format that writes all roles in one way."""
    body = f"{{% for message in messages %}}{{{{ {turn} }}}}{{% endfor %}}"
    return body + generation.join(GENERATION)


KNOWN = (
    Known(
        "chatml",
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + "
        "'\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
        "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n",
        ("<|im_start|>", "<|im_end|>"),
        ("<|im_start|>", "<|im_end|>"),
    ),
    Known(
        "llama3-instruct",
        _each(
            "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] + '<|eot_id|>'",
            "<|start_header_id|>assistant<|end_header_id|>\\n\\n",
        ),
        "{{- range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>\n\n{{ .Content }}<|eot_id|>{{ end }}"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    ),
    Known(
        "zephyr",
        _each("'<|' + message['role'] + '|>\\n' + message['content'] + eos_token + '\\n'", "<|assistant|>\\n"),
        "{{- range .Messages }}<|{{ .Role }}|>\n{{ .Content }}</s>\n{{ end }}<|assistant|>\n",
        ("<|system|>", "<|user|>", "<|assistant|>", "</s>"),
        ("eos_token", "<|assistant|>"),
    ),
    Known(
        "phi-3",
        _each("'<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n'", "<|assistant|>\\n"),
        "{{- range .Messages }}<|{{ .Role }}|>\n{{ .Content }}<|end|>\n{{ end }}<|assistant|>\n",
        ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>"),
        ("<|end|>", "<|assistant|>"),
    ),
    Known(
        "gemma-instruct",
        "{% for message in messages %}{% if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}"
        "{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\\n' + message['content'] + "
        "'<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}",
        "{{- $system := .System }}{{ range .Messages }}{{ if eq .Role `user` }}<start_of_turn>user\n"
        "{{ if $system }}{{ $system }}\n\n{{ $system = `` }}{{ end }}{{ .Content }}<end_of_turn>\n"
        "{{ else if eq .Role `assistant` }}<start_of_turn>model\n{{ .Content }}<end_of_turn>\n{{ end }}{{ end }}"
        "<start_of_turn>model\n",
        ("<start_of_turn>", "<end_of_turn>"),
        ("<start_of_turn>", "<end_of_turn>"),
    ),
    Known(
        "mistral-instruct",
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + "
        "message['content'] + ' [/INST]' }}{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}",
        "{{- $system := .System }}{{ range .Messages }}{{ if eq .Role `user` }}[INST] "
        "{{ if $system }}{{ $system }}\n\n{{ $system = `` }}{{ end }}{{ .Content }} [/INST]"
        "{{ else if eq .Role `assistant` }}{{ .Content }}</s>{{ end }}{{ end }}",
        ("[INST]", "[/INST]"),
        ("[INST]", "[/INST]"),
    ),
    Known(
        "llama2-chat",
        "{% if messages[0]['role'] == 'system' %}{% set system = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>"
        "\\n\\n' %}{% set messages = messages[1:] %}{% else %}{% set system = '' %}{% endif %}{% for message in "
        "messages %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + (system if loop.first else '') + "
        "message['content'] + ' [/INST]' }}{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}"
        "{% endfor %}",
        "{{- $system := .System }}{{ $next := `` }}{{ range .Messages }}{{ if eq .Role `user` }}{{ $next }}[INST] "
        "{{ if $system }}<<SYS>>\n{{ $system }}\n<</SYS>>\n\n{{ $system = `` }}{{ end }}{{ .Content }} [/INST]"
        "{{ else if eq .Role `assistant` }} {{ .Content }} </s>{{ $next = `<s>` }}{{ end }}{{ end }}",
        ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"),
        ("[INST]", "<<SYS>>"),
    ),
    Known(
        "vicuna",
        "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] + ' ' }}{% elif "
        "message['role'] == 'user' %}{{ 'USER: ' + message['content'] + ' ' }}{% else %}{{ 'ASSISTANT: ' + "
        "message['content'] + eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}"
        "{% endif %}",
        "{{- range .Messages }}{{ if eq .Role `system` }}{{ .Content }} {{ else if eq .Role `user` }}USER: "
        "{{ .Content }} {{ else if eq .Role `assistant` }}ASSISTANT: {{ .Content }}</s>{{ end }}{{ end }}ASSISTANT:",
        ("USER:", "ASSISTANT:"),
        ("USER:", "ASSISTANT:"),
    ),
    Known(
        "alpaca",
        "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] + '\\n\\n' }}{% elif "
        "message['role'] == 'user' %}{{ '### Instruction:\\n' + message['content'] + '\\n\\n' }}{% else %}{{ "
        "'### Response:\\n' + message['content'] + '\\n\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}"
        "{{ '### Response:\\n' }}{% endif %}",
        "{{- range .Messages }}{{ if eq .Role `system` }}{{ .Content }}\n\n{{ else if eq .Role `user` }}"
        "### Instruction:\n{{ .Content }}\n\n{{ else if eq .Role `assistant` }}### Response:\n{{ .Content }}\n\n"
        "{{ end }}{{ end }}### Response:\n",
        ("### Instruction:", "### Response:"),
        ("### Instruction:", "### Response:"),
    ),
    Known(
        "command-r",
        "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{% set role = 'SYSTEM' %}{% "
        "elif message['role'] == 'user' %}{% set role = 'USER' %}{% else %}{% set role = 'CHATBOT' %}{% endif %}{{ "
        "'<|START_OF_TURN_TOKEN|><|' + role + '_TOKEN|>' + message['content'] + '<|END_OF_TURN_TOKEN|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}",
        "{{- range .Messages }}<|START_OF_TURN_TOKEN|><|{{ if eq .Role `system` }}SYSTEM{{ else if eq .Role `user` }}"
        "USER{{ else }}CHATBOT{{ end }}_TOKEN|>{{ .Content }}<|END_OF_TURN_TOKEN|>{{ end }}"
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
        ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
    ),
    Known(
        "openchat",
        "{{ bos_token }}{% for message in messages %}{{ 'GPT4 Correct ' + message['role'].title() + ': ' + "
        "message['content'] + '<|end_of_turn|>' }}{% endfor %}{% if add_generation_prompt %}{{ 'GPT4 Correct "
        "Assistant:' }}{% endif %}",
        "{{- range .Messages }}GPT4 Correct {{ if eq .Role `system` }}System{{ else if eq .Role `user` }}User{{ else }}"
        "Assistant{{ end }}: {{ .Content }}<|end_of_turn|>{{ end }}GPT4 Correct Assistant:",
        ("<|end_of_turn|>",),
        ("<|end_of_turn|>", "GPT4 Correct"),
    ),
    Known(
        "granite-instruct",
        _each(
            "'<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] + '<|end_of_text|>\\n'",
            "<|start_of_role|>assistant<|end_of_role|>",
        ),
        "{{- range .Messages }}<|start_of_role|>{{ .Role }}<|end_of_role|>{{ .Content }}<|end_of_text|>\n{{ end }}"
        "<|start_of_role|>assistant<|end_of_role|>",
        ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
        ("<|start_of_role|>", "<|end_of_role|>"),
    ),
)
