import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { parseSettings, readSettings } from "../src";
import { repository } from "../src/source";
import { EVERYTHING } from "./synth";

const mailFrom = "login@example.com";
const problem = (settings: unknown): string => {
  try {
    parseSettings(settings);
  } catch (error) {
    return (error as Error).message;
  }
  return "";
};

describe("settings", () => {
  it("require only mailFrom", () => {
    const settings = parseSettings({ mailFrom });
    assert.deepEqual(
      [
        settings.stackName,
        settings.architecture,
        settings.removal,
        settings.encryption,
        settings.tracing,
        settings.replicas,
      ],
      ["doorward", "arm64", "retain", "own-key", "off", []],
    );
    assert.match(problem({}), /mailFrom is missing: .*SES/);
    assert.equal(parseSettings({ mailFrom, ...EVERYTHING }).stackName, "login");
  });

  it("are rejected with an instruction", () => {
    for (const [settings, wanted] of [
      [{ mailfrom: mailFrom }, /mailfrom is not a setting; the settings are stackName, mailFrom/],
      [{ toString: 1 }, /toString is not a setting/],
      [{ mailFrom: "login" }, /mailFrom must be an email address/],
      [{ stackName: "1" }, /stackName must be a letter/],
      [{ architecture: "arm" }, /architecture must be one of arm64, x86_64/],
      [{ publicUrl: "https://a.example/path" }, /publicUrl must be a URL without a path/],
      [
        { publicUrl: "https://a.example", domain: EVERYTHING.domain },
        /exclude each other: the domain is the public address/,
      ],
      [{ domain: { name: "a.example" } }, /domain certificateArn is missing/],
      [
        { domain: { ...EVERYTHING.domain, zone: 1 } },
        /domain has the unknown member "zone"; the members are name, certificateArn, hostedZone/,
      ],
      [{ domain: { ...EVERYTHING.domain, hostedZone: { id: "Z1" } } }, /domain hostedZone name is missing/],
      [{ secretPrefix: "doorward" }, /secretPrefix must be a prefix of secret names that ends with a slash/],
      [{ mailIdentities: ["acme.example", "acme.example"] }, /mailIdentities contains a duplicate/],
      [{ eventBusArns: ["acme"] }, /eventBusArns must be ARNs/],
      [{ textMessages: "yes" }, /textMessages must be true or false/],
      [{ auditRetentionDays: 365 }, /auditRetentionDays must be one of 400, 545, 731/],
      [{ logRetentionDays: 2 }, /logRetentionDays must be one of 1, 3, 5/],
      [
        { alarmEmail: "a@b.example", alarmTopicArn: "arn:aws:sns:eu-central-1:123456789012:t" },
        /subscribe the address/,
      ],
      [{ replicas: ["Frankfurt"] }, /replicas must be a Region/],
      [
        {
          existingTable: {
            name: "restored",
            streamArn: "arn:aws:dynamodb:eu-central-1:123456789012:table/restored",
          },
        },
        /LatestStreamArn/,
      ],
      [
        {
          existingTable: {
            name: "restored",
            streamArn: "arn:aws:dynamodb:eu-central-1:123456789012:table/restored/stream/1",
          },
          replicas: ["eu-west-1"],
        },
        /existingTable and replicas exclude each other/,
      ],
      [{ removal: "keep" }, /removal must be one of retain, destroy/],
      [{ concurrency: 0 }, /concurrency must be a whole number from 1/],
      [{ throttle: { rate: 1 } }, /throttle burst is missing/],
      [{ loginThrottle: 5 }, /loginThrottle must be an object/],
      [[], /the content must be a JSON object/],
    ] as const) {
      const given = Array.isArray(settings) ? settings : { mailFrom, ...settings };
      assert.match(problem(given), wanted, JSON.stringify(settings));
    }
    const both = problem({ mailFrom: 1, removal: 2 });
    assert.ok(both.includes("mailFrom") && both.includes("removal"), "the error lists all problems");
  });

  it("are read from a file", () => {
    const folder = mkdtempSync(join(tmpdir(), "doorward-"));
    try {
      const file = join(folder, "settings.json");
      assert.throws(() => readSettings(file), /cannot be read: copy settings.example.json/);
      writeFileSync(file, "{");
      assert.throws(() => readSettings(file), /the file is not valid JSON/);
      writeFileSync(file, JSON.stringify({ mailFrom }));
      assert.equal(readSettings(file).mailFrom, mailFrom);
    } finally {
      rmSync(folder, { recursive: true });
    }
    assert.ok(readSettings(join(repository, "infra", "aws", "settings.example.json")).mailFrom);
  });

  it("are all documented in the README", () => {
    const readme = readFileSync(join(repository, "infra", "aws", "README.md"), "utf8");
    const documented = [...readme.matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name).sort();
    const names = problem({ mailFrom, x: 1 })
      .replace(/^[^]*the settings are /, "")
      .trim()
      .split(", ")
      .sort();
    assert.deepEqual(documented, names);
  });
});
