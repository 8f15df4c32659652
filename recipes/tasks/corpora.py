"""Public corpora of labelled texts: files, labels, and words that describe the labels.

The descriptions are what anybody would say of a class; they were written down before any record
was looked at. Nothing is read in here.
"""

import dataclasses
from enum import Enum

__all__ = ["CORPORA", "Corpus", "CorpusName"]


class CorpusName(str, Enum):
    """A corpus: `media` and `goods` are reviews of products, `texts` those without labels."""

    AG_NEWS = "ag_news"
    EMOTION = "emotion"
    GOODS = "goods"
    GOODS_TEXTS = "goods_texts"
    MEDIA = "media"
    MEDIA_TEXTS = "media_texts"
    SST2 = "sst2"
    TREC = "trec"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """Where a corpus is and what its labels mean.

    Args:
        train: File of the training records below the data folder, without its ending.
        test: File of the held-out records, likewise.
        labels: Names of the classes, in the order of their numbers; of texts without labels the
            one name "text".
        descriptions: Public texts that describe each class; none for texts without labels.
        text_column: Column of the text.
        domains: Values of the column "domain" that belong to it; empty: all records do.

    Privacy:
        Nothing, no data touched.
    """

    train: str
    test: str
    labels: tuple[str, ...]
    descriptions: tuple[tuple[str, ...], ...] = ()
    text_column: str = "text"
    domains: tuple[str, ...] = ()

    @property
    def is_labelled(self) -> bool:
        """Whether records carry a label."""
        return bool(self.descriptions)


def _framed(words: str, *frames: str) -> tuple[str, ...]:
    return tuple(frame.format(word) for frame in frames for word in words.split(", "))


_BAD = "awful, bad, boring, disappointing, dull, negative, poor, stupid, terrible"
_GOOD = "brilliant, enjoyable, fascinating, good, great, moving, positive, wonderful"
_FILMS = ("{}", "it was {} .", "a {} film", "this movie is {}")
_PRODUCTS = ("it is {} .", "a {} product", "i think this is {}")
_FAULTY = "awful, bad, broken, disappointing, negative, poor, terrible, useless, worthless"
_FINE = "amazing, enjoyable, excellent, good, great, perfect, positive, reliable, wonderful"
_FEELING = ("i feel {}", "i am feeling {}", "{}")
_SENTIMENTS = ("negative", "positive")
_OF_PRODUCTS = (_framed(_FAULTY, *_PRODUCTS), _framed(_FINE, *_PRODUCTS))
_GOODS = (
    "apparel",
    "baby",
    "camera_photo",
    "electronics",
    "health_personal_care",
    "kitchen_housewares",
    "sports_outdoors",
    "toys_games",
)
_MEDIA = ("books", "dvd", "magazines", "music", "video")
_QUESTIONS = (
    ("What does the abbreviation stand for ?", "What is the full form of the acronym ?"),
    ("What animal is it ?", "What kind of food is it ?", "Name a product , a sport or a colour ."),
    ("What is the definition ?", "Why does it happen ?", "How does it work ?", "Describe it ."),
    ("Who is the person ?", "Who invented it ?", "Which company did it ?", "Name an actor ."),
    ("Where is it ?", "What city is it in ?", "Which country ?", "Name a mountain or a river ."),
    ("How many are there ?", "When did it happen ?", "How much does it cost ?", "How far is it ?"),
)
_NEWS = (
    "politics abroad, war and conflict, an attack, an election, diplomacy, a government minister",
    "a sports match, football, the championship, a coach and the team, tennis, the Olympic games",
    "business, the stock market, profits of a company, oil prices, the economy, a merger",
    "technology, science, software and computers, the Internet, space research, mobile phones",
)
_EMOTIONS = (
    "sad, miserable, lonely, depressed, hopeless, hurt",
    "happy, joyful, excited, glad, content, proud",
    "loving, affectionate, caring, tender, romantic, fond of you",
    "angry, annoyed, furious, irritated, bitter, resentful",
    "afraid, scared, anxious, nervous, terrified, insecure",
    "surprised, amazed, astonished, shocked, curious, impressed",
)

CORPORA: dict[CorpusName, Corpus] = {
    CorpusName.AG_NEWS: Corpus(
        train="textcls/ag_news/train_part",
        test="textcls/ag_news/test",
        labels=("world", "sports", "business", "technology"),
        descriptions=tuple(_framed(words, "{}", "news about {}") for words in _NEWS),
    ),
    CorpusName.EMOTION: Corpus(
        train="textcls/emotion/train",
        test="textcls/emotion/test",
        labels=("sadness", "joy", "love", "anger", "fear", "surprise"),
        descriptions=tuple(_framed(words, *_FEELING) for words in _EMOTIONS),
    ),
    CorpusName.GOODS: Corpus(
        train="textcls/fdu_mtl/train",
        test="textcls/fdu_mtl/test",
        labels=_SENTIMENTS,
        descriptions=_OF_PRODUCTS,
        domains=_GOODS,
    ),
    CorpusName.GOODS_TEXTS: Corpus(
        train="text/fdu_mtl_unlabelled",
        test="textcls/fdu_mtl/test",
        labels=("text",),
        domains=_GOODS,
    ),
    CorpusName.MEDIA: Corpus(
        train="textcls/fdu_mtl/train",
        test="textcls/fdu_mtl/test",
        labels=_SENTIMENTS,
        descriptions=_OF_PRODUCTS,
        domains=_MEDIA,
    ),
    CorpusName.MEDIA_TEXTS: Corpus(
        train="text/fdu_mtl_unlabelled",
        test="textcls/fdu_mtl/test",
        labels=("text",),
        domains=_MEDIA,
    ),
    CorpusName.SST2: Corpus(
        train="glue/sst2/train",
        test="glue/sst2/validation",
        labels=_SENTIMENTS,
        descriptions=(_framed(_BAD, *_FILMS), _framed(_GOOD, *_FILMS)),
        text_column="sentence",
    ),
    CorpusName.TREC: Corpus(
        train="textcls/trec/train",
        test="textcls/trec/test",
        labels=("abbreviation", "entity", "description", "human", "location", "number"),
        descriptions=_QUESTIONS,
    ),
}
"""Every corpus by its name."""
