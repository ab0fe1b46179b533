"""Know what LoRA weights without a config say beside their factors (kohya, cloneofsimo)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from merge.expert import Expert

#: kohya's records of training, which a merge of several trainings cannot have.
_RANK_KEYS = ("ss_network_dim", "ss_network_alpha")
_HASHES = ("sshs_", "modelspec.hash")
_RANK_ENDING = ":rank"


def merged_metadata(experts: Sequence[Expert], ranks: Mapping[str, int]) -> dict[str, str]:
    """Return what all inputs say alike, with the ranks of the result.

    Args:
        experts: the inputs.
        ranks: of each module of the result.
    """
    common = dict(experts[0].metadata)
    for expert in experts[1:]:
        common = {k: v for k, v in common.items() if expert.metadata.get(k) == v}
    for key in list(common):
        if key.startswith(_HASHES) or key.endswith(_RANK_ENDING):
            del common[key]
    largest = str(max(ranks.values()))
    common |= {key: largest for key in _RANK_KEYS if key in experts[0].metadata}
    if any(key.endswith(_RANK_ENDING) for expert in experts for key in expert.metadata):
        common |= {f"{name}{_RANK_ENDING}": str(rank) for name, rank in ranks.items()}
    if "ss_network_args" in common:
        common["ss_network_args"] = json.dumps({})
    return common
