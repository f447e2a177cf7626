"""The claims of the text as studies that anyone can run: ``python -m zoo study NAME``."""
