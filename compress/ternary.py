"""Pack five trits into a byte and unpack them again.

Symbol s of five trits t₀…t₄ is Σ (tⱼ+1)·3ʲ, in 0…242. The last symbol is filled up with zero trits.
"""

from __future__ import annotations

import numpy as np

from compress.dtypes import Array

TRITS_PER_SYMBOL = 5
SYMBOLS = 3**TRITS_PER_SYMBOL
_POWERS = 3 ** np.arange(TRITS_PER_SYMBOL)
#: int8 [243, 5]: the trits of every symbol.
SYMBOL_TRITS: Array = (np.arange(SYMBOLS)[:, None] // _POWERS % 3 - 1).astype(np.int8)


def symbol_count(trits: int) -> int:
    """Count the symbols that hold so many trits."""
    return -(-trits // TRITS_PER_SYMBOL)


def pack(trits: Array) -> Array:
    """Pack int8 [n] of −1, 0, +1 into uint8 [⌈n/5⌉] symbols."""
    whole = len(trits) // TRITS_PER_SYMBOL
    symbols = np.empty(symbol_count(len(trits)), np.uint8)
    rows = trits[: whole * TRITS_PER_SYMBOL].reshape(whole, TRITS_PER_SYMBOL)
    head = symbols[:whole]
    head[:] = rows[:, 4]
    for column in (3, 2, 1, 0):
        np.multiply(head, 3, out=head)
        np.add(head, rows[:, column].view(np.uint8), out=head)
    head += np.uint8(SYMBOLS // 2)
    if whole < len(symbols):
        tail = np.zeros(TRITS_PER_SYMBOL, np.int64)
        tail[: len(trits) - whole * TRITS_PER_SYMBOL] = trits[whole * TRITS_PER_SYMBOL :]
        symbols[whole] = ((tail + 1) * _POWERS).sum()
    return symbols


def unpack(symbols: Array, trits: int) -> Array:
    """Unpack uint8 [⌈n/5⌉] symbols below 243 into int8 [n] trits."""
    rows = SYMBOL_TRITS.take(symbols, axis=0, mode="clip")
    return rows.reshape(-1)[:trits]
