// Our plugin, loaded as OpenClaw loads it, with a gateway that is nothing but a loop of calls: what one question costs.
// node hook.mjs SOCKET CALLS; the key comes in the environment. Prints the times in µs, one a line.

import { writeSync } from "node:fs";

const [socket, calls] = process.argv.slice(2);
const { default: plugin } = await import(new URL("../../packaging/openclaw-plugin/index.js", import.meta.url));
let policy;
plugin.register({
  pluginConfig: { socket },
  registerTrustedToolPolicy: (given) => (policy = given),
  registerAgentToolResultMiddleware: () => {},
  registerTool: () => {},
  on: () => {},
});
const ctx = { agentId: "main", sessionKey: "agent:main:main", sessionId: "s", runId: "r", trace: { traceId: "t" } };
const times = [];
for (let call = 0; call < Number(calls); call += 1) {
  const event = { toolName: "read", params: { path: `notes-${call}.md` }, runId: "r", toolCallId: `hook${process.pid}x${call}` };
  const begun = process.hrtime.bigint();
  const refusal = await policy.evaluate(event, ctx);
  const ended = process.hrtime.bigint();
  if (refusal !== undefined) throw new Error(`call ${call} was refused: ${refusal.reason}`);
  times.push(Number((ended - begun) / 1000n));
}
writeSync(1, times.join("\n"));
