"""The pure rules of registries: who may be asked, what a challenge says, how a download is cut and continued."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from server.errors import Forbidden, UpstreamError
from server.store.registry.challenge import Challenge
from server.store.registry.hosts import Hosts, is_public
from server.store.registry.parts import plan, prefix, resume

REGISTRY = URL("https://registry.example:5000")


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "127.1.2.3",
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
        ),
        *(
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::",
            "::1",
            "fe80::1%eth0",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
        ),
        *("::ffff:127.0.0.1", "::ffff:7f00:1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:0:0::1", "nonsense", ""),
    ],
)
def test_not_public(address: str) -> None:
    assert not is_public(address)


def test_whom_an_entry_lets_in() -> None:
    hosts = Hosts(["a.example", "B.example:5000", "10.0.0.5"])
    for good in ("https://a.example", "http://a.example:81", "https://b.example:5000", "https://registry.ollama.ai",
                 "https://hf.co", "https://huggingface.co", "http://10.0.0.5"):  # fmt: skip
        hosts.require(URL(good))
    for bad in ("https://b.example", "https://x.a.example", "https://a.example.evil", "http://registry.ollama.ai",
                "https://registry.ollama.ai:81", "https://10.0.0.6"):  # fmt: skip
        with pytest.raises(Forbidden, match="LLAMADA_REGISTRIES"):
            hosts.require(URL(bad))
    hosts.require_address("10.0.0.5", 443, "10.0.0.5")
    with pytest.raises(Forbidden):
        hosts.require_address("cdn.example", 443, "10.0.0.5")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]", "[::ffff:7f00:1]", "10.1.1.1", "0"],
)
def test_addresses_in_disguise(host: str) -> None:
    with pytest.raises(Forbidden):
        Hosts(["*"]).require_literal(URL(f"http://{host}/"))


def test_a_challenge() -> None:
    text = (
        'Bearer realm="https://registry.example:5000/t?x=1",service="s, p",scope="repository:a:pull push other:b:pull"'
    )
    challenge = Challenge.parse(text)
    assert challenge.service == "s, p"
    url = challenge.token_url(REGISTRY, [("ts", "1"), ("nonce", "n")])
    wanted = "nonce=n&scope=repository%3Aa%3Apull&scope=push&scope=other%3Ab%3Apull&service=s%2C+p&ts=1&x=1"
    assert str(url) == f"https://registry.example:5000/t?{wanted}"
    assert Challenge.parse('Basic realm="x"').scheme == "basic"
    assert Challenge.parse('Basic realm="x", Bearer realm="y"').realm == "y"
    assert Challenge.parse("Negotiate").scheme == ""


@pytest.mark.parametrize(
    "realm",
    [
        *("https://evil.example/token", "https://registry.example/token", "http://registry.example:5000/token"),
        *("https://registry.example:5000@evil.example/", "https://x@registry.example:5000/", "/token", ""),
        *("//evil.example/token", "https://registry.example:5000.evil.example/", "https://sub.registry.example:5000/"),
    ],
)
def test_a_realm_elsewhere_is_refused(realm: str) -> None:
    with pytest.raises(UpstreamError):
        Challenge("bearer", realm, "s", "x").token_url(REGISTRY, [])


@given(st.text(max_size=200))
def test_any_header_is_a_challenge_or_none(text: str) -> None:
    challenge = Challenge.parse(f"Bearer {text}")
    try:
        url = challenge.token_url(REGISTRY, [])
    except UpstreamError:
        return
    assert url.origin() == REGISTRY.origin()


@given(st.integers(0, 10_000_000_000), st.integers(0, 5_000_000))
def test_parts_cover_everything_once(total: int, size: int) -> None:
    size = max(size, total // 2000 + 1) if size else 0
    parts = plan(total, size)
    assert [part.offset for part in parts[1:]] == [part.end for part in parts[:-1]]
    assert sum(part.size for part in parts) == total
    assert prefix(parts) == 0
    if total:
        again = resume([part.note() for part in reversed(parts)], total, 0)
        assert again == parts


@given(st.lists(st.binary(max_size=80), max_size=4))
def test_notes_that_are_none_are_no_start(notes: list[bytes]) -> None:
    assert resume(notes, 1000, 1000) is None


def test_notes_promise_no_more_than_the_file_has() -> None:
    notes = [b'{"N":0,"Offset":0,"Size":60,"Completed":60}', b'{"N":1,"Offset":60,"Size":40,"Completed":40}']
    parts = resume(notes, 100, 70)
    assert parts is not None
    assert [part.completed for part in parts] == [60, 10]
    assert resume(notes, 101, 101) is None
    assert resume(notes[:1], 100, 100) is None
