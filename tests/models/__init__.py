"""Models that tests serve, made from nothing but numpy and onnx, and an independent reference for the quickstart's."""
