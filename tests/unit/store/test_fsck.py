from __future__ import annotations

import os

from modelfiles.names import ModelName
from server.store import fsck


def troubles(report, what=None):
    return [p.trouble for p in report.problems if not p.harmless and what in (None, p.what)]


def tree(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and not p.is_symlink()}


def test_a_sound_store(library):
    seen = []
    report = fsck.check(library.root, progress=lambda done, total: seen.append((done, total)))
    assert report.sound
    assert report.models == 9
    assert [p.what for p in report.problems] == ["blobs"]  # uploads and the blob "abc": orphans
    assert seen[0][0] == 0
    assert seen[-1] == (report.nbytes, report.nbytes)
    assert seen == sorted(seen)


def test_an_absent_store_is_sound(tmp_path):
    report = fsck.check(tmp_path / "none")
    assert report.sound
    assert (report.models, report.blobs) == (0, 0)


def spoil(library):
    """One of everything that can be wrong."""
    manifests = library.root / "manifests"
    blobs = library.root / "blobs"
    (manifests / "registry.ollama.ai/library/nano-fim/latest").write_bytes(b"")
    (manifests / "registry.ollama.ai/library/nano-legacy/latest").write_bytes(b"nonsense")
    (manifests / "registry.ollama.ai/library/bad name").mkdir()
    (manifests / "registry.ollama.ai/library/bad name/latest").write_bytes(b"{}")
    (manifests / "registry.ollama.ai/library/link").symlink_to(manifests / "registry.ollama.ai/library/nano")
    q8 = library.resolve("nano-q8").weights
    data = bytearray(q8.read_bytes())
    data[-1] ^= 1
    q8.write_bytes(data)
    embed = library.resolve("nano-embed").weights
    os.truncate(embed, 1000)
    tools = library.resolve("nano-tools").weights
    os.rename(tools, library.root / "elsewhere")
    tools.symlink_to(library.root / "elsewhere")
    (blobs / "notes.txt").write_bytes(b"junk")
    (blobs / f"sha256-{'0' * 64}-partial-0").write_bytes(b"half")
    (blobs / ".incoming" / "half").write_bytes(b"half")


def test_everything_that_can_be_wrong_is_found_and_nothing_is_touched(library):
    spoil(library)
    before = tree(library.root)
    report = fsck.check(library.root)
    assert tree(library.root) == before
    assert not report.sound
    assert troubles(report, "nano-fim:latest") == ["the manifest is empty, as after a power cut"]
    assert troubles(report, "nano-legacy:latest") == ["manifest is not JSON"]
    (damaged,) = troubles(report, "nano-q8:latest")
    assert damaged.endswith("is damaged")
    assert any(t.endswith("is damaged") or "bytes instead of" in t for t in troubles(report, "nano-embed:latest"))
    (link,) = troubles(report, "nano-tools:latest")
    assert link.endswith("is not a regular file")
    whats = [p.what for p in report.problems]
    library_folder = "manifests/registry.ollama.ai/library"
    for what in ("blobs/notes.txt", f"blobs/sha256-{'0' * 64}-partial-0", "blobs/.incoming",
                 f"{library_folder}/bad name/latest", f"{library_folder}/link"):  # fmt: skip
        assert what in whats
    assert not any(str(library.root) in p.trouble + p.advice for p in report.problems)
    assert all(p.advice for p in report.problems if p.what.endswith(":latest"))


def test_repair_puts_the_bad_aside_and_keeps_the_good(library):
    spoil(library)
    good = library.resolve("nano").weights.read_bytes()
    report = fsck.check(library.root, repair=True)
    assert any(p.repaired for p in report.problems)
    assert len(list((library.root / "manifests/.corrupt").iterdir())) == 4
    assert len(list((library.root / "blobs/.corrupt").iterdir())) == 4
    assert (library.root / "elsewhere").exists()
    assert library.resolve("nano").weights.read_bytes() == good
    again = fsck.check(library.root, repair=True)
    # What is left are models whose blobs are gone: only a pull or a create can bring those back.
    assert all("is missing" in p.trouble for p in again.problems if not p.harmless)
    assert {p.what for p in again.problems if not p.harmless} == {
        "nano-q8:latest", "nano-embed:latest", "nano-tools:latest",
    }  # fmt: skip
    for name in ("nano-q8", "nano-embed", "nano-tools"):
        library.delete(name)
    assert fsck.check(library.root).sound


def test_right_bytes_may_be_nonsense(library):
    manifest = library.manifests.path(ModelName.parse("nano"))
    digest, _ = library.blobs.add_bytes(b'{"model_format":3}')
    old = library.find(ModelName.parse("nano")).manifest.config
    manifest.write_bytes(
        manifest.read_bytes().replace(str(old.digest).encode(), str(digest).encode())
        .replace(f'"size":{old.size}'.encode(), b'"size":18')
    )  # fmt: skip
    assert troubles(fsck.check(library.root)) == ["the model's config has a model_format of the wrong type"]


def test_wrong_sizes_are_told(library):
    manifest = library.manifests.path(ModelName.parse("nano-q8"))
    size = library.find(ModelName.parse("nano-q8")).weights.size
    manifest.write_bytes(manifest.read_bytes().replace(str(size).encode(), b"7"))
    (trouble,) = troubles(fsck.check(library.root))
    assert f"has {size} bytes instead of 7" in trouble
