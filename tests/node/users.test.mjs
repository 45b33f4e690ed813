// Manages users with ZITADEL's own TypeScript client, unmodified, with the token of an API client.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, test } from 'node:test';

import { Code, ConnectError } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-web';
import { NewAuthorizationBearerInterceptor } from '@zitadel/client';
import { createUserServiceClient } from '@zitadel/client/v2';
import { TextQueryMethod } from '@zitadel/proto/zitadel/object/v2/object_pb.js';
import { UserState } from '@zitadel/proto/zitadel/user/v2/user_pb.js';
import * as oauth from 'openid-client';

import { Stack } from './stack.mjs';

// The issuer of its tokens is the tenant's address, which openid-client compares.
const TENANT = 'tenant_harbour';
const PASSWORD = 'a first good passphrase';
const NEW_PASSWORD = 'a brand new passphrase';

let stack;
let token;

/** Registers an API client with `doorwardctl` and gets a token for it. */
async function clientToken() {
  const scopes = ['users:read', 'users:write', 'recovery'].flatMap((scope) => ['--scope', scope]);
  const ctl = ['run', '--quiet', '--bin', 'doorwardctl', '--', '--local', '--json', 'client', 'create', TENANT];
  const output = execFileSync('cargo', [...ctl, '--name', 'users', ...scopes], {
    cwd: new URL('../..', import.meta.url),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const { clientId, clientSecret } = JSON.parse(output);
  const address = new URL(`${stack.baseUrl}/tenants/${TENANT}/.well-known/openid-configuration`);
  const options = { execute: [oauth.allowInsecureRequests] };
  const config = await oauth.discovery(
    address,
    clientId,
    undefined,
    oauth.ClientSecretBasic(clientSecret),
    options,
  );
  return (await oauth.clientCredentialsGrant(config)).access_token;
}

/** Logs a user in with name and password alone. */
async function login(username, password) {
  const { tenantKey, tenantSecret } = stack.tenants.find(({ tenantId }) => tenantId === TENANT);
  const response = await fetch(`${stack.baseUrl}/api/v2.1/customer/sessions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-tenant-id': TENANT },
    body: JSON.stringify({ username, password, tenantKey, tenantSecret }),
  });
  return response.status;
}

before(async () => {
  stack = await Stack.start();
  token = await clientToken();
});

after(() => stack?.stop());

/** Asserts that a call fails with a code. */
async function fails(code, call) {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof ConnectError, error);
    assert.equal(error.code, code, error.message);
    return true;
  });
}

for (const [name, useBinaryFormat] of [
  ['json', false],
  ['proto', true],
]) {
  test(`lifecycle of a user over Connect (${name})`, async () => {
    const interceptors = [NewAuthorizationBearerInterceptor(token)];
    const users = createUserServiceClient(
      createConnectTransport({ baseUrl: stack.baseUrl, useBinaryFormat, interceptors }),
    );
    const userId = `ada-${name}`;
    const address = `${userId}@example.com`;
    const text = new TextEncoder();

    const created = await users.createUser({
      organizationId: 'org_harbour',
      userId,
      userType: {
        case: 'human',
        value: {
          profile: { givenName: 'Ada', familyName: 'Byron' },
          email: { email: address, verification: { case: 'returnCode', value: {} } },
          passwordType: { case: 'password', value: { password: PASSWORD } },
          metadata: [{ key: 'doorward:customer', value: text.encode('cust_1') }],
        },
      },
    });
    assert.equal(created.id, userId);
    await users.verifyEmail({ userId, verificationCode: created.emailCode });

    const { user } = await users.getUserByID({ userId });
    assert.equal(user.state, UserState.ACTIVE);
    assert.deepEqual([user.type.case, user.type.value.email.isVerified], ['human', true]);
    assert.equal(user.details.sequence, 2n);

    const listed = await users.listUsers({
      query: { offset: 0n, limit: 10, asc: true },
      queries: [
        {
          query: {
            case: 'userNameQuery',
            value: { userName: address.toUpperCase(), method: TextQueryMethod.EQUALS_IGNORE_CASE },
          },
        },
      ],
    });
    assert.deepEqual([listed.details.totalResult, listed.result.map(({ userId }) => userId)], [1n, [userId]]);
    await fails(
      Code.InvalidArgument,
      users.listUsers({ queries: [{ query: { case: 'firstNameQuery', value: { firstName: 'Ada' } } }] }),
    );

    await users.updateUser({
      userId,
      userType: { case: 'human', value: { profile: { nickName: 'Countess' } } },
    });
    const { profile } = (await users.getUserByID({ userId })).user.type.value;
    assert.deepEqual([profile.givenName, profile.nickName], ['Ada', 'Countess']);
    assert.equal(await login(address, PASSWORD), 200);

    await users.deactivateUser({ userId });
    assert.equal(await login(address, PASSWORD), 401);
    await fails(Code.FailedPrecondition, users.deactivateUser({ userId }));
    await users.reactivateUser({ userId });
    assert.equal(await login(address, PASSWORD), 200);

    const { verificationCode } = await users.passwordReset({
      userId,
      medium: { case: 'returnCode', value: {} },
    });
    await users.setPassword({
      userId,
      newPassword: { password: NEW_PASSWORD },
      verification: { case: 'verificationCode', value: verificationCode },
    });
    assert.equal(await login(address, NEW_PASSWORD), 200);

    await users.deleteUser({ userId });
    await fails(Code.NotFound, users.getUserByID({ userId }));
    assert.equal(await login(address, NEW_PASSWORD), 401);
  });
}
