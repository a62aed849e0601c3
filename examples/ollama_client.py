"""Chat, stream, call a tool, ask for JSON and embed, with the official `ollama` package (`pip install ollama`).

The server is the one at OLLAMA_HOST, by default http://127.0.0.1:11434.
"""

from __future__ import annotations

import ollama

MODEL = "guide"


def get_weather(city: str) -> str:
    """What the weather is like.

    Args:
        city: The name of the city
    """
    return f"Sunny in {city}, 21 degrees."


def main() -> None:
    client = ollama.Client()
    print("models:", ", ".join(model.model or "" for model in client.list().models))

    print("chat:", end=" ")
    messages = [{"role": "user", "content": "What is a Modelfile?"}]
    for part in client.chat(MODEL, messages, stream=True):
        print(part.message.content, end="", flush=True)
    print()

    question = [{"role": "user", "content": "What is the weather in Madrid?"}]
    answer = client.chat(MODEL, question, tools=[get_weather])
    for call in answer.message.tool_calls or []:
        print("tool call:", call.function.name, dict(call.function.arguments))
        if call.function.name == "get_weather":
            print("tool result:", get_weather(**call.function.arguments))

    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    asked = [{"role": "user", "content": "My name is Ana. Give the name as JSON."}]
    structured = client.chat(MODEL, asked, format=schema, options={"num_predict": 100})
    print("json:", structured.message.content)

    vectors = client.embed(MODEL, ["hello", "world"]).embeddings
    print("embeddings:", len(vectors), "of", len(vectors[0]), "numbers")


if __name__ == "__main__":
    main()
