"""Run real models: how good an adapter is on rows, and what only a forward pass can tell.

The command line imports a module of this package only inside the command that needs it, because
torch, transformers and PEFT take seconds to import and are an extra; call `require_torch` before.
Nothing is downloaded, no code of a model folder is run and no pickle is opened. Training does not
belong here. Start at `evaluate.py` (accuracy and loss); `models.py` loads, `gain.py` tunes one
factor on ΔW, `deltas.py` puts merges into a loaded model and `moments.py` collects the input second
moments that weight a distortion.
"""

from __future__ import annotations

from importlib.util import find_spec

from compress.errors import OptionError

_NEEDED = ("torch", "transformers", "peft")


def require_torch() -> None:
    """Check that the packages that run models are installed, without importing them.

    Raises:
        OptionError: one of them is absent.
    """
    if absent := [name for name in _NEEDED if find_spec(name) is None]:
        raise OptionError(
            "running a model needs packages that are not installed",
            expected=", ".join(_NEEDED),
            actual=f"no {', '.join(absent)}",
            hint="install the extra: pip install 'ternery[torch]'",
        )
