"""The patterns by which claims are found in a prompt. Objects stand in the text as <0>, <1>, ...

Each pattern has a kind, a regular expression, and the value of one that has no number in it. The order decides: what
a pattern has found, later ones do not see. Groups: n and u are a number and its unit, n2 and u2 the same in a second
form, ref is the other object, times a ratio, side a side.
"""

from __future__ import annotations

import re

from ..quantities import METRES, WORD_NUMBERS

Pattern = tuple[str, str, float | None]

_UNITS = "|".join(sorted((re.escape(unit) for unit in METRES if unit.isalpha()), key=len, reverse=True))
NUMBER = rf"(?:\d+(?:\.\d+)?|\.\d+|half an?|{'|'.join(WORD_NUMBERS)})"
LENGTH = rf"(?P<n>{NUMBER})[ -]?(?P<u>{_UNITS})\b"
_LENGTH_2 = LENGTH.replace("?P<n>", "?P<n2>").replace("?P<u>", "?P<u2>")
DEGREES = rf"(?P<n>{NUMBER})[ -]?(?:degrees?|deg|\u00b0)"

_REF = r"(?P<ref><\d+>)"
_VIEWER = r"(?:the )?(?:camera|viewer|observer|lens|us|me|you)\b"
_TO = r"(?:to |towards? )?(?:the |our )?"
_TURNED = r"(?:facing|faces|looking|looks|turned|pointing|points|heading)"
_IN_PICTURE = r"(?:side )?(?:in|of) (?:the )?(?:image|picture|frame|photo|view)"
_OWN = r"(?:in|from) (?:its|his|her|the) own view"
_BACK = rf"(?:its|his|her) back (?:to|towards?) {_VIEWER}"

# What would be mistaken for a relation between two objects.
FIRST: tuple[Pattern, ...] = (
    ("distance", rf"{_VIEWER} is {LENGTH} (?:away )?from {_REF}", None),
    ("facing", rf"{_VIEWER} sees (?:the |its )?(?P<side>front|back|left|right)(?: side)? of {_REF}", None),
    ("facing", rf"view of {_REF} from (?:the |its )?(?P<side>front|back|behind|left|right)(?: side)?\b(?! of)", None),
    ("facing", r"(?:seen|viewed) from (?:the |its )?(?P<side>front|back|behind|left|right)(?: side)?\b(?! of)", None),
)
# About an object and another one, which the pattern ends with.
PAIRS: tuple[Pattern, ...] = (
    ("own_front", rf"from (?:the )?own view of {_REF}, (?P<sub><\d+>) is in front of <\d+>", None),
    ("own_back", rf"from (?:the )?own view of {_REF}, (?P<sub><\d+>) is behind <\d+>", None),
    ("own_left", rf"from (?:the )?own view of {_REF}, (?P<sub><\d+>) is to the left of <\d+>", None),
    ("own_right", rf"from (?:the )?own view of {_REF}, (?P<sub><\d+>) is to the right of <\d+>", None),
    ("own_front", rf"in front of {_REF},? {_OWN}", None),
    ("own_back", rf"behind {_REF},? {_OWN}", None),
    ("own_left", rf"(?:to|on) the left (?:side )?of {_REF},? {_OWN}", None),
    ("own_right", rf"(?:to|on) the right (?:side )?of {_REF},? {_OWN}", None),
    ("left", rf"(?:{LENGTH} )?(?:(?:to|on|at) the )?left (?:side |hand side )?of {_REF}", None),
    ("right", rf"(?:{LENGTH} )?(?:(?:to|on|at) the )?right (?:side |hand side )?of {_REF}", None),
    ("behind", rf"(?:{LENGTH} )?(?:behind|in back of|beyond) {_REF}", None),
    ("before", rf"(?:{LENGTH} )?(?:in front of|before) {_REF}", None),
    ("on", rf"(?:on top of|on|atop|upon) {_REF}", None),
    ("under", rf"(?:under|underneath|beneath|below) {_REF}", None),
    ("above", rf"(?:{LENGTH} )?(?:above|over) {_REF}", None),
    ("closer", rf"(?:closer|nearer)(?: to {_VIEWER})? than {_REF}", None),
    ("farther", rf"(?:farther|further)(?: away)?(?: from {_VIEWER})? than {_REF}", None),
    ("gap", rf"{LENGTH} (?:away )?from {_REF}", None),
    ("gap", rf"(?:at a|a) distance of {LENGTH} (?:from|to) {_REF}", None),
    ("beside", rf"(?:next to|beside|alongside|by the side of|near|close to|adjacent to) {_REF}", None),
    ("facing_object", rf"(?:{_TURNED} (?:at|to|towards?) |facing |faces |watching ){_REF}", None),
    ("taller_m", rf"{LENGTH} (?:taller|higher) than {_REF}", None),
    ("wider_m", rf"{LENGTH} (?:wider|broader) than {_REF}", None),
    ("longer_m", rf"{LENGTH} longer than {_REF}", None),
    (
        "height_ratio",
        rf"(?P<times>(?:twice|half|thrice|{NUMBER} times) )?(?:just )?as (?:tall|high|big|large) as {_REF}",
        None,
    ),
    ("volume_ratio", rf"(?P<times>{NUMBER} times )the volume of {_REF}", None),
    ("height_ratio", rf"(?:the )?same (?:height|size) as {_REF}", 1.0),
    ("taller", rf"(?:taller|higher|bigger|larger) than {_REF}", None),
    ("smaller", rf"(?:smaller|shorter|lower) than {_REF}", None),
)
# About the two objects before the words.
TOGETHER: tuple[Pattern, ...] = (
    ("gap", rf"{LENGTH} apart\b|(?:gap|distance between (?:them|the two)) (?:of|is) {_LENGTH_2}", None),
    ("closer", rf"(?P<sub><\d+>) is (?:closer|nearer)(?: to {_VIEWER})?(?! (?:to|than))", None),
    ("farther", rf"(?P<sub><\d+>) is (?:farther|further)(?: away)?(?: from {_VIEWER})?(?! (?:from|than))", None),
    ("left", rf"(?P<sub><\d+>) is (?:on|to|at) the left {_IN_PICTURE}", None),
    ("right", rf"(?P<sub><\d+>) is (?:on|to|at) the right {_IN_PICTURE}", None),
    ("face_to_face", r"face to face|facing (?:each other|one another)", None),
    ("back_to_back", r"back to back", None),
    ("side_by_side", r"side by side", None),
    ("same_way", r"facing the same (?:way|direction)", None),
    ("opposite_ways", r"facing opposite (?:ways|directions)", None),
)
# About one object.
SINGLES: tuple[Pattern, ...] = (
    ("distance", rf"{LENGTH} (?:away|ahead|off|distant)\b(?! from <)", None),
    ("distance", rf"{LENGTH} (?:away )?(?:from|in front of|before|ahead of) {_VIEWER}", None),
    ("distance", rf"(?:at a|a) distance of {LENGTH}", None),
    ("left_m", rf"{LENGTH} (?:to|on|at) (?:the|its|our) left\b(?! of <)", None),
    ("right_m", rf"{LENGTH} (?:to|on|at) (?:the|its|our) right\b(?! of <)", None),
    ("height", rf"{LENGTH} (?:tall|high)\b|(?:a height of|as high as) {_LENGTH_2}", None),
    ("width", rf"{LENGTH} (?:wide|broad)\b", None),
    ("length", rf"{LENGTH} (?:long|deep)\b", None),
    ("right_m", r"straight ahead\b", 0.0),
    ("facing", rf"{_TURNED} (?:straight )?(?:at |to |towards? |into )?{_VIEWER}", 0.0),
    ("facing", rf"{_TURNED} {_TO}front right\b", 45.0),
    ("facing", rf"{_TURNED} {_TO}back right\b", 135.0),
    ("facing", rf"{_TURNED} {_TO}back left\b", 225.0),
    ("facing", rf"{_TURNED} {_TO}front left\b", 315.0),
    ("facing", rf"{_TURNED} {_TO}right\b", 90.0),
    ("facing", rf"{_TURNED} {_TO}left\b", 270.0),
    ("facing", rf"{_TURNED} (?:directly )?away\b|{_BACK}", 180.0),
    ("view_left", rf"(?:on|at|to) the (?:far )?left(?: {_IN_PICTURE}| side)?\b(?! (?:side )?of <)", None),
    ("view_right", rf"(?:on|at|to) the (?:far )?right(?: {_IN_PICTURE}| side)?\b(?! (?:side )?of <)", None),
    ("view_middle", r"in the (?:middle|centre|center)\b(?! of <)", None),
)
