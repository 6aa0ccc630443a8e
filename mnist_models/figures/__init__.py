"""Figures: what each shows, the drawing of it, and the stamp that says so inside the file.

`plots` needs records alone; `images` shows digits and needs the data set, and is therefore not
imported here.
"""

from mnist_models.figures.style import FigureError, png_bytes, svg_bytes

__all__ = ["FigureError", "png_bytes", "svg_bytes"]
