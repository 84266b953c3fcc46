"""PyJWT, unmodified, for proof.rs: reads a list of tasks as JSON from stdin, prints what became of each.

{"verify": token, "secret", "at"?} gives {"header", "claims"} or {"refused": the name of PyJWT's exception}; `at` (Unix
seconds) is when it is looked at, now unless said. {"sign": claims, "secret", "algorithm"} gives {"token"}.
"""

import json
import sys
import time
import warnings

import jwt


def verify(token, secret, at=None):
    # PyJWT has no clock of its own to set, but a leeway: how far `at` is from now.
    later = {} if at is None else {"leeway": time.time() - at, "options": {"verify_iat": False}}
    try:
        claims = jwt.decode(token, secret, algorithms=["HS256"], **later)
    except jwt.InvalidTokenError as refusal:
        return {"refused": type(refusal).__name__}
    return {"header": jwt.get_unverified_header(token), "claims": claims}


def done(task):
    if "sign" in task:
        secret = None if task["algorithm"] == "none" else task["secret"]
        # Of keys that are short for what we make only to see it refused.
        warnings.simplefilter("ignore")
        return {"token": jwt.encode(task["sign"], secret, task["algorithm"])}
    # A warning, as of a key that is too short, is as good as a refusal.
    warnings.simplefilter("error")
    return verify(task.pop("verify"), **task)


print(json.dumps([done(task) for task in json.load(sys.stdin)]))
