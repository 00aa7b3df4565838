"""Independent units of an audit: one image, drawn by lot, of each group of images that belong together.

Images of one prompt, one identity or one picture are not independent. Ten near-duplicates that happen to lie above a
line are one coincidence, and a thousand of them below it are one observation. So counts and bounds rest on one image of
each group, in the release and among the held-out images.

**That is exact.** Let groups be exchangeable: those of a release without copies are drawn as those of held-out images
are. Groups do not depend on scores, and the lot does not either. So the scores of the drawn images are exchangeable,
and all that holds for n + m independent images holds for them: `copy_counts`, `upper_rate`, and the p-value of every
image, drawn or not, against the drawn held-out ones.

**The list shows all images.** Benjamini-Hochberg on the p-values of all images keeps its level at both ends. Where
images of a group are equal, it is the rule that weighs each group by its size, which keeps the expected false share of
images (Blanchard & Roquain 2008, with sizes as the volume: p ≤ level · listed/m). Where they are independent, it is the
rule for independent images (Bates et al. 2023). Between them p-values within a group rise and fall together, which is
the positive dependence that the rule allows.

**How many images are copies.** Of K drawn images above a line at least x are copies. Which ones is not known: the x
pictures with the fewest files among them give the number of files that are copies at least.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scoring.copies.groups import representatives


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """The groups of the images that are compared.

    Attributes:
        held_out: (n,) int64, equal for held-out images of one group.
        generated: (m,) int64, of the release.
        files: (m,) int64, files of the release that show the same picture as each image, itself included.
        seed: Decides the lot. It must not be known to who made the images, or copies could be hidden among images of
            their group.
    """

    held_out: NDArray[np.int64]
    generated: NDArray[np.int64]
    files: NDArray[np.int64]
    seed: int

    @classmethod
    def single(cls, n: int, m: int) -> Units:
        """Every image is alone."""
        return cls(np.arange(n), np.arange(m), np.ones(m, np.int64), 0)

    def drawn(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The drawn held-out images, and those of the release, as ascending places.

        >>> of_held_out, of_generated = Units.single(3, 2).drawn()
        >>> of_held_out.tolist(), of_generated.tolist()
        ([0, 1, 2], [0, 1])
        """
        return representatives(self.held_out, (self.seed, 0)), representatives(self.generated, (self.seed, 1))


def files_at_least(count: int, above: NDArray[np.bool_], files: NDArray[np.int64]) -> int:
    """The files that are copies at least, if so many of the images above a line are copies.

    Args:
        count: Images that are copies, at most as many as lie above.
        above: (m,) bool.
        files: (m,) int64, files of the picture of each.

    >>> files_at_least(2, np.array([True, True, False, True]), np.array([5, 1, 1, 2]))
    3
    """
    return int(np.sort(files[above])[:count].sum())
