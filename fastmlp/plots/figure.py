"""What all pictures share: a figure that shows itself, and colours."""

from __future__ import annotations

import io

from matplotlib.figure import Figure

__all__ = ["BLUE", "GREY", "PALE", "RED", "Picture"]

BLUE, RED, GREY, PALE = "#2166ac", "#b2182b", "#666666", "#e3e3e3"


class Picture(Figure):  # type: ignore[misc, unused-ignore]  # misc where matplotlib is missing
    """A figure that a notebook shows without pyplot; where pyplot has taken over the showing, it has the word.

    Examples
    --------
    >>> from fastmlp.plots.figure import Picture
    >>> Picture()._repr_png_()[1:4]
    b'PNG'
    """

    def _repr_png_(self) -> bytes:
        page = io.BytesIO()
        self.savefig(page, format="png")
        return page.getvalue()
