"""Which sentences stand at the centre of a text: degree centrality over the cosine of their vectors, after Erkan and
Radev 2004 ("LexRank: Graph-based Lexical Centrality as Salience in Text Summarization"), with sentence vectors in place
of shared words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def central(sentences: NDArray[np.float32], count: int) -> list[int]:
    """The places of the `count` sentences [sentences, features], vectors of length 1, that are most like all the
    others, in the order of the text; all of them where there are fewer. Raises ValueError for a count below 1."""
    if count < 1:
        raise ValueError(f"a summary of {count} sentences says nothing; ask for 1 or more")
    likeness = sentences @ sentences.T
    np.fill_diagonal(likeness, 0.0)
    return sorted(int(at) for at in np.argsort(-likeness.sum(axis=1), kind="stable")[:count])
