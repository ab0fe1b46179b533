"""Do on a GPU what the room's arithmetic does with NumPy, with the same names and equal results.

Meaning lives in the reference (`compress/x.py`), speed in `compress/kernels/x.py`. Only these files
import torch and Triton, and nothing imports them but `compress/backend.py`, by device. A kernel
reads and writes floats as the integers that their bits are: selection and signs need no more,
bfloat16 is then right in Triton's interpreter too, and equal means equal bit for bit. Start at
`entropy.py` (decoding trits), `planes.py` (decoding layers) or `sparsify.py` (thresholds).
"""
