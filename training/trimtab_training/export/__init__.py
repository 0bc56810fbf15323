"""From an adapter to a model folder: ONNX, proved equal, and where it came from."""
