"""Adversarial methods: a generator samples data, a discriminator tells them from real data (section 1.2.3)."""
