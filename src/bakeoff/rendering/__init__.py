"""Figures and pages: marks, the palette, and the back ends that draw them."""
