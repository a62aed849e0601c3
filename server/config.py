"""Settings: command-line flags > environment > ``llamada.toml`` > defaults, read once into a frozen ``Config``.

The only reader of ``os.environ`` in the project (tests hand in a mapping). Names and meanings of the
``OLLAMA_*`` variables are Ollama's; blanks and quotes around values are stripped. Every bad value is reported
in one ``ConfigError``, by the name under which it was given.
"""

# ruff: noqa: RUF009 - ``setting`` makes a dataclass field
from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
FOREVER = -1.0
VERSION = "0.1.0"
OLLAMA_VERSION = "0.34.0"
"""The Ollama whose API this server speaks; clients compare it with the version they need."""

LONGEST = 100 * 365 * 86400.0
UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
DURATION_PART = re.compile(r"(\d+\.?\d*|\.\d+)([^\d.]*)")

CHILD_VARIABLES = re.compile(
    r"PATH|LANG|LC_\w+|HOME|TMPDIR|TZ|LD_LIBRARY_PATH|DYLD_LIBRARY_PATH|CUDA_\w+|NVIDIA_\w+|HIP_\w+|ROCR_\w+|HSA_\w+"
    r"|GPU_DEVICE_ORDINAL|OMP_\w+|GOMP_\w+|GGML_\w+"
)
UNUSED = {
    "OLLAMA_MAX_TRANSFER_STREAMS": "it concerns safetensors models of Ollama's own engine",
    "OLLAMA_LLM_LIBRARY": "the build of llama-cpp-python decides; see `llamada doctor`",
    "OLLAMA_VULKAN": "the build of llama-cpp-python decides; see `llamada doctor`",
    "OLLAMA_IGPU_ENABLE": "the build of llama-cpp-python decides; see `llamada doctor`",
    "OLLAMA_DEBUG_LOG_REQUESTS": "request bodies are never written to disk here",
    "OLLAMA_REMOTES": "models that run elsewhere are not served",
    "OLLAMA_AUTH": "requests are not signed",
}


class ConfigError(ValueError):
    """One or more settings have bad values; ``problems`` names each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


# -- one value ------------------------------------------------------------------------------------------


def parse_duration(text: str) -> float:
    """Seconds of a Go duration (``1h30m``, ``-1s``, ``0``). ValueError with Go's text."""
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0.0
    total = 0.0
    if not rest:
        raise ValueError(f"time: invalid duration {quoted}")
    while rest:
        part = DURATION_PART.match(rest)
        if part is None:
            raise ValueError(f"time: invalid duration {quoted}")
        number, unit = part.groups()
        if not unit:
            raise ValueError(f"time: missing unit in duration {quoted}")
        if unit not in UNITS:
            raise ValueError(f'time: unknown unit "{unit}" in duration {quoted}')
        total += float(number) * UNITS[unit]
        rest = rest[part.end() :]
    if total > 2**63 / 1e9:
        raise ValueError(f"time: invalid duration {quoted}")
    return -total if text[0] == "-" else total


def seconds(text: str) -> float:
    """A duration, or a bare number of seconds; never more than a clock can count."""
    value = float(text) if re.fullmatch(r"[-+]?\d+(\.\d+)?", text) else parse_duration(text)
    return max(-LONGEST, min(value, LONGEST))


def keep_alive(text: str) -> float:
    """As ``seconds``; anything negative, or longer than a lifetime, is ``FOREVER``."""
    value = seconds(text)
    return FOREVER if not 0 <= value < LONGEST else value


def timeout(text: str) -> float:
    """As ``seconds``; zero and less mean none."""
    return max(seconds(text), 0.0)


def boolean(text: str) -> bool:
    if text.lower() in ("1", "t", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "f", "false", "no", "off"):
        return False
    raise ValueError("must be true or false")


def maybe(text: str) -> bool | None:
    return None if text.lower() == "auto" else boolean(text)


def count(text: str) -> int:
    value = int(text) if re.fullmatch(r"\d{1,18}", text) else -1
    if value < 0:
        raise ValueError("must be a whole number, 0 or more")
    return value


def level(text: str) -> int:
    return int(text) if text in ("0", "1", "2") else int(boolean(text))


def folder(text: str) -> Path:
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:  # "~name" of a user that there is not
        raise ValueError("this machine has no such home directory; give a whole path") from None


def words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def cache_type(text: str) -> str:
    """Checked in full where requests' options are; here only its shape."""
    if not re.fullmatch(r"\w+(/\w+)?", text):
        raise ValueError('must be a type such as q8_0, or a pair such as "q8_0/f16"')
    return text.lower()


def mirrors(text: str) -> tuple[tuple[str, str], ...]:
    """``registry.ollama.ai=https://mirror.example:5000, hf.co=…``: the URL to ask first for models of a host."""
    found = []
    for word in words(text):
        host, separator, url = (part.strip() for part in word.partition("="))
        if not separator or not re.fullmatch(r"https?://[^/?#@\s]+/?", url):
            raise ValueError("must be HOST=URL, URLs without a path, separated by commas")
        found.append((host.lower(), url.rstrip("/")))
    return tuple(found)


def proxy(text: str) -> str:
    """Other programs read this variable too: what no proxy of ours could be is told when it would be used."""
    return text if "://" in text else f"http://{text}"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is: what OLLAMA_HOST says, to the server that binds there and to its clients."""

    scheme: str = "http"
    host: str = "127.0.0.1"
    port: int = 11434
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        scheme, found, rest = text.strip().partition("://")
        if not found:
            scheme, rest, port = "http", text.strip(), 11434
        elif scheme not in ("http", "https"):
            raise ValueError("must begin with http:// or https://, or be HOST:PORT")
        else:
            port = 80 if scheme == "http" else 443
        rest, _, path = rest.partition("/")
        host, given = _split_port(rest)
        if given:
            if not re.fullmatch(r"\d{1,5}", given) or int(given) > 65535:
                raise ValueError(f"port {given!r} is not a number between 0 and 65535")
            port = int(given)
        if not _is_host(host):
            raise ValueError(f"{host!r} is no host name and no address")
        return cls(scheme, host if (host or given) else "127.0.0.1", port, f"/{path.strip('/')}" if path else "")

    @property
    def url(self) -> str:
        """For a client; the unspecified addresses a server binds to are reached by loopback."""
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"{self.scheme}://{f'[{host}]' if ':' in host else host}:{self.port}{self.path}"

    @property
    def loopback(self) -> bool:
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def _split_port(text: str) -> tuple[str, str]:
    """``host``, ``host:port``, ``[v6]``, ``[v6]:port``, bare ``v6`` or ``:port``."""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        return host, port.removeprefix(":")
    if text.count(":") > 1:
        return text, ""
    host, _, port = text.partition(":")
    return host, port


def _is_host(text: str) -> bool:
    """Whether the system may be asked for it at all."""
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return re.search(r"[\s\x00-\x1f@\\]", text) is None


# -- all of them ----------------------------------------------------------------------------------------


def setting(default: T, env: str, parse: Callable[[str], T], *, secret: bool = False) -> T:
    """A field of ``Config`` with the variable that sets it (or several spellings of it, the first wins)."""
    made: T = field(default=default, repr=not secret, metadata={"env": env, "parse": parse})
    return made


@dataclass(frozen=True)
class Config:
    """Times are seconds (0 = none, keep_alive < 0 = for ever), sizes bytes, counts 0 = choose."""

    host: Address = setting(Address(), "OLLAMA_HOST", Address.parse)
    models: Path = setting(Path("~/.ollama/models"), "OLLAMA_MODELS", folder)
    data_dir: Path = setting(Path("~/.llamada"), "LLAMADA_DATA_DIR", folder)
    origins: tuple[str, ...] = setting((), "OLLAMA_ORIGINS", words)
    debug: int = setting(0, "OLLAMA_DEBUG", level)
    noprune: bool = setting(False, "OLLAMA_NOPRUNE", boolean)
    no_cloud: bool = setting(False, "OLLAMA_NO_CLOUD", boolean)
    guide: bool = setting(True, "LLAMADA_GUIDE", boolean)
    # models in memory
    keep_alive: float = setting(300.0, "OLLAMA_KEEP_ALIVE", keep_alive)
    load_timeout: float = setting(300.0, "OLLAMA_LOAD_TIMEOUT", timeout)
    max_loaded_models: int = setting(0, "OLLAMA_MAX_LOADED_MODELS", count)
    num_parallel: int = setting(0, "OLLAMA_NUM_PARALLEL", count)
    max_queue: int = setting(512, "OLLAMA_MAX_QUEUE", count)
    context_length: int = setting(0, "OLLAMA_CONTEXT_LENGTH", count)
    max_ctx: int = setting(0, "LLAMADA_MAX_CTX", count)
    kv_cache_type: str = setting("f16", "OLLAMA_KV_CACHE_TYPE", cache_type)
    flash_attention: bool | None = setting(None, "OLLAMA_FLASH_ATTENTION", maybe)
    gpu_overhead: int = setting(0, "OLLAMA_GPU_OVERHEAD", count)
    sched_spread: bool = setting(False, "OLLAMA_SCHED_SPREAD", boolean)
    go_template: bool | None = setting(None, "OLLAMA_GO_TEMPLATE", maybe)
    prefix_cache: bool = setting(True, "LLAMADA_PREFIX_CACHE", boolean)
    # requests
    request_timeout: float = setting(1800.0, "LLAMADA_REQUEST_TIMEOUT", timeout)
    drain_timeout: float = setting(30.0, "LLAMADA_DRAIN_TIMEOUT", timeout)
    hang_timeout: float = setting(60.0, "LLAMADA_HANG_TIMEOUT", timeout)
    max_connections: int = setting(512, "LLAMADA_MAX_CONNECTIONS", count)
    max_connections_per_ip: int = setting(64, "LLAMADA_MAX_CONNECTIONS_PER_IP", count)
    # registries
    registries: tuple[str, ...] = setting((), "LLAMADA_REGISTRIES", words)
    mirrors: tuple[tuple[str, str], ...] = setting((), "LLAMADA_MIRRORS", mirrors)
    key: Path = setting(Path("~/.ollama/id_ed25519"), "LLAMADA_KEY", Path)
    docker_config: Path = setting(Path("~/.docker"), "DOCKER_CONFIG", Path)
    hf_home: Path = setting(Path("~/.cache/huggingface"), "HF_HOME", Path)
    hf_token: str = setting("", "HF_TOKEN", str, secret=True)
    http_proxy: str = setting("", "HTTP_PROXY http_proxy", proxy)
    https_proxy: str = setting("", "HTTPS_PROXY https_proxy", proxy)
    no_proxy: tuple[str, ...] = setting((), "NO_PROXY no_proxy", words)
    # the command line
    nohistory: bool = setting(False, "OLLAMA_NOHISTORY", boolean)
    editor: str = setting("", "OLLAMA_EDITOR", str)
    # what children may see of our environment
    child_environment: Mapping[str, str] = field(default_factory=dict)
    # what was set but changes nothing, for the log
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("models", "data_dir", "key", "docker_config", "hf_home"):
            object.__setattr__(self, name, folder(str(getattr(self, name))))

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None) -> Config:
        """``flags`` by field name, None = not given; ``environ`` None = the process's own."""
        environ = os.environ if environ is None else environ
        problems: list[str] = []
        known = {f.name: f for f in dataclasses.fields(cls) if f.metadata}
        given: dict[str, tuple[str, Any]] = {
            name: (known[name].metadata["env"], known[name].default) for name in ("models", "data_dir")
        }
        given |= _from_toml(environ, problems)
        for name, f in known.items():
            for variable in reversed(f.metadata["env"].split()):
                value = environ.get(variable, "").strip().strip("\"'").strip()
                if value:
                    given[name] = (variable, value)
        given |= {name: (f"--{name.replace('_', '-')}", v) for name, v in (flags or {}).items() if v is not None}
        values = {name: _parsed(known[name], label, v, problems) for name, (label, v) in given.items()}
        if problems:
            raise ConfigError(problems)
        child = {name: v for name, v in environ.items() if CHILD_VARIABLES.fullmatch(name)}
        warnings = tuple(f"{name} has no effect: {why}" for name, why in UNUSED.items() if environ.get(name))
        return cls(**values, child_environment=child | {"HF_HUB_OFFLINE": "1"}, warnings=warnings)


def _from_toml(environ: Mapping[str, str], problems: list[str]) -> dict[str, tuple[str, Any]]:
    """The settings of ``llamada.toml`` (LLAMADA_CONFIG, or the one in the data directory if there is one)."""
    named = environ.get("LLAMADA_CONFIG", "")
    text = named or f"{environ.get('LLAMADA_DATA_DIR') or '~/.llamada'}/llamada.toml"
    try:
        path = folder(text)
        if not named and not os.path.isfile(path):  # unlike Path's, it is never an error
            return {}
        table = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        problems.append(f"{text}: {error}")
        return {}
    known = {f.name for f in dataclasses.fields(Config) if f.metadata}
    problems += [f"{path.name}: {name} is not a setting" for name in table if name not in known]
    return {name: (f"{path.name}: {name}", value) for name, value in table.items() if name in known}


def _parsed(f: dataclasses.Field[Any], label: str, value: Any, problems: list[str]) -> Any:
    """A value as its field wants it; lists, numbers and booleans (flags, TOML) go through their text."""
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    try:
        return f.metadata["parse"](str(value))
    except ValueError as error:
        problems.append(f"{label}={str(value)!r}: {error}")
        return None
