"""A user's note and tags on a sweep or on one of its trials."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Annotation:
    """What a user has noted of a sweep or of a trial.

    Args:
        note: free text; empty if there is none.
        tags: values by key.
        removed: keys of tags that were set once and removed since, which a record elsewhere may still have.

    >>> noted = Annotation().changed("ask Ann", {"for": "phone", "draft": "yes"}).changed(None, {"draft": None})
    >>> str(noted), sorted(noted.removed)
    ('ask Ann [for=phone]', ['draft'])
    >>> bool(noted), bool(noted.changed("", {"for": None}))
    (True, False)
    """

    note: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    removed: frozenset[str] = frozenset()

    def changed(self, note: str | None, tags: Mapping[str, str | None]) -> "Annotation":
        """Return a copy with this note (None keeps the old one) and these tags (a value of None removes the tag)."""
        kept = {key: value for key, value in {**self.tags, **tags}.items() if value is not None}
        removed = (self.removed | {key for key, value in tags.items() if value is None}) - kept.keys()
        return replace(self, note=self.note if note is None else note, tags=kept, removed=removed)

    def __bool__(self) -> bool:
        """Return whether there is a note or a tag."""
        return bool(self.note or self.tags)

    def __str__(self) -> str:
        """Return the note and the tags as one line."""
        tags = ", ".join(f"{key}={value}" for key, value in self.tags.items())
        return " ".join([*self.note.split(), *([f"[{tags}]"] if tags else [])])
