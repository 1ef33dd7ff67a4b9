"""Figures of claim 3, the covariance."""
