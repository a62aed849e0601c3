"""Go's text/template grammar: tokens to a tree. Error texts and their order are Go's (``template: :1: …``).

Nothing is evaluated here; which functions exist is handed in by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection

from modelfiles.errors import TemplateError
from modelfiles.gotemplate_lex import Kind, Token, lex
from modelfiles.gotemplate_tree import (
    Action,
    Branch,
    Chain,
    Command,
    Dot,
    Field,
    Identifier,
    Include,
    Jump,
    Literal,
    Node,
    Pipe,
    Term,
    Text,
    Variable,
)

MAX_DEPTH = 100


def parse(source: str, functions: Collection[str]) -> tuple[tuple[Node, ...], dict[str, tuple[Node, ...]]]:
    """The tree and what ``define`` and ``block`` defined."""
    parser = _Parser(lex(source), functions)
    return parser.template(), parser.defined


OPERANDS = frozenset(
    {Kind.BOOL, Kind.CHARACTER, Kind.DOT, Kind.FIELD, Kind.IDENTIFIER, Kind.NUMBER, Kind.NIL, Kind.RAW, Kind.STRING}
    | {Kind.VARIABLE, Kind.OPEN}
)


class _Parser:
    def __init__(self, tokens: list[Token], functions: Collection[str]) -> None:
        self.defined: dict[str, tuple[Node, ...]] = {}
        self._tokens = tokens
        self._next = 0
        self._functions = functions
        self._variables = ["$"]
        self._ranges = 0
        self._depth = 0
        self._action_line = 0

    # -- tokens

    def _take(self) -> Token:
        token = self._tokens[self._next]
        if token.kind not in (Kind.EOF, Kind.ERROR):
            self._next += 1
        return token

    def _peek(self) -> Token:
        return self._tokens[self._next]

    def _skip_space(self) -> None:
        if self._peek().kind is Kind.SPACE:
            self._next += 1

    def _take_visible(self) -> Token:
        self._skip_space()
        return self._take()

    def _failure(self, text: str, token: Token | None = None) -> TemplateError:
        line = (token or self._tokens[max(self._next - 1, 0)]).line
        return TemplateError(f"template: :{line}: {text}")

    def _unexpected(self, token: Token, context: str) -> TemplateError:
        if token.kind is Kind.ERROR:
            extra = ""
            if self._action_line not in (0, token.line):
                extra = f" in action started at :{self._action_line}"
                if token.text.endswith(" action"):
                    extra = extra.removeprefix(" in action")
            return self._failure(token.text + extra, token)
        return self._failure(f"unexpected {_shown(token)} in {context}", token)

    def _expect(self, kind: Kind, context: str) -> Token:
        token = self._take_visible()
        if token.kind is not kind:
            raise self._unexpected(token, context)
        return token

    def _deeper(self, by: int) -> None:
        self._depth += by
        if self._depth > MAX_DEPTH:
            raise self._failure("nested too deeply")

    # -- nodes

    def template(self) -> tuple[Node, ...]:
        nodes: list[Node] = []
        while self._peek().kind is not Kind.EOF:
            if self._peek().kind is Kind.LEFT and self._keyword_ahead() == "define":
                self._define()
                continue
            node = self._node()
            if isinstance(node, Token):
                raise self._failure(f"unexpected {{{{{node.text}}}}}", node)
            nodes.append(node)
        return tuple(nodes)

    def _keyword_ahead(self) -> str:
        """The keyword of the action that begins here."""
        following = (t for t in self._tokens[self._next + 1 : self._next + 3] if t.kind is not Kind.SPACE)
        token = next(following, None)
        return token.text if token is not None and token.kind is Kind.KEYWORD else ""

    def _list(self) -> tuple[tuple[Node, ...], Token]:
        """Nodes up to ``{{end}}`` or ``{{else``, and that keyword."""
        nodes: list[Node] = []
        while self._peek().kind is not Kind.EOF:
            node = self._node()
            if isinstance(node, Token):
                return tuple(nodes), node
            nodes.append(node)
        raise self._failure("unexpected EOF", self._peek())

    def _node(self) -> Node | Token:
        token = self._take_visible()
        if token.kind is Kind.TEXT:
            return Text(token.text)
        if token.kind is not Kind.LEFT:
            raise self._unexpected(token, "input")
        self._action_line = token.line
        self._deeper(1)
        node = self._action()
        self._deeper(-1)
        self._action_line = 0
        return node

    def _action(self) -> Node | Token:
        self._skip_space()
        token = self._peek()
        if token.kind is not Kind.KEYWORD:
            return Action(self._pipe("command", Kind.RIGHT))
        self._next += 1
        match token.text:
            case "if" | "with" | "range":
                return self._branch(token.text)
            case "break" | "continue":
                return self._jump(token)
            case "template":
                return self._include()
            case "block":
                return self._block()
            case "end":
                self._expect(Kind.RIGHT, "end")
                return token
            case "else":
                if self._else_keyword() is None:
                    self._expect(Kind.RIGHT, "else")
                return token
            case _:
                raise self._unexpected(token, "command")

    def _else_keyword(self) -> str | None:
        """``if`` or ``with`` where it follows ``else``; nothing is consumed."""
        self._skip_space()
        token = self._peek()
        return token.text if token.kind is Kind.KEYWORD and token.text in ("if", "with") else None

    def _jump(self, token: Token) -> Jump:
        if not self._ranges:
            raise self._failure(f"{{{{{token.text}}}}} outside {{{{range}}}}", token)
        self._expect(Kind.RIGHT, token.text)
        return Jump(token.text)

    def _branch(self, keyword: str) -> Branch:
        scope = len(self._variables)
        pipe = self._pipe(keyword, Kind.RIGHT)
        self._ranges += keyword == "range"
        body, end = self._list()
        self._ranges -= keyword == "range"
        otherwise: tuple[Node, ...] = ()
        if end.text == "else":
            otherwise = self._otherwise(keyword)
        del self._variables[scope:]
        return Branch(keyword, pipe, body, otherwise)

    def _otherwise(self, keyword: str) -> tuple[Node, ...]:
        following = self._else_keyword()
        if following is not None:
            if following != keyword:
                raise self._unexpected(self._peek(), "else")
            self._next += 1
            self._deeper(1)
            inner = self._branch(keyword)  # takes the {{end}} for both
            self._deeper(-1)
            return (inner,)
        nodes, end = self._list()
        if end.text != "end":
            raise self._failure(f"expected end; found {{{{{end.text}}}}}", end)
        return nodes

    def _name(self, context: str) -> str:
        token = self._take_visible()
        if token.kind not in (Kind.STRING, Kind.RAW):
            raise self._unexpected(token, context)
        return self._unquote(token)

    def _include(self) -> Include:
        name = self._name("template clause")
        self._skip_space()
        if self._peek().kind is Kind.RIGHT:
            self._next += 1
            return Include(name, None)
        return Include(name, self._pipe("template clause", Kind.RIGHT))

    def _define(self) -> None:
        self._next += 1
        self._skip_space()
        self._next += 1
        name = self._name("define clause")
        self._expect(Kind.RIGHT, "define clause")
        self.defined[name] = self._body("define clause")

    def _block(self) -> Include:
        name = self._name("block clause")
        pipe = self._pipe("block clause", Kind.RIGHT)
        self.defined[name] = self._body("block clause")
        return Include(name, pipe)

    def _body(self, context: str) -> tuple[Node, ...]:
        """A template of its own: it sees no variable but ``$``."""
        saved, self._variables, ranges, self._ranges = self._variables, ["$"], self._ranges, 0
        nodes, end = self._list()
        self._variables, self._ranges = saved, ranges
        if end.text != "end":
            raise self._unexpected(end, context)
        return nodes

    # -- pipelines

    def _pipe(self, context: str, end: Kind) -> Pipe:
        names, assign = self._declarations(context)
        commands: list[Command] = []
        while True:
            token = self._take_visible()
            if token.kind is end:
                break
            if token.kind not in OPERANDS:
                raise self._unexpected(token, context)
            self._next -= 1
            commands.append(self._command())
        self._check(commands, context)
        return Pipe(tuple(commands), names, assign)

    def _declarations(self, context: str) -> tuple[tuple[str, ...], bool]:
        names: list[str] = []
        while True:
            self._skip_space()
            start = self._next
            variable = self._peek()
            if variable.kind is not Kind.VARIABLE:
                return tuple(names), False
            self._next += 1
            operator = self._take_visible()
            if operator.kind in (Kind.ASSIGN, Kind.DECLARE):
                names.append(variable.text)
                self._variables.append(variable.text)
                return tuple(names), operator.kind is Kind.ASSIGN
            if operator.kind is not Kind.COMMA:
                self._next = start
                return tuple(names), False
            names.append(variable.text)
            self._variables.append(variable.text)
            if context != "range" or len(names) > 1:
                raise self._failure(f"too many declarations in {context}", operator)
            self._skip_space()
            if self._peek().kind not in (Kind.VARIABLE, Kind.RIGHT, Kind.CLOSE):
                raise self._failure("range can only initialize variables", self._peek())

    def _check(self, commands: list[Command], context: str) -> None:
        if not commands:
            raise self._failure(f"missing value for {context}")
        for stage, command in enumerate(commands[1:], 2):
            if isinstance(command.args[0], Literal | Dot):
                raise self._failure(f"non executable command in pipeline stage {stage}")

    def _command(self) -> Command:
        args: list[Term] = []
        self._skip_space()
        at = self._peek().at
        while True:
            self._skip_space()
            operand = self._operand()
            if operand is not None:
                args.append(operand)
            token = self._take()
            if token.kind is Kind.SPACE:
                continue
            if token.kind in (Kind.RIGHT, Kind.CLOSE):
                self._next -= 1
            elif token.kind is not Kind.PIPE:
                raise self._unexpected(token, "operand")
            break
        if not args:
            raise self._failure("empty command")
        return Command(tuple(args), at)

    def _operand(self) -> Term | None:
        start = self._peek()
        term = self._term()
        names: list[str] = []
        while term is not None and self._peek().kind is Kind.FIELD:
            names.append(self._take().text[1:])
        if not names or term is None:
            return term
        if isinstance(term, Field):
            return Field((*term.names, *names))
        if isinstance(term, Variable):
            return Variable(term.name, (*term.names, *names))
        if isinstance(term, Literal | Dot):
            raise self._failure(f"unexpected . after term {_quoted(start.text)}")
        return Chain(term, tuple(names))

    def _term(self) -> Term | None:
        self._skip_space()
        token = self._peek()
        if token.kind not in OPERANDS:
            return None
        self._next += 1
        match token.kind:
            case Kind.IDENTIFIER:
                if token.text not in self._functions:
                    raise self._failure(f"function {_quoted(token.text)} not defined", token)
                return Identifier(token.text)
            case Kind.DOT:
                return Dot()
            case Kind.FIELD:
                return Field((token.text[1:],))
            case Kind.VARIABLE:
                if token.text not in self._variables:
                    raise self._failure(f"undefined variable {_quoted(token.text)}", token)
                return Variable(token.text, ())
            case Kind.OPEN:
                self._deeper(1)
                pipe = self._pipe("parenthesized pipeline", Kind.CLOSE)
                self._deeper(-1)
                return pipe
            case _:
                return Literal(self._constant(token))

    def _constant(self, token: Token) -> str | int | float | bool | None:
        match token.kind:
            case Kind.NIL:
                return None
            case Kind.BOOL:
                return token.text == "true"
            case Kind.STRING | Kind.RAW:
                return self._unquote(token)
            case Kind.CHARACTER:
                character = self._unquote(token)
                if len(character) != 1:
                    raise self._failure(f"malformed character constant: {token.text}", token)
                return ord(character)
            case _:
                return self._number(token)

    def _number(self, token: Token) -> int | float:
        text = token.text.replace("_", "")
        try:
            if re.fullmatch(r"[+-]?0[0-7]+", text):
                return int(text, 8)
            return int(text, 0) if not re.search(r"[.eE]", text) or "0x" in text.lower() else float(text)
        except ValueError:
            raise self._failure(f"bad number syntax: {_quoted(token.text)}", token) from None

    def _unquote(self, token: Token) -> str:
        if token.kind is Kind.RAW:
            return token.text[1:-1].replace("\r", "")
        try:
            return ESCAPE.sub(_unescape, token.text[1:-1])
        except ValueError:
            raise self._failure("invalid syntax", token) from None


ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)")
SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"', "'": "'"}


def _unescape(found: re.Match[str]) -> str:
    escape = found[1]
    if escape in SIMPLE:
        return SIMPLE[escape]
    if escape[0] in "xuU" and len(escape) > 1:
        return chr(int(escape[1:], 16))
    if len(escape) == 3:
        return chr(int(escape, 8))
    raise ValueError(escape)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _shown(token: Token) -> str:
    if token.kind is Kind.EOF:
        return "EOF"
    if token.kind is Kind.KEYWORD:
        return f"<{token.text}>"
    return f"{_quoted(token.text[:10])}..." if len(token.text) > 10 else _quoted(token.text)
