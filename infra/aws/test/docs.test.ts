// Checks that the function table of docs/configuration.md and infra/permissions.json match src/functions.ts. Rust
// tests compare infra/permissions.json with recorded table calls. `npm run regenerate` rewrites both files.

import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { FUNCTIONS, TIMEOUTS } from "../src/functions";
import { repository, routeTable } from "../src/source";

const documentation = join(repository, "docs", "configuration.md");
const permissions = join(repository, "infra", "permissions.json");
const begin = "<!-- functions: infra/aws writes this table -->\n";
const end = "<!-- end of functions -->\n";

const code = (words: readonly string[]) => words.map((word) => `\`${word}\``).join(", ");

function table(): string {
  const rows = routeTable.functions.map(({ name, trigger }) => {
    const spec = FUNCTIONS[name];
    assert.ok(spec, name);
    const calls = spec.table.map(({ actions, keys, index, attributes }) =>
      [
        `${code(actions)} of ${code(keys)}`,
        ...(index ? [`in the index ${code([index])}`] : []),
        ...(attributes ? [`in ${code(attributes)}`] : []),
      ].join(" "),
    );
    const besides = [
      ...spec.secrets.map((action) => `secretsmanager:${action}`),
      ...(spec.sends ? ["ses:SendEmail", "sns:Publish", "events:PutEvents"] : []),
      ...(trigger === "stream" || trigger === "log" ? ["sqs:SendMessage"] : []),
    ];
    return `| \`${name}\` | ${spec.memory} | ${TIMEOUTS[trigger]} | ${calls.join("; ")} | ${code(besides)} |`;
  });
  return ["| function | MiB | s | `dynamodb:` | besides |", "|---|---|---|---|---|", ...rows, ""].join("\n");
}

/** Asserts that a generated file is up to date, or rewrites it if DOORWARD_REGENERATE is set. */
function assertUpToDate(file: string, kept: string, fresh: string): void {
  if (process.env["DOORWARD_REGENERATE"] === undefined) {
    assert.equal(kept, fresh, `${file} does not match src/functions.ts: run \`npm run regenerate\``);
  } else {
    writeFileSync(file, fresh);
  }
}

it("the function table of docs/configuration.md matches src/functions.ts", () => {
  const kept = readFileSync(documentation, "utf8");
  const from = kept.indexOf(begin) + begin.length;
  const to = kept.indexOf(end);
  assert.ok(
    from >= begin.length && to >= from,
    `docs/configuration.md does not contain ${begin.trim()} … ${end.trim()}`,
  );
  assertUpToDate(documentation, kept, kept.slice(0, from) + table() + kept.slice(to));
});

it("infra/permissions.json matches src/functions.ts", () => {
  const roles = routeTable.functions.map(({ name }) => [name, { table: FUNCTIONS[name]?.table }] as const);
  const kept = existsSync(permissions) ? readFileSync(permissions, "utf8") : "";
  assertUpToDate(permissions, kept, `${JSON.stringify(Object.fromEntries(roles), null, 2)}\n`);
});
