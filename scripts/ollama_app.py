"""Ollama itself: which Go template fits a model, and `ollama create` where Ollama is installed."""

import shutil
import subprocess
from pathlib import Path

import stage
from corral.datasets.template_server import Request, TemplateServer
from corral.errors import BadRequest, CorralError, ToolError
from corral.registry.gguf_header import Header
from corral.settings import child_environment
from llama_tools import LlamaTools
from ollama_modelfile import PLAIN_CHATML, PROBE, Template, chatml, known_template

TEMPLATE_KEY = "tokenizer.chat_template"
CREATE_SECONDS = 3600


def template_of(
    header: Header, model: Path, given: Path | None, tools: LlamaTools
) -> Template | None:
    """The template given, the one kept for this model's, plain ChatML if the model's renders as that."""
    if given is not None:
        return _given(given)
    jinja = header.metadata.get(TEMPLATE_KEY)
    if not isinstance(jinja, str):
        return None
    known = known_template(jinja)
    if known is not None or "<|im_start|>" not in jinja:
        return known
    try:
        with TemplateServer(model, tools.path("llama-server")) as server:
            (rendered,) = server.render([Request(PROBE, None, True)])
    except CorralError:
        return None
    return PLAIN_CHATML if rendered == chatml(PROBE) else None


def _given(path: Path) -> Template:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"--template {path} cannot be read: {error}", param="template") from error
    if '"""' in text:
        raise BadRequest(
            f'--template {path} holds `"""`, which ends it in a Modelfile', param="template"
        )
    return Template(path.name, text, ())


def create(name: str, folder: Path, reporter: stage.Reporter) -> dict[str, object]:
    """Run `ollama create`; where Ollama is not installed, say how. ToolError when it fails."""
    model = name.lower()
    command = ["ollama", "create", model, "-f", "Modelfile"]
    line = f"cd {folder} && {' '.join(command)}"
    program = shutil.which("ollama")
    if program is None:
        reporter.message(f"Ollama is not installed here; where it is: {line}")
        return {"created": False, "command": line}
    done = subprocess.run(
        [program, *command[1:]], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, errors="replace", timeout=CREATE_SECONDS, check=False,
        env=child_environment({}),
    )  # fmt: skip
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "it printed nothing").splitlines()[-1]
        raise ToolError(
            f"the files are in {folder}, but `ollama create` failed: {said}; is `ollama serve` "
            f"running? Then: {line}"
        )
    return {"created": True, "model": model, "command": line}
