"""Trees of tensors, the samples and inputs made of them, and the generators they draw from."""
