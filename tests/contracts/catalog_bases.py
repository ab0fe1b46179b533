"""State how base models are known under their many names, on every database."""

from __future__ import annotations

import json

import pytest

from registry.catalog.errors import AliasTakenError, BaseModelNotFoundError, BaseShapeError
from registry.catalog.values import AdapterQuery
from registry.errors import ValidationError
from registry.service import Registry
from tests.registry_kit import Place, adapter_files, push

BERT = json.dumps(
    {"model_type": "bert", "hidden_size": 8, "intermediate_size": 32, "num_hidden_layers": 1}
).encode()


class BaseContract:
    """Keep base models; a subclass gives `place`."""

    @pytest.fixture
    def registry(self, place: Place) -> Registry:
        return place.open()

    def test_three_spellings_are_one_base(self, registry: Registry) -> None:
        for seed, base in enumerate(
            ["google/gemma-3-270m-it", "gemma3-270m-it", "D:\\模型\\gemma_3_270M_it\\"]
        ):
            push(registry, f"team/x{seed}", adapter_files(seed, base=base))
        (base_model,) = registry.bases.list()
        assert (base_model.name, base_model.adapters) == ("google/gemma-3-270m-it", 3)
        found = registry.adapters.list(AdapterQuery(base="GEMMA3.270m it")).items
        assert [item.name.name for item in found] == ["x0", "x1", "x2"]
        assert {item.base_model for item in found} == {"google/gemma-3-270m-it"}

    def test_a_path_keeps_its_secrets(self, registry: Registry) -> None:
        push(registry, "team/x", adapter_files(base="/home/ann/secret-project/base"))
        assert registry.bases.list()[0].name == "base"
        assert registry.bases.get("base").aliases == ()

    def test_shapes_are_learned_from_pushes_together(self, registry: Registry) -> None:
        push(registry, "team/x", adapter_files(0, modules=("model.layers.0.q",)))
        push(registry, "team/y", adapter_files(1, modules=("layers.1.v",)))
        assert dict(registry.bases.get("tiny").shapes) == {
            "layers.0.q": (6, 4),
            "layers.1.v": (6, 4),
        }

    def test_a_registered_configuration_tells_the_shapes(self, registry: Registry) -> None:
        record = registry.bases.register("org/tiny", config=BERT)
        assert record.configured
        assert record.shapes["encoder.layer.0.intermediate.dense"] == (32, 8)
        assert registry.bases.config("tiny") == BERT
        files = adapter_files(modules=("bert.encoder.layer.0.attention.self.query",))
        with pytest.raises(BaseShapeError) as caught:
            push(registry, "team/x", files)
        assert caught.value.expected_shape == (8, 8)

    def test_a_configuration_wins_over_what_was_learned(self, registry: Registry) -> None:
        module = "encoder.layer.0.intermediate.dense"
        push(registry, "team/x", adapter_files(modules=(module,)))
        assert registry.bases.get("tiny").shapes[module] == (6, 4)
        assert registry.bases.register("tiny", config=BERT).shapes[module] == (32, 8)

    def test_what_one_namespace_tells_binds_no_other(self, registry: Registry) -> None:
        push(registry, "evil/x", adapter_files(0, d_out=10, modules=("layers.0.q", "layers.9.q")))
        push(registry, "team/x", adapter_files(1, modules=("layers.0.q",)))
        with pytest.raises(BaseShapeError):
            push(registry, "team/y", adapter_files(2, d_out=10, modules=("layers.0.q",)))
        seen = registry.bases.get("tiny", readable=frozenset({"team"})).shapes
        assert dict(seen) == {"layers.0.q": (6, 4)}
        assert set(registry.bases.get("tiny").shapes) == {"layers.0.q", "layers.9.q"}

    def test_an_alias_brings_two_bases_together(self, registry: Registry) -> None:
        push(registry, "team/x", adapter_files(0, base="nightly-build"))
        push(registry, "team/y", adapter_files(1, base="tiny", modules=("layers.7.q",)))
        record = registry.bases.register("org/Tiny", aliases=["nightly-build", "tiny"])
        assert (record.name, record.aliases, record.adapters) == (
            "org/Tiny",
            ("nightly-build",),
            2,
        )
        assert set(record.shapes) == {"layers.0.q", "layers.0.v", "layers.7.q"}
        assert [base.name for base in registry.bases.list()] == ["org/Tiny"]
        found = registry.adapters.list(AdapterQuery(search="org/tiny")).items
        assert [str(item.name) for item in found] == ["team/x", "team/y"]
        again = push(registry, "team/x", adapter_files(2, base="Nightly_Build")).revision
        assert again.manifest.base_model == "org/Tiny"

    def test_bases_of_other_shapes_do_not_come_together(self, registry: Registry) -> None:
        push(registry, "team/x", adapter_files(0, base="small"))
        push(registry, "team/y", adapter_files(1, base="large", d_out=12))
        with pytest.raises(BaseShapeError):
            registry.bases.register("small", aliases=["large"])
        assert [base.name for base in registry.bases.list()] == ["large", "small"]

    def test_an_alias_has_one_owner(self, registry: Registry) -> None:
        registry.bases.register("one", aliases=["nick"])
        with pytest.raises(AliasTakenError) as caught:
            registry.bases.register("two", aliases=["Nick"])
        assert caught.value.owner == "one"
        with pytest.raises(AliasTakenError):
            registry.bases.register("nick")
        registry.bases.register("one", aliases=["nick", "nick-2"])
        assert registry.bases.get("NICK2").aliases == ("nick", "nick-2")

    def test_bases_of_unreadable_adapters_are_not_told(self, registry: Registry) -> None:
        push(registry, "priv/x", adapter_files(base="secret-base"))
        push(registry, "team/y", adapter_files(1, base="open-base"))
        registry.bases.register("known-base", config=BERT)
        readable = frozenset({"team"})
        assert [base.name for base in registry.bases.list(readable)] == ["known-base", "open-base"]
        with pytest.raises(BaseModelNotFoundError):
            registry.bases.get("secret-base", readable=readable)
        assert registry.bases.resolve("secret-base", readable=readable) is None
        assert registry.bases.get("secret-base").adapters == 1

    @pytest.mark.parametrize("name", ["", "  ", "///", "._-", "x" * 300, "a\nb"])
    def test_what_cannot_name_a_base(self, registry: Registry, name: str) -> None:
        with pytest.raises(ValidationError):
            registry.bases.register(name)
        with pytest.raises(BaseModelNotFoundError):
            registry.bases.get(name)

    @pytest.mark.parametrize(
        "config", [b"", b"[]", b"{", b"\xff", b"[" * 10_000, b'"' + b"x" * (1 << 20) + b'"']
    )
    def test_what_is_no_configuration(self, registry: Registry, config: bytes) -> None:
        with pytest.raises(ValidationError) as caught:
            registry.bases.register("tiny", config=config)
        assert caught.value.file == "config.json"
        assert registry.bases.list() == ()
