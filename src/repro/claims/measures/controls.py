"""Open questions: controls, scopes and targets that the paper leaves out."""
