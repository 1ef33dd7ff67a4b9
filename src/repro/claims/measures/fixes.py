"""Claim 4: restricting the tokens of highest covariance keeps entropy up and improves performance."""
