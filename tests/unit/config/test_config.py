"""Settings: who wins, what the variables of Ollama mean, how bad values are told."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from server.config import VERSION, Address, Config, ConfigError, parse_duration


def test_defaults() -> None:
    config = Config.load({})
    assert (config.host.url, config.keep_alive, config.max_queue, config.num_parallel) == (
        "http://127.0.0.1:11434", 300.0, 512, 0,
    )  # fmt: skip
    assert config.models == Path("~/.ollama/models").expanduser()


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "llamada.toml"
    file.write_text('max_queue = 1\nmax_loaded_models = 1\nkeep_alive = "1m"\norigins = ["a", "b"]\nguide = false\n')
    environ = {"LLAMADA_CONFIG": str(file), "OLLAMA_MAX_QUEUE": "2", "OLLAMA_MAX_LOADED_MODELS": "2"}
    config = Config.load(environ, {"max_queue": 3, "debug": None})
    assert (config.max_queue, config.max_loaded_models, config.keep_alive) == (3, 2, 60.0)
    assert (config.origins, config.guide) == (("a", "b"), False)


def test_the_file_of_the_data_directory_is_read_when_there(tmp_path: Path) -> None:
    (tmp_path / "llamada.toml").write_text("context_length = 2048")
    assert Config.load({"LLAMADA_DATA_DIR": str(tmp_path)}).context_length == 2048


def test_quotes_and_blanks_are_stripped_and_empty_is_unset() -> None:
    config = Config.load({"OLLAMA_KEEP_ALIVE": ' "10m" ', "OLLAMA_MODELS": "'/m'", "OLLAMA_MAX_QUEUE": "  "})
    assert (config.keep_alive, config.models, config.max_queue) == (600.0, Path("/m"), 512)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5m", 300.0), ("90", 90.0), ("0.5", 0.5), ("-1", -1.0), ("-5m", -1.0), ("0", 0.0), ("1.5h", 5400.0)],
)
def test_keep_alive(text: str, seconds: float) -> None:
    assert Config.load({"OLLAMA_KEEP_ALIVE": text}).keep_alive == seconds


@pytest.mark.parametrize(("text", "value"), [("auto", None), ("1", True), ("false", False)])
def test_flash_attention(text: str, value: bool | None) -> None:
    assert Config.load({"OLLAMA_FLASH_ATTENTION": text}).flash_attention is value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OLLAMA_MODELS", "~no-such-user/models"),
        ("LLAMADA_DATA_DIR", "~no-such-user"),
        ("LLAMADA_CONFIG", "~no-such-user/x.toml"),
        ("OLLAMA_HOST", "a" * 70),
        ("OLLAMA_HOST", "..:80"),
        ("OLLAMA_HOST", "\udcff"),
        ("OLLAMA_HOST", "127.0.0.1 :80"),
        ("OLLAMA_HOST", "name:password@127.0.0.1"),
    ],
)
def test_bad_paths_and_addresses_are_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.load({name: value})
    assert name in str(caught.value) or value in str(caught.value)


def test_a_data_directory_with_an_impossible_name_has_no_settings_file() -> None:
    assert Config.load({"LLAMADA_DATA_DIR": "9" * 5000}).max_queue == 512


def test_no_time_is_longer_than_clocks_can_count() -> None:
    environ = {"OLLAMA_KEEP_ALIVE": "9" * 400, "OLLAMA_LOAD_TIMEOUT": "9" * 400, "LLAMADA_REQUEST_TIMEOUT": "9" * 18}
    config = Config.load(environ)
    assert config.keep_alive == -1.0
    datetime.now() + timedelta(seconds=config.load_timeout) + timedelta(seconds=config.request_timeout)


def test_all_bad_values_are_told_together(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("no_such = 1\nmax_ctx = -1")
    environ = {"LLAMADA_CONFIG": str(file), "OLLAMA_MAX_QUEUE": "many", "OLLAMA_HOST": "x:99999"}
    with pytest.raises(ConfigError) as caught:
        Config.load(environ, {"keep_alive": "5 minutes"})
    assert len(caught.value.problems) == 5
    for name in ("no_such", "max_ctx", "OLLAMA_MAX_QUEUE", "OLLAMA_HOST", "--keep-alive"):
        assert name in str(caught.value)


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="missing"):
        Config.load({"LLAMADA_CONFIG": str(tmp_path / "missing.toml")})


@pytest.mark.parametrize(
    ("text", "url", "loopback"),
    [
        ("", "http://127.0.0.1:11434", True),
        ("0.0.0.0", "http://127.0.0.1:11434", False),
        (":8080", "http://127.0.0.1:8080", False),
        ("1.2.3.4:99", "http://1.2.3.4:99", False),
        ("example.com", "http://example.com:11434", False),
        ("http://example.com", "http://example.com:80", False),
        ("https://example.com/ollama/", "https://example.com:443/ollama", False),
        ("::1", "http://[::1]:11434", True),
        ("[::1]:5", "http://[::1]:5", True),
        ("[::]:5", "http://[::1]:5", False),
        ("localhost", "http://localhost:11434", True),
    ],
)
def test_addresses(text: str, url: str, loopback: bool) -> None:
    address = Address.parse(text)
    assert (address.url, address.loopback) == (url, loopback)


@pytest.mark.parametrize("text", ["ftp://x", "x:", "x:99999", "x:-1"])
def test_bad_addresses(text: str) -> None:
    if text == "x:":
        assert Address.parse(text).port == 11434
        return
    with pytest.raises(ValueError, match=r"port|http"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("+5s", 5), ("-1.5h", -5400), ("1h2m3s4ms", 3723.004), (".5s", 0.5), ("1µs", 1e-6), ("2ns", 2e-9)],
)
def test_go_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "-", "s", "1", "1 h", "1hh", "h1", "."])
def test_what_is_no_go_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"^time: "):
        parse_duration(text)


def test_children_see_an_allow_listed_environment_only() -> None:
    given = {"PATH": "/bin", "OPENAI_API_KEY": "secret", "CUDA_VISIBLE_DEVICES": "0", "LD_PRELOAD": "x", "GGML_X": "1"}
    child = Config.load(given).child_environment
    assert child == {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "0", "GGML_X": "1", "HF_HUB_OFFLINE": "1"}


def test_what_has_no_effect_is_said() -> None:
    assert "OLLAMA_LLM_LIBRARY" in Config.load({"OLLAMA_LLM_LIBRARY": "cuda"}).warnings[0]


def test_the_version_is_the_projects() -> None:
    text = Path(__file__).parents[3].joinpath("pyproject.toml").read_text()
    assert f'\nversion = "{VERSION}"\n' in text
