"""Seeing inside: sanity checks, figures of the layers of a net, and pictures of the ideas."""
