"""Tile scores as GeoJSON that QuPath opens: polygons in level-0 pixels with measurements."""

import json
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from momkd.types import TileGrid


def tiles_as_geojson(grid: TileGrid, scores: Mapping[str, Float[np.ndarray, " n_tiles"]]) -> str:
    """Write each tile as a polygon with its scores.

    Parameters
    ----------
    grid
        Places of the tiles; their side must be known.
    scores
        Name -> one value a tile.

    Raises
    ------
    ValueError
        The side of the tiles is not known.
    """
    side = grid.tile_px0
    if side is None:
        raise ValueError(f"{grid.slide_id}: the side of its tiles is not known")
    features = []
    for row, (x, y) in enumerate(grid.coords_px0.tolist()):
        ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
        measurements = {name: float(values[row]) for name, values in scores.items()}
        features.append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {"objectType": "tile", "measurements": measurements},
            }
        )
    return json.dumps({"type": "FeatureCollection", "features": features})
