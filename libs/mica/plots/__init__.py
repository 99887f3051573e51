"""Plots as SVG files: lines over a common axis, in panels below one another.

Owns the drawing; knows nothing of what is drawn. Invariant: equal input gives equal bytes: no date, no random names. matplotlib
(extra ``plots``) is loaded by the first drawing only.
"""

from mica.plots._draw import Line, Mark, Panel, Plot, PlotError, draw

__all__ = ["Line", "Mark", "Panel", "Plot", "PlotError", "draw"]
