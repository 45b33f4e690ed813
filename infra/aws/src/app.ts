import { readFileSync } from "node:fs";
import { App, type AppProps } from "aws-cdk-lib";

// Read at run time instead of imported, so that the compiler does not copy the file into build/.
const flags = JSON.parse(
  readFileSync(require.resolve("aws-cdk-lib/recommended-feature-flags.json"), "utf8"),
) as Record<string, unknown>;

/** Creates a CDK app with all recommended feature flags, for deployments and tests. */
export function newApp(props: AppProps = {}): App {
  return new App({ ...props, context: { ...flags, ...props.context } });
}
