"""Write an Ollama Modelfile: the chat template in Go, stops, parameters. Pure.

Ollama renders Go templates, not the Jinja of the GGUF. Its own rules, which no template can change: consecutive messages of one
role (but for tools) become one, joined by an empty line; JSON of tools and arguments is compact, its keys in Go's order, with
`<`, `>` and `&` escaped. Where a template is not known here, TEMPLATE is left out and Ollama takes the nearest it knows.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

# `.Role` and the like through the dot, and `if .ToolCalls` around the range: Ollama looks for that very shape to learn how tool
# calls begin in an answer. The last newline is spelt out, so that no editor trims it.
CORRAL = """\
{{- $tools := .Tools }}
{{- if $tools }}<|im_start|>system
{{ range $i, $_ := .Messages }}{{ if and (eq $i 0) (eq .Role "system") }}{{ .Content }}
{{ end }}{{ end }}<tools>
{{- range $i, $_ := $tools }}{{ if $i }}
{{ end }}{"name": "{{ .Function.Name }}", "description": {{ json .Function.Description }}, "parameters": {{ json .Function.Parameters }}}
{{- end }}</tools><|im_end|>
{{ end }}
{{- range $i, $_ := .Messages }}
{{- if eq .Role "system" }}
{{- if not (and $tools (eq $i 0)) }}<|im_start|>system
{{ .Content }}<|im_end|>
{{ end }}
{{- else if eq .Role "assistant" }}<|im_start|>assistant
{{ .Content }}{{ if .ToolCalls }}{{ range .ToolCalls }}<tool_call>{"name": "{{ .Function.Name }}", "arguments": {{ json .Function.Arguments }}}</tool_call>{{ end }}{{ end }}<|im_end|>
{{ else if eq .Role "tool" }}<|im_start|>tool
<tool_response>{{ .Content }}</tool_response><|im_end|>
{{ else }}<|im_start|>user
{{ .Content }}<|im_end|>
{{ end }}
{{- end }}<|im_start|>assistant{{ "\\n" }}"""

CHATML = """\
{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant{{ "\\n" }}"""


@dataclass(frozen=True)
class Template:
    """A Go template and the texts at which an answer ends."""

    name: str
    text: str
    stops: tuple[str, ...]


STOPS = ("<|im_end|>", "<|im_start|>")
# By the SHA-256 of the Jinja template without the white space around it: models/chat_template.jinja.
KNOWN = {
    "4a3fbb53c43ff192893804a841697b80eba623e3d0cf3b97576ecaf18c5246c9": Template(
        "corral", CORRAL, STOPS
    ),
}
PLAIN_CHATML = Template("chatml", CHATML, STOPS)
# What a template is asked to render, to see whether it is plain ChatML.
PROBE = [
    {"role": "system", "content": "One."},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "Three."},
    {"role": "user", "content": "Four?"},
]
# OpenAI's and llama-server's names of sampling defaults, and Ollama's.
PARAMETERS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repeat_penalty": "repeat_penalty",
    "seed": "seed",
    "max_tokens": "num_predict",
}


def known_template(jinja: str) -> Template | None:
    """The Go template that says the same as this Jinja text, where one is kept."""
    return KNOWN.get(hashlib.sha256(jinja.strip().encode()).hexdigest())


def chatml(messages: list[dict[str, str]]) -> str:
    """Plain ChatML with the prompt for an answer: what a template must render of PROBE to be that."""
    turns = (f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    return "".join(turns) + "<|im_start|>assistant\n"


def modelfile(
    gguf: str,
    template: Template | None,
    defaults: Mapping[str, object],
    *,
    context: int | None = None,
    adapter: str = "",
    licence: str = "",
) -> str:
    """The Modelfile beside `gguf` (a file name); `defaults` that Ollama has no name for are left out."""
    lines = [f"FROM ./{gguf}"]
    if adapter:
        lines.append(f"ADAPTER ./{adapter}")
    if template is not None:
        lines.append(f'TEMPLATE """{template.text}"""')
        lines += [f'PARAMETER stop "{stop}"' for stop in template.stops]
    if context:
        lines.append(f"PARAMETER num_ctx {context}")
    lines += [
        f"PARAMETER {PARAMETERS[name]} {value}"
        for name, value in sorted(defaults.items())
        if name in PARAMETERS
    ]
    if licence:
        lines.append(f'LICENSE """{licence}"""')
    return "\n".join(lines) + "\n"
