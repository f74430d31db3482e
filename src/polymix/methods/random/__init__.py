"""Random search, which every search is compared with."""
