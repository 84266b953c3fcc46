"""The PyPI package standardwebhooks, unmodified, for webhook.rs: reads a list of tasks as JSON from stdin, prints what
became of each. {"secret", "headers", "body"} gives {"standard": payload, or "refused: " and why}.
"""

import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError


def done(task):
    try:
        return {"standard": Webhook(task["secret"]).verify(task["body"], task["headers"])}
    except WebhookVerificationError as refusal:
        return {"standard": f"refused: {refusal}"}


print(json.dumps([done(task) for task in json.load(sys.stdin)]))
