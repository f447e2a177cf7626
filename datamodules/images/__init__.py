"""Images: public data sets, folders, synthetic ones."""
