"""Claim 3: the change of entropy equals a covariance."""
