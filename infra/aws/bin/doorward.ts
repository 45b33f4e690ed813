// Entry point of `npx cdk`: reads the settings and creates the stack with the packaged functions.

import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { newApp } from "../src/app";
import { Code } from "aws-cdk-lib/aws-lambda";
import { readSettings, SettingsError } from "../src/settings";
import { repository } from "../src/source";
import { DoorwardStack } from "../src/stack";

function main() {
  const app = newApp();
  const context = (name: string) => app.node.tryGetContext(name) as string | undefined;
  const settings = readSettings(resolve(context("settings") ?? "settings.json"));
  const zips = resolve(context("zips") ?? join(repository, "target", "package", settings.architecture));
  const code = (name: string) => {
    const zip = join(zips, `${name}.zip`);
    if (!existsSync(zip)) {
      throw new SettingsError("the package folder", [
        `${zip} does not exist: run \`cargo package-functions\` first, or pass the folder with \`-c zips=FOLDER\``,
      ]);
    }
    return Code.fromAsset(zip);
  };
  new DoorwardStack(app, settings.stackName, {
    settings,
    code,
    env: { account: process.env["CDK_DEFAULT_ACCOUNT"], region: process.env["CDK_DEFAULT_REGION"] },
  });
}

try {
  main();
} catch (error) {
  if (!(error instanceof SettingsError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
