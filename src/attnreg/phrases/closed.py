"""The closed classes of English: the words that no lexicon of things, deeds and qualities holds."""

from __future__ import annotations


def word_set(listed: str) -> frozenset[str]:
    """The words of a text, for lists that are read more easily as one."""
    return frozenset(listed.split())


DETERMINERS = word_set(
    """the this these those his her its their my our your some any no each every another other several many few both
    all either neither whose such much more most 's ’s ʼs"""
)
NUMBERS = word_set(
    """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million dozen half"""
)
PREPOSITIONS = word_set(
    """of in on at by near nearby beside besides behind above below over under through across into onto from between
    among amongst amid amidst around round inside outside against along alongside beneath underneath atop within
    toward towards past off to for during about as like than via upon beyond opposite except excluding including
    throughout until since after before up down out plus minus per unlike despite aboard without"""
)
PRONOUNS = word_set(
    """i you he she it we they me him us them himself herself itself themselves themself who whom which that what where
    when while whilst how why there here then so if because although though not never n't but yet nor rather instead
    together else only also just too very o'clock"""
)
AUXILIARIES = word_set(
    """is are was were be been being am has have had having do does did isn't aren't wasn't weren't hasn't haven't
    hadn't doesn't don't didn't can't cannot won't couldn't wouldn't shouldn't isnt arent doesnt dont cant"""
)
MODALS = word_set("will would could should may might must shall")
# Colours: adjectives before a noun, whatever a tagger holds them for.
COLOURS = word_set(
    """red orange yellow green blue purple pink brown gray grey black white gold golden silver beige tan cyan magenta
    teal turquoise violet maroon navy indigo lavender cream bronze copper crimson scarlet khaki rainbow"""
)
# Colours that are things where no noun follows: "an orange and a rainbow".
COLOURED_THINGS = word_set("orange gold silver bronze copper cream violet lavender rainbow")
# Words that only say where: "in front of a car", "a dog right of a cat", "next to".
WHERE = word_set("front back top bottom side left right middle center centre edge next close")
# After a noun and before another one: "a heart shaped box" shows no heart.
LIKENESS = word_set("""shaped sized colored coloured flavored flavoured scented themed patterned styled""")
