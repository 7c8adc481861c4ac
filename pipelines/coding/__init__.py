"""The coded file: a model in the fewest bytes to store or send, which unpacks to the original ONNX file."""
