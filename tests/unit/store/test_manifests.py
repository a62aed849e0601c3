from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelfiles.errors import InvalidName
from modelfiles.names import ModelName
from server.errors import StoreError
from server.store import manifests as manifests_module
from server.store.digests import Digest
from server.store.manifests import CONFIG_TYPE, LAYER_TYPE, Layer, Manifests, encode, parse

CONFIG = Layer(CONFIG_TYPE, Digest.of(b"config"), 432)
MODEL = Layer(LAYER_TYPE + "model", Digest.of(b"model"), 2019377376, "nano:latest")


def test_bytes_on_disk_are_ollamas():
    text = encode(CONFIG, (MODEL,)).decode()
    assert text == (
        '{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json",'
        f'"config":{{"mediaType":"{CONFIG_TYPE}","digest":"{CONFIG.digest}","size":432}},'
        f'"layers":[{{"mediaType":"application/vnd.ollama.image.model","digest":"{MODEL.digest}",'
        '"size":2019377376,"from":"nano:latest"}]}\n'
    )
    manifest = parse(text.encode())
    assert (manifest.config, manifest.layers, manifest.size) == (CONFIG, (MODEL,), 2019377376 + 432)
    assert manifest.digest == Digest.of(text.encode()).hex
    assert manifest.of_kind("model") == (MODEL,)
    assert manifest.blobs() == {MODEL.digest: MODEL.size, CONFIG.digest: CONFIG.size}


def test_foreign_fields_are_tolerated():
    raw = json.loads(encode(CONFIG, (MODEL,)))
    raw["annotations"] = {"x": [1]}
    raw["layers"][0]["urls"] = ["http://example.com"]
    assert parse(json.dumps(raw).encode()).layers == (MODEL,)
    raw["layers"] = None
    assert parse(json.dumps(raw).encode()).layers == ()


def broken(change):
    raw = json.loads(encode(CONFIG, (MODEL,)))
    change(raw)
    return json.dumps(raw).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0" * 300, b"{", b"[]", b"null", b"[" * 100_000,
        broken(lambda m: m.pop("config")),
        broken(lambda m: m.update(config=[])),
        broken(lambda m: m.update(layers={})),
        broken(lambda m: m.update(layers=[3])),
        broken(lambda m: m["layers"][0].update(digest="sha256:../../x")),
        broken(lambda m: m["layers"][0].update(digest=None)),
        broken(lambda m: m["layers"][0].update(size=-1)),
        broken(lambda m: m["layers"][0].update(size="3")),
        broken(lambda m: m["layers"][0].update(size=True)),
        broken(lambda m: m["layers"][0].update(size=1 << 60)),
        broken(lambda m: m["layers"][0].update(mediaType=[])),
        broken(lambda m: m.update(layers=m["layers"] * 4097)),
        b" " * (4 * 1024 * 1024 + 1),
    ],
)  # fmt: skip
def test_bad_manifests_are_store_errors(data):
    with pytest.raises(StoreError, match=r"^manifest "):
        parse(data)


def test_write_find_list_delete(tmp_path):
    manifests = Manifests(tmp_path)
    name = ModelName.parse("ns/Nano:V1")
    manifests.write(name, CONFIG, (MODEL,))
    assert manifests.path(name) == tmp_path / "manifests/registry.ollama.ai/ns/Nano/V1"
    found = manifests.find(ModelName.parse("NS/nano:v1"))
    assert found is not None
    assert found.name == name
    assert manifests.read(found).layers == (MODEL,)
    assert manifests.find(ModelName.parse("ns/nano:v2")) is None
    assert [entry.name for entry in manifests.entries()] == [name]
    manifests.delete(found)
    assert list(manifests.entries()) == []
    assert list((tmp_path / "manifests").iterdir()) == []
    manifests.delete(found)


def test_a_second_spelling_makes_no_second_manifest(tmp_path):
    manifests = Manifests(tmp_path)
    manifests.write(ModelName.parse("foo"), CONFIG, (MODEL,))
    assert manifests.spelling(ModelName.parse("Foo")) == ModelName.parse("foo")
    assert manifests.spelling(ModelName.parse("FOO:Small")) == ModelName.parse("foo:Small")
    assert manifests.spelling(ModelName.parse("Bar")) == ModelName.parse("Bar")


def test_one_bad_record_never_hides_the_others(tmp_path):
    manifests = Manifests(tmp_path)
    good = ModelName.parse("good")
    manifests.write(good, CONFIG, (MODEL,))
    library = tmp_path / "manifests/registry.ollama.ai/library"
    (library / "empty").mkdir()
    (library / "empty" / "latest").touch()
    (library / "bad name").mkdir()
    (library / "bad name" / "latest").touch()
    (library / "loose").touch()
    (library / "link").mkdir()
    (library / "link" / "latest").symlink_to(library / "good" / "latest")
    assert [entry.name.model for entry in manifests.entries()] == ["empty", "good"]
    assert sorted(path.name for path in manifests.strays()) == ["latest", "latest", "loose"]
    bad = manifests.find(ModelName.parse("empty"))
    assert bad is not None
    with pytest.raises(StoreError, match=r"^manifest is not JSON$"):
        manifests.read(bad)
    first = manifests.quarantine(bad.path)
    assert first.parent == tmp_path / "manifests/.corrupt"
    assert not (library / "empty").exists()
    manifests.write(ModelName.parse("empty"), CONFIG, ())
    second = manifests.quarantine(manifests.path(ModelName.parse("empty")))
    assert second != first
    assert [entry.name for entry in manifests.entries()] == [good]


@pytest.mark.parametrize("overwrite", [False, True])
def test_every_power_cut_leaves_the_old_or_the_new_manifest(tmp_path, cut_power_at, overwrite):
    name = ModelName.parse("nano")
    for step in range(1, 40):
        root = tmp_path / str(step)
        root.mkdir()
        manifests = Manifests(root)
        if overwrite:
            manifests.write(name, CONFIG, ())
        with cut_power_at(step) as steps:
            manifests.write(name, CONFIG, (MODEL,))
        entry = manifests.find(name)
        if entry is not None:
            assert manifests.read(entry).layers in [(MODEL,), *([()] if overwrite else [])]
        if steps[-1] != "cut":
            break
        assert entry is not None or not overwrite
    assert entry is not None
    assert step > 4


@given(st.text(max_size=60) | st.from_regex(r"[A-Za-z0-9_./:@\\-]{1,40}", fullmatch=True))
def test_every_accepted_name_stays_below_manifests(tmp_path_factory, text):
    root = tmp_path_factory.getbasetemp()
    try:
        name = ModelName.parse(text)
    except InvalidName:
        return
    manifests = Manifests(root)
    path = manifests.path(name)
    assert path.resolve().is_relative_to((root / "manifests").resolve())
    assert ModelName(*path.relative_to(manifests.folder).parts) == name


def test_a_huge_manifest_is_not_read(tmp_path):
    manifests = Manifests(tmp_path)
    name = ModelName.parse("huge")
    manifests.write_bytes(name, b"{}")
    with open(manifests.path(name), "r+b") as file:
        file.truncate(1 << 34)
    entry = manifests.find(name)
    assert entry is not None
    with pytest.raises(StoreError, match="over"):
        manifests.read(entry)
    assert manifests_module.MAX_BYTES == 4 * 1024 * 1024
