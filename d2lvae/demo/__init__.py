"""A finished run shown: its latent space, the page, sliders in Jupyter, the export to ONNX."""
