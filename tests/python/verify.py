"""Verifies access tokens with PyJWT, using only a tenant's published documents."""

import base64
import json
import os
import subprocess
import tempfile
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

ROOT = Path(__file__).parents[2]
AUDIENCE = "bff-clients"
REQUIRED = ["iss", "sub", "aud", "exp", "iat", "jti", "tenantId", "userId", "sid", "scope", "roles"]
# One administrator per public-key algorithm. The last value is true if the issuer of the tokens is the published
# address.
PEOPLE = [
    ("admin@nordic.example", "ES256", False),
    ("admin@harbour.example", "RS256", True),
    ("admin@lighthouse.example", "EdDSA", True),
]


class Stack:
    """A local stack for these tests, in memory and on free ports."""

    def __init__(self):
        options = ["--memory", "--no-watch", "--port", "0", "--json"]
        command = [os.environ.get("CARGO", "cargo"), "run", "--quiet", "--package", "local", "--", *options]
        # The error output is shown if the start fails.
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=self.log, text=True)
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "ready":
                self.__dict__.update(event)
                return
            if event["event"] == "error":
                break
        self.process.terminate()
        self.process.wait(timeout=60)
        self.log.seek(0)
        raise RuntimeError(f"the stack did not start:\n{self.log.read()}")

    def stop(self):
        self.process.terminate()
        self.process.communicate(timeout=60)
        self.log.close()

    def person(self, username):
        for tenant in self.tenants:
            for user in tenant["users"]:
                if user["username"] == username:
                    return {**user, "tenant": tenant}
        raise LookupError(username)

    def post(self, url, headers, body):
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request) as response:
            return json.load(response)

    def login(self, person):
        """Logs in and returns the access token."""
        tenant = person["tenant"]
        path = f"/api/v2.1/admin/organization/{person['organizationId']}/users/{person['userId']}/sessions"
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "verify/1.0",
            "X-Tenant-ID": tenant["tenantId"],
        }
        body = {
            "username": person["username"],
            "password": person["password"],
            "tenantKey": tenant["tenantKey"],
            "tenantSecret": tenant["tenantSecret"],
        }
        return self.post(self.baseUrl + path, headers, body)["data"]["token"]

    def published(self, tenant):
        return f"{self.baseUrl}/tenants/{tenant}"

    def configuration(self, tenant):
        address = f"{self.published(tenant)}/.well-known/openid-configuration"
        with urllib.request.urlopen(address) as response:
            return json.load(response)

    def secrets_manager(self, action, secret, **request):
        scope = f"local/20300101/{self.region}/secretsmanager/aws4_request"
        headers = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"secretsmanager.{action}",
            "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=none",
        }
        return self.post(self.secretsManagerUrl, headers, {"SecretId": secret, **request})


def decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def tampered(token):
    """Yields the token with other roles, and with one changed bit in its signature."""
    header, payload, signature = token.split(".")
    claims = {**json.loads(decoded(payload)), "roles": ["TENANT_ADMIN"]}
    bits = bytearray(decoded(signature))
    bits[len(bits) // 2] ^= 1
    yield ".".join([header, encoded(json.dumps(claims).encode()), signature])
    yield ".".join([header, payload, encoded(bytes(bits))])


class Verify(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = Stack()

    @classmethod
    def tearDownClass(cls):
        cls.stack.stop()

    def known(self, username):
        """Returns a user, the configuration and keys of its tenant, and an access token."""
        person = self.stack.person(username)
        found = self.stack.configuration(person["tenant"]["tenantId"])
        return person, found, jwt.PyJWKClient(found["jwks_uri"]), self.stack.login(person)

    def verify(self, token, keys, found, **options):
        key = keys.get_signing_key_from_jwt(token)
        expected = {"audience": AUDIENCE, "issuer": found["issuer"], "options": {"require": REQUIRED}}
        algorithms = found["id_token_signing_alg_values_supported"]
        return jwt.decode_complete(token, key, algorithms=algorithms, **{**expected, **options})

    def test_token_is_verified_with_the_published_keys_of_its_tenant(self):
        for username, algorithm, is_issuer in PEOPLE:
            with self.subTest(algorithm):
                person, found, keys, token = self.known(username)
                tenant = person["tenant"]["tenantId"]
                self.assertEqual(found["issuer"], self.stack.published(tenant) if is_issuer else "bff")
                self.assertEqual(found["id_token_signing_alg_values_supported"], [algorithm])
                verified = self.verify(token, keys, found)
                header, claims = verified["header"], verified["payload"]
                self.assertEqual((header["typ"], header["alg"]), ("at+jwt", algorithm))
                self.assertEqual((claims["sub"], claims["tenantId"]), (person["userId"], tenant))

    def test_another_issuer_or_audience_is_rejected(self):
        for username, algorithm, _ in PEOPLE:
            with self.subTest(algorithm):
                _, found, keys, token = self.known(username)
                with self.assertRaises(jwt.InvalidIssuerError):
                    self.verify(token, keys, found, issuer="other")
                with self.assertRaises(jwt.InvalidAudienceError):
                    self.verify(token, keys, found, audience="other")

    def test_changed_token_is_rejected(self):
        for username, algorithm, _ in PEOPLE:
            with self.subTest(algorithm):
                _, found, keys, token = self.known(username)
                for forged in tampered(token):
                    with self.assertRaises(jwt.InvalidSignatureError):
                        self.verify(forged, keys, found)

    def test_token_is_rejected_with_the_keys_of_another_tenant(self):
        known = [self.known(username) for username, _, _ in PEOPLE]
        for person, found, _, token in known:
            for other, _, keys, _ in known:
                if other["tenant"] != person["tenant"]:
                    with self.assertRaises(jwt.PyJWKClientError):
                        self.verify(token, keys, found)

    def test_hs256_tenant_publishes_no_configuration(self):
        for tenant in ["tenant_cloudvault", "no_such_tenant"]:
            with self.assertRaises(urllib.error.HTTPError) as refused:
                self.stack.configuration(tenant)
            self.assertEqual(refused.exception.code, 404)

    def test_retired_key_is_rejected_and_previous_key_is_accepted(self):
        # The keys of this tenant were not requested before, so that no cached response is used.
        tenant = "tenant_shortlived"
        secret = f"doorward/tenants/{tenant}"
        first = self.stack.secrets_manager("GetSecretValue", secret)
        document = json.loads(first["SecretString"])
        proof = {"tenantId": tenant, **{name: document[name] for name in ["tenantKey", "tenantSecret"]}}
        person = {
            **self.stack.person("admin@nordic.example"),
            "tenant": proof,
            "userId": "admin",
            "username": "admin@shortlived.example",
            "organizationId": "org_shortlived",
        }
        token = self.stack.login(person)

        def rotate(key_id):
            key = Ed25519PrivateKey.generate()
            der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
            signing = {"id": key_id, "algorithm": "EdDSA", "privateKey": encoded(der)}
            text = json.dumps({**document, "signingKeys": [signing]})
            self.stack.secrets_manager("PutSecretValue", secret, SecretString=text)
            return key

        second = rotate("eddsa-2")
        stage = {"VersionStage": "AWSPREVIOUS", "RemoveFromVersionId": first["VersionId"]}
        self.stack.secrets_manager("UpdateSecretVersionStage", secret, **stage)
        rotate("eddsa-3")
        # The keys were changed by hand, so that an operator publishes them.
        ctl = ["cargo", "run", "--quiet", "--bin", "doorwardctl", "--", "--local"]
        subprocess.run([*ctl, "tenant", "publish-keys", tenant], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)

        keys = jwt.PyJWKClient(self.stack.configuration(tenant)["jwks_uri"])
        published = {key.key_id for key in keys.get_signing_keys()}
        self.assertEqual(published, {f"{tenant}.eddsa-2", f"{tenant}.eddsa-3"})
        retired = load_der_private_key(decoded(document["signingKeys"][0]["privateKey"]), None)
        # The token lives for seconds. At its time of issue, it was valid with the retired key.
        at_its_time = {"algorithms": ["EdDSA"], "audience": AUDIENCE, "options": {"verify_exp": False}}
        claims = jwt.decode(token, retired.public_key(), **at_its_time)
        with self.assertRaises(jwt.PyJWKClientError):
            keys.get_signing_key_from_jwt(token)

        def signed(key, key_id):
            headers = {"typ": "at+jwt", "kid": f"{tenant}.{key_id}"}
            return jwt.encode(claims, key, algorithm="EdDSA", headers=headers)

        renamed = signed(retired, "eddsa-3")
        with self.assertRaises(jwt.InvalidSignatureError):
            jwt.decode(renamed, keys.get_signing_key_from_jwt(renamed), **at_its_time)
        previous = signed(second, "eddsa-2")
        key = keys.get_signing_key_from_jwt(previous)
        self.assertEqual(jwt.decode(previous, key, **at_its_time)["sub"], "admin")


if __name__ == "__main__":
    unittest.main()
