"""Policies: the family trained from scratch, its tokenizer and its base checkpoints."""
