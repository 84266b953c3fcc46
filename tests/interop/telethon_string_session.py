"""An unmodified Telethon (1.45.0) and the connector hand each other an account, in both directions, without a code.

    .venv/bin/python3 telethon_string_session.py ../../target/debug/telegram-connector

Starts a sandbox Telegram and a service on free ports in a temporary folder; exits 0 when both directions work.
"""

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request

from telethon import TelegramClient
from telethon.crypto import rsa
from telethon.sessions import StringSession

BINARY = sys.argv[1]
ALICE, BOB = "+15550100001", "+15550100002"


def call(method, url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()


@contextlib.contextmanager
def running(arguments, ready):
    """The binary, until the end of the block; yields what `ready` finds in its output."""
    environment = {"CONNECTOR_LOG_FORMAT": "json"}
    process = subprocess.Popen([BINARY, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               env=environment)
    try:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if found := re.search(ready, line):
                break
        else:
            raise SystemExit("it ended: " + "".join(lines))
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield found.group(1)
    finally:
        process.terminate()
        process.wait(10)


def session(folder, sandbox, command, text=""):
    done = subprocess.run([BINARY, "session", *command, *places(folder, sandbox)], input=text, text=True,
                          capture_output=True, env={})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def places(folder, sandbox):
    return ["--data-dir", f"{folder}/data", "--session-store", f"file:{folder}/sessions", f"--sandbox={sandbox}"]


def code(sandbox, phone):
    return json.loads(call("GET", f"{sandbox}/api/accounts/{phone}/code?wait=5")[1])["code"]


async def sign_in_with_telethon(sandbox, server, phone):
    kept = StringSession()
    host, port = next(entry["address"] for entry in server["dcs"] if entry["id"] == 2).rsplit(":", 1)
    kept.set_dc(2, host, int(port))
    client = TelegramClient(kept, 1, "0" * 32)
    await client.connect()
    await client.send_code_request(phone)
    await client.sign_in(phone, await asyncio.to_thread(code, sandbox, phone))
    text = client.session.save()
    await client.disconnect()
    return text


async def who_with_telethon(text):
    client = TelegramClient(StringSession(text), 1, "0" * 32)
    await client.connect()
    me = await client.get_me()
    await client.disconnect()
    return me and "+" + me.phone


def serving(folder, sandbox):
    """A service; yields its address."""
    arguments = ["serve", "--listen", "127.0.0.1:0", *places(folder, sandbox)]
    return running(arguments, r'"message":"serving"[^}]*"address":"([^"]+)"')


def main():
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        ports = ["sandbox", "--sandbox-listen", "127.0.0.1:0", "--data-dir", f"{folder}/telegram"]
        sandbox = stack.enter_context(running(ports, r"(http://[0-9.:]+)/docs"))
        for phone, name in [(ALICE, "Alice"), (BOB, "Bob")]:
            assert call("POST", f"{sandbox}/api/accounts", {"phone": phone, "first_name": name})[0] == 200
        server = json.loads(call("GET", f"{sandbox}/api/server")[1])
        rsa.add_key(server["rsa_public_key"], old=False)

        text = asyncio.run(sign_in_with_telethon(sandbox, server, ALICE))
        session(f"{folder}/one", sandbox, ["import"], text + "\n")
        with serving(f"{folder}/one", sandbox) as address:
            status, _ = call("POST", f"http://{address}/sign_in", {"phone": ALICE})
            account = json.loads(call("GET", f"http://{address}/sign_in")[1])["account"]
            assert (status, account["name"]) == (200, "Alice"), (status, account)
        assert session(f"{folder}/one", sandbox, ["export"]) == text
        print("ok: a session made by Telethon is imported, signed in without a code, and exported as it was")

        with serving(f"{folder}/two", sandbox) as address:
            assert call("POST", f"http://{address}/sign_in", {"phone": BOB})[0] == 206
            body = {"phone": BOB, "password": code(sandbox, BOB)}
            assert call("POST", f"http://{address}/sign_in", body)[0] == 200
        text = session(f"{folder}/two", sandbox, ["export"])
        assert asyncio.run(who_with_telethon(text)) == BOB
        assert StringSession(text).save() == text
        print("ok: a session made by the connector is exported and signed in with Telethon without a code")
        calls = json.loads(call("GET", f"{sandbox}/api/calls")[1])
        sent = sum(entry["count"] for entry in calls if entry["method"] == "auth.sendCode")
        assert sent == 2, calls


main()
