"""One framework after another against the server at OLLAMA_HOST; run in an environment that has them, by name.

    python frameworks.py langchain|llama_index|litellm

Not a test module: `test_frameworks.py` runs it with the interpreter that `scripts/clients.sh` prepared.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

from pydantic import BaseModel, Field

URL = os.environ["OLLAMA_HOST"]
TEXT = 'one\u2028two\u2029three\u0085a "quote" <b>&\U0001f999!\r\n'  # parrot.TEXT
WEATHER = {"city": "Madrid", "days": 3}
HI = [{"role": "user", "content": "hi"}]


class Person(BaseModel):
    name: str = Field(max_length=20)
    age: int = Field(ge=0, le=150)


def get_weather(city: str, days: int) -> str:
    """What the weather will be like."""
    return f"sunny in {city} for {days} days"


def get_time(zone: str) -> str:
    """What time it is."""
    return f"noon in {zone}"


def check(name: str, good: bool, seen: Any = "") -> None:
    print("ok " if good else "BAD", name, "" if good else repr(seen))
    if not good:
        sys.exit(1)


def langchain() -> None:
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool
    from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM

    model = ChatOllama(model="parrot", base_url=URL, validate_model_on_init=True)
    answer = model.invoke("hi")
    check("invoke", answer.content == TEXT, answer)
    usage = answer.usage_metadata
    check("usage is not added up", usage is not None and usage["output_tokens"] == 14, usage)
    pieces = [piece.content for piece in model.stream("hi")]
    check("stream", "".join(map(str, pieces)) == TEXT and len(pieces) > 5, pieces)
    check("ainvoke", asyncio.run(model.ainvoke("hi")).content == TEXT)
    bound = model.bind_tools([tool(get_weather), tool(get_time)])
    called: Any = bound.invoke("hi")
    check("tool calls", [c["name"] for c in called.tool_calls] == ["get_weather", "get_time"], called)
    check("tool arguments", called.tool_calls[0]["args"] == WEATHER, called)
    results = [ToolMessage("sunny", tool_call_id=call["id"]) for call in called.tool_calls]
    check("tool results", bound.invoke([HumanMessage("hi"), called, *results]).content == "It is sunny.")
    guide = ChatOllama(model="guide", base_url=URL, num_predict=200)
    check("structured output", isinstance(guide.with_structured_output(Person).invoke("Ana is 30"), Person))
    thought = ChatOllama(model="guide:think", base_url=URL, reasoning=True).invoke("What is a Modelfile?")
    check("reasoning", bool(thought.additional_kwargs.get("reasoning_content") and thought.content), thought)
    embeddings = OllamaEmbeddings(model="guide", base_url=URL)
    check("embeddings", len(embeddings.embed_documents(["a", "b"])) == 2 and len(embeddings.embed_query("x")) > 8)
    check("generate", bool(OllamaLLM(model="guide", base_url=URL).invoke("hello")))
    try:
        ChatOllama(model="nobody", base_url=URL, validate_model_on_init=True)
    except ValueError as error:
        check("unknown model", "not found" in str(error), error)


def llama_index() -> None:
    from llama_index.core.llms import ChatMessage
    from llama_index.core.tools import FunctionTool
    from llama_index.embeddings.ollama import OllamaEmbedding
    from llama_index.llms.ollama import Ollama

    asked = [ChatMessage(role="user", content="hi")]
    model = Ollama(model="parrot", base_url=URL)
    answer = model.chat(asked)
    check("chat", answer.message.content == TEXT, answer)
    check("usage", answer.raw["usage"]["completion_tokens"] == 14, answer.raw)
    check("stream", "".join(piece.delta or "" for piece in model.stream_chat(asked)) == TEXT)
    check("complete", model.complete("hi").text == TEXT)
    tools = [FunctionTool.from_defaults(get_weather), FunctionTool.from_defaults(get_time)]
    called = model.chat_with_tools(tools, user_msg="hi", allow_parallel_tool_calls=True)
    calls = model.get_tool_calls_from_response(called)
    check("tool calls", [call.tool_name for call in calls] == ["get_weather", "get_time"], calls)
    check("tool arguments", calls[0].tool_kwargs == WEATHER, calls)
    results = [ChatMessage(role="tool", content="sunny", additional_kwargs={"tool_call_id": c.tool_id}) for c in calls]
    check("tool results", bool(model.chat([*asked, called.message, *results]).message.content))
    structured = Ollama(model="guide", base_url=URL).as_structured_llm(Person).chat(asked)
    check("structured output", isinstance(structured.raw, Person), structured)
    thought = Ollama(model="guide:think", base_url=URL, thinking=True).chat(asked).message
    check("thinking", {block.block_type for block in thought.blocks} == {"thinking", "text"}, thought)
    embedding = OllamaEmbedding(model_name="guide", base_url=URL)
    check("embeddings", len(embedding.get_text_embedding_batch(["a", "b"])) == 2)


def litellm() -> None:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or its import waits for the network
    import litellm as llm

    def ask(model: str, messages: list[Any] = HI, **more: Any) -> Any:
        return llm.completion(model, messages, api_base=URL, **more)

    for way in ("ollama_chat", "ollama"):
        answer = ask(f"{way}/parrot")
        check(way, answer.choices[0].message.content == TEXT, answer)
        check(f"{way} usage", answer.usage.completion_tokens == 14, answer)
        pieces = [piece.choices[0].delta.content or "" for piece in ask(f"{way}/parrot", stream=True)]
        check(f"{way} stream", "".join(pieces) == TEXT, pieces)
    functions: list[Any] = [
        {"type": "function", "function": {"name": name, "description": "x", "parameters": {"type": "object"}}}
        for name in ("get_weather", "get_time")
    ]
    called = ask("ollama_chat/parrot", tools=functions).choices[0].message
    check("tool calls", [c.function.name for c in called.tool_calls] == ["get_weather", "get_time"], called)
    results = [{"role": "tool", "tool_call_id": call.id, "content": "sunny"} for call in called.tool_calls]
    told = ask("ollama_chat/parrot", [*HI, called.model_dump(), *results], tools=functions)
    check("tool results", told.choices[0].message.content == "It is sunny.", told)
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": Person.model_json_schema()}}
    found = ask("ollama_chat/guide", response_format=wanted, max_tokens=200).choices[0].message.content
    check("structured output", bool(Person.model_validate_json(found)), found)
    check("reasoning", bool(ask("ollama_chat/guide:think").choices[0].message.reasoning_content))
    check("embeddings", len(llm.embedding("ollama/guide", ["a", "b"], api_base=URL).data) == 2)
    try:
        ask("ollama_chat/nobody")
    except llm.NotFoundError as error:
        check("unknown model", "not found" in str(error), error)


if __name__ == "__main__":
    {"langchain": langchain, "llama_index": llama_index, "litellm": litellm}[sys.argv[1]]()
