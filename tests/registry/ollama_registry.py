"""A registry with the peculiarities of Ollama's: signed token requests, and blobs at a CDN that must see no token.

Real HTTP on real sockets; what each side was sent is recorded. Its behaviour is that of docs on the protocol: a 401
with a Bearer challenge on its own host, ``Authorization: <public key>:<signature>`` over the URL, 307 to another host.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

EMPTY = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
KIND = "application/vnd.ollama.image."
TOKEN = "a-token-of-the-registry"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class OllamaRegistry:
    """``public``: OpenSSH public keys that may have a token; None lets everybody in without asking."""

    public: set[str] | None = None
    manifests: dict[str, bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    seen: list[web.Request] = field(default_factory=list)
    cdn_seen: list[web.Request] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    status: int = 307
    cdn: str = ""
    uploads: dict[str, bytearray] = field(default_factory=dict)
    parts: dict[str, list[bytes]] = field(default_factory=dict)
    direct: bool = False
    realm: str = ""
    location: str = ""

    def add(self, name: str, weights: bytes, **layers: bytes) -> dict[str, Any]:
        """A model ``namespace/model:tag``."""
        config = json.dumps({"model_format": "gguf", "model_family": "llama", "model_type": "1M", "file_type": "F16"})
        found = [self._layer(KIND + "model", weights)]
        found += [self._layer(KIND + kind, data) for kind, data in layers.items()]
        manifest = {
            "schemaVersion": 2,
            "mediaType": DOCKER,
            "config": self._layer(CONFIG, config.encode()),
            "layers": found,
        }
        self.manifests[name] = json.dumps(manifest, indent=3).encode() + b"\n\n"
        return manifest

    def _layer(self, media_type: str, data: bytes) -> dict[str, Any]:
        self.blobs[digest_of(data)] = data
        return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}

    # -- the registry -------------------------------------------------------------------------------------

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_get("/token", self._token)
        app.router.add_get("/v2/{name:.+}/manifests/{tag}", self._guarded(self._manifest))
        app.router.add_put("/v2/{name:.+}/manifests/{tag}", self._guarded(self._put_manifest))
        app.router.add_post("/v2/{name:.+}/blobs/uploads/", self._guarded(self._begin))
        app.router.add_patch("/v2/{name:.+}/blobs/uploads/{id}", self._guarded(self._chunk))
        app.router.add_put("/v2/{name:.+}/blobs/uploads/{id}", self._guarded(self._commit))
        app.router.add_get("/v2/{name:.+}/blobs/{digest}", self._guarded(self._blob))
        return app

    def _guarded(self, handler: Handler) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            self.seen.append(request)
            if self.public is not None and request.headers.get("Authorization") != f"Bearer {TOKEN}":
                scope = f"repository:{request.match_info['name']}:pull,push"
                realm = self.realm or f"http://{request.host}/token"
                challenge = f'Bearer realm="{realm}",service="ollama.com",scope="{scope} other:x:pull"'
                return web.Response(status=401, headers={"WWW-Authenticate": challenge})
            return await handler(request)

        return guarded

    async def _token(self, request: web.Request) -> web.Response:
        self.seen.append(request)
        public, _, signature = request.headers.get("Authorization", "").partition(":")
        if public not in (self.public or ()):
            return web.json_response({"errors": [{"code": "DENIED"}]}, status=401)
        key: Any = load_ssh_public_key(f"ssh-ed25519 {public}".encode())
        key.verify(base64.b64decode(signature), f"GET,http://{request.host}{request.raw_path},{EMPTY}".encode())
        assert request.query.getall("scope")[1] == "other:x:pull"
        assert len(request.query["nonce"]) == 22
        assert int(request.query["ts"])
        return web.json_response({"token": TOKEN})

    async def _manifest(self, request: web.Request) -> web.Response:
        name = f"{request.match_info['name']}:{request.match_info['tag']}"
        if name not in self.manifests:
            return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN"}]}, status=404)
        return web.Response(body=self.manifests[name], content_type=DOCKER)

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        digest = request.match_info["digest"]
        if digest not in self.blobs:
            return web.Response(status=404)
        if self.direct:
            return await self.send(request, digest)
        location = self.location or f"{self.cdn}/data/{digest}?signed=1"
        return web.Response(status=self.status, headers={"Location": location})

    # -- the CDN ------------------------------------------------------------------------------------------

    def cdn_app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_get("/data/{digest}", self._data)
        app.router.add_put("/upload/{id}/{number}", self._put_part)
        return app

    async def _data(self, request: web.Request) -> web.StreamResponse:
        self.cdn_seen.append(request)
        return await self.send(request, request.match_info["digest"])

    async def send(self, request: web.Request, digest: str) -> web.StreamResponse:
        """The bytes of a blob, or of a range of it."""
        data = self.blobs[digest]
        found = request.http_range
        start, stop = found.start or 0, len(data) if found.stop is None else found.stop
        ranged = "Range" in request.headers
        headers = {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"} if ranged else {}
        self.sent[digest] += stop - start
        return web.Response(body=data[start:stop], status=206 if ranged else 200, headers=headers)

    # -- uploads ------------------------------------------------------------------------------------------

    async def _begin(self, request: web.Request) -> web.Response:
        number = str(len(self.uploads))
        self.uploads[number] = bytearray()
        location = f"http://{request.host}{request.path}{number}?part=0"
        return web.Response(status=202, headers={"Docker-Upload-Location": location, "Location": "/nowhere"})

    async def _chunk(self, request: web.Request) -> web.Response:
        number = request.match_info["id"]
        following = f"http://{request.host}{request.path}?part={int(request.query['part']) + 1}"
        assert request.headers["X-Redirect-Uploads"] == "1"
        if not self.direct:
            place = f"{self.cdn}/upload/{number}/{request.query['part']}"
            return web.Response(status=307, headers={"Location": place, "Docker-Upload-Location": following})
        data = await request.read()
        start, end = map(int, request.headers["Content-Range"].split("-"))
        assert (start, end) == (len(self.uploads[number]), len(self.uploads[number]) + len(data) - 1)
        self.uploads[number] += data
        self.parts.setdefault(number, []).append(data)
        return web.Response(status=202, headers={"Docker-Upload-Location": following})

    async def _put_part(self, request: web.Request) -> web.Response:
        self.cdn_seen.append(request)
        data = await request.read()
        self.uploads[request.match_info["id"]] += data
        self.parts.setdefault(request.match_info["id"], []).append(data)
        return web.Response()

    async def _commit(self, request: web.Request) -> web.Response:
        data, parts = bytes(self.uploads[request.match_info["id"]]), self.parts.get(request.match_info["id"], [])
        md5 = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest()
        if request.query["digest"] != digest_of(data) or request.query["etag"] != f"{md5}-{len(parts)}":
            return web.Response(status=400, text="digest or etag mismatch")
        self.blobs[request.query["digest"]] = data
        return web.Response(status=201)

    async def _put_manifest(self, request: web.Request) -> web.Response:
        assert request.content_type == DOCKER
        data = await request.read()
        raw = json.loads(data)
        if any(layer["digest"] not in self.blobs for layer in [raw["config"], *raw["layers"]]):
            return web.Response(status=400, text="unknown blob")
        self.manifests[f"{request.match_info['name']}:{request.match_info['tag']}"] = data
        return web.Response(status=201)
