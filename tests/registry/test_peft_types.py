"""Every adapter type of PEFT is made small, saved by PEFT, and accepted with the right kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compress.task_vector import TREATMENTS
from registry.validation.adapter_files import inspect_files
from registry.validation.adapter_summary import AdapterSummary, Encoding
from registry.validation.findings import FindingCode
from registry.validation.local_folder import list_folder
from registry.validation.peft_types import PEFT_TYPES as ROWS
from tests.peft_zoo import PEFT_TYPES, UNBUILDABLE, make_adapter, make_base

LORA_VARIANTS: dict[str, dict[str, Any]] = {
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "bias of B": {"lora_bias": True},
    "bias all": {"bias": "all"},
    "bias lora_only": {"bias": "lora_only"},
    "rank pattern": {"rank_pattern": {"q_proj": 3, r"layers\.1\.self_attn\.v_proj": 2}},
    "pattern for targets": {"target_modules": r".*layers\.1.*(q|v)_proj"},
    "all linear": {"target_modules": "all-linear"},
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
    "trainable tokens": {"trainable_token_indices": {"embed_tokens": [1, 2]}},
    "saved head": {"modules_to_save": ["lm_head"]},
    "first layer only": {"layers_to_transform": [0]},
    "expert-wise parameter": {"target_modules": [], "target_parameters": ["mlp.down_proj.weight"]},
}
# PEFT saves X-LoRA's gate into the folder of its first expert, with the whole base model.
XLORA_CODES = [
    FindingCode.NO_TENSORS,
    FindingCode.EXTRA_TENSORS,
    FindingCode.EMBEDDINGS_INCLUDED,
    FindingCode.BASE_WEIGHTS_INCLUDED,
]
EXPECTED_CODES = {
    "bias all": [FindingCode.BIAS_TENSORS],
    "bias lora_only": [FindingCode.BIAS_TENSORS],
}


def saved(peft_type: str, folder: Path, **options: Any) -> AdapterSummary:
    pytest.importorskip("peft")
    if peft_type in UNBUILDABLE:
        pytest.skip(UNBUILDABLE[peft_type])
    make_adapter(peft_type, folder, 0, **options)
    listing = list_folder(folder)
    assert listing.findings == ()
    return inspect_files(listing.files)


@pytest.mark.parametrize("peft_type", PEFT_TYPES)
def test_every_type_is_accepted_with_its_kind(peft_type: str, tmp_path: Path) -> None:
    summary = saved(peft_type, tmp_path / "adapter")
    assert (summary.kind, summary.encoding) == (peft_type, Encoding.PEFT)
    found = [finding.code for finding in summary.warnings]
    assert found == (XLORA_CODES if peft_type == "XLORA" else [])
    assert summary.base_model == "tiny-llama"
    assert summary.compressible == bool(ROWS[peft_type].compresses)
    assert summary.compressible or summary.kept_exactly or peft_type == "XLORA"


@pytest.mark.parametrize("variant", LORA_VARIANTS)
def test_every_variant_of_lora_is_accepted(variant: str, tmp_path: Path) -> None:
    summary = saved("LORA", tmp_path / "adapter", **LORA_VARIANTS[variant])
    assert [f.code for f in summary.warnings] == EXPECTED_CODES.get(variant, [])
    assert summary.compressible


def test_the_shapes_of_a_lora_are_those_of_its_base(tmp_path: Path) -> None:
    targets = ["q_proj", "up_proj", "down_proj", "embed_tokens"]
    summary = saved("LORA", tmp_path / "adapter", target_modules=targets)
    base = make_base()
    shapes = dict(summary.module_shapes)
    assert len(shapes) == 7
    for name, (d_out, d_in) in shapes.items():
        weight = tuple(base.get_submodule(name).weight.shape)
        assert weight == ((d_in, d_out) if "embed" in name else (d_out, d_in))


def test_a_rank_that_peft_would_not_load_is_what_we_refuse(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    folder = tmp_path / "adapter"
    make_adapter("LORA", folder, 0)
    path = folder / "adapter_config.json"
    members = json.loads(path.read_text())
    path.write_text(json.dumps(members | {"r": 8}))
    with pytest.raises(RuntimeError, match="size mismatch"):
        peft.PeftModel.from_pretrained(make_base(), str(folder))
    with pytest.raises(Exception, match="another rank"):
        inspect_files(list_folder(folder).files)


def test_what_compresses_is_what_the_codec_compresses() -> None:
    assert set(TREATMENTS) == set(ROWS)
    for name, row in ROWS.items():
        assert row.compresses == {word for word, _, _ in TREATMENTS[name].parts}, name


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_complete(name: str) -> None:
    row = ROWS[name]
    assert row.name == name
    assert row.markers
    assert bool(row.compresses) != bool(row.why_kept)
    for word in row.compresses:
        assert any(marker in word for marker in row.markers)


def test_the_zoo_knows_every_type() -> None:
    assert sorted(PEFT_TYPES) == sorted(ROWS)
    assert set(UNBUILDABLE) <= {"ADAMSS"}


def test_the_zoo_is_reproducible(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    for name in ("a", "b"):
        make_adapter("LORA", tmp_path / name, 3)
    make_adapter("LORA", tmp_path / "c", 4)
    contents = [(tmp_path / n / "adapter_model.safetensors").read_bytes() for n in "abc"]
    assert contents[0] == contents[1] != contents[2]
