"""The metrics of E2E and DART, as close to their official scripts as can be had offline.

docs/metrics.md says where they differ, figure by figure.
"""

from dpft.recipes.metrics.captions import rouge_l_scorer
from dpft.recipes.metrics.cider import cider_scorer
from dpft.recipes.metrics.meteor import meteor_exact_stem_scorer
from dpft.recipes.metrics.nist import nist_scorer
from dpft.recipes.metrics.scorer import Scorer, together
from dpft.recipes.metrics.translation import bleu_scorer, multi_bleu_scorer, ter_scorer

__all__ = ["dart_scorer", "e2e_scorer"]


def e2e_scorer() -> Scorer:
    """Return BLEU and NIST as mteval-v13a, ROUGE-L and CIDEr as coco-caption, METEOR in part.

    Privacy:
        As `Scorer`.
    """
    return together(
        bleu_scorer(lowercase=True),
        nist_scorer(),
        rouge_l_scorer(),
        cider_scorer(),
        meteor_exact_stem_scorer(),
    )


def dart_scorer() -> Scorer:
    """Return BLEU as multi-bleu.perl, TER as tercom, METEOR in part.

    Texts are tokenised by the caller as the references are: words between spaces.

    Privacy:
        As `Scorer`.
    """
    return together(multi_bleu_scorer(), ter_scorer(), meteor_exact_stem_scorer())
