"""The benchmark suite: ``python -m bench`` from the repository's root; README.md says how to read it."""
