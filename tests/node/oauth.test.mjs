// Uses the third-party library openid-client as a backend: discovery, a client token, introspection and revocation.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';

import { exportJWK, generateKeyPair } from 'jose';
import * as client from 'openid-client';

import { Stack } from './stack.mjs';

// The issuer of its tokens is the tenant's address, which openid-client compares.
const TENANT = 'tenant_harbour';
const ADMIN = 'admin@harbour.example';

let stack;

before(async () => {
  stack = await Stack.start();
});

after(() => stack?.stop());

/** Registers an API client with `doorwardctl`. */
function register(...options) {
  const ctl = ['run', '--quiet', '--bin', 'doorwardctl', '--', '--local', '--json', 'client', 'create', TENANT];
  const all = [...ctl, '--name', 'openid-client', '--scope', 'introspect', '--scope', 'users:read', ...options];
  const output = execFileSync('cargo', all, {
    cwd: new URL('../..', import.meta.url),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  return JSON.parse(output);
}

/** Reads the metadata of the tenant at a well-known name. */
function discover(name, { clientId }, authentication) {
  const address = new URL(`${stack.baseUrl}/tenants/${TENANT}/.well-known/${name}`);
  return client.discovery(address, clientId, undefined, authentication, { execute: [client.allowInsecureRequests] });
}

/** Gets a token, introspects it, revokes it and introspects it again. */
async function tokenLife(config, clientId) {
  const { access_token, token_type, expires_in, scope } = await client.clientCredentialsGrant(config, {
    scope: 'introspect',
  });
  assert.deepEqual([token_type, expires_in, scope], ['bearer', 900, 'introspect']);
  const active = await client.tokenIntrospection(config, access_token);
  assert.deepEqual([active.active, active.client_id, active.scope], [true, clientId, 'introspect']);
  await client.tokenRevocation(config, access_token);
  assert.deepEqual(await client.tokenIntrospection(config, access_token), { active: false });
}

for (const name of ['openid-configuration', 'oauth-authorization-server']) {
  for (const method of ['ClientSecretBasic', 'ClientSecretPost']) {
    test(`a client with a secret uses ${name} and ${method}`, async () => {
      const registered = register();
      const config = await discover(name, registered, client[method](registered.clientSecret));
      const metadata = config.serverMetadata();
      assert.equal(metadata.issuer, `${stack.baseUrl}/tenants/${TENANT}`);
      assert.equal(metadata.token_endpoint, `${metadata.issuer}/oauth/token`);
      await tokenLife(config, registered.clientId);
    });
  }
}

for (const alg of ['ES256', 'RS256', 'EdDSA']) {
  test(`a client signs assertions with ${alg}`, async () => {
    const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
    const file = join(mkdtempSync(join(tmpdir(), 'doorward-')), 'jwks.json');
    writeFileSync(file, JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: 'one', alg }] }));
    const registered = register('--jwks', file);
    const config = await discover(
      'openid-configuration',
      registered,
      client.PrivateKeyJwt({ key: privateKey, kid: 'one' }),
    );
    await tokenLife(config, registered.clientId);
    const { privateKey: other } = await generateKeyPair(alg, { extractable: true });
    const wrong = await discover(
      'openid-configuration',
      registered,
      client.PrivateKeyJwt({ key: other, kid: 'one' }),
    );
    await assert.rejects(client.clientCredentialsGrant(wrong), { status: 401 });
  });
}

test("a user's tokens are introspected, and a revocation ends the session", async () => {
  const registered = register();
  const config = await discover(
    'openid-configuration',
    registered,
    client.ClientSecretBasic(registered.clientSecret),
  );
  const person = stack.person(ADMIN);
  const { token, refreshToken } = (await stack.login(person, person.password)).body.data;
  const active = await client.tokenIntrospection(config, token);
  assert.deepEqual([active.active, active.sub, active.username], [true, person.userId, ADMIN]);
  assert.equal((await client.tokenIntrospection(config, refreshToken)).active, true);
  await client.tokenRevocation(config, refreshToken);
  assert.deepEqual(await client.tokenIntrospection(config, token), { active: false });
});

test('a wrong secret is invalid_client', async () => {
  const registered = register();
  const config = await discover('openid-configuration', registered, client.ClientSecretPost('dws1_wrong'));
  await assert.rejects(client.clientCredentialsGrant(config), { status: 401 });
});
