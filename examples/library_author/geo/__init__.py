"""A small library whose functions are nodes. It depends on flowtrace, and says nothing about where traces go."""

from geo.distance import Place, distance_km, nearest

__all__ = ["Place", "distance_km", "nearest"]
