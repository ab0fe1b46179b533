"""Load a base model with a PEFT adapter on it, from local folders only.

Only safetensors are read; code that a folder brings is never run and nothing is downloaded. A
sequence classifier gets as many outputs as the head that the adapter saves. Weights are computed
with in float32 whatever they are stored in.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file

from compress.adapter import CONFIG_NAME, WEIGHTS_NAME, LoraSettings, parse_settings
from compress.errors import BaseMismatchError, OptionError, SourceError
from compress.lora import Role, split_key
from compress.tensor_file import TensorFile
from compress.weights import find_model_files, open_weights

_MAX_CONFIG_BYTES = 1 << 20
_HEAD = re.compile(
    r"base_model\.model\.(?:classifier|score)(?:\.modules_to_save)?(?:\.out_proj)?\.weight"
)
_CLASSIFY, _GENERATE = "SEQ_CLS", "CAUSAL_LM"


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """Hold a model that is ready to run, in evaluation mode.

    Attributes:
        model: the PEFT model, or the bare base where no adapter was given.
        tokenizer: the base's.
        outputs: classes of a sequence classifier; 0 for a causal model.
        max_positions: tokens that the model can read.
        pad_id: the token that fills up short rows of a batch.
        adapter: the folder of the adapter, or None.
    """

    model: Any
    tokenizer: Any
    outputs: int
    max_positions: int
    pad_id: int
    adapter: Path | None


def load(base: Path, adapter: Path | None = None) -> LoadedModel:
    """Load a base and put an adapter on it.

    Args:
        base: a folder with ``config.json``, safetensors and a tokenizer.
        adapter: a PEFT folder with ``adapter_model.safetensors``; None gives the bare base.

    Returns:
        a sequence classifier if the adapter's task is SEQ_CLS or, where the adapter does not say,
        the base's architecture is one; else a causal model.

    Raises:
        SourceError: a folder is incomplete or cannot be loaded.
        PickleRefusedError: the base's weights are a pickle.
        BaseMismatchError: the adapter does not fit the base.
    """
    config = _read_json(base / "config.json")
    told = _read_json(adapter / CONFIG_NAME) if adapter else {}
    outputs = _outputs(config, told, adapter)
    with _quiet():
        model, tokenizer = _load_base(base, outputs)
        pad_id = _pad_id(tokenizer)
        model.config.pad_token_id = pad_id
        if adapter:
            model = _put_on(model, adapter, told)
    model.requires_grad_(requires_grad=False)
    return LoadedModel(
        model=model.eval(),
        tokenizer=tokenizer,
        outputs=outputs,
        max_positions=int(getattr(model.config, "max_position_embeddings", 0) or 1 << 30),
        pad_id=pad_id,
        adapter=adapter,
    )


def exchange(loaded: LoadedModel, adapter: Path) -> None:
    """Put the weights of another adapter into a loaded model: much faster than loading anew.

    Args:
        loaded: a model with an adapter.
        adapter: a folder with the same tensors, shapes and scales, such as the decoded form of the
            same adapter.

    Raises:
        OptionError: the model has no adapter, or names, shapes or scales differ.
        SourceError: the folder is incomplete.
    """
    if loaded.adapter is None:
        raise OptionError("a model without an adapter has nothing to exchange", field="adapter")
    if _outline(loaded.adapter) != _outline(adapter):
        raise OptionError(
            "the adapters differ in names, shapes or scales",
            file=str(adapter),
            expected=f"those of {loaded.adapter.name}",
            actual="others",
            hint="load it anew",
        )
    set_peft_model_state_dict(loaded.model, load_file(adapter / WEIGHTS_NAME))


@contextmanager
def scaled(loaded: LoadedModel, gain: float) -> Iterator[None]:
    """Multiply ΔW by a gain while the context lasts, as if every B had been multiplied.

    Args:
        loaded: a model with a LoRA adapter.
        gain: the factor; 0 leaves the base with the adapter's head.

    Raises:
        OptionError: the model has no LoRA modules.
    """
    layers = lora_layers(loaded)
    before = {name: dict(layer.scaling) for name, layer in layers.items()}
    try:
        for layer in layers.values():
            layer.scaling.update({key: gain * value for key, value in layer.scaling.items()})
        yield
    finally:
        for name, layer in layers.items():
            layer.scaling.update(before[name])


def lora_layers(loaded: LoadedModel) -> dict[str, Any]:
    """Give the LoRA layers by the name that `compress.lora.find_modules` gives them.

    Raises:
        OptionError: the model has none.
    """
    layers = {
        name: module
        for name, module in loaded.model.named_modules()
        if isinstance(getattr(module, "scaling", None), dict) and hasattr(module, "lora_A")
    }
    if not layers:
        raise OptionError(
            "the model has no LoRA modules", field="adapter", expected="a LoRA", actual="none"
        )
    return layers


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            raise SourceError("the config is too large", file=str(path))
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise SourceError(
            "a config cannot be read", file=str(path), hint="name the folder that holds it"
        ) from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"the config is not JSON: {error}", file=str(path)) from error
    if not isinstance(values, dict):
        raise SourceError("the config is not a JSON object", file=str(path))
    return values


def _outputs(config: dict[str, Any], told: dict[str, Any], adapter: Path | None) -> int:
    """Count the classes: by the adapter's own head, else by the base's; 0 for a causal model."""
    architecture = str((config.get("architectures") or [""])[0])
    has_head = architecture.endswith("ForSequenceClassification")
    if (told.get("task_type") or (_CLASSIFY if has_head else _GENERATE)) != _CLASSIFY:
        return 0
    own = _head_outputs(adapter) if adapter else 0
    if own:
        return own
    if not has_head:
        raise SourceError(
            "the classification head is nowhere",
            file=str(adapter),
            field="modules_to_save",
            expected="classifier or score among the adapter's weights",
            actual="none, and the base has no head either",
        )
    return len(config.get("id2label") or {}) or 2


def _head_outputs(adapter: Path) -> int:
    with _open_weights(adapter) as file:
        heads = [info for name, info in file.tensors.items() if _HEAD.fullmatch(name)]
    return heads[0].shape[0] if heads and heads[0].shape else 0


def _open_weights(adapter: Path) -> TensorFile:
    path = adapter / WEIGHTS_NAME
    if not path.is_file():
        raise SourceError(
            "the folder has no weights that can be run",
            file=str(adapter),
            expected=WEIGHTS_NAME,
            hint="a compressed adapter must be decompressed first; a pickle is never opened",
        )
    return TensorFile(path)


def _load_base(base: Path, outputs: int) -> tuple[Any, Any]:
    kind = (
        transformers.AutoModelForSequenceClassification
        if outputs
        else transformers.AutoModelForCausalLM
    )
    with open_weights(find_model_files(base)):
        pass  # refused here if it is damaged or a pickle
    local = {"local_files_only": True, "trust_remote_code": False}
    more = {"num_labels": outputs} if outputs else {}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(base), **local)
        model = kind.from_pretrained(
            str(base),
            use_safetensors=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=bool(outputs),
            **local,
            **more,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise SourceError(f"the base cannot be loaded: {_line(error)}", file=str(base)) from error
    return model, tokenizer


def _put_on(model: transformers.PreTrainedModel, adapter: Path, told: dict[str, Any]) -> PeftModel:
    _refuse_what_fetches(told, adapter)
    with _open_weights(adapter) as file:
        saved = {name for name in file.tensors if split_key(name)[1] is not Role.EXACT}
    try:
        with_adapter = PeftModel.from_pretrained(model, str(adapter), local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise BaseMismatchError(
            f"the adapter cannot be put on the base: {_line(error)}", file=str(adapter)
        ) from error
    _require_same_factors(with_adapter, saved, adapter)
    return with_adapter


def _refuse_what_fetches(told: dict[str, Any], adapter: Path) -> None:
    """Refuse configs that make PEFT import a named module or load further adapters by name."""
    for field in ("megatron_config", "adapters"):
        if told.get(field):
            raise SourceError(
                "an adapter that names code or other adapters to load is not run",
                file=str(adapter / CONFIG_NAME),
                field=field,
                expected="null",
                actual=str(told[field])[:80],
            )


def _require_same_factors(model: PeftModel, saved: set[str], adapter: Path) -> None:
    """Refuse what PEFT only warns of: factors that found no place or were left at random."""
    present = {name.replace(".default", "") for name in model.state_dict()}
    factors = {name for name in present if split_key(name)[1] is not Role.EXACT}
    stray = sorted(factors ^ saved)
    if stray:
        raise BaseMismatchError(
            "the factors of the adapter are not those that its config asks for on this base",
            file=str(adapter),
            field=stray[0],
            expected=f"{len(factors)} factors",
            actual=f"{len(saved)}, of which {len(saved & factors)} have a place",
        )


def _outline(adapter: Path) -> tuple[LoraSettings, dict[str, tuple[int, ...]]]:
    with _open_weights(adapter) as file:
        shapes = {name: info.shape for name, info in file.tensors.items()}
    _read_json(adapter / CONFIG_NAME)
    return parse_settings((adapter / CONFIG_NAME).read_bytes()), shapes


def _pad_id(tokenizer: transformers.PreTrainedTokenizerBase) -> int:
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0


def _line(error: Exception) -> str:
    """Give the first line of a foreign message, cut to a readable length."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' progress bars, reports and warnings off the terminal.

    What of it matters (a head that is missing, factors without a place) is checked here instead.
    """
    log: Any = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()
