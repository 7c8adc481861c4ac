"""A figure of matplotlib that shows itself in a notebook, with or without an inline backend."""

from io import BytesIO

from matplotlib.figure import Figure


class ShownFigure(Figure):
    """A figure; `savefig` writes it to a file."""

    def _repr_png_(self) -> bytes:
        """Return the picture, which a notebook shows."""
        picture = BytesIO()
        self.savefig(picture, format="png")
        return picture.getvalue()
