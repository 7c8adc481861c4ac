"""Batches of a task's splits, read in the training process or in processes beside it."""
