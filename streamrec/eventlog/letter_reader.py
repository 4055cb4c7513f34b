"""Reads messages with their headers, which `Record` does not carry; always by kafka-python."""

from streamrec.eventlog.base import Place
from streamrec.eventlog.kafka_options import our_errors
from streamrec.eventlog.kafka_python import KafkaPythonReader
from streamrec.eventlog.letters import Letter, letter_of_message

BATCH = 500


class LetterReader(KafkaPythonReader):
    """A `Reader` that gives dead letters as such."""

    def letters(self, timeout_s: float) -> list[tuple[Place, int, Letter | None]]:
        """Place and offset of further messages of the assigned places, and the letters that they are."""
        with our_errors(f"{self._where}: poll"):
            fetched = self._consumer.poll(timeout_ms=round(timeout_s * 1000), max_records=BATCH)
        return [
            ((one.topic, one.partition), one.offset, letter_of_message(one.value, one.key, one.headers))
            for records in fetched.values()
            for one in records
        ]
