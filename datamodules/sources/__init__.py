"""The files of public data sets: finding, fetching and reading them."""
