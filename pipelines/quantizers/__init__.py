"""Integer grids for tensors: one file a kind."""
