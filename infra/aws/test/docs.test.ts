// What docs/configuration.md says of functions is what they are given. `npm run regenerate` writes it anew.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import { FUNCTIONS, TIMEOUTS } from "../src/functions";
import { repository, routeTable } from "../src/source";

const file = join(repository, "docs", "configuration.md");
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

it("docs/configuration.md says what functions are given", () => {
  const kept = readFileSync(file, "utf8");
  const from = kept.indexOf(begin) + begin.length;
  const to = kept.indexOf(end);
  assert.ok(
    from >= begin.length && to >= from,
    `docs/configuration.md has no ${begin.trim()} … ${end.trim()}`,
  );
  const fresh = kept.slice(0, from) + table() + kept.slice(to);
  if (process.env["DOORWARD_REGENERATE"] === undefined) {
    assert.equal(
      kept,
      fresh,
      "docs/configuration.md is not as src/functions.ts: `npm run regenerate` writes it anew",
    );
  } else {
    writeFileSync(file, fresh);
  }
});
