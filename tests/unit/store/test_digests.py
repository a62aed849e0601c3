from __future__ import annotations

import pytest

from server.errors import InvalidRequest
from server.store.digests import Digest

HEX = "27c9c4e1d66a323e7c9231995358e45e2753f76241f8ae3fac9bfa4ffa175ff0"


@pytest.mark.parametrize("text", [f"sha256:{HEX}", f"sha256-{HEX}"])
def test_both_spellings_are_one_digest(text):
    digest = Digest.parse(text)
    assert (digest.hex, str(digest), digest.file_name) == (HEX, f"sha256:{HEX}", f"sha256-{HEX}")


@pytest.mark.parametrize(
    "text",
    [
        "", "../", "sha256:../../x", f"sha256:{HEX[:-1]}", f"sha256:{HEX}0", f"sha256:{HEX.upper()}", f"SHA256:{HEX}",
        "sha256:%2e%2e", f"sha256:{HEX[:-1]}\0", f"sha512:{HEX}", f"sha256:{HEX[:-1]}٣", f"sha256:{HEX}\n",
        f" sha256:{HEX}", HEX, f"sha256/{HEX}", f"sha256:{HEX}/..", f"sha256:{'０' * 64}", None, 3, b"sha256:", ["x"],
        "sha256:" + "g" * 64, f"sha256:-{HEX}", f"sha256::{HEX}",
    ],
)  # fmt: skip
def test_everything_else_is_refused(text):
    with pytest.raises(InvalidRequest, match=r"^invalid digest format$"):
        Digest.parse(text)


def test_the_constructor_checks_too():
    with pytest.raises(InvalidRequest):
        Digest("../../etc/passwd")


def test_of_bytes():
    assert Digest.of(b"abc").hex == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
