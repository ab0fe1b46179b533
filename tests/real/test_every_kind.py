"""Push, show, compress, publish and pull adapters of every kind through a real hub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from api.client import HubClient
from api.remote.credentials import Access
from api.schemas import RevisionBody
from api.workflows.compress import CompressOptions, Origin, compress_and_push, fetch_origin
from api.workflows.pull import PulledRevision, PullOptions, WantedEncoding, pull
from api.workflows.push import PushOptions, push
from compress import Compeft, CompressionReport, inspect
from compress.errors import BaseMismatchError
from registry.manifest import Operation
from registry.refs import Reference
from tests.compress.closed_form import predicted, published
from tests.live_hub import start_hub
from tests.peft_zoo import PEFT_TYPES, UNBUILDABLE, logits, make_adapter, make_base

Array = NDArray[Any]
Tensors = Mapping[str, Array]
DENSITY = 0.3
WEIGHTS, CONFIG, MODEL = "adapter_model.safetensors", "adapter_config.json", "model.safetensors"
RUN = ("LORA", "IA3", "LOKR", "OFT", "VERA", "SHIRA", "PROMPT_TUNING", "LN_TUNING")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubClient]:
    """Give a client of one hub for the whole module."""
    with (
        start_hub(tmp_path_factory.mktemp("hub")) as live,
        HubClient(Access(live.url)) as opened,
    ):
        yield opened


def pulled(
    client: HubClient, name: str, folder: Path, *, base: Path | None = None, tern: bool = False
) -> PulledRevision:
    """Pull a revision."""
    encoding = WantedEncoding.TERN if tern else WantedEncoding.PEFT
    options = PullOptions(folder.parent / "cache", encoding, base=base)
    return pull(client, Reference.parse(name), folder, options=options)


def published_small(
    client: HubClient, name: str, work: Path, options: CompressOptions | None = None
) -> tuple[CompressionReport, RevisionBody]:
    """Compress a revision and publish the result beside it."""
    options = options or CompressOptions(Compeft(DENSITY))
    origin = fetch_origin(
        client, Reference.parse(name), work / "origin", cache_dir=work / "c", base=options.base
    )
    target = Reference.parse(f"{name}-small")
    report, result = compress_and_push(client, origin, target, options=options)
    return report, result.revision


def contents(folder: Path) -> dict[str, bytes]:
    """Read every file of a folder."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def check_said(revision: RevisionBody, report: CompressionReport) -> None:
    """Compare what `show` says of a revision with what compressing does."""
    config = revision.manifest.config
    assert config.compressible == bool(report.parameters)
    found = re.search(r"([0-9]+) tensors", config.kept_exactly)
    assert int(found[1] if found else 0) == len(report.exact_tensors)
    named = config.kept_exactly.split(" (")[0].split(" and ")[0].split(", ")
    if config.compressible and report.exact_tensors:
        assert set(named) <= set(report.exact_tensors)


def check_lineage(small: RevisionBody, source: RevisionBody, report: CompressionReport) -> None:
    """Check where a compressed revision says that it comes from, and what it cost."""
    edges = small.manifest.lineage
    made = next(edge for edge in edges if edge.operation is Operation.COMPRESSED_FROM)
    assert (made.revision, made.parameters["density"]) == (source.digest, DENSITY)
    assert small.manifest.config.encoding == "tern"
    assert small.manifest.config.kind == source.manifest.config.kind
    assert small.manifest.config.parameters == source.manifest.config.parameters
    assert small.manifest.metrics["ratio"] == pytest.approx(report.ratio)
    assert small.manifest.base_model == source.manifest.base_model


def check_values(found: Tensors, expected: Tensors) -> None:
    """Compare every value of every tensor."""
    assert set(found) == set(expected)
    for key, value in expected.items():
        assert found[key].dtype == value.dtype
        np.testing.assert_array_equal(found[key], value, err_msg=key)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("peft_type", PEFT_TYPES)
def test_every_peft_type(client: HubClient, peft_type: str, tmp_path: Path) -> None:
    if peft_type in UNBUILDABLE:
        pytest.skip(UNBUILDABLE[peft_type])
    folder, name = tmp_path / "adapter", f"peft/{peft_type.lower()}"
    make_adapter(peft_type, folder)
    config = folder / CONFIG
    config.write_text(config.read_text().replace("{", '{ "from_the_future": [1e3],', 1))
    first = push(client, folder, Reference.parse(name)).revision
    assert first.manifest.config.kind == peft_type
    pulled(client, name, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(folder)

    report, small = published_small(client, name, tmp_path)
    check_said(first, report)
    check_said(small, report)
    check_lineage(small, first, report)
    assert pulled(client, f"{name}-small", tmp_path / "small").decoded
    files, original = contents(tmp_path / "small"), contents(folder)
    assert {**files, WEIGHTS: b""} == {**original, WEIGHTS: b""}
    expected = predicted(load_file(folder / WEIGHTS), report.exact_tensors, DENSITY)
    check_values(load_file(tmp_path / "small" / WEIGHTS), expected)
    if not report.parameters:
        assert any("everything is kept exactly" in text for text in report.warnings)
    if peft_type in RUN:
        save_file(dict(expected), folder / WEIGHTS, {"format": "pt"})
        found = logits(tmp_path / "small")
        np.testing.assert_array_equal(found, logits(folder))
    else:
        load(tmp_path / "small")


def load(folder: Path) -> None:
    """Load an adapter onto the tiny base."""
    from peft import PeftModel

    base = make_base()
    base.config.use_cache = False  # X-LoRA insists
    assert PeftModel.from_pretrained(base, folder).peft_config


def lora_pairs(down: str, up: str, **more: Array) -> dict[str, Array]:
    """Make the factors of two modules under the names of some trainer."""
    rng = np.random.default_rng(0)
    tensors = dict(more)
    for at, module in enumerate(("to_q", "to_v")):
        a, b = rng.normal(size=(4, 24)), 0.1 * rng.normal(size=(16, 4))
        tensors[down.format(module=module, at=at)] = a.astype(np.float16)
        tensors[up.format(module=module, at=at)] = b.astype(np.float16)
    return tensors


def sparse(*, count: int = 40) -> dict[str, Array]:
    """Make a sparse delta of two tensors."""
    rng = np.random.default_rng(0)
    tensors: dict[str, Array] = {}
    for name in ("layers.0.q.weight", "layers.1.q.weight"):
        chosen = np.sort(rng.choice(256, count, replace=False))
        tensors[f"{name}.indices"] = chosen.astype(np.int32)
        tensors[f"{name}.values"] = rng.normal(size=count).astype(np.float32)
    return tensors


ALPHA = np.array(2.0, np.float16)
RAW: dict[str, dict[str, Array]] = {
    "lora-raw/diffusers": lora_pairs(
        "unet.attn1.processor.{module}_lora.down.weight",
        "unet.attn1.processor.{module}_lora.up.weight",
    ),
    "lora-raw/kohya": lora_pairs(
        "lora_unet_mid_{module}.lora_down.weight",
        "lora_unet_mid_{module}.lora_up.weight",
        **{"lora_unet_mid_to_q.alpha": ALPHA, "lora_unet_mid_to_v.alpha": ALPHA},
    ),
    "lora-raw/cloneofsimo": lora_pairs("unet:{at}:down", "unet:{at}:up"),
    "lora-raw/peft": lora_pairs("m.{module}.lora_A.weight", "m.{module}.lora_B.weight"),
    "sparse-delta/pairs": sparse(),
}


@pytest.mark.parametrize("name", RAW)
def test_weights_without_a_config(client: HubClient, name: str, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_file(RAW[name], folder / "weights.safetensors", {"made_by": "a test"})
    (folder / "README.md").write_text("# ours\n")
    check_without_config(client, name, folder, tmp_path)


@pytest.mark.parametrize("which", ["sd-disney-cloneofsimo", "sd15-catundchat"])
def test_real_weights_without_a_config(
    client: HubClient, test_data: Path, which: str, tmp_path: Path
) -> None:
    check_without_config(client, f"lora-raw/{which}", test_data / "adapters" / which, tmp_path)


def check_without_config(client: HubClient, name: str, folder: Path, work: Path) -> None:
    """Send a folder through the hub in both encodings and compare everything."""
    first = push(client, folder, Reference.parse(name)).revision
    assert first.manifest.config.kind == name.split("/", maxsplit=1)[0]
    original, weights = contents(folder), next(folder.glob("*.safetensors")).name
    pulled(client, name, work / "back")
    assert contents(work / "back") == original
    report, small = published_small(client, name, work)
    check_said(first, report)
    check_said(small, report)
    check_lineage(small, first, report)
    assert pulled(client, f"{name}-small", work / "small").decoded
    assert {**contents(work / "small"), weights: b""} == {**original, weights: b""}
    expected = predicted(load_file(folder / weights), report.exact_tensors, DENSITY)
    check_values(load_file(work / "small" / weights), expected)
    pulled(client, name, work / "tern", tern=True)
    again = published_small(client, f"{name}-small", work / "again")[1]
    assert again.manifest.config == small.manifest.config


def test_a_lone_compressed_file_is_an_adapter(client: HubClient, tmp_path: Path) -> None:
    weights = tmp_path / "kohya.safetensors"
    save_file(RAW["lora-raw/kohya"], weights)
    target = Reference.parse("lora-raw/lone")
    report, result = compress_and_push(
        client, Origin(weights), target, options=CompressOptions(Compeft(DENSITY))
    )
    assert [file.path for file in result.revision.manifest.files] == ["kohya.tern"]
    assert result.revision.manifest.lineage == []
    pulled(client, "lora-raw/lone", tmp_path / "back")
    expected = predicted(load_file(weights), report.exact_tensors, DENSITY)
    check_values(load_file(tmp_path / "back" / "kohya.safetensors"), expected)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a base model, and one that was tuned from it and has a head more."""
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("models")
    base = make_base()
    base.save_pretrained(folder / "base")
    base.save_pretrained(folder / "tuned")
    rng = np.random.default_rng(0)
    tensors = {
        key: value + np.float32(0.02) * rng.standard_normal(value.shape, np.float32)
        for key, value in load_file(folder / "base" / MODEL).items()
    }
    save_file({**tensors, "head.steps": np.arange(3)}, folder / "tuned" / MODEL, {"format": "pt"})
    differences = {
        key: tensors[key] - value for key, value in load_file(folder / "base" / MODEL).items()
    }
    (folder / "residual").mkdir()
    save_file(differences, folder / "residual" / MODEL)
    return folder


def test_a_full_fine_tune(client: HubClient, models: Path, tmp_path: Path) -> None:
    tuned, base, name = models / "tuned", models / "base", "full/tuned"
    options = PushOptions(kind="full-model", base_model="tiny-llama")
    first = push(client, tuned, Reference.parse(name), options=options).revision
    config = first.manifest.config
    assert (config.kind, config.compressible) == ("full-model", True)
    assert "head.steps" in config.kept_exactly
    pulled(client, name, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(tuned)

    chosen = CompressOptions(Compeft(DENSITY), base=base)
    report, small = published_small(client, name, tmp_path, chosen)
    check_lineage(small, first, report)
    check_said(small, report)
    assert report.exact_tensors == ("head.steps",)
    with pytest.raises(BaseMismatchError, match="base model"):
        pulled(client, f"{name}-small", tmp_path / "small")
    assert not (tmp_path / "small").exists()
    assert pulled(client, f"{name}-small", tmp_path / "small", base=base).decoded
    assert {**contents(tmp_path / "small"), MODEL: b""} == {**contents(tuned), MODEL: b""}

    before, after = load_file(base / MODEL), load_file(tuned / MODEL)
    signs, scale = published({key: after[key] - before[key] for key in before}, DENSITY)
    expected = {
        key: before[key] + sign.astype(np.float32) * np.float32(scale)
        for key, sign in signs.items()
    }
    found = load_file(tmp_path / "small" / MODEL)
    check_values(found, {**expected, "head.steps": np.arange(3)})
    again, smaller = published_small(client, f"{name}-small", tmp_path / "again", chosen)
    assert again.exact_tensors == report.exact_tensors
    assert smaller.manifest.config.kind == "full-model"


def test_a_full_fine_tune_without_its_base_is_kept_exactly(
    client: HubClient, models: Path, tmp_path: Path
) -> None:
    name, options = "full/alone", PushOptions(kind="full-model")
    push(client, models / "tuned", Reference.parse(name), options=options)
    report, small = published_small(client, name, tmp_path)
    assert any("base model" in text for text in report.warnings)
    assert not small.manifest.config.compressible
    pulled(client, f"{name}-small", tmp_path / "small")
    check_values(load_file(tmp_path / "small" / MODEL), load_file(models / "tuned" / MODEL))


def test_a_residual(client: HubClient, models: Path, tmp_path: Path) -> None:
    name, folder = "full/residual", models / "residual"
    options = PushOptions(kind="full-residual", base_model="tiny-llama")
    first = push(client, folder, Reference.parse(name), options=options).revision
    pulled(client, name, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(folder)
    report, small = published_small(client, name, tmp_path)
    check_said(first, report)
    check_said(small, report)
    check_lineage(small, first, report)
    assert pulled(client, f"{name}-small", tmp_path / "small").decoded
    expected = predicted(load_file(folder / MODEL), (), DENSITY)
    check_values(load_file(tmp_path / "small" / MODEL), expected)
    tern = pulled(client, name, tmp_path / "tern", tern=True).folder
    seen = inspect(tern, against=folder)
    assert (seen.treatment, seen.parameters) == ("fine-tuned minus base", report.parameters)
    assert all(row.error is not None and 0 < row.error < 1 for row in seen.modules)


@pytest.mark.filterwarnings("ignore")
def test_the_model_that_comes_back_runs(models: Path, client: HubClient, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    push(
        client,
        models / "base",
        Reference.parse("full/base"),
        options=PushOptions(kind="full-model"),
    )
    pulled(client, "full/base", tmp_path / "back")
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "back")
    with torch.no_grad():
        tokens = torch.arange(10)[None]
        assert torch.equal(model.eval()(tokens).logits, make_base()(tokens).logits)
