"""Chat templates are foreign code: what they may do, and the bombs and escapes they may not."""

from __future__ import annotations

import datetime
import subprocess
import sys
import time
from typing import Any

import pytest

from modelfiles.errors import TemplateError
from modelfiles.jinja import ChatTemplate

USER = [{"role": "user", "content": "hi"}]


def render(source: str, messages: Any = USER, **more: Any) -> str:
    return ChatTemplate(source, "<s>", "</s>").render(messages, **more)


ABLE = {
    "{{ bos_token }}{{ eos_token }}": "<s></s>",
    "{% for m in messages %}\n  {% if 1 %}\n{{ m.role }}:{{ m['content'] }}\n  {% endif %}\n{% endfor %}": "user:hi\n",
    "{% for x in range(9) %}{% if x==1 %}{% continue %}{% elif x==3 %}{% break %}{% endif %}{{ x }}{% endfor %}": "02",
    "a{% generation %}{% set x = 1 %}b{{ x }}{% endgeneration %}c": "ab1c",
    "{{ {'b': '<é>', 'a': [1, none, true]} | tojson }}": '{"b": "<é>", "a": [1, null, true]}',
    "{{ {'b': 1, 'a': 2} | tojson(indent=1, sort_keys=true) }}": '{\n "a": 2,\n "b": 1\n}',
    "{{ {'a': 1} | tojson(separators=(',', ':')) }}": '{"a":1}',
    "{{ messages | map(attribute='role') | tojson }}": '["user"]',
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}": "1",
    "{% set a = [] %}{% set _ = a.append(1) %}{% do_nothing %}"
    if False
    else "{% set a = [] %}{% set _ = a.append(1) %}{{ a }}": "[1]",
    "{{ strftime_now('%d %b %Y') }}|{{ date_string }}|{{ datetime }}": "01 Mar 2024|01 Mar 2024|Mar 01 2024",
    "{{ add_generation_prompt }} {{ tools is none }} {{ enable_thinking is defined }}": "True True False",
    "{{ 'a' ~ 1 ~ 'b' }}{{ 'x' * 3 }}{{ 2 ** 10 }}": "a1bxxx1024",
    "{{ '%s-%05d' % ('a', 3) }}{{ '{:>4}'.format('b') }}": "a-00003   b",
    "{{ missing }}{{ messages[0].thinking }}": "",
    "{%- macro f(x) %}[{{ x }}]{% endmacro %}{{ f(1) }}": "[1]",
    "{{ 'a,b'.split(',') | join('-') | upper }}{{ ' x ' | trim }}{{ 'ab'.replace('a', 'c') }}": "A-Bxcb",
    "{{ '**%s** (%-4s)' % ('a', 'b') }}{{ '%(a)05d' % {'a': 3} }}{{ '%s' | format('x') }}": "**a** (b   )00003x",
    "{{ 3.14159 | round(2) }} {{ 7 // 2 }} {{ 7 % 4 }} {{ [1, 2] | sum }} {{ 'ff' | int(base=16) }}": "3.14 3 3 3 255",
    "{{ [1, 2, 3] | batch(2, 0) | list }} {{ {'a': 1}.items() | list }}": "[[1, 2], [3, 0]] [('a', 1)]",
    "{{ 'a b' | wordwrap(1) }} {{ '-'.join('ab') }} {{ ','.join(messages | map(attribute='role')) }}": "a\nb a-b user",
    "{{ 'x' | center(5) }}|{{ 'a\\nb' | indent(2) }}|{{ '%d' | format(3) }}": "  x  |a\n  b|3",
}


@pytest.mark.parametrize(("source", "text"), ABLE.items(), ids=range(len(ABLE)))
def test_able(source: str, text: str) -> None:
    assert render(source, now=datetime.datetime(2024, 3, 1, tzinfo=datetime.UTC)) == text


def test_thinking_and_variables() -> None:
    source = "{{ enable_thinking }} {{ thinking }} {{ reasoning_effort | default('none') }} {{ documents }}"
    assert render(source, think=False, variables={"documents": ["d"]}) == "False False none ['d']"
    assert render(source, think="high") == "True True high "


def test_works_on_copies() -> None:
    messages = [{"role": "user", "content": "hi", "tool_calls": [{"a": {}}]}]
    source = "{% set _ = messages.append(1) %}{% set _ = messages[0].update({'role': 'x'}) %}{{ messages[0].role }}"
    assert render(source + "{% set _ = messages[0].tool_calls[0].a.update({'b': 1}) %}", messages) == "x"
    assert messages == [{"role": "user", "content": "hi", "tool_calls": [{"a": {}}]}]


def test_plain_data_only() -> None:
    with pytest.raises(TypeError, match="no plain data"):
        render("", [{"role": "user", "content": object()}])
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"a": deep}
    with pytest.raises(TemplateError, match="nested too deeply"):
        render("", [deep])


BROKEN = {
    "{% if %}": "Expected an expression.* .line 1.",
    "\n{{ x": r"\(line 2\)",
    "{{ missing.x }}": "'missing' is undefined",
    "{{ 1 / 0 }}": "ZeroDivisionError",
    "{{ 'a' + 1 }}": "TypeError",
    "{{ [1][5].x }}": "has no element 5",
    "{{ raise_exception('Roles must alternate') }}": "^chat template: Roles must alternate$",
    "{{ missing | tojson }}": "tojson of something undefined",
    "{% bogus %}": "unknown tag 'bogus'",
    "{{ 1 | bogus }}": "No filter named 'bogus'",
    "{% include 'x' %}": "no loader",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "nested too deeply",
    "{{ " + "(" * 500 + "1" + ")" * 500 + " }}": "nested too deeply",
    "{% if 1 %}" * 2000 + "{% endif %}" * 2000: "nested too deeply|too many statically nested",
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.items(), ids=range(len(BROKEN)))
def test_broken(source: str, reason: str) -> None:
    with pytest.raises(TemplateError, match=reason) as caught:
        render(source)
    assert str(caught.value).startswith("chat template: ")


DOUBLE = "{% set ns = namespace(x='aaaaaaaaaaaaaaaa') %}{% for i in range(60) %}{% set ns.x = EXPRESSION %}{% endfor %}"
NESTED = "{% set a = [1] * 1000 %}{% set a = [a] * 1000 %}{% set a = [a] * 1000 %}{{ EXPRESSION }}"
BOMBS = [
    "{{ 'a' * 10**9 }}",
    "{{ 10**9 * 'a' }}",
    "{{ [1] * 10**9 }}",
    "{{ 10**(10**8) }}",
    "{{ (10**1000) * (10**1000) }}",
    "{{ '%999999999d' % 1 }}",
    "{{ '%*d' % (999999999, 1) }}",
    "{{ '{:999999999}'.format(1) }}",
    "{{ '{:{}}'.format(1, 999999999) }}",
    "{{ '{x:999999999}'.format_map({'x': 1}) }}",
    "{{ '%999999999d' | format(1) }}",
    "{{ 'a'.ljust(10**9) }}",
    "{{ 'a'.zfill(10**9) }}",
    "{{ 'a'['center'](10**9) }}",
    "{{ 'a\t'.expandtabs(10**9) }}",
    "{{ 'a' | center(10**9) }}",
    "{{ 'a\nb' | indent(10**9) }}",
    "{{ {} | tojson(indent=10**9) }}",
    "{% for i in range(10**7) %}{% endfor %}",
    DOUBLE.replace("EXPRESSION", "ns.x + ns.x"),
    DOUBLE.replace("EXPRESSION", "ns.x ~ ns.x"),
    DOUBLE.replace("EXPRESSION", "ns.x.replace('a', ns.x)"),
    DOUBLE.replace("EXPRESSION", "ns.x | replace('a', ns.x)"),
    DOUBLE.replace("EXPRESSION", "ns.x.join([ns.x, ns.x])"),
    DOUBLE.replace("EXPRESSION", "[ns.x, ns.x] | join"),
    DOUBLE.replace("EXPRESSION", "'%s%s' % (ns.x, ns.x)"),
    *(NESTED.replace("EXPRESSION", e) for e in ("a", "a ~ ''", "a | string", "a | tojson", "'%s' % a", "a | join")),
    "{% set a = [] %}{% set _ = a.append(a) %}{{ a | tojson }}",
    "{% set x = 'a' * 1000000 %}{% for i in range(100) %}{{ x }}{% endfor %}",
    "x" * (2**20 + 1),
    # one long step inside the interpreter, which nothing can stop once it has begun
    "{{ [1] | batch(10**9, 'x') | list }}",
    "{{ 5 | round(-10**9) }}",
    "{{ 5 | round(10**8, 'ceil') }}",
    "{% set l = range(100000) | list %}{{ ([l] * 3000) | sum(start=[]) }}",
    "{{ 'a'.encode() * 10**10 }}",
    "{{ (1).to_bytes(10**9, 'big') }}",
    "{% set x = 'a' * 1000000 %}{{ x.translate({97: x}) }}",
    "{{ '%(a)999999999d' % {'a': 1} }}",
    "{{ '%(a(b))999999999d' % {'a(b)': 1} }}",
    "{{ ('%(a)9999d' * 100000) % {'a': 1} }}",
    "{{ ('%(a)s' * 100000) | format(a='x' * 100000) }}",
    "{{ ('{:9999}' * 100000).format(*range(100000)) }}",
    "{{ ('{0}' * 100000).format('x' * 1000000) }}",
    "{{ ('x' * 1000000).join('b' * 1000000) }}",
    "{{ ('x' * 100000).join(range(100000) | map('string')) }}",
    "{{ range(100000) | map('string') | join('x' * 1000000) }}",
    "{{ ('\t' * 1000000).expandtabs(4096) }}",
    "{{ '\t'.expandtabs(tabsize=10**9) }}",
    "{{ ('\n' * 1000000) | indent(4000, blank=true) }}",
    "{{ ('\n' * 1000000) | indent('x' * 10000, blank=true) }}",
    "{{ ('a ' * 500000) | wordwrap(1, true, 'x' * 1000000) }}",
    "{{ ('www.a.b ' * 100000) | urlize(rel='x' * 1000000) }}",
    "{{ [1] | tojson(indent='x' * 1000) }}",
    "{{ [1] | tojson(separators=('x' * 1000, ':')) }}",
    "{{ ['a' * 1000000] * 1000 | map('default') | tojson }}",
    "{% set ns = namespace(l=['a' * 1000000] * 100000) %}{{ ns }}",
    "{% set d = {'a': ['a' * 1000000] * 100000} %}{{ d.values() }}",
    "{% set d = {'a': ['a' * 1000000] * 100000} %}{{ '%s' % d.items() }}",
    "{{ ('f' * 1000000) | int(base=16) }}",
]


@pytest.mark.parametrize("source", BOMBS, ids=range(len(BOMBS)))
def test_bombs(source: str) -> None:
    start = time.process_time()
    with pytest.raises(TemplateError):
        render(source)
    assert time.process_time() - start < 5


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ raise_exception.__globals__ }}",
    "{{ strftime_now.__globals__['datetime'] }}",
    "{{ strftime_now.__closure__[0].cell_contents }}",
    "{{ (messages | attr('append')).__self__ }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "{% set f = '{0.__class__.__init__.__globals__}'.format %}{{ f(raise_exception) }}",
    "{{ dict.mro() }}",
    "{{ range.__self__ }}",
    "{{ config }}{{ request.application.__globals__ }}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "{% set ns = namespace() %}{{ ns.__class__ }}",
    "{{ (''['__class__']) ~ '' }}{{ ''['__class__']['__mro__'] }}",
    "{{ ''|attr('__class__')|attr('__mro__') }}",
    "{% macro m() %}{% endmacro %}{{ m.__globals__ }}{{ m._func.__globals__ }}",
    "{{ lipsum.__globals__ }}",
    "{{ messages.sort.__call__ }}",
    "{{ environment.globals }}",
]


@pytest.mark.parametrize("source", ESCAPES, ids=range(len(ESCAPES)))
def test_escapes(source: str) -> None:
    """Refused or empty: no object of the interpreter is seen."""
    try:
        text = render(source)
    except TemplateError:
        return
    assert "class" not in text
    assert "<" not in text.replace("&lt;", "")


def test_import_is_cheap() -> None:
    """Reading a name or a header must not cost the import of jinja2."""
    code = "import sys, modelfiles.render, modelfiles.modelfile, modelfiles.gguf; sys.exit('jinja2' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
