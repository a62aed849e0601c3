"""The known formats, one row each. The order decides where two rows can read the same text.

Facts come from the templates that the families publish; what the fields mean stands in ``row``.
"""

from __future__ import annotations

from server.worker.chat.formats.row import ToolFormat

_PARAMETERS = (("name", "name"), ("parameters", "parameters"))
_COHERE = (("tool_call_id", "index"), ("tool_name", "name"), ("parameters", "parameters"))
_MISTRAL = (("name", "name"), ("arguments", "arguments"), ("id", "id"))
_GLM = ("<arg_key>{key}</arg_key>\n<arg_value>", "</arg_value>\n")
_HY = (
    "<arg_key:opensource>{key}</arg_key:opensource>\n<arg_value:opensource>",
    "</arg_value:opensource>\n",
)
_DSML = ('<｜DSML｜parameter name="{key}" string="{string}">', "</｜DSML｜parameter>\n")
_INVOKE = ('<｜DSML｜invoke name="', "</｜DSML｜invoke>")

ROWS: tuple[ToolFormat, ...] = (
    # -- tagged arguments ---------------------------------------------------------------------------------
    ToolFormat("qwen3-coder", "tags", call=("<tool_call>\n", "\n</tool_call>"), between="\n",
               head="<function={name}>\n", pair=("<parameter={key}>\n", "\n</parameter>\n"), tail="</function>",
               also=("<function=",), marks=("<function=", "<parameter=", "<tool_call>")),
    ToolFormat("seed", "tags", call=("<seed:tool_call>\n", "\n</seed:tool_call>"), between="\n",
               head="<function={name}>\n", pair=("<parameter={key}>", "</parameter>\n"), tail="</function>",
               marks=("<seed:tool_call>",)),
    ToolFormat("glm", "tags", call=("<tool_call>", "</tool_call>"), between="\n", head="{name}\n", pair=_GLM,
               marks=("<arg_key>", "<arg_value>")),
    ToolFormat("hunyuan", "tags", section=("<tool_calls:opensource>\n", "\n</tool_calls:opensource>"),
               call=("<tool_call:opensource>", "</tool_call:opensource>"), between="\n",
               head="{name}<tool_sep:opensource>\n", pair=_HY, marks=("<tool_call:opensource>",)),
    ToolFormat("minimax-m2", "tags", section=("<minimax:tool_call>\n", "\n</minimax:tool_call>"),
               call=('<invoke name="', "</invoke>"), between="\n", head='{name}">\n',
               pair=('<parameter name="{key}">', "</parameter>\n"), marks=("<minimax:tool_call>",)),
    ToolFormat("deepseek-v3.2", "tags", section=("<｜DSML｜function_calls>\n", "\n</｜DSML｜function_calls>"),
               call=_INVOKE, between="\n", head='{name}">\n', pair=_DSML, marks=("｜DSML｜", "function_calls>")),
    ToolFormat("deepseek-v4", "tags", section=("<｜DSML｜tool_calls>\n", "\n</｜DSML｜tool_calls>"),
               call=_INVOKE, between="\n", head='{name}">\n', pair=_DSML, marks=("｜DSML｜", "tool_calls>")),
    ToolFormat("glimmer", "tags", section=("<atem:function_calls>\n", "\n</atem:function_calls>"),
               call=('<atem:invoke name="', "</atem:invoke>"), between="\n", head='{name}">\n',
               pair=('<atem:parameter name="{key}">', "</atem:parameter>\n"), marks=("<atem:function_calls>",)),
    ToolFormat("minicpm5", "tags", call=('<function name="', "</function>"), between="\n", head='{name}">',
               pair=('<param name="{key}">', "</param>"), marks=('<function name="', "<param name=")),
    ToolFormat("kimi-k3", "tags", section=("<|open|>tools<|sep|>", "<|close|>tools<|sep|>"),
               call=('<|open|>call tool="', "<|close|>call<|sep|>"), head='{name}" index="{index}"<|sep|>',
               pair=('<|open|>argument key="{key}" type="{type}"<|sep|>', "<|close|>argument<|sep|>"),
               plain=("<|open|>response<|sep|>", "<|close|>response<|sep|>", "<|close|>message<|sep|>"),
               marks=("<|open|>", "<|sep|>")),
    # -- a name, then JSON --------------------------------------------------------------------------------
    ToolFormat("mistral-small-3.2", "json", call=("[TOOL_CALLS]", ""), head="{name}[CALL_ID]{id}[ARGS]",
               marks=("[TOOL_CALLS]", "[CALL_ID]", "[ARGS]")),
    ToolFormat("devstral", "json", call=("[TOOL_CALLS]", ""), head="{name}[ARGS]", marks=("[TOOL_CALLS]", "[ARGS]")),
    ToolFormat("deepseek-r1", "json", section=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"), between="\n",
               call=("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"), head="function<｜tool▁sep｜>{name}\n```json\n",
               tail="\n```", marks=("<｜tool▁call▁begin｜>", "```json")),
    ToolFormat("deepseek-v3.1", "json", section=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
               call=("<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"), head="{name}<｜tool▁sep｜>",
               marks=("<｜tool▁call▁begin｜>",)),
    ToolFormat("kimi-k2", "json", section=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
               call=("<|tool_call_begin|>", "<|tool_call_end|>"),
               head="functions.{name}:{index}<|tool_call_argument_begin|>", marks=("<|tool_call_argument_begin|>",)),
    ToolFormat("solar", "json", section=("<|tool_calls|>", ""), call=("<|tool_call:begin|>", "<|tool_call:end|>"),
               head="{id}<|tool_call:name|>{name}<|tool_call:args|>", plain=("<|content|>",),
               marks=("<|tool_call:begin|>",)),
    ToolFormat("functionary-3.1", "json", call=("<function=", "</function>"), head="{name}>",
               marks=("<function=", "</function>")),
    ToolFormat("functionary-3.2", "json", call=(">>>", ""), head="{name}\n", plain=(">>>all\n",), marks=(">>>all",)),
    # -- JSON arrays --------------------------------------------------------------------------------------
    ToolFormat("mistral", "array", section=("[TOOL_CALLS]", ""), fields=_MISTRAL, marks=("[TOOL_CALLS]",)),
    ToolFormat("nemotron", "array", section=("<TOOLCALL>", "</TOOLCALL>"), marks=("<TOOLCALL>",)),
    ToolFormat("command-r7b", "array", section=("<|START_ACTION|>", "<|END_ACTION|>"), fields=_COHERE,
               plain=("<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"),
               marks=("<|START_ACTION|>",)),
    ToolFormat("command-r", "array", section=("Action:\n```json\n", "\n```"), fields=_COHERE[1:],
               marks=("Action:", "```json", "tool_name")),
    ToolFormat("apriel", "array", section=("<tool_calls>", "</tool_calls>"),
               fields=(("name", "name"), ("arguments", "string")), marks=("<tool_calls>[",)),
    ToolFormat("apertus", "keyed", section=("<|tools_prefix|>", "<|tools_suffix|>"), marks=("<|tools_prefix|>",)),
    ToolFormat("phi4-mini", "array", section=("<|tool_call|>", "<|/tool_call|>"), marks=("<|/tool_call|>",)),
    ToolFormat("granite3", "array", section=("<|tool_call|>", ""), marks=("<|tool_call|>",)),
    # -- JSON objects -------------------------------------------------------------------------------------
    ToolFormat("minimax-m1", "object", section=("<tool_calls>\n", "\n</tool_calls>"), between="\n",
               marks=("<tool_calls>\n",)),
    ToolFormat("gigachat-3.1", "object", call=("<|function_call|>", ""), parallel=False, marks=("<|function_call|>",)),
    ToolFormat("gigachat", "object", call=("function call<|role_sep|>\n", ""), plain=("<|message_sep|>",),
               parallel=False, marks=("function call<|role_sep|>",)),
    ToolFormat("hermes", "object", call=("<tool_call>\n", "\n</tool_call>"), between="\n", marks=("<tool_call>",)),
    # -- other notations ----------------------------------------------------------------------------------
    ToolFormat("lfm2", "python", section=("<|tool_call_start|>[", "]<|tool_call_end|>"), between=", ",
               head="{name}(", tail=")", also=("<|tool_call_start|>",), marks=("<|tool_list_start|>",)),
    ToolFormat("olmo3", "python", section=("<function_calls>\n", "\n</function_calls>"), between="\n",
               head="{name}(", tail=")", marks=("<function_calls>",)),
    ToolFormat("gemma4", "bare", call=("<|tool_call>call:", "<tool_call|>"), head="{name}{", tail="}",
               quote='<|"|>', marks=("<|tool_call>",)),
    ToolFormat("functiongemma", "bare", call=("<start_function_call>call:", "<end_function_call>"), head="{name}{",
               tail="}", quote="<escape>", marks=("<start_function_call>",)),
    ToolFormat("gpt-oss", "harmony", marks=("<|start|>", "<|channel|>", "<|call|>")),
    # -- the answer itself is the call --------------------------------------------------------------------
    ToolFormat("llama3", "object", between="; ", fields=_PARAMETERS, also=("<|python_tag|>",), parallel=False,
               marks=('"parameters":',)),
    ToolFormat("llama4", "python", section=("[", "]"), between=", ", head="{name}(", tail=")",
               marks=("func_name1(",)),
)  # fmt: skip

BY_NAME = {row.name: row for row in ROWS}
HERMES = BY_NAME["hermes"]
