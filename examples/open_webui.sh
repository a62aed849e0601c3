#!/usr/bin/env bash
# Open WebUI on http://127.0.0.1:8080 in front of the server at OLLAMA_HOST. Environment: PORT, WEBUI_HOME
# (where it is installed), WEBUI_DATA (where it keeps its chats).
set -euo pipefail
host="${OLLAMA_HOST:-http://127.0.0.1:11434}"
[[ "$host" == *://* ]] || host="http://$host"
home="${WEBUI_HOME:-$HOME/.cache/llamada/open-webui}"
data="${WEBUI_DATA:-$home/data}"
mkdir -p "$home" "$data"
home="$(cd "$home" && pwd)"

curl -fsS "$host/api/version" >/dev/null || { echo "no server at $host: run 'make run' first" >&2; exit 1; }
if [[ ! -x "$home/venv/bin/open-webui" ]]; then
  echo "Installing Open WebUI into $home (about 3 GB, once) …"
  python3 -m venv "$home/venv"
  "$home/venv/bin/pip" install --quiet "open-webui==${WEBUI_VERSION:-0.12.4}" playwright
fi
export OLLAMA_BASE_URL="$host" DATA_DIR="$(cd "$data" && pwd)" WEBUI_AUTH=False ENABLE_OPENAI_API=False OFFLINE_MODE=True \
  HF_HUB_OFFLINE=1 RAG_EMBEDDING_ENGINE=ollama DEFAULT_MODEL_PARAMS="${DEFAULT_MODEL_PARAMS:-{\"function_calling\":\"legacy\"\}}"
cd "$DATA_DIR"  # it writes a key into the folder it is started in
exec "$home/venv/bin/open-webui" serve --host 127.0.0.1 --port "${PORT:-8080}"
