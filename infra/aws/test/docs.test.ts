// What docs/configuration.md says of functions is what they are given, and so is infra/permissions.json, which the
// Rust tests hold against what functions ask of the table. `npm run regenerate` writes both anew.

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
    const calls = spec.table.map(({ actions, keys, attributes }) =>
      [`${code(actions)} of ${code(keys)}`, ...(attributes ? [`in ${code(attributes)}`] : [])].join(" "),
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

/** That a file is as it would be written now; writes it where that is wanted. */
function isAsFresh(file: string, kept: string, fresh: string): void {
  if (process.env["DOORWARD_REGENERATE"] === undefined) {
    assert.equal(kept, fresh, `${file} is not as src/functions.ts: \`npm run regenerate\` writes it anew`);
  } else {
    writeFileSync(file, fresh);
  }
}

it("docs/configuration.md says what functions are given", () => {
  const kept = readFileSync(documentation, "utf8");
  const from = kept.indexOf(begin) + begin.length;
  const to = kept.indexOf(end);
  assert.ok(from >= begin.length && to >= from, `docs/configuration.md has no ${begin.trim()} … ${end.trim()}`);
  isAsFresh(documentation, kept, kept.slice(0, from) + table() + kept.slice(to));
});

it("infra/permissions.json says what functions may ask of the table", () => {
  const roles = routeTable.functions.map(({ name }) => [name, { table: FUNCTIONS[name]?.table }] as const);
  const kept = existsSync(permissions) ? readFileSync(permissions, "utf8") : "";
  isAsFresh(permissions, kept, `${JSON.stringify(Object.fromEntries(roles), null, 2)}\n`);
});
