"""Test the picture and the table of conflicts, for every way in which modules are named."""

from __future__ import annotations

import importlib.util
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from api.cli.conflict_table import tell_conflicts
from api.cli.module_grid import NO_LAYER, grid_of
from api.cli.plot_conflicts import check_picture, draw_conflicts
from compress.errors import DestinationError, OptionError
from merge.conflict_report import ConflictLog, ConflictReport
from merge.delta_space import Delta, weighted_sum

LLAMA = "base_model.model.model.layers.{}.{}"
KINDS = ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")


@dataclass(frozen=True)
class Made:
    """Be one module of a merge."""

    name: str
    inputs: tuple[Delta, ...]
    weights: tuple[float, ...]
    delta: Delta


def conflicts(names: Sequence[str], inputs: int = 2) -> ConflictReport:
    """Merge random modules of these names."""
    rng = np.random.default_rng(0)
    log = ConflictLog([f"team/{at}" for at in range(inputs)])
    weights = (1 / inputs,) * inputs
    for name in names:
        deltas = tuple(
            Delta(rng.standard_normal((2, 6)), rng.standard_normal((5, 2))) for _ in weights
        )
        merged = weighted_sum(list(zip(weights, deltas, strict=True)))
        log.observe(Made(name, deltas, weights, merged))
    return log.report()


def texts(picture: Path) -> set[str]:
    return {node.text for node in ET.parse(picture).iter() if node.text}


def test_layers_of_a_language_model_are_columns_in_their_order() -> None:
    grid = grid_of([LLAMA.format(i, k) for i in (10, 9, 2) for k in KINDS] + ["base.lm_head"])
    assert grid.layers == (NO_LAYER, "2", "9", "10")
    assert grid.kinds == ("lm_head", "down_proj", "q_proj", "v_proj")
    assert grid.places[:3] == ((2, 3), (3, 3), (1, 3))
    assert grid.places[-1] == (0, 0)


@pytest.mark.parametrize("separator", [".", "_"])
def test_stages_of_a_unet_are_columns_from_down_to_up(separator: str) -> None:
    names = [
        "up_blocks.1.attentions.2.transformer_blocks.0.attn1.to_q",
        "mid_block.attentions.0.transformer_blocks.0.attn1.to_q",
        "down_blocks.2.attentions.1.transformer_blocks.0.attn2.to_out.0",
        "down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q",
        "down_blocks.0.attentions.1.proj_in",
    ]
    if separator == "_":
        names = ["lora_unet_" + name.replace(".", "_") for name in names]
    grid = grid_of(names)
    assert grid.layers == ("d0.1", "d2.1", "m0", "u1.2")
    assert [grid.layers[column] for _, column in grid.places] == [
        "u1.2",
        "m0",
        "d2.1",
        "d0.1",
        "d0.1",
    ]
    assert len(grid.kinds) == 3
    assert grid.places[0][0] == grid.places[1][0] == grid.places[3][0]


def test_deep_stages_keep_the_block_inside() -> None:
    name = "down_blocks.2.attentions.0.transformer_blocks.{}.attn1.to_q"
    assert grid_of([name.format(at) for at in (3, 0)]).layers == ("d2.0.0", "d2.0.3")


def test_other_ways_of_naming_find_a_place() -> None:
    kohya = grid_of([f"lora_te_text_model_encoder_layers_{i}_mlp_fc1" for i in (11, 2)])
    assert (kohya.layers, kohya.kinds) == (("2", "11"), ("mlp_fc1",))
    numbered = grid_of(["unet:7", "text_encoder:7", "unet:12"])
    assert (numbered.layers, numbered.kinds) == (("7", "12"), ("text_encoder", "unet"))
    experts = grid_of([f"m.layers.0.mlp.experts.{at}.w1" for at in range(4)])
    assert set(experts.places) == {(0, 0)}
    assert grid_of(["3"]) == grid_of(["3"])
    assert grid_of([]).layers == ()


def test_kinds_that_end_alike_are_told_apart_and_kept_short() -> None:
    names = [
        f"base.{side}.block.0.layer.{at}.{kind}.q"
        for side in ("encoder", "decoder")
        for at, kind in enumerate(("SelfAttention", "A" * 60))
    ]
    kinds = grid_of(names).kinds
    assert len(set(kinds)) == 4
    assert max(map(len, kinds)) <= 30
    assert "encoder … SelfAttention.q" in kinds


def test_modules_by_layer_are_drawn(tmp_path: Path) -> None:
    report = conflicts([LLAMA.format(i, k) for i in range(3) for k in KINDS] + ["lm_head"])
    draw_conflicts(tmp_path / "a.svg", report, title="ties of $a and $b")
    assert {
        "ties of $a and $b",
        "sign agreement (1: none contradicts)",
        "interference, mean of the inputs (0: each acts as alone)",
        "norm kept (1: that of an input)",
        "q_proj",
        "lm_head",
        NO_LAYER,
        "2",
    } <= texts(tmp_path / "a.svg")
    draw_conflicts(tmp_path / "b.svg", report, title="ties of $a and $b")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    draw_conflicts(tmp_path / "a.PNG", report, title="x")
    assert (tmp_path / "a.PNG").read_bytes().startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize(
    "names",
    [
        ["q"],
        [f"layers.{i}.{chr(97 + k)}" for i in range(80) for k in range(20)],
        [f"unet:{i}" for i in range(144)],
    ],
)
def test_one_module_and_thousands_can_be_drawn(tmp_path: Path, names: list[str]) -> None:
    draw_conflicts(tmp_path / "x.svg", conflicts(names), title="x")
    shown = texts(tmp_path / "x.svg")
    assert len([text for text in shown if text.isdigit()]) <= 80


def test_what_has_no_figure_leaves_its_cell_empty(tmp_path: Path) -> None:
    zero = Delta(np.zeros((1, 4)), np.zeros((3, 1)))
    log = ConflictLog(["one"])
    log.observe(Made("layers.0.q", (zero,), (1.0,), zero))
    draw_conflicts(tmp_path / "x.svg", log.report(), title="x")
    draw_conflicts(tmp_path / "none.svg", ConflictLog([]).report(), title="nothing")
    assert "nothing" in texts(tmp_path / "none.svg")


def test_what_cannot_be_drawn_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match=r"\.png or \.svg"):
        check_picture(tmp_path / "x.jpg")
    with pytest.raises(DestinationError, match="cannot be written"):
        draw_conflicts(tmp_path / "no" / "x.svg", conflicts(["q"]), title="x")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(OptionError, match=r"ternery\[plot\]"):
        check_picture(tmp_path / "x.svg")


def test_the_worst_ten_modules_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    report = conflicts([LLAMA.format(i, k) for i in range(6) for k in KINDS], inputs=3)
    tell_conflicts(report)
    lines = capsys.readouterr().out.splitlines()
    pair = report.worst_pair
    assert pair is not None
    assert any(line.endswith(f": {pair.first}, {pair.second}") for line in lines)
    table = lines[lines.index("") + 1 :]
    assert len(table) == 12
    assert table[0].split()[:2] == ["module", "interference"]
    assert table[1].split()[0] == report.worst(1)[0][0].removeprefix("base_model.model.")
    assert table[-1] == "the worst 10 of 18 modules"


def test_a_single_input_has_no_pairs_to_tell_of(capsys: pytest.CaptureFixture[str]) -> None:
    tell_conflicts(conflicts(["q"], inputs=1))
    told = capsys.readouterr().out
    assert "least cosine" not in told
    assert "mean cosine     –" in told
    tell_conflicts(ConflictLog(["one"]).report())
    assert "module" not in capsys.readouterr().out
