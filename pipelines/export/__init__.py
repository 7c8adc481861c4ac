"""Export a PyTorch module to a compact ONNX file."""
