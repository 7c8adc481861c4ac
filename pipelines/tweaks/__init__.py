"""Tweaks: one file for each thing that acts during training."""
