"""Re-target adapters to a new base model without their training data.

This room is reserved for that floor of the design and holds no code yet: nothing here computes,
and no command offers it.
"""
