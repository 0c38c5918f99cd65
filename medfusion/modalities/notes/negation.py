"""Which words of a sentence are negated, in English and in Korean.

English follows NegEx [1]_: a cue (*no*, *denies*, *no evidence of*) negates the words after it, another kind (*was
ruled out*, *unlikely*) those before it, and phrases that only look like negations (*no increase*, *not only*) do
nothing. What a cue reaches ends at punctuation other than a comma, at a word such as *but* or *which*, at another
finite verb, and after five words; a comma, *and* or *or* begins a new item with five words of its own. If a finite verb
follows an item that a comma or *and* began, that item is a clause of its own and not negated (*no fever, cough
persists*). Before a cue, a comma ends its reach unless *and* or *or* shows that it stands in a list.

Korean negates at the end: *없음*, *-지 않다*, *아님*, *음성*, *배제됨*, *부인함* negate the nouns before them. They
reach back to the nearest word that ends a clause (*-으나*, *-지만*, *-고*, *있음*), names a place or a time (*-에*,
*-에서*, *당시*) or is another negation, and no further than five eojeol. A comma after a bare noun continues a list,
whose items have at most three eojeol; a comma after a predicate ends the clause. ``fever (-)`` negates what stands
right before it, back to the last comma or sign.

Limits: a rule sees words, not grammar. A comma without a verb after it is taken for a list, so that in *no
pneumothorax, small effusion* both are negated. *이나* is read as "or", except after a few words (*상태이나*).
Possibility (*rule out pneumonia*, *R/O*, *cannot be excluded*) is not negation. Two negations do not cancel each
other. What is negated in one sentence is not carried into the next.

References
----------
.. [1] Chapman WW, Bridewell W, Hanbury P, Cooper GF, Buchanan BG. A simple algorithm for identifying negated findings
   and diseases in discharge summaries. J Biomed Inform. 2001;34(5):301-310.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from medfusion.modalities.notes.cues import cues
from medfusion.modalities.notes.words import is_hangul, stem

_LIST_MARKS = {",": "comma", "、": "comma", "·": "or", "/": "or"}
_ABSENT, _PRESENT = "(-)", "(+)"


def negated(items: Sequence[str]) -> set[int]:
    """Find the negated words of one sentence.

    Parameters
    ----------
    items : sequence of str
        Words in lower case and punctuation marks, in order, as `medfusion.modalities.notes.words.scan` gives them.

    Returns
    -------
    set of int
        Positions in ``items``.

    Examples
    --------
    >>> items = ["no", "fever", "or", "chills", "but", "cough"]
    >>> [items[i] for i in sorted(negated(items))]
    ['fever', 'chills']
    >>> items = ["기침은", "있으나", "발열은", "없음"]
    >>> [items[i] for i in sorted(negated(items))]
    ['발열은']
    """
    kinds = _kinds(items)
    found: set[int] = set()
    if not _CUE_KINDS.isdisjoint(kinds):
        found |= _english(items, kinds)
    if "negation" in kinds:
        for place, kind in enumerate(kinds):
            if kind == "negation":
                found |= _korean(items, kinds, place)
    return found


_CUE_KINDS = frozenset({"before", "after"})


def _kinds(items: Sequence[str]) -> list[str]:
    """Say of each item what it does; of a phrase, its first word has the kind and the others are ``"cue"``."""
    phrases, kinds, place = cues().phrases, [], 0
    while place < len(items):
        item = items[place]
        length, kind = 1, "word"
        for words, named in phrases.get(item, ()):
            if len(words) == 1 or tuple(items[place : place + len(words)]) == words:
                length, kind = len(words), named
                break
        else:
            if not item[:1].isalnum():
                kind = _LIST_MARKS.get(item, "negation" if item == _ABSENT else "end")
            elif is_hangul(item):
                kind = _korean_kind(items, place)
        if kind == "either":
            kind = _either(items, place + 1)
        elif kind == "join":
            kind = "and" if item in ("and", "및") else "or"
        kinds += [kind] + ["cue"] * (length - 1)
        place += length
    return _with_fields(items, kinds)


def _with_fields(items: Sequence[str], kinds: list[str]) -> list[str]:
    """Let what follows a colon answer what precedes it: *edema: none*."""
    for place, item in enumerate(items[:-1]):
        if item == ":":
            if kinds[place + 1] == "before" and place + 2 == len(items):
                kinds[place + 1] = "after"
            if kinds[place + 1] in ("after", "negation"):
                kinds[place] = "small"
    return kinds


def _either(items: Sequence[str], following: int) -> str:
    """*Absent breath sounds* negates what comes, *breath sounds absent* what was."""
    if following == len(items) or not items[following][0].isalnum() or is_hangul(items[following]):
        return "after"
    kinds = {kind for words, kind in cues().phrases.get(items[following], ()) if len(words) == 1}
    return "after" if kinds & {"join", "end", "affirm", "small", "before", "after"} else "before"


@dataclass(slots=True)
class _Scope:
    """What a negation reaches, going forward."""

    negated: set[int] = field(default_factory=set)
    item: list[int] = field(default_factory=list)
    left: int = 0
    may_be_clause: bool = False

    def begin(self) -> None:
        self.left, self.may_be_clause, self.item = cues().reach, False, []

    def begin_item(self, kind: str) -> None:
        if self.left:
            self.left, self.may_be_clause, self.item = cues().reach, kind != "or", []

    def add(self, place: int) -> None:
        if self.left:
            self.left -= 1
            self.negated.add(place)
            self.item.append(place)

    def end(self, kind: str) -> None:
        if kind == "affirm" and not self.item and not self.may_be_clause:
            return  # "does not have": the verb belongs to the cue
        if kind == "affirm" and self.may_be_clause and self.left:
            self.negated.difference_update(self.item)
        self.left = 0


def _english(items: Sequence[str], kinds: Sequence[str]) -> set[int]:
    scope = _Scope()
    floor = 0
    for place, kind in enumerate(kinds):
        if kind == "word":
            scope.add(place)
        elif kind == "before":
            scope.begin()
        elif kind in ("comma", "and", "or"):
            scope.begin_item(kind)
        elif kind == "after":
            scope.negated |= _backward(kinds, floor, place)
            scope.end(kind)
            floor = place + 1
        elif kind in ("end", "affirm", "negation", "pseudo"):
            scope.end(kind)
            floor = place + 1
    return scope.negated


def _backward(kinds: Sequence[str], floor: int, cue: int) -> set[int]:
    """Go back from a cue that follows what it negates."""
    found: set[int] = set()
    left, in_list = cues().reach, False
    for place in range(cue - 1, floor - 1, -1):
        kind = kinds[place]
        if kind in ("and", "or"):
            left, in_list = cues().reach, True
        elif kind == "comma" and in_list:
            left = cues().reach
        elif kind == "word" and left:
            left -= 1
            found.add(place)
        elif kind != "small":
            break
    return found


def _korean_kind(items: Sequence[str], place: int) -> str:
    """Say whether an eojeol negates, ends a clause, or is a word."""
    korean, word = cues().korean, items[place]
    before = items[place - 1] if place else ""
    after = items[place + 1] if place + 1 < len(items) else ""
    if _is_negation(word, before, after):
        return "negation"
    if word in korean.clause_words or word.endswith(korean.clause_endings):
        return "affirm"
    return "word"


def _is_negation(word: str, before: str, after: str) -> bool:
    korean = cues().korean
    if before in korean.not_after or before.endswith(korean.not_after_endings) or any(x in word for x in korean.not_in):
        return False
    if word in korean.forms:
        at_end = not after or not after[0].isalnum()
        return after not in korean.not_before and (at_end or word not in korean.forms_at_end)
    if word == korean.not_verb:
        return after.startswith(korean.verbs)
    return word.startswith(korean.after) or (word.endswith(korean.attached) and word not in korean.attached)


def _korean(items: Sequence[str], kinds: Sequence[str], cue: int) -> set[int]:
    """Go back from a Korean negation, or from ``(-)``, over the nouns before it."""
    korean = cues().korean
    found = {cue} if items[cue].endswith(korean.attached) and not items[cue].startswith(korean.after) else set()
    found -= {cue} if items[cue] in korean.forms else set()
    if items[cue] == korean.not_verb:
        found.add(cue + 1)
    place = cue - 1
    if place >= 0 and items[cue].startswith(("않", "못")) and items[place].endswith(korean.verb_endings):
        found.add(place)
        place -= 1
    if place >= 0 and stem(items[place]) in korean.change:
        return found | {place}
    reach, item = korean.reach, set[int]()
    for at in range(place, -1, -1):
        kind = kinds[at]
        if kind in ("comma", "and", "or"):
            if items[cue] == _ABSENT or (kind == "comma" and _told(items[at - 1] if at else "")):
                break
            found |= item
            reach, item = korean.list_reach, set()
        elif kind == "word" and not (is_hangul(items[at]) and items[at].endswith(korean.place_endings)):
            item.add(at)
            if len(item) > reach:
                return found if reach == korean.list_reach else found | (item - {at})
        elif kind != "small":
            break
    return found | item


def _told(word: str) -> bool:
    korean = cues().korean
    return stem(word) in korean.told or word.endswith(korean.told_endings)
