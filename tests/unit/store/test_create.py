from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from modelfiles.names import ModelName
from server.errors import InvalidRequest, ModelNotFound
from server.store.create import CreateRequest, check, create
from server.store.library import Library
from server.types import Message, ToolCall

MODELS = Path(__file__).parents[2] / "golden" / "models"


def statuses(events):
    return [event.get("status") or event["error"] for event in events]


def layers_of(library: Library, name: str) -> list[tuple[str, str]]:
    """(kind, text) of every layer; GGUFs without their text."""
    record = library.find(ModelName.parse(name))
    assert record is not None
    return [
        (layer.kind, "" if layer.size > 10_000 else library.blobs.read(layer.digest, 10_000).decode("utf-8", "replace"))
        for layer in record.manifest.layers
    ]


def write_gguf(path: Path, architecture: str, tensors: dict[str, np.ndarray], **fields) -> Path:
    writer = GGUFWriter(path, architecture)
    for key, value in fields.items():
        name = key.replace("__", ".")
        if isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, bool):
            writer.add_bool(name, value)
        else:
            writer.add_uint32(name, value)
    for name, data in tensors.items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def upload(library: Library, path: Path) -> str:
    return str(library.blobs.add_file(path))


# -- the request itself -------------------------------------------------------------------------------------

DIGEST = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (CreateRequest("", source="nano"), "invalid model name"),
        (CreateRequest("a b", source="nano"), "invalid model name"),
        (CreateRequest("m", files={"x.gguf": "sha256:../../x"}), "invalid digest format"),
        (CreateRequest("m", files={"x.gguf": ""}), "invalid digest format"),
        (CreateRequest("m", source="nano", adapters={"x.gguf": "zz"}), "invalid digest format"),
        (CreateRequest("m", source="nano", draft_files={"../x": DIGEST}), "file path must be relative"),
        (CreateRequest("m", source="nano", draft_quantize="Q8_0"), "--draft-quantize requires a DRAFT model"),
        (CreateRequest("m", source="nano", info={"context_length": -1}),
         'info field "context_length" must be a non-negative integer'),
        (CreateRequest("m", source="nano", info={"context_length": 1.5}),
         'info field "context_length" must be a non-negative integer'),
        (CreateRequest("m", source="nano", info={"base_name": 3}), 'info field "base_name" must be a string'),
        (CreateRequest("m", source="nano", info={"capabilities": "x"}),
         'info field "capabilities" must be a list of strings'),
        (CreateRequest("m", source="nano", remote_host="https://example.com"),
         "this server cannot create remote models"),
    ],
)  # fmt: skip
def test_what_is_refused_before_the_stream(request_, text):
    with pytest.raises(InvalidRequest) as error:
        check(request_)
    assert (error.value.message, error.value.status) == (text, 400)


@pytest.mark.parametrize(
    "path", ["/etc/x.gguf", "../x", "a/../x", "a//b", ".", "", "a/", "./x", "C:\\x", "a\0b", "..\\x", "~/../x"]
)
def test_paths_that_leave_their_folder(path):
    with pytest.raises(InvalidRequest, match="file path must be relative"):
        check(CreateRequest("m", files={path: DIGEST}))


# -- from an installed model --------------------------------------------------------------------------------


def test_every_instruction_as_a_field(library, creating):
    status, events = creating(
        library, model="Full", source="nano-ns", template="{{ .Prompt }}!", system="S", license="L",
        parameters={"seed": 7, "stop": ["X"], "temperature": None, "min_p": 0.00001},
        messages=[{"role": "user", "content": "<u>"}], renderer="qwen3.5", parser="qwen3.5", requires="0.14.0",
        info={"capabilities": ["vision"], "model_family": "fam", "base_name": "base", "parameter_size": "9B",
              "quantization_level": "Q9", "context_length": 5, "embedding_length": 6},
    )  # fmt: skip
    assert status == 200
    assert events[-1] == {"status": "success"}
    kinds = layers_of(library, "full")
    assert kinds == [
        ("model", ""), ("license", "MIT"), ("license", "free text"), ("template", "{{ .Prompt }}!"), ("system", "S"),
        ("license", "L"), ("params", '{"min_p":0.00001,"num_predict":8,"seed":7,"stop":["X"]}\n'),
        ("messages", '[{"role":"user","content":"\\u003cu\\u003e"}]\n'),
    ]  # fmt: skip
    record = library.find(ModelName.parse("full"))
    config = json.loads(library.blobs.read(record.manifest.config.digest, 10_000))
    assert list(config.items()) == [
        ("model_format", "gguf"), ("model_family", "fam"), ("model_families", ["fam", "llama"]), ("model_type", "9B"),
        ("file_type", "Q9"), ("renderer", "qwen3.5"), ("parser", "qwen3.5"), ("requires", "0.14.0"),
        ("capabilities", ["vision"]), ("context_length", 5), ("embedding_length", 6), ("base_name", "base"),
        ("architecture", "amd64"), ("os", "linux"),
    ]  # fmt: skip
    creating(library, model="heir", source="full")
    heir = library.resolve("heir")
    assert (heir.renderer, heir.parser, heir.system) == ("qwen3.5", "qwen3.5", "S")
    assert heir.capabilities == {"vision", "tools", "thinking"}
    assert library.show("heir")["requires"] == "0.14.0"
    assert library.show("heir")["modelfile"].count("RENDERER qwen3.5\nPARSER qwen3.5\n") == 1


def test_messages_keep_images_and_tool_calls(library):
    message = Message("assistant", "", "hm", (b"\x89PNG",), (ToolCall("f", {"b": 1, "a": [2]}, "c1"),), "f", "c0")

    async def run() -> None:
        async for _ in create(library, CreateRequest("m", source="nano", messages=(message,))):
            pass

    asyncio.run(run())
    assert library.resolve("m").messages == (message,)
    (raw,) = library.show("m")["messages"]
    assert list(raw) == ["role", "content", "thinking", "images", "tool_calls", "tool_name", "tool_call_id"]


def test_overwriting_prunes_what_only_the_old_one_needed(library, creating):
    old = library.find(ModelName.parse("nano-ns")).manifest
    creating(library, model="NANO-NS", source="nano-bare")
    gone = [layer for layer in old.layers if not library.blobs.has(layer.digest)]
    assert {layer.kind for layer in gone} == {"system", "license", "params", "messages"}
    assert [tag["name"] for tag in library.tags()].count("nano-ns:latest") == 1
    assert "NANO-NS:latest" not in [tag["name"] for tag in library.tags()]


def test_from_itself(library, creating):
    status, events = creating(library, model="nano", source="nano", parameters={"seed": 1})
    assert status == 200
    assert statuses(events)[0].startswith("using existing layer sha256:01c6")
    assert library.resolve("nano").parameters == {"seed": 1, "stop": ("<|im_start|>", "<|im_end|>")}


def test_an_unknown_base_is_pulled_when_somebody_can(library):
    async def run(pull) -> list[dict]:
        return [event async for event in create(library, CreateRequest("m", source="far"), pull=pull)]

    with pytest.raises(ModelNotFound, match=r"^model 'far' not found$"):
        asyncio.run(run(None))

    async def pull(name: str):
        yield {"status": f"pulling {name}"}
        library.copy("nano", name)

    assert statuses(asyncio.run(run(pull)))[0] == "pulling far"
    assert library.resolve("m").parent == "far:latest"


@pytest.mark.parametrize(
    ("license_", "kind"), [(3, "number"), (True, "bool"), ({}, "object"), (["a", 3], "number"), ([["a"]], "array")]
)
def test_licenses_of_wrong_types(library, creating, license_, kind):
    status, events = creating(library, model="m", source="nano", license=license_)
    inner = "string" if isinstance(license_, list) else "[]string"
    assert (status, statuses(events)) == (500, [f"json: cannot unmarshal {kind} into Go value of type {inner}"])


def test_a_failed_create_leaves_no_model(library, creating):
    before = sorted(tag["name"] for tag in library.tags())
    creating(library, model="new", source="nano", template="{{ if .X")
    creating(library, model="new", source="nano", quantize="Q9")
    creating(library, model="new", source="nano", quantize="IQ2_XXS")
    assert sorted(tag["name"] for tag in library.tags()) == before
    assert not (library.root / "manifests/registry.ollama.ai/library/new").exists()


def test_what_could_not_be_read_again_is_refused(library, creating):
    big = "x" * (4 * 1024 * 1024 + 1)
    for field, text in (("system", "system is over"), ("license", "license is over"), ("template", "template error")):
        status, events = creating(library, model="m", source="nano", **{field: big})
        assert status == 400
        assert events[-1]["error"].startswith(text)
    status, events = creating(library, model="m", source="nano", license=[str(n) for n in range(4096)])
    assert (status, statuses(events)) == (400, ["a model cannot have more than 4096 layers"])


# -- from files ---------------------------------------------------------------------------------------------


def test_errors_in_the_stream_come_after_their_line(library, creating):
    data = (MODELS / "nano.gguf").read_bytes()
    for content, text in (
        (b"abc", "supplied file was not in GGUF format"),
        (data[: len(data) // 2], "the file is cut short: its tensors end behind its end"),
        (data[:100], None),
    ):
        digest, _ = library.blobs.add_bytes(content)
        status, events = creating(library, model="m", files={"x.gguf": str(digest)})
        assert status == 400
        assert events[0] == {"status": "parsing GGUF"}
        assert len(events) == 2
        assert text in (None, events[1]["error"])


def test_nothing_to_make_it_from(library, creating):
    assert creating(library, model="m") == (400, [{"error": "neither 'from' or 'files' was specified"}])


def test_files_that_are_not_there_or_not_ours(library, creating):
    assert creating(library, model="m", files={})[1] == [{"error": "unknown type"}]
    status, events = creating(library, model="m", files={"x.gguf": DIGEST})
    assert (status, statuses(events)) == (
        500, ["parsing GGUF", f"open {library.root}/blobs/sha256-{'0' * 64}: no such file or directory"],
    )  # fmt: skip
    digest, _ = library.blobs.add_bytes(b"\x80\x04pickle")
    assert creating(library, model="m", files={"model.bin": str(digest)}) == (400, [{"error": "unknown type"}])
    status, events = creating(library, model="m", files={"model.safetensors": str(digest)})
    assert (status, events[-1]["error"]) == (400, "config.json is missing from the checkpoint")


def test_a_gguf_is_known_by_its_first_bytes(library, creating):
    status, _ = creating(library, model="m", files={"weights": upload(library, MODELS / "nano-bare.gguf")})
    assert status == 200
    assert library.resolve("m").weights_digest.startswith("9eb9f91b")


def test_quantize_tells_its_progress(library, creating):
    status, events = creating(library, model="q", source="nano", quantize="q4_K_M")
    assert status == 200
    progress = [event for event in events if "total" in event]
    assert progress[-1]["completed"] == progress[-1]["total"] == library.resolve("nano").weights.stat().st_size
    assert all(list(event) == ["status", "digest", "total", "completed"] for event in progress)
    assert {(e["status"], e["digest"]) for e in progress} == {("quantizing F16 model to Q4_K_M", "0" * 19)}
    rest = [s for s in statuses(events) if not s.startswith("quantizing")]
    assert rest.pop(0).startswith("warning: 15 of 20 tensors have rows of 64 or 128 values, no multiple of the 256")
    assert rest[0] == "verifying conversion"
    assert rest[1].startswith("creating new layer ")
    assert library.resolve("q").quantization == "Q4_K_M"
    again = statuses(creating(library, model="q2", source="nano", quantize="Q4_K")[1])
    assert any(s.startswith("using existing layer ") and s.split()[-1] in rest[1] for s in again)


def test_quantize_to_what_it_is_already_changes_nothing(library, creating):
    _, events = creating(library, model="q", source="nano", quantize="F16")
    assert statuses(events)[0].startswith("using existing layer")
    assert library.resolve("q").weights == library.resolve("nano").weights


def test_quantizing_the_quantized_only_when_told(library, creating):
    status, events = creating(library, model="q", source="nano-q8", quantize="Q9")
    assert (status, "unsupported quantization type Q9 - supported types are F32, F16" in events[0]["error"]) == (
        500,
        True,
    )
    status, events = creating(library, model="q", source="nano-q8", quantize="Q4_0")
    assert status == 500
    assert events[0]["error"].startswith("quantization is only supported for F16, BF16 and F32 models; allow_requant")
    assert creating(library, model="q", source="nano-q8", quantize="Q4_0", allow_requantize=True)[0] == 200
    assert library.resolve("q").quantization == "Q4_0"


def test_f32_files_without_a_file_type_are_quantized(library, creating, tmp_path):
    reader = GGUFReader(MODELS / "nano-bare.gguf")
    writer = GGUFWriter(tmp_path / "f32.gguf", "llama")
    for f in reader.fields.values():
        if not f.name.startswith("GGUF.") and f.name not in ("general.architecture", "general.file_type"):
            writer.add_key_value(f.name, f.contents(), f.types[0], f.types[1] if len(f.types) > 1 else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    files = {"f32.gguf": upload(library, tmp_path / "f32.gguf")}
    status, events = creating(library, model="q", files=files, quantize="Q8_0")
    assert status == 200
    assert any("quantizing F32 model to Q8_0" in s for s in statuses(events))
    assert library.resolve("q").quantization == "Q8_0"


def split_nano(folder: Path) -> list[Path]:
    reader = GGUFReader(MODELS / "nano-bare.gguf")
    paths = []
    for number, tensors in enumerate((reader.tensors[:9], reader.tensors[9:])):
        path = folder / f"m-{number + 1:05d}-of-00002.gguf"
        writer = GGUFWriter(path, "llama")
        for f in reader.fields.values():
            if not f.name.startswith("GGUF.") and f.name != "general.architecture":
                writer.add_key_value(f.name, f.contents(), f.types[0], f.types[1] if len(f.types) > 1 else None)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", 2)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in tensors:
            writer.add_tensor(tensor.name, np.array(tensor.data))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        paths.append(path)
    return paths


def test_split_models_become_one_blob(library, creating, tmp_path):
    files = {path.name: upload(library, path) for path in split_nano(tmp_path)}
    status, events = creating(library, model="s", files=files)
    assert status == 200
    assert statuses(events)[:3] == ["parsing GGUF", "parsing GGUF", "verifying conversion"]
    assert [kind for kind, _ in layers_of(library, "s")] == ["model"]
    assert len(library.show("s")["tensors"]) == len(library.show("nano-bare")["tensors"])
    first, second = files
    status, events = creating(library, model="s2", files={first: files[first]})
    assert status == 400
    assert events[-1]["error"] == "invalid split GGUF: 1 of 2 parts were given; upload all of them"
    status, events = creating(library, model="s2", files={"a.gguf": files[first], "b.gguf": files[second]})
    assert "must be named like model-00001-of-00002.gguf" in events[-1]["error"]
    status, events = creating(library, model="s2", files={first: files[second], second: files[first]})
    assert "says that it is another part" in events[-1]["error"]


def lora(path: Path, rows: int = 64, architecture: str = "llama") -> Path:
    zeros = np.zeros((2, 64), dtype=np.float32), np.zeros((rows, 2), dtype=np.float32)
    tensors = {"blk.0.attn_q.weight.lora_a": zeros[0], "blk.0.attn_q.weight.lora_b": zeros[1]}
    return write_gguf(path, architecture, tensors, general__type="adapter", adapter__type="lora")


def test_a_lora_adapter_becomes_a_layer(library, creating, tmp_path):
    digest = upload(library, lora(tmp_path / "a.gguf"))
    status, events = creating(library, model="tuned", source="nano", adapters={"a.gguf": digest})
    assert status == 200
    assert statuses(events)[0] == "parsing GGUF"
    spec = library.resolve("tuned")
    assert [path.name for path in spec.adapters] == [digest.replace(":", "-")]
    assert f"ADAPTER {spec.adapters[0]}" in library.show("tuned")["modelfile"]
    assert [kind for kind, _ in layers_of(library, "tuned")] == ["model", "adapter", "template", "params"]


def test_adapters_that_do_not_fit(library, creating, tmp_path):
    for path, text in (
        (lora(tmp_path / "a.gguf", rows=32), 'tensor "blk.0.attn_q.weight" has another shape'),
        (lora(tmp_path / "b.gguf", architecture="gemma"), 'for the architecture "gemma", the model is "llama"'),
        (MODELS / "nano.gguf", "no LoRA adapter in GGUF format"),
    ):
        status, events = creating(library, model="m", source="nano", adapters={"a.gguf": upload(library, path)})
        assert status == 400
        assert text in events[-1]["error"]
    two = {"a.gguf": DIGEST, "b.gguf": DIGEST}
    status, events = creating(library, model="m", source="nano", adapters=two)
    assert (status, statuses(events)) == (400, ["only one adapter is currently supported"])
    digest = upload(library, lora(tmp_path / "c.gguf"))
    status, events = creating(library, model="m", files={"c.gguf": digest})
    assert "no base model was found" in events[-1]["error"]


def test_projector_and_draft(library, creating, tmp_path):
    clip = write_gguf(tmp_path / "mmproj.gguf", "clip", {"v.x": np.zeros((4, 4), dtype=np.float32)},
                      clip__has_vision_encoder=True, clip__has_audio_encoder=True)  # fmt: skip
    files = {"m.gguf": upload(library, MODELS / "nano-bare.gguf"), "p.gguf": upload(library, clip)}
    assert creating(library, model="eyes", files=files)[0] == 200
    spec = library.resolve("eyes")
    assert len(spec.projectors) == 1
    assert spec.capabilities == {"completion", "vision", "audio"}
    assert library.show("eyes")["projector_info"]["clip.has_audio_encoder"] is True
    assert f"FROM {spec.projectors[0]}" in library.show("eyes")["modelfile"]
    draft = {"d.gguf": upload(library, MODELS / "nano-bare.gguf")}
    assert creating(library, model="fast", source="nano", files={"p.gguf": files["p.gguf"]}, draft_files=draft,
                    draft_quantize="Q8_0")[0] == 200  # fmt: skip
    fast = library.resolve("fast")
    assert fast.draft is not None
    assert library.header(library.find(ModelName.parse("fast")).manifest.of_kind("draft")[0].digest).file_type == "Q8_0"
    assert [kind for kind, _ in layers_of(library, "fast")][:3] == ["model", "projector", "draft"]
    config = library.find(ModelName.parse("fast")).config
    assert config.draft == {"model_format": "gguf", "architecture": "llama"}
    _, events = creating(library, model="x", source="nano", files={"m.gguf": files["m.gguf"]})
    assert events[-1]["error"] == "'from' and 'files' both name a model; give one of them"


def test_weights_that_llama_cpp_refuses_are_a_400(library, creating, tmp_path):
    data = (MODELS / "nano-bare.gguf").read_bytes().replace(b"llama", b"lloma")
    digest, _ = library.blobs.add_bytes(data)
    status, events = creating(library, model="m", files={"m.gguf": str(digest)})
    assert status == 400
    assert events[-1]["error"].endswith("unknown model architecture: 'lloma'")
    assert list(library.blobs.incoming.iterdir()) == []
