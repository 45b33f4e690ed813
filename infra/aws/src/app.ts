import { readFileSync } from "node:fs";
import { App, type AppProps } from "aws-cdk-lib";

// Node's own `require` of JSON would do; reading it keeps the compiler from copying the file into build/.
const flags = JSON.parse(
  readFileSync(require.resolve("aws-cdk-lib/recommended-feature-flags.json"), "utf8"),
) as Record<string, unknown>;

/** An app as a new one begins: with every behaviour that the library recommends, here and in the tests. */
export function newApp(props: AppProps = {}): App {
  return new App({ ...props, context: { ...flags, ...props.context } });
}
