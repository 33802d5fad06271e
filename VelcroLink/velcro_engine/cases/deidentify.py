"""Keeping persons out of the case library: pseudonyms are checked, texts are stripped of identity.

The library has no field for names, dates, ids or DICOM tags, so only free text can carry them. What
looks like one is replaced by "XXXX", as the public chest X-ray reports do. Patterns cannot know every
name: a report goes through a de-identification service first where the law asks for it.

Every pattern is linear in the length of the text (no nested repetition).
"""

from __future__ import annotations

import re

from ..errors import InputError

REMOVED = "XXXX"
_PSEUDONYM = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.:/-]{0,79}\Z")
_LONG_NUMBER = re.compile(r"\d{7,}")
_MONTHS = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sep(?:t(?:ember)?)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_DATES = (
    r"\b(?:19|20)\d\d[-./](?:0?[1-9]|1[0-2])[-./](?:0?[1-9]|[12]\d|3[01])\b",
    r"\b(?:0?[1-9]|[12]\d|3[01])[-./](?:0?[1-9]|[12]\d|3[01])[-./](?:(?:19|20)\d\d|\d\d)\b",
    rf"\b(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?\.? {_MONTHS}\.?,? (?:19|20)\d\d\b",
    rf"\b{_MONTHS}\.? (?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?,? (?:19|20)\d\d\b",
    rf"\b{_MONTHS}\.? (?:19|20)\d\d\b",
    r"\b(?:19|20)\d{6}\b",
)
_NAME = r"[A-Z][A-Za-z'’\-]{1,40}"
_PATTERNS = tuple(
    re.compile(pattern, flags)
    for pattern, flags in (
        *((date, re.IGNORECASE) for date in _DATES),
        (r"\bhttps?://\S{1,2000}", re.IGNORECASE),
        (r"\b[A-Za-z0-9._%+\-]{1,64}@[A-Za-z0-9.\-]{1,255}", 0),
        (r"\b\d{1,10}(?:\.\d{1,40}){4,}\b", 0),  # DICOM UIDs
        (r"\+?\(?\d{2,4}\)?[ \-/]\d{3,4}[ \-]?\d{3,5}\b", 0),  # telephone numbers
        (
            r"\b(?:MRN|PID|accession|acc|patient id|case id|id|ssn|dob|born|birth date"
            r"|date of birth)(?: ?(?:number|no|nr)\.?)? ?[:#] ?\S{1,60}",
            re.IGNORECASE,
        ),
        (
            r"\b(?:patient|name|patient'?s name|referring(?: physician| doctor)?|radiologist|"
            r"dictated by|signed by|reported by|electronically signed by)[ \t]{0,3}:"
            r"[ \t]{0,3}[^\n;.]{1,80}",
            re.IGNORECASE,
        ),
        (rf"\b(?:Dr|Mr|Mrs|Ms|Miss|Prof|Herr|Frau|Doctor|Professor)\b\.? {_NAME}(?: {_NAME})?", 0),
        (r"\b[A-Z][A-Za-z'’\-]{1,40}\^[A-Z][A-Za-z'’\-]{0,40}", 0),  # DICOM person names
        (r"\b(?:9\d|1[0-2]\d)[- ]?(?:year|yr)s?[- ]?old\b", re.IGNORECASE),
        (r"\b[A-Z]{0,3}\d{6,20}\b", 0),
    )
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u2028\u2029\ud800-\udfff]")


def check_pseudonym(pseudonym: str) -> str:
    """The pseudonym itself. Raises InputError when it is empty, odd or looks like an identity."""
    if not isinstance(pseudonym, str) or not _PSEUDONYM.match(pseudonym):
        raise InputError(
            "A case needs a pseudonym of 1 to 80 letters, digits, spaces, '-', '_', '.' "
            "(for instance 'brain-017')."
        )
    if _LONG_NUMBER.search(pseudonym) or remove_identifiers(pseudonym) != pseudonym:
        raise InputError(
            f"'{pseudonym[:80]}' looks like a person's number, name or date; choose another "
            "pseudonym."
        )
    return pseudonym


def remove_identifiers(text: str) -> str:
    """Text with dates, numbers of persons, addresses, names after titles and ages over 89 replaced
    by "XXXX"; control characters are dropped."""
    cleaned = _CONTROL.sub(" ", text)
    for pattern in _PATTERNS:
        cleaned = pattern.sub(REMOVED, cleaned)
    return cleaned
