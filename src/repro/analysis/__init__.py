"""Analyses of recorded curves and exact models: the law and its forecasts, tabular policies, intervals."""
