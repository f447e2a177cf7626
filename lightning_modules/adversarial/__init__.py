"""Two players: the generator draws data, the discriminator tells them from real ones (section 1.2.3)."""
