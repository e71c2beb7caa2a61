"""Write the JSON Schemas of what the registry stores. After a change of the records: python docs/schemas/export.py."""

import json
from pathlib import Path

from restill.manifests import ApprovalDecision, ApprovalRequest, Manifest, PromotionEntry, Retirement

FOLDER = Path(__file__).parent
RECORDS = {
    "approval-decision": ApprovalDecision,
    "approval-request": ApprovalRequest,
    "manifest": Manifest,
    "promotion-entry": PromotionEntry,
    "retirement": Retirement,
}


def schemas() -> dict[str, str]:
    """Return the text of each schema by the name of its file."""
    return {
        f"{name}.json": json.dumps(record.model_json_schema(), indent=2, sort_keys=True) + "\n"
        for name, record in RECORDS.items()
    }


if __name__ == "__main__":
    for name, text in schemas().items():
        (FOLDER / name).write_text(text, "utf-8")
