"""Debian's `docker-registry`, a real OCI registry, on a free port of this machine; and a token server for it."""

from __future__ import annotations

import asyncio
import base64
import datetime
import json
import shutil
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

BINARY = shutil.which("docker-registry") or shutil.which("registry")
MISSING = "needs a real registry: apt-get install docker-registry (scripts/setup.py --dev does it where it may)"
USER, PASSWORD = "ana", "secret"
HTPASSWD = f"{USER}:$2y$04$fndSNbM7xjSKyg5.78WtJOevfZZFGVJn9FKDYtfLeNH4vd/1ATqxm\n"
ISSUER, SERVICE = "tests", "registry of the tests"

needs_registry = pytest.mark.skipif(BINARY is None, reason=MISSING)


def _configured(folder: Path, auth: str) -> tuple[Path, str]:
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    config = folder / "config.yml"
    config.write_text(
        "version: 0.1\nlog: {level: warn}\n"
        f"storage:\n  filesystem: {{rootdirectory: {json.dumps(str(folder / 'data'))}}}\n  delete: {{enabled: true}}\n"
        f"http: {{addr: {json.dumps(address)}, secret: x}}\n" + (f"auth:\n{auth}" if auth else "")
    )
    return config, address


@asynccontextmanager
async def docker_registry(folder: Path, auth: str = "") -> AsyncIterator[str]:
    """Its address. ``auth``: lines of YAML below ``auth:``."""
    config, address = _configured(folder, auth)
    assert BINARY is not None
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(BINARY, "serve", str(config), stdout=log, stderr=log)
    try:
        await _up(address, process, folder / "log")
        yield address
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _up(address: str, process: asyncio.subprocess.Process, log: Path) -> None:
    host, _, port = address.partition(":")
    while process.returncode is None:
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            await writer.wait_closed()
            return
    pytest.fail(f"the registry ended, see {log}")


def htpasswd_auth(folder: Path) -> str:
    """Basic auth for ``USER`` with ``PASSWORD``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "htpasswd").write_text(HTPASSWD)
    return f"  htpasswd: {{realm: tests, path: {json.dumps(str(folder / 'htpasswd'))}}}\n"


def login_file(path: Path, address: str, user: str = USER, password: str = PASSWORD) -> Path:
    """What `docker login` writes."""
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    path.write_text(json.dumps({"auths": {address: {"auth": auth}, "other.example": {"auth": "b3RoZXI6eA=="}}}))
    return path


class TokenServer:
    """Gives tokens in Docker's form, signed with ES256, to who has the password; read-only ones to anybody."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.requests: list[web.Request] = []
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._make_certificate()
        (folder / "cert.pem").write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        self._bundle = folder / "cert.pem"

    def auth(self, realm: str) -> str:
        given = {"realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(self._bundle)}
        return f"  token: {json.dumps(given)}\n"

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/token", self._token)
        return app

    async def _token(self, request: web.Request) -> web.Response:
        self.requests.append(request)
        expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        authorization = request.headers.get("Authorization", "")
        if authorization and authorization != expected:
            return web.json_response({"errors": [{"code": "UNAUTHORIZED"}]}, status=401)
        allowed = {"pull", "push"} if authorization else {"pull"}
        access = []
        for scope in request.query.getall("scope", []):
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            access.append({"type": kind, "name": name, "actions": sorted(allowed & set(actions.split(",")))})
        return web.json_response({"token": self._signed(access)})

    def _signed(self, access: list[dict[str, Any]]) -> str:
        now = int(time.time())
        der = self._certificate.public_bytes(serialization.Encoding.DER)
        header = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(der).decode()]}
        claims = {"iss": ISSUER, "sub": USER, "aud": SERVICE, "exp": now + 300, "nbf": now - 10, "iat": now, "jti": "1"}
        parts = [_b64(json.dumps(part).encode()) for part in (header, {**claims, "access": access})]
        r, s = decode_dss_signature(self._key.sign(".".join(parts).encode(), ec.ECDSA(hashes.SHA256())))
        return ".".join([*parts, _b64(r.to_bytes(32, "big") + s.to_bytes(32, "big"))])

    def _make_certificate(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(self._key.public_key())
        builder = builder.serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=1))
        return builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), True).sign(
            self._key, hashes.SHA256()
        )


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
