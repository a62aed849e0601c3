#!/usr/bin/env bash
# The API with nothing but curl. The server is the one at OLLAMA_HOST, by default http://127.0.0.1:11434.
set -euo pipefail
host="${OLLAMA_HOST:-http://127.0.0.1:11434}"
[[ "$host" == *://* ]] || host="http://$host"

echo "# which models are there"
curl -fsS "$host/api/tags"

echo; echo "# one question, the answer in pieces"
curl -fsS "$host/api/chat" -d '{
  "model": "guide",
  "messages": [{"role": "user", "content": "What can you do?"}]
}'

echo "# one question, the answer in one"
curl -fsS "$host/api/generate" -d '{"model": "guide", "prompt": "How do I stop the server?", "stream": false}'

echo; echo "# an answer in JSON of a given form"
curl -fsS "$host/api/chat" -d '{
  "model": "guide", "stream": false, "options": {"num_predict": 100},
  "messages": [{"role": "user", "content": "Ana is 30 years old. Give name and age as JSON."}],
  "format": {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"]
  }
}'

echo; echo "# a tool call"
curl -fsS "$host/api/chat" -d '{
  "model": "guide", "stream": false, "options": {"num_predict": 100},
  "messages": [{"role": "user", "content": "What is the weather in Lima?"}],
  "tools": [{"type": "function", "function": {
    "name": "get_weather", "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
  }}]
}'

echo; echo "# what is in memory"
curl -fsS "$host/api/ps"
echo
