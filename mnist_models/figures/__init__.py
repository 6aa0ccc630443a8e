"""Figures: what each shows, the drawing of it, and the stamp that says so inside the file.

`plots` needs records alone, `images` shows digits and needs the data set. What draws imports
matplotlib, which takes as long as many a command: it is imported where something is drawn.
"""


class FigureError(ValueError):
    """Something that cannot be drawn: what was found, what was expected."""
