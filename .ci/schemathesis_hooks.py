"""What schemathesis cannot know: protobuf, the day, and what the gateway holds.

Half of the requests that fit the schema are changed to ask for what is there, and half of the
uploads of protobuf to send again what the gateway holds, with its signature.
"""

import datetime
import json
import os
import random
import urllib.error
import urllib.request

import schemathesis
from hypothesis import strategies as st

GATEWAY = os.environ["EFGS_GATEWAY"]
# Of someone who is not DE: DE's own keys are not among its downloads.
IDENTITY = json.loads(os.environ["EFGS_IDENTITY"])
TODAY = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
PROTOBUF = "application/protobuf;version=1.0"
CHOICE = random.Random(int(os.environ.get("SEED", "1")))


def varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value & (1 << 64) - 1)
    return varint(number << 3 | 2) + varint(len(value)) + value


NUMBERS = st.one_of(st.integers(0, 200), st.integers(-(2**31), 2**32))
DIAGNOSIS_KEY = st.builds(
    lambda *values: b"".join(field(at, value) for at, value in enumerate(values, 1)),
    st.one_of(st.binary(min_size=16, max_size=16), st.binary(max_size=40)),
    NUMBERS,
    NUMBERS,
    NUMBERS,
    st.sampled_from([b"DE", b"FR", b"", b"\xff"]),
    st.sampled_from([b"DE", b"IT", b"de", b""]),
    st.integers(0, 7),
    NUMBERS,
)
BATCH = st.lists(DIAGNOSIS_KEY, max_size=5).map(
    lambda keys: b"".join(field(1, key) for key in keys)
)
schemathesis.openapi.media_type(
    PROTOBUF,
    st.one_of(BATCH, st.binary(max_size=200), st.tuples(BATCH, st.binary(max_size=9)).map(b"".join)),
)


@schemathesis.deserializer("application/protobuf")
def read_batch(context, response):
    """The keys of a bundle as bytes; fails when it is malformed."""
    return [content for _, content in messages(response.content)]


def messages(data):
    """Pairs of each `keys` field as it is and its content."""
    at, found = 0, []
    while at < len(data):
        begin, length, shift = at, 0, 0
        if data[at] != 0x0A:
            raise ValueError(f"no keys field at {at}")
        at += 1
        while True:
            length |= (data[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if data[at - 1] < 0x80:
                break
        at += length
        if at > len(data):
            raise ValueError("truncated")
        found.append((data[begin:at], data[at - length : at]))
    return found


def get(path, tag=None):
    headers = dict(IDENTITY, Accept="application/protobuf, application/json")
    if tag:
        headers["batchTag"] = tag
    request = urllib.request.Request(GATEWAY + "/diagnosiskeys" + path, headers=headers)
    with urllib.request.urlopen(request) as answer:
        return answer.headers, answer.read()


def stored():
    """Tags of today, and uploads of DE with their signatures."""
    tags, uploads, tag = [], [], None
    while tag != "null":
        headers, body = get(f"/download/{TODAY}", tag)
        tags.append(headers["batchTag"])
        keys = messages(body)
        _, audit = get(f"/audit/download/{TODAY}/{tags[-1]}")
        for entry in json.loads(audit):
            if entry["country"] != IDENTITY["X-SSL-Client-DN"].removeprefix("C="):
                content, keys = keys[: entry["amount"]], keys[entry["amount"] :]
                if entry["country"] == "DE":
                    body = b"".join(key for key, _ in content)
                    uploads.append((body, entry["batchSignature"]))
        tag = headers["nextBatchTag"]
    return tags, uploads


TAGS, UPLOADS = stored()
if not TAGS or not UPLOADS:
    raise SystemExit("the gateway holds nothing of DE")


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta:
        parts = [case.meta.generation, *case.meta.components.values()]
        if any(part.mode.value != "positive" for part in parts):
            return
    if case.operation.label == "POST /diagnosiskeys/upload":
        # Beside the case: a body that is changed in it would be validated against the schema.
        if case.media_type == PROTOBUF and CHOICE.random() < 0.5:
            kwargs["data"], case.headers["batchSignature"] = CHOICE.choice(UPLOADS)
        return
    for place in (case.path_parameters or {}, case.headers or {}):
        if "date" in place and CHOICE.random() < 0.5:
            place["date"] = TODAY
        if "batchTag" in place and CHOICE.random() < 0.5:
            place["batchTag"] = CHOICE.choice(TAGS)
