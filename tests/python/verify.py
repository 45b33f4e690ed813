"""Tokens of Doorward's, verified by PyJWT from nothing but a tenant's published address."""

import base64
import json
import os
import subprocess
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
# One administrator of a tenant for each algorithm with public keys, and whether its tokens name the published
# address as issuer.
PEOPLE = [
    ("admin@nordic.example", "ES256", False),
    ("admin@harbour.example", "RS256", True),
    ("admin@lighthouse.example", "EdDSA", True),
]


class Stack:
    """A Doorward of one's own, in memory and on free ports."""

    def __init__(self):
        options = ["--memory", "--no-watch", "--port", "0", "--json"]
        command = [os.environ.get("CARGO", "cargo"), "run", "--quiet", "--package", "local", "--", *options]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "ready":
                self.__dict__.update(event)
                return
            if event["event"] == "error":
                break
        self.stop()
        raise RuntimeError("the stack did not start: its own messages are above")

    def stop(self):
        self.process.terminate()
        self.process.communicate(timeout=60)

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
        """The token of a login."""
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


def tampered(token, part):
    """The token with one bit of a part changed."""
    parts = token.split(".")
    data = bytearray(decoded(parts[part]))
    data[len(data) // 2] ^= 1
    parts[part] = encoded(bytes(data))
    return ".".join(parts)


class Verify(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.stack = Stack()

    @classmethod
    def tearDownClass(cls):
        cls.stack.stop()

    def each(self):
        for username, algorithm, is_issuer in PEOPLE:
            with self.subTest(algorithm):
                person = self.stack.person(username)
                tenant = person["tenant"]["tenantId"]
                found = self.stack.configuration(tenant)
                self.assertEqual(found["issuer"], self.stack.published(tenant) if is_issuer else "bff")
                self.assertEqual(found["id_token_signing_alg_values_supported"], [algorithm])
                yield person, found, jwt.PyJWKClient(found["jwks_uri"]), self.stack.login(person)

    def verify(self, token, keys, found, **options):
        key = keys.get_signing_key_from_jwt(token)
        expected = {"audience": AUDIENCE, "issuer": found["issuer"], "options": {"require": REQUIRED}}
        algorithms = found["id_token_signing_alg_values_supported"]
        return jwt.decode_complete(token, key, algorithms=algorithms, **{**expected, **options})

    def test_a_login_is_verified_by_what_its_tenant_publishes(self):
        for person, found, keys, token in self.each():
            verified = self.verify(token, keys, found)
            self.assertEqual(verified["header"]["typ"], "at+jwt")
            self.assertEqual(verified["payload"]["sub"], person["userId"])
            self.assertEqual(verified["payload"]["tenantId"], person["tenant"]["tenantId"])

    def test_another_issuer_or_audience_is_refused(self):
        for _, found, keys, token in self.each():
            with self.assertRaises(jwt.InvalidIssuerError):
                self.verify(token, keys, found, issuer="other")
            with self.assertRaises(jwt.InvalidAudienceError):
                self.verify(token, keys, found, audience="other")

    def test_a_token_that_was_tampered_with_is_refused(self):
        for _, found, keys, token in self.each():
            for part in [1, 2]:
                with self.assertRaises(jwt.InvalidSignatureError):
                    self.verify(tampered(token, part), keys, found)

    def test_another_tenants_keys_do_not_verify_it(self):
        known = list(self.each())
        for _, found, _, token in known:
            for _, other, keys, _ in known:
                if other is not found:
                    with self.assertRaises(jwt.PyJWKClientError):
                        self.verify(token, keys, found)

    def test_a_tenant_that_signs_with_hs256_publishes_nothing(self):
        for tenant in ["tenant_cloudvault", "no_such_tenant"]:
            with self.assertRaises(urllib.error.HTTPError) as refused:
                self.stack.configuration(tenant)
            self.assertEqual(refused.exception.code, 404)

    def test_a_retired_key_verifies_nothing_any_more_and_the_previous_one_does(self):
        # Nobody has asked for this tenant's keys before: what is cached for minutes is not in the way.
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

        keys = jwt.PyJWKClient(self.stack.configuration(tenant)["jwks_uri"])
        published = {key.key_id for key in keys.get_signing_keys()}
        self.assertEqual(published, {f"{tenant}.eddsa-2", f"{tenant}.eddsa-3"})
        retired = load_der_private_key(decoded(document["signingKeys"][0]["privateKey"]), None)
        # It lives for seconds; it was good, by the key that is gone.
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
