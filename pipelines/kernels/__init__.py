"""What ONNX Runtime runs of a graph: its sessions, kernels, layers and multiplications."""
