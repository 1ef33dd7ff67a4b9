"""The book: figures, fragments, notebooks and the build that puts them together."""
