"""Run commands on adapters of other kinds: what is compressed, what is kept, who says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.command_line import CommandLine
from tests.compress.closed_form import predicted
from tests.safetensors_files import Array, lora

FLOAT = np.float32


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def peft_folder(folder: Path, tensors: dict[str, Array], **config: object) -> Path:
    """Write a PEFT folder."""
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    (folder / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": "tiny", "task_type": "CAUSAL_LM", **config})
    )
    return folder


def test_a_prompt_is_kept_exactly_and_that_is_said(
    cli: CommandLine, random: np.random.Generator
) -> None:
    prompt = {"prompt_embeddings": random.standard_normal((4, 8), FLOAT)}
    peft_folder(cli.folder / "a", prompt, peft_type="PROMPT_TUNING", num_virtual_tokens=4)
    cli("push", "./a", "kinds/prompt")
    shown = cli("show", "kinds/prompt").out
    assert "no: everything is kept exactly" in shown
    assert "all 1 tensors (128 bytes): a learnt prompt" in shown
    ran = cli("compress", "kinds/prompt", "--as", "kinds/prompt-small")
    assert "warning: nothing has a task vector, everything is kept exactly" in ran.err
    assert "1 tensors" in ran.out
    small = cli("show", "kinds/prompt-small").out
    assert "without loss" in small
    assert "encoding tern" in small
    cli("pull", "kinds/prompt-small", "--to", "back")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert Path("back", name).read_bytes() == Path("a", name).read_bytes()


def test_a_compressed_revision_shows_what_it_came_to(cli: CommandLine, examples: Path) -> None:
    cli("push", examples / "sst2", "kinds/sst2")
    told = cli.json("compress", "kinds/sst2", "--as", "kinds/sst2-small", "--bits", "0.5")
    shown = cli("show", "kinds/sst2-small").out
    line = next(line for line in shown.splitlines() if line.startswith("compressed "))
    assert f"{told['ratio']:.1f}×" in line
    assert f"{told['bits_per_param']:.3f} bits per parameter" in line
    assert f"error of ΔW {told['delta_error']:.4f}" in line
    assert "111,362" in shown
    assert "classifier" in next(x for x in shown.splitlines() if x.startswith("kept exactly"))


def test_what_lineage_names_can_be_compared_with(cli: CommandLine, examples: Path) -> None:
    cli("push", examples / "sst2", "kinds/original")
    made = cli.json("compress", "kinds/original", "--as", "kinds/small", "--bits", "0.5")
    edge = cli.json("show", "kinds/small")["manifest"]["lineage"][0]
    original = f"{edge['adapter']}@{edge['revision']}"
    told = cli.json("inspect", "kinds/small", "--against", original)
    assert told["delta_error"] == pytest.approx(made["delta_error"], rel=1e-4)
    assert cli.json("inspect", "kinds/small")["delta_error"] is None


def test_weights_without_a_config_are_published_with_their_companions(cli: CommandLine) -> None:
    folder = cli.folder / "diffusers"
    (folder / "images").mkdir(parents=True)
    tensors = {
        key.replace("lora_A", "lora.down").replace("lora_B", "lora.up"): value
        for key, value in lora(["to_q", "to_v"]).items()
    }
    save_file(tensors, folder / "pytorch_lora_weights.safetensors")
    (folder / "README.md").write_text("# a style\n")
    (folder / "images" / "a.json").write_text("{}")
    cli("push", folder, "kinds/style")
    compeft = ("--method", "compeft")
    told = cli.json("compress", "kinds/style", "--as", "kinds/style", *compeft)
    assert told["exact_tensors"] == []
    manifest = cli.json("show", "kinds/style")["manifest"]
    assert manifest["config"]["kind"] == "lora-raw"
    assert [file["path"] for file in manifest["files"]] == [
        "README.md",
        "images/a.json",
        "pytorch_lora_weights.tern.safetensors",
    ]
    cli("pull", "kinds/style", "--to", "back")
    assert (Path("back") / "README.md").read_text() == "# a style\n"
    found = load_file("back/pytorch_lora_weights.safetensors")
    for key, value in predicted(tensors, (), 0.2).items():
        np.testing.assert_array_equal(found[key], value)


def test_a_sparse_delta_says_that_its_indices_are_kept(
    cli: CommandLine, random: np.random.Generator
) -> None:
    values = random.standard_normal(500, FLOAT)
    save_file({"w.indices": np.arange(500), "w.values": values}, "delta.safetensors")
    cli("push", "./delta.safetensors", "kinds/delta")
    shown = cli("show", "kinds/delta").out
    assert "sparse-delta" in shown
    assert "w.indices (1 tensors, 4,000 bytes)" in shown
    told = cli.json("compress", "kinds/delta", "--as", "kinds/delta-small", "--method", "compeft")
    assert told["exact_tensors"] == ["w.indices"]
    assert (told["parameters"], told["nonzero"]) == (500, 101)
    assert "sparse delta" in cli("inspect", "kinds/delta-small").out


def test_a_residual_is_pulled_with_its_base(cli: CommandLine, random: np.random.Generator) -> None:
    base = {f"layer.{i}.weight": random.standard_normal((8, 8), FLOAT) for i in range(3)}
    tuned = {
        key: value + FLOAT(0.01) * random.standard_normal((8, 8), FLOAT)
        for key, value in base.items()
    }
    for name, tensors in (("base", base), ("tuned", tuned)):
        Path(name).mkdir()
        save_file(tensors, f"{name}/model.safetensors")
        Path(name, "config.json").write_text("{}")
    cli("push", "./tuned", "kinds/tuned", "--kind", "full-model", "--base", "tiny")
    assert "yes, with --base" in cli("show", "kinds/tuned").out
    made = cli("compress", "kinds/tuned", "--base", "base", "--as", "kinds/tuned-small")
    assert "compeft it is" in made.err
    refused = cli("pull", "kinds/tuned-small", "--to", "back", code=1)
    assert "--base" in refused.err
    assert not Path("back").exists()
    wrong = cli("pull", "kinds/tuned-small", "--to", "back", "--base", "tuned", code=1)
    assert "not the base" in wrong.err
    assert cli.json("pull", "kinds/tuned-small", "--to", "back", "--base", "base")["decoded"]
    assert sorted(path.name for path in Path("back").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    moved = {
        key: np.abs(value - base[key]) for key, value in load_file("back/model.safetensors").items()
    }
    assert sum(np.count_nonzero(value) for value in moved.values()) == int(0.2 * 192) + 1


def test_a_local_residual_says_its_kind(cli: CommandLine, random: np.random.Generator) -> None:
    save_file({"w.weight": random.standard_normal((8, 8), FLOAT)}, "residual.safetensors")
    plain = cli.json("compress", "residual.safetensors", "--to", "plain.tern")
    assert plain["parameters"] == 0
    told = cli.json("compress", "residual.safetensors", "--kind", "full-residual", "--to", "r.tern")
    assert told["parameters"] == 64
    told = cli.json(
        "compress", "residual.safetensors", "--kind", "full-residual", "--as", "kinds/residual"
    )
    assert told["parameters"] == 64
    assert cli.json("show", "kinds/residual")["manifest"]["config"]["kind"] == "full-residual"
