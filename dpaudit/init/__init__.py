"""A first claim file: what a training script and its loader already tell, with the rest to fill in."""
