// A running Doorward: one that is there already, or one of our own.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const PROJECT = fileURLToPath(new URL("../../..", import.meta.url));
// A first start compiles everything.
const STARTS_WITHIN_MS = 30 * 60 * 1000;

/** What `stack.json` says of it, and how to end it. */
export async function startStack() {
  const running = process.env.DOORWARD_STACK;
  if (running) {
    return { stack: JSON.parse(await readFile(running, "utf8")), stop: async () => {} };
  }
  const child = spawn(
    process.env.CARGO ?? "cargo",
    ["run", "--quiet", "--package", "local", "--", "--json", "--port", "0", "--memory", "--no-watch"],
    { cwd: PROJECT, stdio: ["ignore", "pipe", "inherit"] },
  );
  const ended = once(child, "exit");
  const stop = async () => {
    if (child.exitCode === null && child.kill("SIGTERM")) await ended;
  };
  try {
    return { stack: await ready(child), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

function ready(child) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error("not ready in time")), STARTS_WITHIN_MS);
    child.once("error", reject);
    child.once("exit", (status) => reject(new Error(`cargo dev ended with ${status} before it was ready`)));
    // Whatever it still says later must not fill the pipe: this reads on.
    createInterface({ input: child.stdout }).on("line", (line) => {
      const event = JSON.parse(line);
      if (event.event === "ready") {
        clearTimeout(late);
        resolve(event);
      } else if (event.event === "error") {
        clearTimeout(late);
        reject(new Error(line));
      }
    });
  });
}
