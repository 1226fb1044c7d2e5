"""Measuring residual networks: one experiment a file."""
