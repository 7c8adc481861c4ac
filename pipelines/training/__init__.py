"""The one training loop, and evaluation."""
