"""Claim 2: performance follows entropy by the law R = -a exp(H) + b."""
