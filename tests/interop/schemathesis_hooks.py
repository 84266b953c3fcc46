"""What schemathesis meets at the service: real projects, sessions and tokens, so that its requests get beyond 401 and 404.

Only requests that keep to the document are changed; what it sends to be refused goes out as it is. What is removed or
revoked by a request is made for that request alone.
"""

import atexit
import collections
import http.server
import itertools
import json
import os
import threading
import urllib.error
import urllib.request

import schemathesis
from schemathesis.generation.meta import TestPhase

SERVICE, CONTROL = os.environ["SERVICE"], os.environ["CONTROL"]
DEVELOPER = {"email": "demo@example.com", "password": "demo-password"}
ALICE = "/api/accounts/+15550100001"
# Guessing slows down who guesses: every request to log in comes from an address of its own (198.18.0.0/15 is for tests).
addresses = (f"198.{18 + (n >> 16)}.{n >> 8 & 255}.{n & 255}" for n in itertools.count(1))
numbers = itertools.count(1)


def call(method, path, body=None, bearer=None, base=SERVICE):
    headers = {"Content-Type": "application/json"}
    if bearer:
        headers["Authorization"] = f"Bearer {bearer}"
    if path.endswith("/login"):
        headers["X-Forwarded-For"] = next(addresses)
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as refusal:
        raise RuntimeError(f"{method} {path}: {refusal.code} {refusal.read().decode()}") from None


def token():
    return call("POST", "/api/v1/dev/login", DEVELOPER)["token"]


TOKEN = token()


def make_room():
    """A developer may have 100 projects: the throw-away ones that were used long ago go."""
    projects = [one["id"] for one in call("GET", "/api/v1/dev/projects", bearer=TOKEN)["projects"]]
    old = [one for one in projects if one not in ("proj_demo", APP["id"])][:-20]
    for one in old if len(projects) > 60 else []:
        call("DELETE", f"/api/v1/dev/projects/{one}", bearer=TOKEN)


def project():
    make_room()
    return call("POST", "/api/v1/dev/projects", {"name": "Examined"}, TOKEN)


class Receiver(http.server.BaseHTTPRequestHandler):
    """Where webhooks go: nothing leaves this machine."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=receiver.serve_forever, daemon=True).start()
HOOK = f"http://127.0.0.1:{receiver.server_port}/hook"

APP = call("POST", "/api/v1/dev/projects", {"name": "Examined", "webhook_url": HOOK}, TOKEN)


def session(ends=None):
    """A session of the app: pending, or ended as the person or the server decides."""
    begun = call("POST", "/api/v1/generate/public", {"project_id": APP["id"]})
    if ends == "cancelled":
        named = {"project_id": APP["id"], "session_token": begun["session_token"]}
        call("POST", "/api/v1/cancel", named, APP["secret_key"])
    if ends == "confirmed":
        opened = call("POST", f"{ALICE}/open", {"link": begun["deeplink"]}, base=CONTROL)["message_id"]
        seen = call("GET", f"{ALICE}/messages?after={opened}&wait=20", base=CONTROL)
        prompt = next(message["id"] for message in seen if not message["out"])
        call("POST", f"{ALICE}/tap", {"message_id": prompt, "button": "✅ Confirm"}, base=CONTROL)
    return begun


CONFIRMED = session("confirmed")
ENDED = itertools.cycle([CONFIRMED, session("cancelled")])
WHO = call("POST", "/api/v1/verify/public", {"project_id": APP["id"], "session_token": CONFIRMED["session_token"]})
DELIVERY = call("GET", f"/api/v1/dev/projects/{APP['id']}/deliveries", bearer=TOKEN)["deliveries"][0]["id"]
LISTED = call("GET", "/api/v1/dev/sessions", bearer=TOKEN)["sessions"][0]["id"]


def of_app(body):
    body["project_id"] = APP["id"]


def ended(body):
    # Nothing is held that has ended: `wait` is answered at once.
    of_app(body)
    body["session_token"] = next(ENDED)["session_token"]


def fresh(body):
    of_app(body)
    if "session_token" in body:
        body["session_token"] = session()["session_token"]
    else:
        body["proof"] = WHO["proof"]


# Of operations whose requests name something: what is there.
BODIES = {"generatePublic": of_app, "generate": of_app, "verifyPublic": ended, "consume": fresh, "cancel": fresh}
PATHS = {
    "streamStatus": lambda: {"watch_id": next(ENDED)["events_url"].rsplit("/", 1)[1]},
    "getProject": lambda: {"id": APP["id"]},
    "getWebhookSecret": lambda: {"id": APP["id"]},
    "getSession": lambda: {"id": LISTED},
    "listDeliveries": lambda: {"id": APP["id"]},
    "replayDelivery": lambda: {"id": DELIVERY},
    "testWebhook": lambda: {"id": APP["id"]},
    # What is changed or removed is nobody else's.
    "changeProject": lambda: {"id": project()["id"]},
    "deleteProject": lambda: {"id": project()["id"]},
    "regenerateSecret": lambda: {"id": project()["id"]},
}


def settings(body):
    if isinstance(body.get("name"), str):
        body["name"] = "".join(filter(str.isalnum, body["name"]))[:64] or "Examined"
    if body.get("is_active") is not None:
        body.pop("active", None)
    if body.get("grace_seconds") is not None:
        body["secret_key"] = "x" * 40
    for name, value in (("webhook_url", HOOK), ("return_url", "https://shop.example/"), ("bot_token", "")):
        if body.get(name):
            body[name] = value
    if body.get("allowed_origins"):
        body["allowed_origins"] = [f"https://{n}.shop.example" for n, _ in enumerate(body["allowed_origins"])]


def account(body):
    body["email"], body["password"] = f"{next(numbers)}@shop.example", "a password of many words"


def claim(body):
    # One of the two, and not null.
    for name in ("session_token", "proof"):
        if body.get(name) is None:
            body.pop(name, None)
    if "session_token" in body:
        body.pop("proof", None)
    elif "proof" not in body:
        body["session_token"] = "sess_nobodys"
    elif next(numbers) % 2:
        body["proof"] = WHO["proof"]
    else:
        body["session_token"] = body.pop("proof")


def phone(body):
    body["phone"] = "+15550100001"


def browser(body):
    if isinstance(body.get("client"), dict) and body["client"].get("ip") is not None:
        body["client"]["ip"] = "203.0.113.7"


# What the document says in words, since schemas cannot: rules between fields, what a name or an address is.
RULES = {
    "createProject": settings,
    "changeProject": settings,
    "register": account,
    "consume": claim,
    "signIn": phone,
    "generate": browser,
}


@schemathesis.hook
def before_call(context, case, kwargs):
    operation = case.operation.definition.raw["operationId"]
    if operation in ("login", "register"):
        case.headers["X-Forwarded-For"] = next(addresses)
    if operation == "createProject":
        make_room()
    # What breaks the document must stay as broken as it is.
    if case.meta is None or case.meta.generation.mode.is_negative:
        return
    if isinstance(case.body, dict) and operation in RULES:
        RULES[operation](case.body)
    if case.meta.phase.name == TestPhase.STATEFUL:
        # It goes on with what earlier answers named; but the app must stay.
        changes = operation in ("changeProject", "deleteProject", "regenerateSecret", "testWebhook")
        if operation in ("generatePublic", "generate"):
            of_app(case.body)
        elif changes and case.path_parameters.get("id") == APP["id"]:
            case.path_parameters = PATHS[operation]()
        return
    # Some keep names of nothing.
    if next(numbers) % 4 == 0:
        return
    if isinstance(case.body, dict) and operation in BODIES:
        BODIES[operation](case.body)
    if operation in PATHS:
        case.path_parameters = PATHS[operation]()


@schemathesis.auth(refresh_interval=None)
class Keys:
    """The key that the document asks for."""

    def get(self, case, context):
        operation = case.operation.definition.raw
        asked = [scheme for way in operation.get("security", []) for scheme in way]
        if operation["operationId"] == "logout":
            return token()
        return TOKEN if "developerToken" in asked else APP["secret_key"] if "projectSecret" in asked else None

    def set(self, case, data, context):
        if data:
            case.headers["Authorization"] = f"Bearer {data}"


@schemathesis.check
def codes_are_documented(ctx, response, case):
    """Every refusal names one of the codes that the document has for it."""
    if response.status_code < 400 or response.status_code == 405:
        return
    body = response.json()
    about = case.operation.definition.raw["responses"].get(str(response.status_code), {})
    # A path that no operation has, as with an empty id.
    known = [*about.get("x-codes", []), "NOT_FOUND"]
    assert body["code"] in known, f"{response.status_code} {body}: the document has {known}"


SEEN = collections.defaultdict(set)


@schemathesis.hook
def after_call(context, case, response):
    SEEN[case.operation.definition.raw["operationId"]].add(response.status_code)


@atexit.register
def tell():
    """Which statuses each operation gave: that all were as documented says little of one that only refused."""
    with open(os.environ["SEEN"], "w", encoding="utf-8") as file:
        json.dump({operation: sorted(statuses) for operation, statuses in SEEN.items()}, file)
