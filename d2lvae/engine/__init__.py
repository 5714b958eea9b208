"""How the training step is made fast; only bfloat16 changes what it computes."""
