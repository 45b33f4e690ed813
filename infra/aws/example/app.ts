// npx cdk deploy --app "npm run --silent build && node build/example/app.js" \
//   -c authorizerArn=… -c publicUrl=… -c tenant=…

import { newApp } from "../src/app";
import { ExampleStack } from "./stack";

const app = newApp();
const given = (name: string): string => {
  const value: unknown = app.node.tryGetContext(name);
  if (typeof value !== "string" || value === "")
    throw new Error(`${name} is missing: pass it with \`-c ${name}=…\`, as shown in infra/aws/README.md`);
  return value;
};
new ExampleStack(app, "doorward-example", {
  authorizerArn: given("authorizerArn"),
  publicUrl: given("publicUrl"),
  tenant: given("tenant"),
});
