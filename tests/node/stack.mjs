// A local Doorward stack for one test, and requests to it without a browser.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const STARTS_WITHIN_MS = 30 * 60_000; // the first start compiles everything
const STOPS_WITHIN_MS = 60_000;
const ARRIVES_WITHIN_MS = 30_000;
const LOOKS_EVERY_MS = 50;
const LOG_LINES = 200;

/** Settles like `promise`, or rejects after `ms` milliseconds. `what` names the event in the error. */
async function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not happen within ${ms / 1000} s`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export class Stack {
  #child;
  #ended;
  #lines = [];

  /** Starts a stack in memory, on free ports, and waits until it is ready. */
  static async start() {
    const stack = new Stack();
    try {
      Object.assign(stack, await within(STARTS_WITHIN_MS, 'start of the stack', stack.#ready()));
      return stack;
    } catch (error) {
      console.error(stack.log());
      await stack.stop();
      throw error;
    }
  }

  constructor() {
    const options = ['--memory', '--no-watch', '--port', '0', '--json'];
    this.#child = spawn(process.env.CARGO ?? 'cargo', ['run', '--quiet', '--package', 'local', '--', ...options], {
      cwd: ROOT,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    // The stack stops with this process.
    process.once('exit', () => this.#child.kill('SIGTERM'));
    process.once('SIGTERM', () => process.exit(143));
    createInterface({ input: this.#child.stderr }).on('line', (line) => {
      this.#lines.push(line);
      if (this.#lines.length > LOG_LINES) this.#lines.shift();
    });
    this.#ended = new Promise((resolve) => {
      this.#child.once('exit', (code, signal) => resolve(signal ?? code));
      this.#child.once('error', (error) => resolve(error.message));
    });
  }

  #ready() {
    return new Promise((resolve, reject) => {
      // Reads all output, so that the pipe does not fill up.
      createInterface({ input: this.#child.stdout }).on('line', (line) => {
        const event = JSON.parse(line);
        if (event.event === 'ready') resolve(event);
        if (event.event === 'error') reject(new Error(line));
      });
      this.#ended.then((how) => reject(new Error(`the stack stopped before it was ready: ${how}`)));
    });
  }

  /** Stops the stack and all its processes. */
  async stop() {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null || this.#child.pid === undefined) return;
    this.#child.kill('SIGTERM');
    await within(STOPS_WITHIN_MS, 'end of the stack', this.#ended);
  }

  /** Returns the last lines of its error output. */
  log() {
    return this.#lines.join('\n');
  }

  /** Returns a demo user with its tenant. */
  person(username) {
    for (const tenant of this.tenants) {
      const user = tenant.users.find((user) => user.username === username);
      if (user) return { ...user, tenant };
    }
    throw new Error(`demo user ${username} does not exist`);
  }

  /** Returns the address of a tenant's password page. */
  page(tenant) {
    return `${this.baseUrl}/tenants/${tenant.tenantId}/password/change`;
  }

  async #post(path, headers, body) {
    const response = await fetch(this.baseUrl + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'user-agent': 'browser-test/1.0', ...headers },
      body: JSON.stringify(body),
    });
    return { status: response.status, body: await response.json() };
  }

  /** Sends a login request. */
  login(person, password) {
    const { tenantId, tenantKey, tenantSecret } = person.tenant;
    const owner = person.customerId
      ? `customer/individual/${person.customerId}`
      : `admin/organization/${person.organizationId}`;
    const path = `/api/v2.1/${owner}/users/${person.userId}/sessions`;
    const body = { username: person.username, password, tenantKey, tenantSecret };
    return this.#post(path, { 'x-tenant-id': tenantId }, body);
  }

  /** Requests a reset link as the tenant and waits for the email. */
  async forgot(person) {
    const { tenantId, tenantKey, tenantSecret } = person.tenant;
    const headers = { 'x-tenant-id': tenantId, 'x-tenant-key': tenantKey, 'x-tenant-secret': tenantSecret };
    const before = (await this.#mails(person)).length;
    const response = await this.#post(`/v2/users/${person.userId}/password_reset`, headers, { sendLink: {} });
    if (response.status !== 200) throw new Error(`password_reset failed: ${JSON.stringify(response)}`);
    let waiting = true;
    const arrived = async () => {
      while (waiting) {
        const mails = await this.#mails(person);
        if (mails.length > before) return mails.reduce((one, other) => (other.id > one.id ? other : one));
        await new Promise((resolve) => setTimeout(resolve, LOOKS_EVERY_MS));
      }
    };
    return within(ARRIVES_WITHIN_MS, `email for ${person.username}`, arrived()).finally(() => (waiting = false));
  }

  /** Returns the emails with a link to the password page of a user. */
  async #mails(person) {
    const response = await fetch(`${this.mailboxUrl}/api/messages`);
    const page = `${this.page(person.tenant)}?`;
    return (await response.json()).messages.filter(
      ({ kind, to, links }) =>
        kind === 'mail' && to.some((it) => it.includes(person.email)) && links.some((it) => it.startsWith(page)),
    );
  }

  /** Requests a reset code as an administrator. */
  async codeFor(person, admin) {
    const { token } = (await this.login(admin, admin.password)).body.data;
    const headers = { authorization: `Bearer ${token}` };
    const response = await this.#post(`/v2/users/${person.userId}/password_reset`, headers, { returnCode: {} });
    if (response.status !== 200) throw new Error(`password_reset failed: ${JSON.stringify(response)}`);
    return response.body.verificationCode;
  }
}
