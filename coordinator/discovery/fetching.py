"""Records of contacts, fetched from themselves when they have a newer one."""

from __future__ import annotations

from dp2p.allowance import Shares
from dp2p.coordinator.discovery.actions import Action, RecordSeen
from dp2p.coordinator.discovery.asking import Asking
from dp2p.coordinator.discovery.contact import Contact
from dp2p.coordinator.discovery.messages import Answer, AskRecord, RecordIs

KNOWN_MAX = 4096
EACH = 4, 60.0
"Records of one IP network: at once, and one more each (s)."
ALL = 32, 0.5
"Of all together."


class Fetching:
    """Which record of whom was asked for."""

    def __init__(self, asking: Asking) -> None:
        self._asking = asking
        self._known: dict[bytes, int] = {}
        "By key, the number of the latest record that was asked for. Those heard last come last."
        self._allowed = Shares(EACH, ALL)

    def heard(self, contact: Contact, seq: int, now: float, *, checked: bool) -> list[Action]:
        """A contact has said the number of its record.

        Of one that has not answered a ping (``checked``) only news of what is known are fetched:
        lookups meet too many.
        """
        known = self._known.get(contact.key)
        if seq <= (known or 0) or (known is None and not checked):
            return []
        if not self._allowed.take(self._asking.counted(contact), now):
            self._asking.counters.records_limited += 1
            return []
        self._remember(contact.key, seq)
        self._asking.counters.records_asked += 1
        return self._asking.ask(contact, AskRecord, self._told, now)

    def _told(self, contact: Contact, answers: list[Answer], _now: float) -> list[Action]:
        if not answers:
            self._known.pop(contact.key, None)  # the next ping asks again
        return [
            RecordSeen(contact, answer.record)
            for answer in answers
            if isinstance(answer, RecordIs) and answer.record
        ]

    def _remember(self, key: bytes, seq: int) -> None:
        self._known.pop(key, None)
        self._known[key] = seq
        if len(self._known) > KNOWN_MAX:
            del self._known[next(iter(self._known))]
