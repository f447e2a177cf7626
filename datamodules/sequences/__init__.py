"""Sequences: text, music, strokes, pixels, video, Markov chains."""
