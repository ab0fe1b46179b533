"""Tensor names of every trainer are paired up, and what does not fit is refused."""

from __future__ import annotations

import pytest

from registry.errors import LayoutError
from registry.validation.lora_keys import Family, Role, classify, module_name, read_layout
from registry.validation.reasons import Reason
from registry.validation.tensor_info import TensorInfo

SPELLINGS = [
    (
        "base_model.model.h.0.c_attn.lora_A.weight",
        Family.PEFT,
        Role.A,
        "base_model.model.h.0.c_attn",
    ),
    (
        "base_model.model.h.0.c_attn.lora_B.weight",
        Family.PEFT,
        Role.B,
        "base_model.model.h.0.c_attn",
    ),
    ("base_model.model.q.lora_A.default.weight", Family.PEFT, Role.A, "base_model.model.q"),
    ("base_model.model.q.lora_B.my-adapter_1.weight", Family.PEFT, Role.B, "base_model.model.q"),
    ("base_model.model.q.lora_A", Family.PEFT, Role.A, "base_model.model.q"),
    ("base_model.model.q.lora_B.bias", Family.PEFT, Role.OTHER, "base_model.model.q"),
    ("base_model.model.q.lora_B.default.bias", Family.PEFT, Role.OTHER, "base_model.model.q"),
    ("base_model.model.q.lora_E", Family.PEFT, Role.OTHER, "base_model.model.q"),
    (
        "base_model.model.wte.lora_embedding_A",
        Family.PEFT,
        Role.EMBEDDING_A,
        "base_model.model.wte",
    ),
    (
        "base_model.model.wte.lora_embedding_B.default",
        Family.PEFT,
        Role.EMBEDDING_B,
        "base_model.model.wte",
    ),
    ("base_model.model.q.lora_magnitude_vector", Family.PEFT, Role.MAGNITUDE, "base_model.model.q"),
    (
        "base_model.model.q.lora_magnitude_vector.weight",
        Family.PEFT,
        Role.MAGNITUDE,
        "base_model.model.q",
    ),
    ("unet.down.0.to_q.lora_A.weight", Family.PEFT, Role.A, "unet.down.0.to_q"),
    ("transformer.x.to_k.lora_B.weight", Family.PEFT, Role.B, "transformer.x.to_k"),
    ("down.0.processor.to_k_lora.down.weight", Family.DIFFUSERS, Role.A, "down.0.processor.to_k"),
    ("down.0.processor.to_k_lora.up.weight", Family.DIFFUSERS, Role.B, "down.0.processor.to_k"),
    ("unet.to_out.0.lora.down.weight", Family.DIFFUSERS, Role.A, "unet.to_out.0"),
    ("te.q_proj.lora_linear_layer.up.weight", Family.DIFFUSERS, Role.B, "te.q_proj"),
    ("lora_unet_down_blocks_0.lora_down.weight", Family.KOHYA, Role.A, "lora_unet_down_blocks_0"),
    ("lora_unet_down_blocks_0.lora_up.weight", Family.KOHYA, Role.B, "lora_unet_down_blocks_0"),
    ("lora_unet_down_blocks_0.alpha", Family.KOHYA, Role.ALPHA, "lora_unet_down_blocks_0"),
    (
        "lora_unet_down_blocks_0.lora_mid.weight",
        Family.KOHYA,
        Role.OTHER,
        "lora_unet_down_blocks_0",
    ),
    ("lora_unet_x.dora_scale", Family.KOHYA, Role.MAGNITUDE, "lora_unet_x"),
    ("lora_unet_x.hada_w1_a", Family.LYCORIS, Role.OTHER, "lora_unet_x"),
    ("lora_unet_x.lokr_w2_b", Family.LYCORIS, Role.OTHER, "lora_unet_x"),
    ("lora_unet_x.lokr_t2", Family.LYCORIS, Role.OTHER, "lora_unet_x"),
    ("unet:0:down", Family.CLONEOFSIMO, Role.A, "unet:0"),
    ("text_encoder:12:up", Family.CLONEOFSIMO, Role.B, "text_encoder:12"),
]
FOREIGN = [
    "base_model.model.classifier.weight",
    "base_model.model.h.0.c_attn.base_layer.weight",
    "model.embed_tokens.weight",
    "<s1>",
    "encoder.layer.0.down.weight",
    "prompt_embeddings",
    "mlp.up.weight",
    "lora",
    "",
]


def tensor(name: str, *shape: int) -> TensorInfo:
    return TensorInfo(name, "F32", shape, 0, 0)


def pair(module: str, rank: int = 2, d_in: int = 4, d_out: int = 6) -> list[TensorInfo]:
    return [
        tensor(f"{module}.lora_A.weight", rank, d_in),
        tensor(f"{module}.lora_B.weight", d_out, rank),
    ]


@pytest.mark.parametrize(("key", "family", "role", "module"), SPELLINGS)
def test_every_spelling_is_read(key: str, family: Family, role: Role, module: str) -> None:
    assert classify(key) == (family, role, module)


@pytest.mark.parametrize("key", FOREIGN)
def test_other_names_are_no_lora(key: str) -> None:
    assert classify(key) is None


def test_a_layout_gives_the_shapes_of_the_base() -> None:
    layout = read_layout(
        [
            *pair("base_model.model.q"),
            *pair("base_model.model.mlp.up", 3, 4, 8),
            tensor("base_model.model.classifier.weight", 2, 4),
        ]
    )
    assert layout.module_shapes == {"q": (6, 4), "mlp.up": (8, 4)}
    assert [module.rank for module in layout.modules] == [3, 2]
    assert layout.others == ("base_model.model.classifier.weight",)
    assert layout.families == {Family.PEFT}


def test_a_convolution_counts_kernel_positions_as_inputs() -> None:
    layout = read_layout(
        [tensor("c.lora_A.weight", 2, 4, 3, 3), tensor("c.lora_B.weight", 8, 2, 1, 1)]
    )
    assert layout.module_shapes == {"c": (8, 36)}


def test_a_grouped_convolution_has_fewer_columns_in_b() -> None:
    layout = read_layout(
        [tensor("c.lora_A.weight", 4, 2, 3, 3), tensor("c.lora_B.weight", 8, 2, 1, 1)]
    )
    assert layout.modules[0].rank == 4


def test_an_embedding_and_a_linear_of_one_name_stay_apart() -> None:
    layout = read_layout(
        [
            tensor("base_model.model.wte.lora_embedding_A", 2, 100),
            tensor("base_model.model.wte.lora_embedding_B", 16, 2),
            *pair("base_model.model.lm_head", 2, 16, 100),
        ]
    )
    shapes = {module.name: (module.shape, module.embedding) for module in layout.modules}
    assert shapes == {"wte": ((16, 100), True), "lm_head": ((100, 16), False)}


@pytest.mark.parametrize("missing", [0, 1])
@pytest.mark.parametrize(
    "spelling", [("lora_A.weight", "lora_B.weight"), ("lora_down.weight", "lora_up.weight")]
)
def test_a_factor_without_its_partner_is_refused(missing: int, spelling: tuple[str, str]) -> None:
    there = spelling[1 - missing]
    with pytest.raises(LayoutError) as caught:
        read_layout([*pair("ok"), tensor(f"x.{there}", 2, 2)], file="f")
    assert caught.value.reason == Reason.KEYS_UNPAIRED
    assert caught.value.field == "x"
    assert caught.value.actual == f"x.{there}"


@pytest.mark.parametrize("shapes", [((2, 4), (6, 3)), ((2,), (6, 2)), ((2, 4), (6,)), ((), ())])
def test_factors_that_do_not_fit_are_refused(
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
) -> None:
    with pytest.raises(LayoutError) as caught:
        read_layout([tensor("x.lora_A.weight", *shapes[0]), tensor("x.lora_B.weight", *shapes[1])])
    assert caught.value.reason == Reason.SHAPE_MISMATCH
    assert caught.value.field == "x"


def test_ranks_may_differ_where_the_caller_says_so() -> None:
    tensors = [tensor("x.lora_A.weight", 8, 4), tensor("x.lora_B.weight", 6, 2)]
    assert len(read_layout(tensors, free_ranks=True).modules) == 1


def test_pefts_own_prefix_is_taken_off_once() -> None:
    assert module_name("base_model.model.model.layers.0.q") == "model.layers.0.q"
    assert module_name("unet.q") == "unet.q"


def test_no_tensors_give_an_empty_layout() -> None:
    layout = read_layout([])
    assert (layout.modules, layout.module_shapes, layout.adapter) == ((), {}, frozenset())
