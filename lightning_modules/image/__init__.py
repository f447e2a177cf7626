"""Methods whose result is one image, or a network that was fitted to one: no density, and no samples."""
