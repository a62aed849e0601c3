#!/usr/bin/env bash
# Frameworks that speak the Ollama API, installed in CLIENTS_HOME and run against a server of this checkout. Needs pip,
# npm and a network the first time. The `ollama` and `openai` packages are part of `make test`.
set -euo pipefail
cd "$(dirname "$0")/.."
export CLIENTS_HOME="${CLIENTS_HOME:-$HOME/.cache/llamada/clients}"
mkdir -p "$CLIENTS_HOME/npm"
if [[ ! -x "$CLIENTS_HOME/venv/bin/python" ]]; then
  python3 -m venv "$CLIENTS_HOME/venv"
  "$CLIENTS_HOME/venv/bin/pip" install --quiet langchain-ollama==1.1.0 llama-index-llms-ollama==0.11.0 \
    llama-index-embeddings-ollama==0.10.0
  # litellm asks for a whole gateway; what its Ollama provider imports is enough.
  "$CLIENTS_HOME/venv/bin/pip" install --quiet openai tiktoken importlib-metadata jinja2 jsonschema tokenizers \
    python-dotenv click aiohttp fastuuid pydantic-settings h2
  "$CLIENTS_HOME/venv/bin/pip" install --quiet --no-deps litellm==1.109.0
fi
[[ -d "$CLIENTS_HOME/npm/node_modules/ollama" ]] || npm install --silent --prefix "$CLIENTS_HOME/npm" ollama@0.6.4
exec .venv/bin/python -m pytest -m slow tests/compat "$@"
