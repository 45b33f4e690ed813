// Tests password recovery and the API page in headless Chromium, on its own stack. Run with
// `npm ci && npm run browser`. CHROMIUM names another browser, SCREENSHOTS a folder for screenshots.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import axe from 'axe-core';
import { chromium } from 'playwright-core';
import { Stack } from './stack.mjs';

const NEW_PASSWORD = 'seven quiet herons';
const COOKIE = '__Host-doorward-reset';
const SUBMIT = { name: 'Set password' };
const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  // Only 127.0.0.1 is reachable.
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
];

const MARCUS = 'marcus.jensen@example.com';
const ADMIN = 'admin@nordic.example';

/** Opens a page in a new context. Fails on requests to other hosts, CSP violations and page errors. */
async function visit(browser, options, step) {
  const context = await browser.newContext({ locale: 'en-GB', ...options });
  const wrong = [];
  const posts = [];
  context.on('request', (request) => {
    const url = new URL(request.url());
    if (url.hostname !== '127.0.0.1') wrong.push(`a request to ${url.origin}`);
    if (request.method() === 'POST') posts.push(request.url());
  });
  context.on('console', (message) => {
    if (message.text().includes('Content Security Policy')) wrong.push(message.text());
  });
  context.on('weberror', (error) => wrong.push(String(error.error())));
  try {
    const page = await context.newPage();
    page.setDefaultTimeout(30_000);
    await step({ page, context, wrong, posts });
    assert.deepEqual(wrong, []);
  } finally {
    await context.close();
  }
}

const heading = (page, name) => page.getByRole('heading', { level: 1, name }).waitFor();
const focused = (page) => page.evaluate(() => document.activeElement?.id);

async function picture(page, name) {
  const folder = process.env.SCREENSHOTS;
  if (!folder) return;
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
}

/** Opens the form from the mailbox, by the link in the text or HTML part. The form's address has no secrets. */
async function followMail(stack, page, person, mail, part) {
  await page.goto(stack.mailboxUrl);
  await page.locator(`#message-${mail.id}`).getByRole('link', { name: mail.subject }).click();
  const inside = part === 'html' ? page.frameLocator('iframe') : page.getByRole('main');
  const link = inside.locator('a[href*="/password/change?"]').first();
  const [opened] = await Promise.all([page.waitForEvent('popup'), link.click()]);
  await heading(opened, 'Set a new password');
  assert.equal(opened.url(), stack.page(person.tenant), 'the address does not contain the code');
  return opened;
}

async function linkInMail(stack, browser) {
  const marcus = stack.person(MARCUS);
  const mail = await stack.forgot(marcus);
  await visit(browser, { javaScriptEnabled: false }, async ({ page: mailbox, context }) => {
    const page = await followMail(stack, mailbox, marcus, mail, 'text');
    const [cookie] = (await context.cookies(stack.baseUrl)).filter(({ name }) => name === COOKIE);
    assert.deepEqual([cookie.httpOnly, cookie.secure, cookie.sameSite, cookie.path], [true, true, 'Lax', '/']);
    assert.ok(cookie.expires <= Date.now() / 1000 + 900, 'the cookie expires within 15 minutes');

    await page.getByLabel('New password', { exact: true }).fill('too short');
    await page.getByLabel('New password again').fill('too short');
    await page.getByRole('button', SUBMIT).click();
    await page.getByRole('alert').getByRole('link', { name: 'at least 15 characters' }).waitFor();
    const field = page.getByLabel('New password', { exact: true });
    assert.equal(await field.getAttribute('aria-invalid'), 'true');
    const described = (await field.getAttribute('aria-describedby')).split(' ');
    assert.ok(described.includes('password-error'), 'the error belongs to its field');
    assert.match(await page.locator('#password-error').innerText(), /at least 15 characters/);
    assert.equal(await focused(page), 'password', 'the first error has the focus');
    assert.equal(await field.inputValue(), '', 'the response does not contain the password');

    await field.fill(NEW_PASSWORD);
    await page.getByLabel('New password again').fill(NEW_PASSWORD);
    await page.getByRole('button', SUBMIT).click();
    await heading(page, 'Your password was set');
    const left = (await context.cookies(stack.baseUrl)).filter(({ name }) => name === COOKIE);
    assert.deepEqual(left, [], 'the cookie is deleted');
  });
  assert.equal((await stack.login(marcus, NEW_PASSWORD)).status, 200);
  assert.equal((await stack.login(marcus, marcus.password)).status, 401);
}

async function buttonPressedTwice(stack, browser) {
  const marcus = stack.person(MARCUS);
  const mail = await stack.forgot(marcus);
  await visit(browser, { javaScriptEnabled: false }, async ({ page: mailbox, posts }) => {
    const page = await followMail(stack, mailbox, marcus, mail, 'html');
    await page.getByLabel('New password', { exact: true }).fill(`${NEW_PASSWORD}, twice`);
    await page.getByLabel('New password again').fill(`${NEW_PASSWORD}, twice`);
    // Holds the redirect after the first press until the second press. The password is already set then.
    const cdp = await page.context().newCDPSession(page);
    const held = new Promise((resolve) => {
      cdp.on('Fetch.requestPaused', ({ requestId }) => {
        resolve();
        // The second press cancels the first request in the browser, so that continuing it can fail.
        if (posts.length > 1) cdp.send('Fetch.continueRequest', { requestId }).catch(() => {});
      });
    });
    await cdp.send('Fetch.enable', { patterns: [{ urlPattern: '*?done=1', requestStage: 'Request' }] });
    const { x, y, width, height } = await page.getByRole('button', SUBMIT).boundingBox();
    const press = () => page.mouse.click(x + width / 2, y + height / 2);
    await press();
    await held;
    assert.equal((await stack.login(marcus, `${NEW_PASSWORD}, twice`)).status, 200);
    await press();
    await heading(page, 'Your password was set');
    assert.equal(posts.length, 2, 'both presses sent a request');
  });
}

async function keyboardAndTypedCode(stack, browser) {
  const marcus = stack.person(MARCUS);
  const code = await stack.codeFor(marcus, stack.person(ADMIN));
  await visit(browser, { javaScriptEnabled: false }, async ({ page }) => {
    await page.goto(`${stack.page(marcus.tenant)}?userId=${marcus.userId}`);
    const fill = async (texts) => {
      for (const [id, text] of texts) {
        if ((await focused(page)) !== id) await page.keyboard.press('Tab');
        assert.equal(await focused(page), id);
        await page.keyboard.type(text);
      }
      await page.keyboard.press('Tab');
      const shown = await page.getByRole('button', SUBMIT).evaluate((button) => getComputedStyle(button).outlineStyle);
      assert.equal(shown, 'solid', 'the focus is visible');
      await page.keyboard.press('Enter');
    };
    const password = `${NEW_PASSWORD}, typed`;
    await fill([['code', 'ABCDEFGH'], ['password', password], ['repeated', password]]);
    await page.getByRole('alert').waitFor();
    assert.equal(await focused(page), 'code');
    const typed = `${code.slice(0, 4).toLowerCase()}-${code.slice(4)}`;
    await fill([['code', typed], ['password', password], ['repeated', password]]);
    await heading(page, 'Your password was set');
  });
  assert.equal((await stack.login(marcus, `${NEW_PASSWORD}, typed`)).status, 200);
}

/** Checks accessibility with axe, in every state, color scheme and width of the page. */
async function looks(stack, browser) {
  const { tenant, userId } = stack.person(MARCUS);
  const states = {
    form: (page) => page.goto(`${stack.page(tenant)}?userId=${userId}`),
    errors: async (page) => {
      await page.goto(`${stack.page(tenant)}?userId=${userId}`);
      await page.getByLabel('Code').fill('ABCDEFGH-ABCDEFGH-ABCDEFGH');
      await page.getByLabel('New password', { exact: true }).fill('one');
      await page.getByLabel('New password again').fill('other');
      await page.getByRole('button', SUBMIT).click();
      await page.getByRole('alert').waitFor();
    },
    done: (page) => page.goto(`${stack.page(tenant)}?done=1`),
    nothing: (page) => page.goto(stack.page({ tenantId: 'nobody' })),
  };
  for (const colorScheme of ['light', 'dark']) {
    for (const width of [1024, 320]) {
      await visit(browser, { colorScheme, viewport: { width, height: 800 } }, async ({ page }) => {
        for (const [name, open] of Object.entries(states)) {
          await open(page);
          await page.evaluate(axe.source);
          const { violations } = await page.evaluate(() => globalThis.axe.run());
          const found = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html)}`);
          assert.deepEqual(found, [], `${name}, ${colorScheme}, ${width}`);
          const scrolls = await page.evaluate(() => document.documentElement.scrollWidth);
          assert.ok(scrolls <= width, `${name} is ${scrolls} px wide at ${width}`);
          await picture(page, `${name}-${colorScheme}-${width}`);
        }
      });
    }
  }
}

/** Checks that the content security policy blocks styles, and that violations are detected. */
async function policyHolds(stack, browser) {
  const { tenant } = stack.person(MARCUS);
  await visit(browser, {}, async ({ page, wrong }) => {
    const response = await page.goto(stack.page(tenant));
    assert.equal(response.headers()['referrer-policy'], 'no-referrer');
    const broken = page.waitForEvent('console', (message) => message.text().includes('Content Security Policy'));
    await page.evaluate(() => document.head.append(document.createElement('style'), new Image()));
    await page.evaluate(() => {
      const style = document.createElement('style');
      style.textContent = 'body { display: none }';
      document.head.append(style);
    });
    await broken;
    assert.ok(await page.getByRole('heading', { level: 1 }).isVisible());
    wrong.length = 0;
  });
}

/** Executes the example login on the API page, then lists sessions with its token. */
async function apiPage(stack, browser) {
  await visit(browser, { viewport: { width: 1280, height: 1000 } }, async ({ page }) => {
    await page.goto(stack.apiPageUrl);
    await page.locator('.opblock').first().waitFor();
    assert.deepEqual(await page.locator('.errors-wrapper').allInnerTexts(), [], 'Swagger UI reports no errors');
    const executed = async (operation, method) => {
      const block = page.locator(`[id$="-${operation}"]`);
      await block.locator('.opblock-summary-control').click();
      const pending = page.waitForResponse((response) => response.request().method() === method);
      await block.getByRole('button', { name: 'Execute' }).click();
      const response = await pending;
      assert.ok(response.url().startsWith(stack.apiPageUrl), response.url());
      assert.equal(response.status(), 200, await response.text());
      await block.locator('.live-responses-table .response-col_status', { hasText: '200' }).waitFor();
      return response.json();
    };
    const { data } = await executed('createAdminSession', 'POST');
    await picture(page, 'api-page');
    await page.getByRole('button', { name: 'Authorize' }).first().click();
    await page.getByLabel('auth-bearer-value').fill(data.token);
    await page.getByRole('button', { name: 'Apply credentials' }).first().click();
    await page.getByRole('button', { name: 'Close' }).first().click();
    const { data: listed } = await executed('listAdminSessions', 'GET');
    assert.ok(listed.sessions.some(({ sessionId }) => sessionId === data.sessionId), 'the list contains the new session');
  });
}

const TESTS = { linkInMail, buttonPressedTwice, keyboardAndTypedCode, looks, policyHolds, apiPage };

// Runs the tests named in the arguments, or all.
const chosen = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(TESTS);
console.log('Starting a stack; the first start compiles everything');
const stack = await Stack.start();
try {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ARGS,
  });
  try {
    console.log(`Chromium ${browser.version()} at ${stack.baseUrl}`);
    for (const name of chosen) {
      await TESTS[name](stack, browser);
      console.log(`  ${name}: ok`);
    }
  } finally {
    await browser.close();
  }
} catch (error) {
  console.error(stack.log());
  throw error;
} finally {
  await stack.stop();
}
console.log(`${chosen.length} passed, 0 failed`);
