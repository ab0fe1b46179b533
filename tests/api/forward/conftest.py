"""Make tiny models with a tokenizer of words, and LoRA adapters on them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers

WORDS = ("[PAD]", "[UNK]", "zero", "one", "two", "three", "four", "five", "six", "seven")
WIDTH = 16
MakeAdapter = Callable[..., Path]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _save(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, "[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    fast: Any = transformers.PreTrainedTokenizerFast
    fast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a BERT without a head."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=32,
        initializer_range=0.3,
    )
    return _save(transformers.BertModel(config), tmp_path_factory.mktemp("base") / "encoder")


@pytest.fixture(scope="session")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a causal Llama."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=24,
        max_position_embeddings=32,
        initializer_range=0.3,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    return _save(transformers.LlamaForCausalLM(config), tmp_path_factory.mktemp("base") / "causal")


@pytest.fixture
def make_expert(encoder: Path, tmp_path: Path) -> MakeAdapter:
    """Give a function that saves a LoRA with a head of three classes on the encoder."""

    def make(
        *,
        name: str = "expert",
        seed: int = 1,
        factor: float = 0.3,
        head: Mapping[str, torch.Tensor] | None = None,
        **options: Any,
    ) -> Path:
        torch.manual_seed(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            base = transformers.AutoModelForSequenceClassification.from_pretrained(
                encoder, num_labels=3
            )
            settings: dict[str, Any] = {
                "r": 2,
                "lora_alpha": 4,
                "target_modules": ["query", "value"],
            }
            config = LoraConfig(task_type="SEQ_CLS", **(settings | options))
            model: Any = get_peft_model(base, config)
        _randomise(model, factor)
        if head is not None:
            model.base_model.model.classifier.modules_to_save["default"].load_state_dict(head)
        model.save_pretrained(tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture
def causal_adapter(causal: Path, tmp_path: Path) -> Path:
    """Give the folder of a LoRA on the causal model, embedding included."""
    torch.manual_seed(2)
    base = transformers.AutoModelForCausalLM.from_pretrained(causal)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=2, lora_alpha=4, target_modules=["q_proj", "embed_tokens"]
    )
    model: Any = get_peft_model(base, config)
    _randomise(model, 0.3)
    model.save_pretrained(tmp_path / "causal-adapter", save_embedding_layers=False)
    return tmp_path / "causal-adapter"


def _randomise(model: PeftModel, factor: float) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=factor)
