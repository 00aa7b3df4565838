"""What the pictures share: colours, untrusted text, label placing, image fitting, and the PNG itself."""

from __future__ import annotations

import io
import itertools
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text
from PIL import Image
from scipy.optimize import isotonic_regression

# Okabe and Ito's colour-blind safe set, darkened where thin text needs it: warm for copying, cool else.
COPYING = ("#D55E00", "#C2579A", "#A67C00", "#8C2D04")
CLEAR = ("#0072B2", "#009E73", "#3A9BD9", "#4D4D4D")
GREY = "#666666"
DASHES = ("-", "--", "-.", ":")
DPI = 100
MOST_BANDS = 6


class Stroke(NamedTuple):
    """How one curve is drawn; `shift` moves it sideways where many curves' bars would cover each other."""

    colour: str
    dash: str
    marker: str
    fill: str
    width: float
    shift: float


def choose_strokes(copying: Sequence[bool]) -> list[Stroke]:
    """Give every curve a colour, a dash and a marker: warm and filled where copying, cool and open else.

    >>> [stroke.marker for stroke in choose_strokes([True, False])]
    ['D', 'o']
    """
    places = {True: itertools.count(), False: itertools.count()}
    strokes = []
    for index, copies in enumerate(copying):
        place, palette = next(places[copies]), COPYING if copies else CLEAR
        colour = palette[place % len(palette)]
        dash = DASHES[place // len(palette) % len(DASHES)]
        shift = 0.5 * ((index + 0.5) / len(copying) - 0.5) if len(copying) > MOST_BANDS else 0.0
        marker, fill, width = ("D", colour, 2.4) if copies else ("o", "white", 1.6)
        strokes.append(Stroke(colour, dash, marker, fill, width, shift))
    return strokes


def printable(text: str, limit: int) -> str:
    r"""Make an untrusted name safe to draw: one line, only glyphs of the font, cut in the middle.

    Args:
        text: Any text, of any length.
        limit: Most characters kept, at least 3.

    >>> printable("first\nsecond", 20), printable("a" * 4096 + "/17.png", 12)
    ('first□second', 'aaaaaa…7.png')
    """
    if len(text) > limit:
        tail = (limit - 1) // 2
        text = f"{text[: limit - 1 - tail]}…{text[-tail:]}"
    return "".join(c if _drawable(c) else "□" for c in unicodedata.normalize("NFC", text))


@lru_cache(maxsize=4096)
def _drawable(character: str) -> bool:
    """Whether the font has a glyph; controls, direction marks, lone surrogates and loose accents are out."""
    if unicodedata.category(character)[0] in "CM" or character in "\u2028\u2029":
        return False
    return get_font(findfont(FontProperties(family="DejaVu Sans"))).get_char_index(ord(character)) != 0


def shrink(text: Text, room: float) -> None:
    """Reduce the font until the text is at most `room` pixels wide."""
    width = Text.get_window_extent(text).width
    if width > room:
        text.set_fontsize(float(text.get_fontsize()) * room / width)


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move ascending positions as little as possible (least squares) so that neighbours are `gap` apart.

    Args:
        wanted: Positions, ascending.
        gap: Least distance of neighbours; reduced where they would not fit between `low` and `high`.
        low: Lowest allowed position.
        high: Highest allowed position.

    >>> spread([1.0, 1.0, 5.0], 1.0, 0.0, 10.0)
    [0.5, 1.5, 5.0]
    """
    steps = len(wanted) - 1
    gap = min(gap, (high - low) / steps) if steps > 0 else gap
    offsets = gap * np.arange(len(wanted))
    level = isotonic_regression(np.asarray(wanted, dtype=np.float64) - offsets).x
    return [float(x) for x in np.clip(level, low, high - gap * steps) + offsets]


def fit(image: Image.Image, side: int) -> Image.Image:
    """Fit an image into a square: whole-number nearest neighbour enlarges, Lanczos does the rest.

    Args:
        image: Any size and mode; transparency is laid over white.
        side: Side of the square in pixels.

    >>> fit(Image.new("L", (28, 28)), 96).size, fit(Image.new("RGB", (512, 256)), 96).size
    ((84, 84), (96, 48))
    """
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = image.convert("RGB")
    longest = max(image.size)
    if longest * 2 <= side:
        factor = side // longest
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    width, height = (max(1, round(length * side / longest)) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


class Sheet(NamedTuple):
    """Layout of a pair sheet, in pixels from the upper left corner."""

    rows: int
    columns: int

    @property
    def tile(self) -> int:
        return 96 if self.columns > 5 else 144

    @property
    def wide(self) -> int:
        """Width of a pair: two tiles and a gap, for dark images would run into each other."""
        return 2 * self.tile + 6

    @property
    def width(self) -> int:
        return max(self.left(self.columns), 640)

    @property
    def height(self) -> int:
        return self.top(self.rows) - 14

    def left(self, column: int) -> int:
        return 100 + column * (self.wide + 24)

    def top(self, row: int) -> int:
        return 76 + row * (self.tile + 78)

    def write(self, figure: Figure, x: float, y: float, text: str, size: float, **style: Any) -> None:
        """Put one line of text at pixel column `x`, centred on row `y`, at most `room` pixels wide."""
        room = style.pop("room", self.width - x)
        shrink(figure.text(x / self.width, 1 - y / self.height, text, fontsize=size, va="center",
                           parse_math=False, **style), room)  # fmt: skip


def png(figure: Figure) -> bytes:
    """Encode a figure, without date or software name: the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()
