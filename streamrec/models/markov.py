"""First-order Markov chain over marks: the textbook rule that stands beside the mixture.

    p(i | last = j) = (n(j, i) + D_j b(i)) / (n(j) + D_j)

Symbols: n(j, i) how often i followed j in one user's sequence, D_j distinct successors of j, b all-time
popularity (background 0). After a set of several marks, `last` is the last in the order of raw bytes.

Source: Markov (1913); the estimate: Witten, Bell (1991), IEEE Trans. Inf. Theory 37, 1085-1094.
"""

from streamrec.models.base import Context
from streamrec.models.contexts import ContextModel, Suffix


class Markov(ContextModel):
    """Counts of last mark -> next mark, backing off to all-time popularity; a naive rule.

    Examples
    --------
    >>> rule = Markov(Context("markov", None, n_backgrounds=3, seed=0))
    >>> rule.levels.n, rule.alpha, rule.column
    (1, 1.0, 0)
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context, Suffix(1), alpha=1.0, background=0)
