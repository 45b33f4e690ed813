// Tests password recovery with the third-party client connectrpc.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';

import { create, createFileRegistry, fromBinary, toBinary } from '@bufbuild/protobuf';
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createConnectTransport, createGrpcWebTransport } from '@connectrpc/connect-web';

import { Stack } from './stack.mjs';

const descriptors = readFileSync(new URL('descriptors.binpb', import.meta.url));
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, descriptors));
const UserService = registry.getService('zitadel.user.v2.UserService');
const BadRequest = registry.getMessage('google.rpc.BadRequest');

const ADMIN = 'admin@nordic.example';
const USER = 'oskar.berg@example.com';

let stack, user, tenant, token;

before(async () => {
  stack = await Stack.start();
  user = stack.person(USER);
  tenant = user.tenant;
  const admin = stack.person(ADMIN);
  token = (await stack.login(admin, admin.password)).body.data.token;
});

after(() => stack?.stop());

const asAdministrator = () => ({ headers: { Authorization: `Bearer ${token}` } });
const asTenant = () => ({
  headers: {
    'X-Tenant-ID': tenant.tenantId,
    'X-Tenant-Key': tenant.tenantKey,
    'X-Tenant-Secret': tenant.tenantSecret,
  },
});
const withoutCaller = () => ({ headers: { 'X-Tenant-ID': tenant.tenantId } });

async function failure(call) {
  try {
    await call;
  } catch (error) {
    return ConnectError.from(error);
  }
  return assert.fail('the call succeeded, but must fail');
}

const transports = {
  'gRPC-Web': () => createGrpcWebTransport({ baseUrl: stack.baseUrl }),
  'Connect, protobuf': () =>
    createConnectTransport({ baseUrl: stack.baseUrl, useBinaryFormat: true }),
  'Connect, JSON': () =>
    createConnectTransport({ baseUrl: stack.baseUrl, useBinaryFormat: false }),
};

for (const [name, transport] of Object.entries(transports)) {
  describe(name, () => {
    test('a reset code sets a password that logs in', async () => {
      const client = createClient(UserService, transport());
      const { userId } = user;
      const medium = { case: 'returnCode', value: {} };
      const { details, verificationCode } = await client.passwordReset({ userId, medium }, asAdministrator());
      assert.match(verificationCode, /^[A-Z2-9]{8}$/);
      assert.equal(details.resourceOwner, user.organizationId);

      const password = `a passphrase set over ${name}`;
      const verification = { case: 'verificationCode', value: verificationCode };
      const wish = { userId, newPassword: { password }, verification };
      const set = await client.setPassword(wish, withoutCaller());
      assert.ok(set.details.sequence > details.sequence);
      assert.equal((await stack.login(user, password)).status, 200);

      const again = await failure(client.setPassword(wish, withoutCaller()));
      assert.equal(again.code, Code.InvalidArgument);
      assert.match(again.rawMessage, /wrong or no longer valid/);
    });

    test('a reset requested by the tenant does not describe the user', async () => {
      const client = createClient(UserService, transport());
      for (const userId of [user.userId, 'nobody-at-all']) {
        const { details, verificationCode } = await client.passwordReset({ userId }, asTenant());
        assert.ok(details.changeDate);
        assert.equal(details.sequence, 0n);
        assert.equal(details.resourceOwner, '');
        assert.equal(verificationCode, undefined);
      }
    });

    test('an administrator sets a password', async () => {
      const client = createClient(UserService, transport());
      const newPassword = { password: `an administrator's phrase, ${name}`, changeRequired: true };
      await client.setPassword({ userId: user.userId, newPassword }, asAdministrator());
      const answer = await stack.login(user, newPassword.password);
      assert.equal(answer.body.data.passwordChangeRequired, true);
    });

    test('errors have code, message and details', async () => {
      const client = createClient(UserService, transport());
      const unknown = await failure(client.passwordReset({ userId: 'nobody-at-all' }, asAdministrator()));
      assert.equal(unknown.code, Code.NotFound);
      assert.equal(unknown.rawMessage, 'There is no such user');

      const nobody = await failure(client.passwordReset({ userId: user.userId }));
      assert.equal(nobody.code, Code.Unauthenticated);

      const newPassword = { password: 'two words' };
      const weak = await failure(client.setPassword({ userId: user.userId, newPassword }, asAdministrator()));
      assert.equal(weak.code, Code.InvalidArgument);
      const [detail] = weak.findDetails(BadRequest);
      assert.equal(detail.fieldViolations[0].field, 'newPassword.password');

      const medium = { case: 'sendLink', value: { urlTemplate: 'https://evil.example/{{.Code}}' } };
      const astray = await failure(client.passwordReset({ userId: user.userId, medium }, asTenant()));
      assert.equal(astray.code, Code.InvalidArgument);
      assert.match(astray.rawMessage, /host/);
    });
  });
}

// No npm client supports this format on Node. The test encodes frames and base64; the library encodes messages.
describe('gRPC-Web, text format', () => {
  const trailers = (text) => Object.fromEntries(text.trim().split('\r\n').map((line) => line.split(': ')));

  async function call(method, message, { headers }) {
    const bytes = toBinary(method.input, create(method.input, message));
    const frame = Buffer.alloc(5 + bytes.length);
    frame.writeUInt32BE(bytes.length, 1);
    frame.set(bytes, 5);
    const answer = await fetch(`${stack.baseUrl}/${UserService.typeName}/${method.name}`, {
      method: 'POST',
      headers: { ...headers, 'Content-Type': 'application/grpc-web-text' },
      body: frame.toString('base64'),
    });
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get('content-type'), 'application/grpc-web-text+proto');
    let rest = Buffer.from(await answer.text(), 'base64');
    const found = {};
    while (rest.length > 0) {
      const end = 5 + rest.readUInt32BE(1);
      if (rest[0] === 0) found.message = fromBinary(method.output, rest.subarray(5, end));
      else found.trailers = trailers(rest.toString('utf8', 5, end));
      rest = rest.subarray(end);
    }
    return found;
  }

  test('a reset code sets a password that logs in', async () => {
    const { passwordReset, setPassword } = UserService.method;
    const { userId } = user;
    const medium = { case: 'returnCode', value: {} };
    const asked = await call(passwordReset, { userId, medium }, asAdministrator());
    assert.equal(asked.trailers['grpc-status'], '0');
    const verification = { case: 'verificationCode', value: asked.message.verificationCode };
    const newPassword = { password: 'a passphrase set over text' };
    const set = await call(setPassword, { userId, newPassword, verification }, withoutCaller());
    assert.equal(set.trailers['grpc-status'], '0');
    assert.equal((await stack.login(user, newPassword.password)).status, 200);
  });

  test('an unknown user returns not_found in the trailers', async () => {
    const { passwordReset } = UserService.method;
    const { message, trailers } = await call(passwordReset, { userId: 'nobody-at-all' }, asAdministrator());
    assert.equal(message, undefined);
    assert.equal(trailers['grpc-status'], '5');
    assert.equal(trailers['grpc-message'], 'There is no such user');
  });
});

test('native gRPC is rejected with the supported formats', async () => {
  const answer = await fetch(`${stack.baseUrl}/${UserService.typeName}/PasswordReset`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/grpc' },
  });
  assert.equal(answer.status, 415);
  assert.match((await answer.json()).message, /gRPC-Web.*Connect/s);
});
