"""A finished run shown: its latent space, the explorer, and the export to ONNX."""
