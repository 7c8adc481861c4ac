"""Our files against those of other tools, made from the same weights, in one interleaved run."""
