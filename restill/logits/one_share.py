"""The process of one share: `python -m restill.logits.one_share`, told what to do by one line of JSON on its input.

It prints one line of JSON if it could not do it, and ends with code 1. It ends at once when its input is closed.
"""

import json
import os
import sys
import threading
from typing import Any

from restill.errors import RestillError


def main() -> int:
    """Work on a plan; return the exit code."""
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answer:
        os.dup2(2, 1)  # what libraries print goes to the log
        try:
            _work(job)
        except RestillError as error:
            answer.write(json.dumps({"error": type(error).__name__, "message": str(error), "hint": error.hint}))
            return 1
    return 0


def _work(job: dict[str, Any]) -> None:
    from restill import teachers
    from restill.logits.worker import work
    from restill.settings import TeacherSettings
    from restill.storage import Connection, ObjectStore

    work(
        job["plan"],
        share=job["share"],
        shares=job["shares"],
        store=ObjectStore(Connection(**job["connection"])),
        load_teacher=lambda: teachers.load_teacher(TeacherSettings.model_validate(job["teacher"])),
        progress=lambda done, total, what: None,
    )


def _end_with_parent() -> None:
    os.read(0, 1)  # returns when the other end is closed; not through sys.stdin, whose lock would hang the exit
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
