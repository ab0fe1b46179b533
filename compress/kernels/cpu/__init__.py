"""Run on a CPU, as machine code, the loops that NumPy has to take row by row.

Entropy coding and the search through the trellis go symbol by symbol. The references beside them
(`compress/rans.py`, `compress/rate_distortion/`) do a whole row of lanes in one NumPy call, which
costs ten calls a row; Numba compiles the same loops, with equal integers and equal bits of floats.
Only these files import Numba, and nothing imports them but `compress/loops.py`. Start at `rans.py`.
"""
