"""Latent variable models, trained on bounds of log p(x) = log E_p(z) p(x|z) (section 1.2.2)."""
