"""Split GGUFs of a repository like Hugging Face's: found, pulled shard by shard, loaded by a real worker."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from splits import split_nano

from server.errors import ServerError
from server.hardware.memory import shape_of
from server.inprocess import ModelManager
from server.store import fsck, gguf_folder
from server.store.create import CreateRequest, create
from server.store.digests import Digest
from server.store.registry.sharded import Listed, choose

REFUSAL = {"error": "The specified tag is a sharded GGUF. Ollama does not support this yet."}


class Repository:
    """Answers as hf.co: no manifest for shards, a list of files in pages, and files behind a redirect."""

    def __init__(self, files: dict[str, Path], texts: dict[str, bytes]) -> None:
        self.files, self.texts, self.cdn, self.seen = files, texts, "", list[web.Request]()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v2/u/r/manifests/{tag}", self._manifest)
        app.router.add_get("/api/models/u/r/tree/main", self._tree)
        app.router.add_get("/u/r/resolve/main/{path:.+}", self._resolve)
        return app

    async def _manifest(self, request: web.Request) -> web.Response:
        return web.json_response(REFUSAL, status=400)

    async def _tree(self, request: web.Request) -> web.Response:
        entries: list[Any] = [{"type": "directory", "path": "q"}, {"type": "file", "path": "README.md", "size": 3}]
        for path, file in self.files.items():
            data = file.read_bytes()
            large = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
            entries.append({"type": "file", "path": path, "size": len(data), "lfs": large})
        half = len(entries) // 2
        if "cursor" in request.query:
            return web.json_response(entries[half:])
        link = f'<http://{request.host}{request.path}?recursive=true&cursor=2>; rel="next"'
        return web.json_response(entries[:half], headers={"Link": link})

    async def _resolve(self, request: web.Request) -> web.Response:
        path = request.match_info["path"]
        if path in self.texts:
            return web.Response(body=self.texts[path])
        if path not in self.files:
            return web.Response(status=404)
        return web.Response(status=302, headers={"Location": f"{self.cdn}/{path}"})

    def cdn_app(self) -> web.Application:
        async def file(request: web.Request) -> web.FileResponse:
            self.seen.append(request)
            return web.FileResponse(self.files[request.match_info["path"]])

        app = web.Application()
        app.router.add_get("/{path:.+}", file)
        return app


@pytest.fixture
async def repository(serve: Callable[..., Any], tmp_path: Path) -> tuple[Repository, str]:
    shards = split_nano(tmp_path / "hub", "nano-Q8_0")
    files = {f"q/{path.name}": path for path in shards}
    one = Repository(files, {"system": b"Be brief.", "params": b'{"temperature":0,"num_predict":4}'})
    address = await serve(one.app())
    one.cdn = f"http://localhost:{(await serve(one.cdn_app())).rpartition(':')[2]}"
    return one, address


async def test_shards_are_pulled_as_they_are_and_answer(
    repository: tuple[Repository, str], puller: Callable[..., Any], tmp_path: Path
) -> None:
    hub, address = repository
    pull = puller(address, "localhost")
    name = f"{address}/u/r:q8_0"
    assert (await pull(name))[-1] == {"status": "success"}
    library = pull.library
    manifest = library.manifests.read(library.manifests.find(library.record(name, "").entry.name))
    assert [layer.name for layer in manifest.of_kind("model")] == [path.name for path in hub.files.values()]
    assert all("Authorization" not in request.headers for request in hub.seen)
    first = library.resolve(name)
    assert (len(first.parts), first.system) == (1, "Be brief.")
    whole = shape_of(Path(__file__).parents[1] / "golden" / "models" / "nano.gguf")
    split = shape_of(first.weights, first.parts)
    assert (split.weights, split.layers) == (whole.weights, whole.layers)
    assert fsck.check(library.root).problems == ()
    digest = first.digest
    assert (await pull(name))[-1] == {"status": "success"}
    assert library.resolve(name).digest == digest

    created = CreateRequest("copy", source=name, system="Other.")
    assert [event async for event in create(library, created)][-1] == {"status": "success"}
    assert len(library.resolve("copy").parts) == 1

    async with ModelManager(models=str(library.root), data_dir=str(tmp_path / "data")) as manager:
        model = await manager.load_model(name)
        answer = await model.generate("hello")
        plain = await manager.load_model(str(Path(__file__).parents[1] / "golden" / "models" / "nano.gguf"))
        other = await plain.generate("hello", system="Be brief.", temperature=0, num_predict=4)
        assert str(answer) == str(other)

    gguf_folder.export(library, name, tmp_path / "out", lambda *_: None)
    assert (tmp_path / "out" / "model-00002-of-00002.gguf").is_file()
    assert "FROM ./model-00001-of-00002.gguf" in (tmp_path / "out" / "Modelfile").read_text()


async def test_a_shard_that_is_another_file_is_refused(
    repository: tuple[Repository, str], puller: Callable[..., Any]
) -> None:
    hub, address = repository
    first, second = hub.files
    hub.files[second] = hub.files[first]
    events = await puller(address, "localhost")(f"{address}/u/r:q8_0")
    assert "the shards cannot be used together" in events[-1]["error"]


async def test_what_the_repository_has_not(repository: tuple[Repository, str], puller: Callable[..., Any]) -> None:
    hub, address = repository
    pull = puller(address, "localhost")
    error = (await pull(f"{address}/u/r:q4_0"))[-1]["error"]
    assert error == 'pull model manifest: the repository has no complete split GGUF that is called "q4_0"'
    hub.texts["params"] = b"[]"
    assert "no JSON object" in (await pull(f"{address}/u/r:q8_0"))[-1]["error"]


FILES = [
    *(f"BF16/m-BF16-{n:05d}-of-00003.gguf" for n in (1, 2, 3)),
    *(f"m-Q4_K_M-{n:05d}-of-00002.gguf" for n in (1, 2)),
    *(f"m-IQ4_K_M-{n:05d}-of-00002.gguf" for n in (1, 2)),
    "m-Q8_0-00001-of-00002.gguf",
    "m-Q2_K.gguf",
]


@pytest.mark.parametrize(
    ("tag", "first"),
    [
        ("latest", "m-Q4_K_M-00001-of-00002.gguf"),
        ("q4_k_m", "m-Q4_K_M-00001-of-00002.gguf"),
        ("BF16", "BF16/m-BF16-00001-of-00003.gguf"),
        ("m-IQ4_K_M-00002-of-00002.gguf", "m-IQ4_K_M-00001-of-00002.gguf"),
        ("Q8_0", None),
        ("Q2_K", None),
        ("K_M", None),  # half a name is no name
    ],
)
def test_what_a_tag_means(tag: str, first: str | None) -> None:
    listed = [Listed(path, Digest.of(path.encode()), 1) for path in FILES]
    if first is None:
        with pytest.raises(ServerError, match="no complete split GGUF"):
            choose(listed, tag)
    else:
        assert choose(listed, tag)[0].path == first
