"""Collects the inventory of JD Cloud images into SQL."""

__version__ = "0.1.0"
