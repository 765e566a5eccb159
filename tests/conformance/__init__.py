"""The `onnx` package's own node tests, run through our execution provider."""
