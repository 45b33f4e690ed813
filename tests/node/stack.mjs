// A Doorward of one's own, and what talks to it without a browser.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const STARTS_WITHIN_MS = 30 * 60_000; // a first start compiles everything
const STOPS_WITHIN_MS = 60_000;
const ARRIVES_WITHIN_MS = 30_000;
const LOOKS_EVERY_MS = 50;
const SAID_LINES = 200;

/** Resolves or rejects as `promise` does, or says after `ms` that `what` did not happen. */
async function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not within ${ms / 1000} s`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export class Stack {
  #child;
  #ended;
  #said = [];

  /** Starts one in memory, on free ports, and waits until it answers. */
  static async start() {
    const stack = new Stack();
    try {
      Object.assign(stack, await within(STARTS_WITHIN_MS, 'a start of the stack', stack.#ready()));
      return stack;
    } catch (error) {
      console.error(stack.said());
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
    // However this ends, the stack does too.
    process.once('exit', () => this.#child.kill('SIGTERM'));
    process.once('SIGTERM', () => process.exit(143));
    createInterface({ input: this.#child.stderr }).on('line', (line) => {
      this.#said.push(line);
      if (this.#said.length > SAID_LINES) this.#said.shift();
    });
    this.#ended = new Promise((resolve) => {
      this.#child.once('exit', (code, signal) => resolve(signal ?? code));
      this.#child.once('error', (error) => resolve(error.message));
    });
  }

  #ready() {
    return new Promise((resolve, reject) => {
      // Read to the end: what the stack says later must not fill the pipe.
      createInterface({ input: this.#child.stdout }).on('line', (line) => {
        const event = JSON.parse(line);
        if (event.event === 'ready') resolve(event);
        if (event.event === 'error') reject(new Error(line));
      });
      this.#ended.then((how) => reject(new Error(`the stack ended before it was ready: ${how}`)));
    });
  }

  /** Ends it with everything that it started. */
  async stop() {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null || this.#child.pid === undefined) return;
    this.#child.kill('SIGTERM');
    await within(STOPS_WITHIN_MS, 'the end of the stack', this.#ended);
  }

  /** What it said last, for whoever looks for a mistake. */
  said() {
    return this.#said.join('\n');
  }

  /** A demo user, with its tenant. */
  person(username) {
    for (const tenant of this.tenants) {
      const user = tenant.users.find((user) => user.username === username);
      if (user) return { ...user, tenant };
    }
    throw new Error(`no demo user ${username}`);
  }

  /** Where a tenant's users set new passwords. */
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

  /** Tries to log in. */
  login(person, password) {
    const { tenantId, tenantKey, tenantSecret } = person.tenant;
    const owner = person.customerId
      ? `customer/individual/${person.customerId}`
      : `admin/organization/${person.organizationId}`;
    const path = `/api/v2.1/${owner}/users/${person.userId}/sessions`;
    const body = { username: person.username, password, tenantKey, tenantSecret };
    return this.#post(path, { 'x-tenant-id': tenantId }, body);
  }

  /** Starts recovery as the tenant's own backend does, and waits for the mail with the link. */
  async forgot(person) {
    const { tenantId, tenantKey, tenantSecret } = person.tenant;
    const headers = { 'x-tenant-id': tenantId, 'x-tenant-key': tenantKey, 'x-tenant-secret': tenantSecret };
    const before = (await this.#mails(person)).length;
    const answer = await this.#post(`/v2/users/${person.userId}/password_reset`, headers, { sendLink: {} });
    if (answer.status !== 200) throw new Error(`no reset: ${JSON.stringify(answer)}`);
    let waiting = true;
    const arrived = async () => {
      while (waiting) {
        const mails = await this.#mails(person);
        if (mails.length > before) return mails.reduce((one, other) => (other.id > one.id ? other : one));
        await new Promise((resolve) => setTimeout(resolve, LOOKS_EVERY_MS));
      }
    };
    return within(ARRIVES_WITHIN_MS, `a mail for ${person.username}`, arrived()).finally(() => (waiting = false));
  }

  /** The mails with a link to that person's page. */
  async #mails(person) {
    const response = await fetch(`${this.mailboxUrl}/api/messages`);
    const page = `${this.page(person.tenant)}?`;
    return (await response.json()).messages.filter(
      ({ kind, to, links }) =>
        kind === 'mail' && to.some((it) => it.includes(person.email)) && links.some((it) => it.startsWith(page)),
    );
  }

  /** A code that an administrator reads out. */
  async codeFor(person, admin) {
    const { token } = (await this.login(admin, admin.password)).body.data;
    const headers = { authorization: `Bearer ${token}` };
    const answer = await this.#post(`/v2/users/${person.userId}/password_reset`, headers, { returnCode: {} });
    if (answer.status !== 200) throw new Error(`no code: ${JSON.stringify(answer)}`);
    return answer.body.verificationCode;
  }
}
