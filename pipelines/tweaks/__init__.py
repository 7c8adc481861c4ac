"""Tweaks, which act during training, one file each."""
