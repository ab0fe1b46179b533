"""Give decoded factors the rank that is left, where components were dropped."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from compress.container import Stored
from compress.errors import OptionError
from compress.job import Job
from compress.lora import Role
from compress.tensor_file import TensorInfo

if TYPE_CHECKING:
    from compress.rate_distortion.file import Plan


def to_rank(job: Job, plan: Plan, rank: int) -> Plan:
    """Cut the factors of every module to one rank, and say so in the config.

    The scale of ΔW stays: alpha / r, or alpha / √r for rsLoRA.

    Raises:
        OptionError: ranks or alphas differ by module, or there is no config to change.
    """
    ranks = {module.rank for module in plan.modules}
    if not job.source.config or len(ranks) != 1 or any(_patterns(job)):
        raise OptionError(
            "the rank cannot be trimmed",
            field="trim_rank",
            expected="a config with one rank and one alpha for all modules",
            actual=f"ranks {sorted(ranks)}" if job.source.config else "no config",
        )
    old = ranks.pop()
    stored = tuple(_cut(tensor, rank) for tensor in plan.stored)
    return replace(plan, stored=stored, config=_config(job, old, rank))


def _patterns(job: Job) -> tuple[object, object]:
    config = json.loads(job.source.config)
    return config.get("rank_pattern"), config.get("alpha_pattern")


def _cut(tensor: Stored, rank: int) -> Stored:
    info = tensor.info
    if tensor.role is Role.A:
        shape = (rank, *info.shape[1:])
    elif tensor.role is Role.B:
        shape = (info.shape[0], rank, *info.shape[2:])
    else:
        return tensor
    return replace(tensor, info=TensorInfo(info.name, info.dtype, shape))


def _config(job: Job, old: int, rank: int) -> bytes:
    config = json.loads(job.source.config)
    share = rank / old
    alpha = float(config.get("lora_alpha") or old)
    alpha *= math.sqrt(share) if config.get("use_rslora") else share
    config["r"] = rank
    config["lora_alpha"] = int(alpha) if alpha == int(alpha) else alpha
    return json.dumps(config, indent=2, sort_keys=True).encode() + b"\n"
