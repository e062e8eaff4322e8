"""Distances on a globe."""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt
from typing import NamedTuple

from flowtrace import traced_node

EARTH_RADIUS_KM = 6371.0088


class Place(NamedTuple):
    """A named point, in degrees."""

    name: str
    latitude: float
    longitude: float


@traced_node(component="geo")
def distance_km(start: Place, end: Place) -> float:
    """Return the length of the great circle between two places (haversine formula)."""
    for place in (start, end):
        if not -90 <= place.latitude <= 90:
            raise ValueError(f"{place.name}: there is no latitude {place.latitude}")
    north, south = radians(start.latitude), radians(end.latitude)
    east = radians(end.longitude - start.longitude)
    root = sin((south - north) / 2) ** 2 + cos(north) * cos(south) * sin(east / 2) ** 2
    return 2 * EARTH_RADIUS_KM * asin(sqrt(root))


@traced_node(component="geo")
def nearest(start: Place, places: list[Place]) -> Place:
    """Return the place with the shortest distance."""
    return min(places, key=lambda place: distance_km(start, place))
