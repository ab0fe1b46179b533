"""Whole uploads: the real ones, the odd ones, and one crafted for every oddity."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress import Compeft, compress_adapter
from registry.errors import (
    FileError,
    HeaderError,
    LayoutError,
    LfsPointerError,
    NonFiniteError,
    PathError,
    RefusedFileError,
    UnknownKindError,
    WeightsMissingError,
)
from registry.validation.adapter_files import InspectOptions, inspect_files
from registry.validation.adapter_summary import AdapterSummary, Encoding, Kind, TernContent
from registry.validation.file_sources import BytesFile, FileSource
from registry.validation.findings import FindingCode
from registry.validation.local_folder import list_folder
from registry.validation.reasons import Reason
from registry.validation.tensor_scan import TensorScan
from tests.safetensors_files import PREFIX, Array, config, entry, good_file, lora, raw_file

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 99\n"
CONFIG, WEIGHTS, TERN = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "adapter_model.tern.safetensors",
)


def sources(files: Mapping[str, bytes]) -> dict[str, FileSource]:
    return {path: BytesFile(data) for path, data in files.items()}


def inspect(files: Mapping[str, bytes], **options: Any) -> AdapterSummary:
    return inspect_files(sources(files), options=InspectOptions(**options))


def adapter(tensors: Mapping[str, Array] | None = None, **fields: Any) -> dict[str, bytes]:
    """Return the two files of a LoRA on q and v, some of it replaced."""
    return {
        CONFIG: config(**fields),
        WEIGHTS: good_file(lora(["q", "v"]) if tensors is None else tensors),
    }


def codes(summary: AdapterSummary) -> list[FindingCode]:
    return [finding.code for finding in summary.warnings]


def refused(
    files: Mapping[str, bytes], kind: type[FileError], reason: Reason, **options: Any
) -> FileError:
    with pytest.raises(kind) as caught:
        inspect(files, **options)
    assert caught.value.reason == reason
    assert caught.value.message.isprintable()
    return caught.value


# Real uploads.

Verdict = tuple[str, int, int, list[FindingCode]]
VERDICTS: dict[str, Verdict] = {
    "adapters/distilbert-selfheal-raghava": ("LORA", 4, 12, []),
    "adapters/gpt2-cls-deepbiolab": ("LORA", 8, 36, []),
    "adapters/gpt2-gurvineet-best": ("LORA", 8, 36, []),
    "adapters/gpt2-gurvineet-ckptbest": ("LORA", 8, 36, [FindingCode.TARGETS_NOT_MET]),
    "adapters/gpt2-gurvineet-epoch1": ("LORA", 8, 36, []),
    "adapters/gpt2-gurvineet-epoch2": ("LORA", 8, 36, []),
    "adapters/gpt2-gurvineet-epoch3": ("LORA", 8, 36, []),
    "adapters/roberta-agnews-aguleon-ckpt500": (
        "LORA",
        4,
        36,
        [FindingCode.BIAS_TENSORS, FindingCode.ORIGINAL_MODULES_INCLUDED],
    ),
    "adapters/sd-disney-cloneofsimo": (
        "lora-raw",
        1,
        192,
        [FindingCode.NO_CONFIG, FindingCode.UNALIGNED],
    ),
    "adapters/sd15-catundchat": ("lora-raw", 4, 128, [FindingCode.NO_CONFIG]),
    "odd/diffusers-both-bin-and-safetensors-no-config": (
        "lora-raw",
        4,
        128,
        [FindingCode.NO_CONFIG],
    ),
    "experts/banking77": ("LORA", 8, 18, []),
    "experts/clinc150": ("LORA", 8, 18, []),
    "experts/mpqa": ("LORA", 8, 18, []),
    "experts/mr-rt-polarity": ("LORA", 8, 18, []),
    "experts/sst2": ("LORA", 8, 18, []),
    "experts/sst2-r16all": ("LORA", 16, 36, []),
    "experts/subj": ("LORA", 8, 18, []),
    "experts/trec6": ("LORA", 8, 18, []),
    "experts/trec6-lowlr": ("LORA", 8, 18, []),
    "experts/tweeteval-emotion": ("LORA", 8, 18, []),
    "experts/tweeteval-hate": ("LORA", 8, 18, []),
}


@pytest.mark.parametrize("folder", VERDICTS)
def test_a_real_adapter_has_the_expected_verdict(test_data: Path, folder: str) -> None:
    kind, rank, modules, expected = VERDICTS[folder]
    listing = list_folder(test_data / folder)
    summary = inspect_files(listing.files)
    assert (summary.kind, summary.rank, len(summary.module_shapes)) == (kind, rank, modules)
    assert sorted(codes(summary)) == sorted(expected)
    assert summary.compressible
    assert summary.encoding == (Encoding.PEFT if kind == "LORA" else Encoding.RAW)
    (weights,) = summary.weight_files
    assert weights.size_bytes == listing.files[weights.path].size_bytes
    assert 4 * sum(summary.parameters.values()) < weights.size_bytes


def test_every_shared_adapter_has_a_verdict(test_data: Path) -> None:
    rooms = ("adapters", "experts", "odd")
    found = [path for room in rooms for path in (test_data / room).iterdir() if path.is_dir()]
    folders = {f"{path.parent.name}/{path.name}" for path in found}
    refused_ones = {"odd/config-only-weights-missing", "odd/pickle-bin-old-peft-enable-lora"}
    assert folders == set(VERDICTS) | refused_ones


def test_a_real_config_without_weights_is_refused(test_data: Path) -> None:
    listing = list_folder(test_data / "odd" / "config-only-weights-missing")
    with pytest.raises(WeightsMissingError) as caught:
        inspect_files(listing.files)
    assert caught.value.file == WEIGHTS


def test_a_real_pickle_is_refused_with_the_command(test_data: Path) -> None:
    with pytest.raises(RefusedFileError) as caught:
        list_folder(test_data / "odd" / "pickle-bin-old-peft-enable-lora")
    assert caught.value.file == "adapter_model.bin"
    assert "torch.load" in caught.value.hint


def test_a_real_pickle_beside_its_twin_is_left_out(test_data: Path) -> None:
    listing = list_folder(test_data / "odd" / "diffusers-both-bin-and-safetensors-no-config")
    assert [f.code for f in listing.findings] == [FindingCode.FILE_SKIPPED]
    assert list(listing.files) == ["pytorch_lora_weights.safetensors"]


def test_what_is_kept_exactly_is_said(test_data: Path) -> None:
    summary = inspect_files(list_folder(test_data / "experts" / "sst2").files)
    assert "classifier.weight" in summary.kept_exactly
    assert "3,080 bytes" in summary.kept_exactly
    short = summary.config_summary()
    assert (short.kind, short.encoding, short.rank, short.alpha) == ("LORA", "peft", 8, 16.0)
    assert short.base_model == "sentence-transformers/all-MiniLM-L6-v2"
    assert short.parameters == 111_362


# Uploads that are refused.


def test_a_plain_adapter_has_no_warning() -> None:
    summary = inspect(adapter())
    assert summary.warnings == ()
    assert summary.module_shapes == {"q": (6, 4), "v": (6, 4)}
    assert summary.kept_exactly == ""


@pytest.mark.parametrize("path", [WEIGHTS, CONFIG, "README.md", "0/adapter_model.safetensors"])
def test_a_pointer_in_place_of_any_file_is_refused(path: str) -> None:
    error = refused(adapter() | {path: POINTER}, LfsPointerError, Reason.LFS_POINTER)
    assert error.file == path
    assert "git lfs pull" in error.hint


def test_a_config_without_weights_is_refused() -> None:
    error = refused({CONFIG: config()}, WeightsMissingError, Reason.WEIGHTS_MISSING)
    assert error.file == WEIGHTS
    named = {CONFIG: config(), "lora.safetensors": good_file(lora(["q"]))}
    error = refused(named, WeightsMissingError, Reason.WEIGHTS_MISSING)
    assert error.actual == "lora.safetensors"


def test_weights_without_tensors_are_refused() -> None:
    refused(adapter({}), WeightsMissingError, Reason.WEIGHTS_MISSING)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("adapter_model.bin", Reason.PICKLE),
        ("optimizer.pt", Reason.PICKLE),
        ("modeling.py", Reason.CODE),
        ("x.zip", Reason.ARCHIVE),
    ],
)
def test_the_hub_refuses_what_a_client_leaves_out(path: str, reason: Reason) -> None:
    assert refused(adapter() | {path: b"x"}, RefusedFileError, reason).file == path


def test_a_bad_path_is_refused() -> None:
    refused(adapter() | {"../x": b""}, PathError, Reason.PATH_PARENT)


def test_a_broken_file_beside_a_good_one_is_refused() -> None:
    files = adapter() | {"extra.safetensors": raw_file(b" {}")}
    assert refused(files, HeaderError, Reason.HEADER_START).file == "extra.safetensors"


def test_names_that_peft_would_not_write_are_refused_beside_a_config() -> None:
    tensors = lora(["q", "v"]) | {"unet:0:down": np.ones((2, 2), np.float32)}
    assert refused(adapter(tensors), HeaderError, Reason.TENSOR_NAME).field == "unet:0:down"


def test_an_unpaired_factor_is_refused() -> None:
    tensors = lora(["q", "v"])
    del tensors[f"{PREFIX}v.lora_B.weight"]
    assert refused(adapter(tensors), LayoutError, Reason.KEYS_UNPAIRED).field == "v"


def test_factors_of_two_adapters_are_refused() -> None:
    tensors = lora(["q", "v"]) | {f"{PREFIX}v.lora_B.weight": np.ones((6, 3), np.float32)}
    assert refused(adapter(tensors), LayoutError, Reason.SHAPE_MISMATCH).field == "v"


def test_a_rank_that_the_config_does_not_explain_is_refused() -> None:
    error = refused(adapter(r=8), LayoutError, Reason.RANK_MISMATCH)
    assert error.expected.startswith("rank 8")
    assert error.actual == "rank 2"
    assert "2 of 2 modules" in error.message


def test_a_rank_pattern_is_obeyed() -> None:
    tensors = lora(["q"], rank=2) | lora(["layers.1.v"], rank=5)
    summary = inspect(adapter(tensors, rank_pattern={"v": 5}))
    assert summary.warnings == ()
    refused(adapter(tensors, rank_pattern={"v": 4}), LayoutError, Reason.RANK_MISMATCH)
    refused(adapter(tensors, rank_pattern={r"layers\.0\.v": 5}), LayoutError, Reason.RANK_MISMATCH)
    assert not inspect(adapter(tensors, rank_pattern={r"layers\.\d+\.v": 5})).warnings


def test_the_first_fitting_pattern_counts_as_in_peft() -> None:
    tensors = lora(["q"], rank=3) | lora(["v"], rank=2)
    assert not inspect(adapter(tensors, rank_pattern={"q": 3, "[qv]": 2})).warnings
    refused(adapter(tensors, rank_pattern={"[qv]": 2, "q": 3}), LayoutError, Reason.RANK_MISMATCH)


def test_a_pattern_that_is_not_understood_is_not_guessed_at() -> None:
    tensors = lora(["q"], rank=2) | lora(["v"], rank=5)
    summary = inspect(adapter(tensors, rank_pattern={"(?!q).*": 5}))
    assert codes(summary) == [FindingCode.PATTERN_NOT_EVALUATED]


def test_expert_wise_parameters_may_multiply_the_rank() -> None:
    tensors = lora(["experts"], rank=8)
    assert not codes(
        inspect(adapter(tensors, target_modules=None, target_parameters=["experts.w"]))
    )


def test_a_config_of_another_type_is_refused() -> None:
    error = refused(adapter(peft_type="IA3"), LayoutError, Reason.KEYS_FOREIGN)
    assert "IA3" in error.message


def test_a_whole_model_under_an_adapters_name_is_refused() -> None:
    tensors = {"model.embed_tokens.weight": np.ones((4, 2), np.float32)}
    refused(adapter(tensors), LayoutError, Reason.KEYS_FOREIGN)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_unless_allowed(bad: float) -> None:
    tensors = lora(["q", "v"])
    tensors[f"{PREFIX}q.lora_B.weight"][3, 1] = bad
    error = refused(adapter(tensors), NonFiniteError, Reason.NON_FINITE)
    assert error.field == f"{PREFIX}q.lora_B.weight"
    assert "index 7" in error.message
    summary = inspect(adapter(tensors), allow_non_finite=True)
    assert codes(summary) == [FindingCode.NON_FINITE]


def test_every_value_nan_is_refused() -> None:
    tensors: dict[str, Array] = {k: np.full_like(v, np.nan) for k, v in lora(["q", "v"]).items()}
    refused(adapter(tensors), NonFiniteError, Reason.NON_FINITE)


def test_a_scan_done_before_is_used() -> None:
    files = adapter()
    names = frozenset(lora(["q", "v"]))
    summary = inspect(files, scans={WEIGHTS: TensorScan(names, {})})
    assert codes(summary) == [FindingCode.ALL_B_ZERO]


# Uploads that are accepted with a warning.


@pytest.mark.parametrize(
    ("zero", "code", "count"),
    [
        (["q", "v"], FindingCode.ALL_B_ZERO, "2 of 2"),
        (["v"], FindingCode.SOME_B_ZERO, "1 of 2"),
    ],
)
def test_a_zero_b_is_counted(zero: list[str], code: FindingCode, count: str) -> None:
    tensors = lora(["q", "v"])
    for module in zero:
        tensors[f"{PREFIX}{module}.lora_B.weight"][:] = 0
    summary = inspect(adapter(tensors))
    assert codes(summary) == [code]
    assert count in summary.warnings[0].message


ONE = np.ones((3, 4), np.float32)
EXTRAS: list[tuple[str, dict[str, Any], list[FindingCode]]] = [
    ("classifier.weight", {"modules_to_save": ["classifier"]}, []),
    ("pre_classifier.weight", {"modules_to_save": ["classifier", "score"]}, []),
    ("classifier.dense.weight", {"modules_to_save": ["classifier"]}, []),
    ("classifier.weight", {"modules_to_save": None}, [FindingCode.HEADS_NOT_DECLARED]),
    ("score.weight", {}, [FindingCode.HEADS_NOT_DECLARED]),
    ("layer.0.bias", {"bias": "all"}, [FindingCode.BIAS_TENSORS]),
    ("layer.0.bias", {"bias": "none"}, [FindingCode.EXTRA_TENSORS]),
    ("model.embed_tokens.weight", {}, [FindingCode.EMBEDDINGS_INCLUDED]),
    ("lm_head.weight", {}, [FindingCode.EMBEDDINGS_INCLUDED]),
    ("lm_head.weight", {"modules_to_save": ["lm_head"]}, []),
    ("q.base_layer.weight", {}, [FindingCode.BASE_WEIGHTS_INCLUDED]),
    (
        "score.original_module.weight",
        {"modules_to_save": ["score"]},
        [FindingCode.ORIGINAL_MODULES_INCLUDED],
    ),
    ("something.weight", {}, [FindingCode.EXTRA_TENSORS]),
]


@pytest.mark.parametrize(("name", "fields", "expected"), EXTRAS)
def test_other_tensors_are_named_for_what_they_are(
    name: str, fields: dict[str, Any], expected: list[FindingCode]
) -> None:
    summary = inspect(adapter(lora(["q", "v"]) | {PREFIX + name: ONE}, **fields))
    assert codes(summary) == expected
    assert "48 bytes" in summary.kept_exactly
    for finding in summary.warnings:
        assert finding.field == name
        assert "48 bytes" in finding.message


def test_a_head_that_was_not_saved_is_named() -> None:
    summary = inspect(adapter(modules_to_save=["lm_head", "classifier"]))
    (finding,) = summary.warnings
    assert finding.code == FindingCode.HEADS_NOT_SAVED
    assert "classifier, lm_head" in finding.message


def test_one_of_pefts_two_default_heads_is_enough() -> None:
    tensors = lora(["q", "v"]) | {f"{PREFIX}score.weight": ONE}
    assert not inspect(adapter(tensors, modules_to_save=["classifier", "score"])).warnings


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["q", "v"], []),
        (["q", "v", "k"], [FindingCode.TARGETS_NOT_MET]),
        (["q"], [FindingCode.KEYS_NOT_TARGETED]),
        (["k"], [FindingCode.TARGETS_NOT_MET, FindingCode.KEYS_NOT_TARGETED]),
        ("q|v", []),
        ("q", [FindingCode.KEYS_NOT_TARGETED]),
        (".*", []),
        ("all-linear", []),
        ("(?i)Q", [FindingCode.PATTERN_NOT_EVALUATED]),
        (None, []),
    ],
)
def test_targets_and_keys_are_compared(targets: Any, expected: list[FindingCode]) -> None:
    assert codes(inspect(adapter(target_modules=targets))) == expected


@pytest.mark.parametrize(("use_dora", "magnitudes"), [(True, False), (False, True)])
def test_dora_that_does_not_fit_is_a_warning(use_dora: bool, magnitudes: bool) -> None:
    tensors = lora(["q", "v"])
    if magnitudes:
        tensors |= {f"{PREFIX}{m}.lora_magnitude_vector": np.ones(6, np.float32) for m in "qv"}
    assert codes(inspect(adapter(tensors, use_dora=use_dora))) == [FindingCode.DORA_INCONSISTENT]
    assert not codes(inspect(adapter(tensors, use_dora=not use_dora)))


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        (None, [FindingCode.BASE_MISSING]),
        ("D:\\模型\\qwen", [FindingCode.BASE_IS_PATH]),
        ("google/gemma-3-270m-it", []),
    ],
)
def test_the_base_is_named_as_written(base: str | None, expected: list[FindingCode]) -> None:
    summary = inspect(adapter(base_model_name_or_path=base))
    assert codes(summary) == expected
    assert summary.base_model == base


def test_an_unknown_type_is_kept_as_it_is() -> None:
    summary = inspect(adapter(peft_type="FUTURE"))
    assert (summary.kind, summary.compressible) == ("FUTURE", False)
    assert codes(summary) == [FindingCode.UNKNOWN_PEFT_TYPE]


# Uploads without a configuration.


def test_peft_keys_without_a_config_are_a_raw_lora() -> None:
    summary = inspect({"adapter_model.safetensors": good_file(lora(["q", "v"]))})
    assert (summary.kind, summary.encoding, summary.rank) == ("lora-raw", Encoding.RAW, 2)
    (finding,) = summary.warnings
    assert finding.code == FindingCode.NO_CONFIG
    assert "scale" in finding.hint


def test_kohya_keys_are_a_raw_lora_with_alphas_kept() -> None:
    tensors: dict[str, Array] = {
        "lora_te_x.lora_down.weight": np.ones((2, 4), np.float32),
        "lora_te_x.lora_up.weight": np.ones((6, 2), np.float32),
        "lora_te_x.alpha": np.array(1.0, np.float32),
    }
    summary = inspect({"style.safetensors": good_file(tensors)})
    assert summary.module_shapes == {"lora_te_x": (6, 4)}
    assert summary.kept_exactly.startswith("lora_te_x.alpha")


def test_lycoris_keys_are_a_raw_lora() -> None:
    tensors: dict[str, Array] = {f"lora_x.hada_w{i}_{s}": ONE for i in (1, 2) for s in "ab"}
    summary = inspect({"x.safetensors": good_file(tensors)})
    assert (summary.kind, summary.rank, summary.compressible) == ("lora-raw", None, True)


def test_two_raw_files_are_one_adapter() -> None:
    summary = inspect(
        {
            "te.safetensors": good_file(lora(["a"])),
            "unet.safetensors": good_file(lora(["b"], rank=3)),
        }
    )
    assert set(summary.module_shapes) == {"a", "b"}
    assert summary.rank is None
    assert len(summary.weight_files) == 2
    assert not summary.compressible
    assert "push each alone" in summary.kept_exactly


def sparse(count: int = 3) -> dict[str, Array]:
    return {
        "layer.w.indices": np.arange(count, dtype=np.int64),
        "layer.w.values": np.ones(count, np.float32),
    }


def test_pairs_of_indices_and_values_are_a_sparse_delta() -> None:
    summary = inspect({"delta.safetensors": good_file(sparse())})
    assert (summary.kind, summary.encoding) == (Kind.SPARSE_DELTA, Encoding.RAW)
    assert summary.compressible
    assert summary.kept_exactly.startswith("layer.w.indices (1 tensors")
    assert not inspect({"delta.safetensors": good_file(sparse(0))}).compressible


@pytest.mark.parametrize(
    "change",
    [
        {"layer.w.values": np.ones(4, np.float32)},
        {"layer.w.indices": np.ones(3, np.float32)},
        {"layer.w.indices": np.array(3)},
        {"layer.w.values": np.ones(3, np.int64)},
        {"other": np.ones(3, np.float32)},
    ],
)
def test_what_only_looks_like_a_sparse_delta_is_not(change: dict[str, Array]) -> None:
    files = {"delta.safetensors": good_file(sparse() | change)}
    refused(files, UnknownKindError, Reason.UNKNOWN_KIND)


DENSE: dict[str, Array] = {
    "model.q.weight": np.ones((6, 4), np.float32),
    "model.norm": np.ones(4, np.float32),
}


@pytest.mark.parametrize("kind", [Kind.FULL_RESIDUAL, Kind.FULL_MODEL])
def test_dense_weights_are_accepted_when_declared(kind: Kind) -> None:
    files = {"model.safetensors": good_file(DENSE), "config.json": b"{}"}
    error = refused(files, UnknownKindError, Reason.UNKNOWN_KIND)
    assert kind in error.hint
    summary = inspect(files, declared_kind=kind)
    assert summary.kind == kind
    assert summary.module_shapes == {"model.q": (6, 4)}
    assert summary.compressible
    assert ("its base model" in summary.kept_exactly) == (kind is Kind.FULL_MODEL)


@pytest.mark.parametrize("files", [{}, {"README.md": b"x"}, {"config.json": b"{}"}])
def test_nothing_that_we_know_is_refused_with_what_was_seen(files: dict[str, bytes]) -> None:
    error = refused(files, UnknownKindError, Reason.UNKNOWN_KIND)
    assert error.actual == (", ".join(files) or "no files")


def test_an_adapter_one_folder_down_is_pointed_at() -> None:
    files = {f"checkpoint-5/{path}": data for path, data in adapter().items()}
    error = refused(files, UnknownKindError, Reason.UNKNOWN_KIND)
    assert "'checkpoint-5'" in error.hint


# Compressed adapters.

STREAMS = {"index": np.zeros(40, np.uint8), "trits": np.zeros(9, np.uint8)}
TERN_BYTES = good_file(STREAMS, {"format": "tern", "version": "1"})


def test_a_tern_beside_its_config_has_the_configs_kind() -> None:
    summary = inspect({CONFIG: config(), TERN: TERN_BYTES})
    assert (summary.kind, summary.encoding, summary.rank) == ("LORA", Encoding.TERN, 2)
    assert not summary.compressible


@pytest.mark.parametrize("path", ["expert.tern", "adapter_model.tern.safetensors"])
def test_a_tern_alone_carries_its_config(path: str) -> None:
    content = TernContent(Kind.LORA_RAW, config(), {"F32": 40}, {"q": (6, 4)})
    summary = inspect({path: TERN_BYTES}, read_tern=lambda _: content)
    assert (summary.kind, summary.encoding, summary.base_model) == ("LORA", Encoding.TERN, "tiny")
    assert summary.parameters == {"F32": 40}
    assert summary.module_shapes == {"q": (6, 4)}
    assert summary.config_summary().parameters == 40


@pytest.mark.parametrize("path", ["expert.tern", "pytorch_lora_weights.tern.safetensors"])
def test_a_tern_without_a_config_is_a_raw_lora(path: str) -> None:
    summary = inspect({path: TERN_BYTES}, read_tern=lambda _: TernContent())
    assert (summary.kind, summary.encoding, summary.warnings) == ("lora-raw", Encoding.TERN, ())
    unread = inspect({path: TERN_BYTES})
    assert unread.kind == Kind.TERN
    assert codes(unread)[0] == FindingCode.TERN_CONFIG_UNREAD
    assert unread.parameters == {}


@pytest.mark.parametrize(
    ("inside", "declared", "kind"),
    [
        (Kind.FULL_RESIDUAL, "full-model", "full-model"),
        (Kind.FULL_RESIDUAL, "full-residual", "full-residual"),
        (Kind.FULL_RESIDUAL, "", "full-residual"),
        (Kind.SPARSE_DELTA, "full-model", "sparse-delta"),
    ],
)
def test_a_compressed_model_may_be_declared_that_model(
    inside: Kind, declared: str, kind: str
) -> None:
    content = TernContent(inside, compressible=False, kept_exactly="all")
    files = {"x.tern": TERN_BYTES, "original/x.safetensors": good_file(lora(["q"]))}
    summary = inspect(files, read_tern=lambda _: content, declared_kind=declared)
    assert (summary.kind, summary.compressible, summary.kept_exactly) == (kind, False, "all")


@pytest.mark.parametrize("source", ["experts/sst2", "adapters/sd15-catundchat"])
@pytest.mark.parametrize("target", ["one.tern", "folder"])
def test_what_the_codec_writes_is_accepted(
    test_data: Path, tmp_path: Path, source: str, target: str
) -> None:
    compress_adapter(test_data / source, tmp_path / target, method=Compeft())
    summary = inspect_files(list_folder(tmp_path / target).files)
    assert summary.encoding == Encoding.TERN
    known = target == "folder" and source == "experts/sst2"
    assert summary.kind == ("LORA" if known else Kind.TERN)


@pytest.mark.parametrize(
    "content",
    [
        good_file(STREAMS, {"format": "pt"}),
        good_file({"index": np.zeros(4, np.float32)}, {"format": "tern"}),
        good_file({"weights": np.zeros(4, np.uint8)}, {"format": "tern"}),
        good_file({}, {"format": "tern"}),
        good_file(lora(["q"])),
    ],
)
@pytest.mark.parametrize("path", [TERN, "expert.tern"])
def test_what_only_looks_like_a_tern_is_refused(content: bytes, path: str) -> None:
    files = {path: content} | ({CONFIG: config()} if path == TERN else {})
    refused(files, LayoutError, Reason.TERN_INVALID)


def test_the_order_of_a_header_does_not_matter() -> None:
    names = [f"{PREFIX}q.lora_B.weight", f"{PREFIX}q.lora_A.weight"]
    header = {names[0]: entry("F16", [3, 2], 8, 20), names[1]: entry("F16", [2, 2], 0, 8)}
    data = raw_file(header, np.ones(10, np.float16).tobytes(), pad=True)
    summary = inspect({CONFIG: config(target_modules=["q"]), WEIGHTS: data})
    assert summary.module_shapes == {"q": (3, 2)}
    assert summary.parameters == {"F16": 10}
