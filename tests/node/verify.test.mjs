// Verifies access tokens with the third-party library jose, using only a tenant's published documents.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createPublicKey, createPrivateKey, generateKeyPairSync } from 'node:crypto';
import { after, before, describe, test } from 'node:test';

import { SignJWT, createLocalJWKSet, createRemoteJWKSet, errors, jwtVerify } from 'jose';

import { Stack } from './stack.mjs';

const AUDIENCE = 'bff-clients';
// One administrator per public-key algorithm. The issuer of Nordic's tokens is not an address.
const PEOPLE = [
  { username: 'admin@nordic.example', alg: 'ES256', issuer: () => 'bff' },
  { username: 'admin@harbour.example', alg: 'RS256', issuer: (base) => base },
  { username: 'admin@lighthouse.example', alg: 'EdDSA', issuer: (base) => base },
];

let stack;

before(async () => {
  stack = await Stack.start();
});

after(() => stack?.stop());

const published = (tenantId) => `${stack.baseUrl}/tenants/${tenantId}`;

async function configuration(tenantId) {
  const response = await fetch(`${published(tenantId)}/.well-known/openid-configuration`);
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('content-type'), 'application/json');
  assert.equal(response.headers.get('cache-control'), 'public, max-age=300');
  return response.json();
}

async function tokenOf(person) {
  const { status, body } = await stack.login(person, person.password);
  assert.equal(status, 200, JSON.stringify(body));
  return body.data.token;
}

/** Returns the token with one character changed in a part: 0 the header, 1 the payload, 2 the signature. */
function tampered(token, part) {
  const parts = token.split('.');
  const at = Math.floor(parts[part].length / 2);
  const other = parts[part][at] === 'A' ? 'B' : 'A';
  parts[part] = parts[part].slice(0, at) + other + parts[part].slice(at + 1);
  return parts.join('.');
}

for (const { username, alg, issuer } of PEOPLE) {
  describe(alg, () => {
    let person, keys, options, token;

    before(async () => {
      person = stack.person(username);
      const { tenantId } = person.tenant;
      const found = await configuration(tenantId);
      assert.equal(found.issuer, issuer(published(tenantId)));
      assert.deepEqual(found.id_token_signing_alg_values_supported, [alg]);
      keys = createRemoteJWKSet(new URL(found.jwks_uri));
      options = { issuer: found.issuer, audience: AUDIENCE, typ: 'at+jwt', algorithms: [alg] };
      token = await tokenOf(person);
    });

    test('a token is verified with the published keys of its tenant', async () => {
      const requiredClaims = ['sub', 'iat', 'exp', 'jti', 'tenantId', 'userId', 'sid', 'scope', 'roles'];
      const { payload, protectedHeader } = await jwtVerify(token, keys, { ...options, requiredClaims });
      assert.equal(payload.sub, person.userId);
      assert.equal(payload.tenantId, person.tenant.tenantId);
      assert.equal(protectedHeader.alg, alg);
      assert.ok(protectedHeader.kid.startsWith(`${person.tenant.tenantId}.`));
    });

    test('another issuer, audience, type or time is rejected', async () => {
      const tomorrow = new Date(Date.now() + 24 * 60 * 60_000);
      for (const wrong of [{ issuer: 'other' }, { audience: 'other' }, { typ: 'JWT' }]) {
        await assert.rejects(jwtVerify(token, keys, { ...options, ...wrong }), errors.JWTClaimValidationFailed);
      }
      await assert.rejects(jwtVerify(token, keys, { ...options, currentDate: tomorrow }), errors.JWTExpired);
    });

    test('a changed token is rejected', async () => {
      for (const part of [1, 2]) {
        await assert.rejects(jwtVerify(tampered(token, part), keys, options), errors.JWSSignatureVerificationFailed);
      }
      await assert.rejects(jwtVerify(tampered(token, 0), keys, options));
    });

    test('a token is rejected with the keys of another tenant', async () => {
      for (const other of PEOPLE.filter((other) => other.username !== username)) {
        const { jwks_uri } = await configuration(stack.person(other.username).tenant.tenantId);
        const theirs = createRemoteJWKSet(new URL(jwks_uri));
        await assert.rejects(jwtVerify(token, theirs), errors.JWKSNoMatchingKey);
      }
    });
  });
}

test('an HS256 tenant gets the same 404 as an unknown tenant', async () => {
  const answers = new Set();
  for (const tenantId of ['tenant_cloudvault', 'no_such_tenant']) {
    for (const what of ['openid-configuration', 'jwks.json']) {
      const response = await fetch(`${published(tenantId)}/.well-known/${what}`);
      answers.add(`${response.status} ${await response.text()}`);
    }
  }
  assert.equal(answers.size, 1);
  assert.match([...answers][0], /^404 /);
});

describe('a secret after two rotations', () => {
  const TENANT = 'tenant_shortlived';
  const SECRET = `doorward/tenants/${TENANT}`;

  async function secretsManager(action, request) {
    const scope = `local/20300101/${stack.region}/secretsmanager/aws4_request`;
    const response = await fetch(stack.secretsManagerUrl, {
      method: 'POST',
      headers: {
        'content-type': 'application/x-amz-json-1.1',
        'x-amz-target': `secretsmanager.${action}`,
        authorization: `AWS4-HMAC-SHA256 Credential=${scope}, SignedHeaders=host, Signature=none`,
      },
      body: JSON.stringify({ SecretId: SECRET, ...request }),
    });
    const body = await response.json();
    assert.equal(response.status, 200, JSON.stringify(body));
    return body;
  }

  const keyOf = (document) => {
    const der = Buffer.from(document.signingKeys[0].privateKey, 'base64url');
    return createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  };

  async function rotate(document, id) {
    const { privateKey } = generateKeyPairSync('ed25519');
    const der = privateKey.export({ format: 'der', type: 'pkcs8' });
    const key = { id, algorithm: 'EdDSA', privateKey: der.toString('base64url') };
    const next = { ...document, signingKeys: [key] };
    await secretsManager('PutSecretValue', { SecretString: JSON.stringify(next) });
    return next;
  }

  test('the retired key is rejected and the previous key is accepted', async () => {
    // The keys of this tenant were not requested before, so that no cached response is used.
    const first = await secretsManager('GetSecretValue', {});
    const document = JSON.parse(first.SecretString);
    const { tenantKey, tenantSecret } = document;
    const tenant = { tenantId: TENANT, tenantKey, tenantSecret };
    const { password } = stack.person('admin@nordic.example');
    const username = 'admin@shortlived.example';
    const token = await tokenOf({ tenant, userId: 'admin', username, organizationId: 'org_shortlived', password });

    const second = await rotate(document, 'eddsa-2');
    const stages = { VersionStage: 'AWSPREVIOUS', RemoveFromVersionId: first.VersionId };
    await secretsManager('UpdateSecretVersionStage', stages);
    await rotate(document, 'eddsa-3');
    // The keys were changed by hand, so that an operator publishes them.
    const publish = ['run', '--quiet', '--bin', 'doorwardctl', '--', '--local', 'tenant', 'publish-keys', TENANT];
    execFileSync('cargo', publish, { cwd: new URL('../..', import.meta.url), stdio: ['ignore', 'ignore', 'inherit'] });

    const { jwks_uri } = await configuration(TENANT);
    const { keys } = await (await fetch(jwks_uri)).json();
    assert.deepEqual(keys.map(({ kid }) => kid), [`${TENANT}.eddsa-2`, `${TENANT}.eddsa-3`]);
    const remote = createRemoteJWKSet(new URL(jwks_uri));
    // The token lives for seconds. At its time of issue, it was valid with the retired key.
    const { payload } = await jwtVerify(token, createPublicKey(keyOf(document)), { currentDate: new Date(0) });
    const currentDate = new Date(payload.iat * 1000);
    await assert.rejects(jwtVerify(token, remote, { currentDate }), errors.JWKSNoMatchingKey);
    // A token signed with the retired key, with the key ID of a published key.
    const sign = (key, kid) =>
      new SignJWT(payload).setProtectedHeader({ alg: 'EdDSA', typ: 'at+jwt', kid: `${TENANT}.${kid}` }).sign(key);
    const renamed = await sign(keyOf(document), 'eddsa-3');
    await assert.rejects(jwtVerify(renamed, remote, { currentDate }), errors.JWSSignatureVerificationFailed);
    const previous = await sign(keyOf(second), 'eddsa-2');
    assert.equal((await jwtVerify(previous, createLocalJWKSet({ keys }), { currentDate })).payload.sub, 'admin');
  });
});
