"""The same server through the official `openai` package (`pip install openai`): chat, stream, embed.

The server is the one at OLLAMA_HOST, by default http://127.0.0.1:11434. Any key will do.
"""

from __future__ import annotations

import os

import openai

MODEL = "guide"


def main() -> None:
    host = os.environ.get("OLLAMA_HOST", "http://127.0.0.1:11434")
    base = host if "://" in host else f"http://{host}"
    client = openai.OpenAI(base_url=f"{base}/v1", api_key="llamada")
    print("models:", ", ".join(model.id for model in client.models.list()))

    answer = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "How do I list my models?"}], temperature=0
    )
    print("chat:", answer.choices[0].message.content)

    print("stream:", end=" ")
    pieces = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "Which port does it use?"}], temperature=0, stream=True
    )
    for piece in pieces:
        print(piece.choices[0].delta.content or "", end="", flush=True)
    print()

    vectors = client.embeddings.create(model=MODEL, input=["hello", "world"]).data
    print("embeddings:", len(vectors), "of", len(vectors[0].embedding), "numbers")


if __name__ == "__main__":
    main()
