"""Asks Python packages about what we emit: one JSON question a line on stdin, one JSON answer a line on stdout.

{"judge": "ocsf", "version": "1.5.0", "record": {...}}  -> {"faults": [...]}       pydantic-ocsf
{"judge": "cef", "line": "CEF:0|..."}                   -> {"faults": [...], "read": {...}}  cefp reads, cefevent knows the keys
{"judge": "webhook", "secret": "whsec_...", "headers": {...}, "body": "..."} -> {"faults": [...]}  standardwebhooks
"""

import importlib
import json
import sys

import cefp
from cefevent import CEFEvent
from cefevent.extensions import extension_dictionary
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

# Newer keys of the format than the dictionary's edition has.
NEWER = {"reason": 1023}


def ocsf(question):
    module = importlib.import_module("ocsf.v" + question["version"].replace(".", "_") + ".events")
    try:
        module.DetectionFinding.model_validate(question["record"])
    except Exception as error:
        return {"faults": [str(error)]}
    return {"faults": []}


def cef(question):
    try:
        read = cefp.parse(question["line"])
    except Exception as error:
        return {"faults": ["cefp: " + repr(error)]}
    faults = []
    judge = CEFEvent(strict=True)
    for key, value in read["extension"].items():
        known = extension_dictionary.get(key, {"full_name": key, "data_type": ["String"]})
        try:
            # By the full name: by the short one it takes 0 for a failure.
            judge.set_field(known["full_name"], int(value) if known["data_type"] in (["Integer"], ["Long"]) else value)
        except Exception as error:
            if len(value) > NEWER.get(key, -1):
                faults.append("cefevent: " + key + ": " + str(error))
    if read["severity"] not in [str(step) for step in range(11)]:
        faults.append("severity " + read["severity"])
    return {"faults": faults, "read": read}


def webhook(question):
    try:
        Webhook(question["secret"]).verify(question["body"], question["headers"])
    except WebhookVerificationError as error:
        return {"faults": [str(error)]}
    return {"faults": []}


JUDGES = {"ocsf": ocsf, "cef": cef, "webhook": webhook}

for line in sys.stdin:
    question = json.loads(line)
    print(json.dumps(JUDGES[question["judge"]](question)), flush=True)
