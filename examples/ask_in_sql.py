"""Ask the results of audits in SQL.

    python examples/ask_in_sql.py [STORE]

STORE is the store of an audit; the default is the one of audit_three_folders.py.
"""

# %%
from __future__ import annotations

import sys

import layerprint

STORE = sys.argv[1] if len(sys.argv) > 1 else "digits-audit/audits"

QUESTIONS = {
    "Which releases copy, and how many of their images at least?": (
        "SELECT release, verdict, copies_at_least, copies_low, copies_high FROM releases ORDER BY copies_low DESC"
    ),
    "Which images are copies?": (
        "SELECT release, image_key, train_key, view, score FROM latest_copies WHERE listed ORDER BY score DESC LIMIT 5"
    ),
    "At which layers does a release lie closest to its training images?": (
        "SELECT release, layer, round(a_hat, 3) AS a_hat, copy_rate FROM latest_scores ORDER BY a_hat LIMIT 3"
    ),
    "Which generated images are byte for byte training images?": (
        "SELECT DISTINCT image_key, train_key FROM latest_evidence WHERE identical ORDER BY ALL LIMIT 5"
    ),
}


# %%
def main() -> None:
    """Print the answer to each question."""
    with layerprint.connect(STORE) as connection:
        for question, statement in QUESTIONS.items():
            print(question)
            print(connection.sql(statement))


if __name__ == "__main__":
    main()
