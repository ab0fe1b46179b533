"""Hold one step of the layout per file, in the order that their `down_revision` tells."""
