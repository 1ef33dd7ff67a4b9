"""A reproduction study of the entropy mechanism of reinforcement learning for reasoning language models."""

__version__ = "0.1.0"
